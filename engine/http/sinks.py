"""Further places where a session's avatar goes: files, broadcasts, media servers, virtual devices.

POST /sessions/{id}/sinks takes the JSON of `engine.sinks.open.open_sink`. All of them write to this machine
or have it connect elsewhere, so all need --allow-local-sources.
"""

from __future__ import annotations

import secrets

from aiohttp import hdrs, web

from engine.errors import UnknownSessionError
from engine.http.service import SERVICE, SESSION
from engine.http.sessions import json_object
from engine.http.sources import require_local
from engine.sinks.open import open_sink

SINKS = "/sessions/{id}/sinks"


async def open_one(request: web.Request) -> web.Response:
    service, session = request.app[SERVICE], request[SESSION]
    description = await json_object(request)
    require_local(request, "A sink")
    sink = open_sink(description, service.clock, session.performance.metrics)
    sink_id = secrets.token_urlsafe(9)
    session.sinks[sink_id] = sink
    session.performance.watch(sink)
    location = {hdrs.LOCATION: f"/sessions/{session.id}/sinks/{sink_id}"}
    return web.json_response({"id": sink_id}, status=201, headers=location)


async def close_one(request: web.Request) -> web.Response:
    """Returns when what was written is complete."""
    session = request[SESSION]
    sink = session.sinks.pop(request.match_info["sink"], None)
    if sink is None:
        raise UnknownSessionError("There is no such sink; it may have been closed.")
    await session.performance.unwatch(sink)
    return web.Response(status=200)


ROUTES: list[web.AbstractRouteDef] = [
    web.post(SINKS, open_one),
    web.delete(f"{SINKS}/{{sink}}", close_one),
]
