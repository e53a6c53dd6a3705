"""Presets: what PATCH would say, under a name.

Everyone may read and apply them. Changing them needs the server's token; a server without one lets only
its own machine do that, which is when it serves on a loopback address.
"""

from __future__ import annotations

from aiohttp import web

from engine.config import LOOPBACK_HOSTS
from engine.http.access import require_servers_token
from engine.http.service import SERVICE, SESSION
from engine.http.sessions import json_object, state_response


async def names(request: web.Request) -> web.Response:
    return web.json_response({"presets": request.app[SERVICE].presets.names()})


async def load(request: web.Request) -> web.Response:
    return web.json_response(request.app[SERVICE].presets.load(request.match_info["name"]))


async def save(request: web.Request) -> web.Response:
    _require_owner(request)
    request.app[SERVICE].presets.save(request.match_info["name"], await json_object(request))
    return web.Response(status=204)


async def delete(request: web.Request) -> web.Response:
    _require_owner(request)
    request.app[SERVICE].presets.delete(request.match_info["name"])
    return web.Response(status=204)


async def keep(request: web.Request) -> web.Response:
    """Save what is set in this session now."""
    _require_owner(request)
    settings = request[SESSION].performance.settings()
    request.app[SERVICE].presets.save(request.match_info["name"], settings)
    return web.Response(status=204)


async def apply(request: web.Request) -> web.Response:
    session = request[SESSION]
    await session.performance.patch(request.app[SERVICE].presets.load(request.match_info["name"]))
    return state_response(session)


def _require_owner(request: web.Request) -> None:
    config = request.app[SERVICE].config
    if config.token is not None or config.host not in LOOPBACK_HOSTS:
        require_servers_token(request)


ROUTES: list[web.AbstractRouteDef] = [
    web.get("/presets", names),
    web.get("/presets/{name}", load),
    web.put("/presets/{name}", save),
    web.delete("/presets/{name}", delete),
    web.put("/sessions/{id}/presets/{name}", keep),
    web.post("/sessions/{id}/presets/{name}", apply),
]
