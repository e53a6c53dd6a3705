"""Sessions: open, tell, re-patch, end."""

from __future__ import annotations

import json
from typing import Any

from aiohttp import web

from engine.http.service import SERVICE, SESSION
from engine.sessions import Session


async def open_session(request: web.Request) -> web.Response:
    """The body may say at once what PATCH could say later."""
    changes = await json_object(request) if request.can_read_body else {}
    session = await request.app[SERVICE].open_session(changes)
    location = {"Location": f"/sessions/{session.id}"}
    opened = {
        "id": session.id,
        "token": session.token,
        "local_sources": request.app[SERVICE].config.allow_local_sources,
    }
    return web.json_response(opened, status=201, headers=location)


async def tell_state(request: web.Request) -> web.Response:
    return state_response(request[SESSION])


async def patch_session(request: web.Request) -> web.Response:
    session = request[SESSION]
    await session.performance.patch(await json_object(request))
    return state_response(session)


async def end_session(request: web.Request) -> web.Response:
    await request.app[SERVICE].sessions.end(request[SESSION])
    return web.Response(status=204)


def state_response(session: Session) -> web.Response:
    return web.json_response({"id": session.id, **session.state()})


async def json_object(request: web.Request) -> dict[str, Any]:
    """The body. Raises HTTPBadRequest if it is no JSON object."""
    try:
        values = await request.json()
    except (json.JSONDecodeError, UnicodeDecodeError, LookupError) as error:
        raise web.HTTPBadRequest(text="The body is not JSON.") from error
    if not isinstance(values, dict):
        raise web.HTTPBadRequest(text='The body must be a JSON object such as {"pose": "camera"}.')
    return values


ROUTES: list[web.AbstractRouteDef] = [
    web.post("/sessions", open_session),
    web.get("/sessions/{id}", tell_state),
    web.patch("/sessions/{id}", patch_session),
    web.delete("/sessions/{id}", end_session),
]
