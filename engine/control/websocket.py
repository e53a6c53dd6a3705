"""Control over a WebSocket: the JSON of PATCH in, the session's state out five times a second.

In:  {"pose": "camera", "gains": {"mouth": 1.2}}, {"preset": "stage"}, {"calibrate": true}, ...
     {"seen_ms": [93.1, ...]} tells how old the pictures were that a viewer has just seen, for /metrics.
Out: {"state": {...}} as GET /sessions/{id} tells it, {"error": "one sentence"} for what could not be done.
     The state's `background`, which may hold a picture, is told at first and then when it has changed.

A message may carry an `id` of the client's choice; the answer to it carries the same.
"""

from __future__ import annotations

import asyncio
import json
from typing import Any, Final

from aiohttp import WSMsgType, web

from engine.control.presets import Presets
from engine.errors import ControlError, EngineError
from engine.sessions import Session

STATE_PERIOD_S: Final = 0.2
HEARTBEAT_S: Final = 20.0
RESTS: Final = 3.0
LONGEST_REST_S: Final = 0.02
"""However fast messages come, answering them leaves most of the event loop's time to pictures and sound."""
MAX_MESSAGE_BYTES: Final = 20_000_000
"""A background picture may be inside."""


async def serve(request: web.Request, session: Session, presets: Presets) -> web.WebSocketResponse:
    """Upgrade the request and control `session` until the other side leaves or the session ends."""
    socket = web.WebSocketResponse(heartbeat=HEARTBEAT_S, max_msg_size=MAX_MESSAGE_BYTES)
    await socket.prepare(request)
    talk = _Talk(socket, session, presets)
    telling = asyncio.create_task(talk.keep_telling())
    try:
        async for message in socket:
            if message.type is WSMsgType.TEXT:
                started_s = asyncio.get_running_loop().time()
                await talk.answer(message.data)
                took_s = asyncio.get_running_loop().time() - started_s
                await asyncio.sleep(min(RESTS * took_s, LONGEST_REST_S))
            elif message.type is WSMsgType.BINARY:
                await socket.send_json({"error": "Send JSON as text."})
    finally:
        telling.cancel()
        await asyncio.gather(telling, return_exceptions=True)
    return socket


class _Talk:
    """What is said on one connection."""

    def __init__(self, socket: web.WebSocketResponse, session: Session, presets: Presets) -> None:
        self._socket = socket
        self._session = session
        self._performance = session.performance
        self._presets = presets
        self._told_background: object = None

    async def keep_telling(self) -> None:
        while not self._performance.is_closed:
            await self._socket.send_json({"state": self._state()})
            await asyncio.sleep(STATE_PERIOD_S)
        await self._socket.close(message=b"The session has ended.")

    async def answer(self, text: str) -> None:
        """Do what the message says; the new state is told at once, as is what cannot be done."""
        answered: dict[str, object] = {}
        try:
            message = _message(text)
            if "id" in message:
                answered["id"] = message.pop("id")
            if "seen_ms" in message:
                self._performance.note_seen(message.pop("seen_ms"))
            await self._performance.patch(self._presets.expand(message))
        except EngineError as error:
            await self._socket.send_json({**answered, "error": error.message})
        else:
            await self._socket.send_json({**answered, "state": self._state()})

    def _state(self) -> dict[str, Any]:
        state = self._session.state()
        if state["background"] == self._told_background:
            del state["background"]
        else:
            self._told_background = state["background"]
        return state


def _message(text: str) -> dict[str, object]:
    """Raises ControlError."""
    try:
        message = json.loads(text)
    except ValueError as error:
        raise ControlError(f"The message is not JSON: {error}.") from error
    if not isinstance(message, dict):
        raise ControlError('A message must be a JSON object such as {"pose": "camera"}.')
    return message
