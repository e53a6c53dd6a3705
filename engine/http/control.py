"""Live control of one session over a WebSocket."""

from __future__ import annotations

from aiohttp import web

from engine.control import websocket
from engine.http.service import SERVICE, SESSION


async def control(request: web.Request) -> web.WebSocketResponse:
    session = request[SESSION]
    with session.conversing():
        return await websocket.serve(request, session, request.app[SERVICE].presets)


ROUTES: list[web.AbstractRouteDef] = [web.get("/sessions/{id}/control", control)]
