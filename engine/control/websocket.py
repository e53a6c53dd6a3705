"""Control over a WebSocket: the JSON of PATCH in, the session's state out five times a second.

In:  {"pose": "camera", "gains": {"mouth": 1.2}}, {"preset": "stage"}, {"calibrate": true}, ...
Out: {"state": {...}} as GET /sessions/{id} tells it, {"error": "one sentence"} for what could not be done.
"""

from __future__ import annotations

import asyncio
import json
from typing import Final

from aiohttp import WSMsgType, web

from engine.control.presets import Presets
from engine.errors import ControlError, EngineError
from engine.performance import Performance

STATE_PERIOD_S: Final = 0.2
HEARTBEAT_S: Final = 20.0
MAX_MESSAGE_BYTES: Final = 20_000_000
"""A background picture may be inside."""


async def serve(request: web.Request, performance: Performance, presets: Presets) -> web.WebSocketResponse:
    """Upgrade the request and control `performance` until the other side leaves."""
    socket = web.WebSocketResponse(heartbeat=HEARTBEAT_S, max_msg_size=MAX_MESSAGE_BYTES)
    await socket.prepare(request)
    telling = asyncio.create_task(_tell(socket, performance))
    try:
        async for message in socket:
            if message.type is WSMsgType.TEXT:
                await _answer(socket, performance, presets, message.data)
            elif message.type is WSMsgType.BINARY:
                await socket.send_json({"error": "Send JSON as text."})
    finally:
        telling.cancel()
        await asyncio.gather(telling, return_exceptions=True)
    return socket


async def _tell(socket: web.WebSocketResponse, performance: Performance) -> None:
    while True:
        await socket.send_json({"state": performance.state()})
        await asyncio.sleep(STATE_PERIOD_S)


async def _answer(
    socket: web.WebSocketResponse, performance: Performance, presets: Presets, text: str
) -> None:
    """Do what the message says; the new state is told at once, as is what cannot be done."""
    try:
        await performance.patch(_changes(text, presets))
    except EngineError as error:
        await socket.send_json({"error": error.message})
    else:
        await socket.send_json({"state": performance.state()})


def _changes(text: str, presets: Presets) -> dict[str, object]:
    """What a message asks for. Raises ControlError."""
    try:
        message = json.loads(text)
    except ValueError as error:
        raise ControlError(f"The message is not JSON: {error}.") from error
    if not isinstance(message, dict):
        raise ControlError('A message must be a JSON object such as {"pose": "camera"}.')
    return presets.expand(message)
