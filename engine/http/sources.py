"""Sources by description, and the WebSocket through which a speech program talks.

PUT /sessions/{id}/sources/{name} takes the JSON of `engine.sources.open.open_source`. What would read this
machine's files, devices or network is refused unless the server was started with --allow-local-sources.
"""

from __future__ import annotations

import asyncio
import json

from aiohttp import WSMessage, WSMsgType, web

from engine.errors import EngineError
from engine.http.service import SERVICE, SESSION
from engine.http.sessions import json_object, state_response
from engine.patch_bay import check_name
from engine.sources.open import REMOTE_KINDS, open_source
from engine.sources.tts import TtsSource

SOURCE = "/sessions/{id}/sources/{name}"
HEARTBEAT_S = 20.0
MAX_MESSAGE_BYTES = 1 << 20


async def connect(request: web.Request) -> web.Response:
    """Open the described source and take it in, in place of an earlier one of that name."""
    service, session, name = request.app[SERVICE], request[SESSION], request.match_info["name"]
    description = await json_object(request)
    check_name(name)
    if description.get("kind") not in REMOTE_KINDS:
        require_local(request, f"A source of kind {description.get('kind')!r}")
    hear = session.performance.hearer(name)
    # a look into a file takes as long as its disk does: pictures go out meanwhile
    source = await asyncio.to_thread(open_source, description, service.clock, hear)
    try:
        await session.performance.connect(name, source)
    except EngineError:
        await source.close()
        raise
    return state_response(session)


async def disconnect(request: web.Request) -> web.Response:
    """No error if there is none of this name."""
    await request[SESSION].performance.disconnect(request.match_info["name"])
    return web.Response(status=200)


async def speak(request: web.Request) -> web.WebSocketResponse:
    """Binary messages are PCM to be said; the text {"stop": true} is barge-in: silence, mouth closed."""
    session, name = request[SESSION], request.match_info["name"]
    source = session.performance.sources.get(name)
    if not isinstance(source, TtsSource):
        raise web.HTTPConflict(text=f"{name!r} is no speech source: PUT {{'kind': 'tts'}} there first.")
    with session.conversing():
        return await _listen(request, source)


async def _listen(request: web.Request, source: TtsSource) -> web.WebSocketResponse:
    socket = web.WebSocketResponse(heartbeat=HEARTBEAT_S, max_msg_size=MAX_MESSAGE_BYTES)
    await socket.prepare(request)
    async for message in socket:
        if message.type is WSMsgType.BINARY:
            source.feed(message.data)
            await source.wait_for_room()
        elif _is_stop(message):
            source.stop()
        else:
            await socket.send_json({"error": 'Send PCM as binary messages, or the text {"stop": true}.'})
    return socket


def _is_stop(message: WSMessage) -> bool:
    try:
        return message.type is WSMsgType.TEXT and json.loads(message.data) == {"stop": True}
    except json.JSONDecodeError:
        return False


def require_local(request: web.Request, what: str) -> None:
    """Raises HTTPForbidden unless clients may use this machine's files, devices and network."""
    if not request.app[SERVICE].config.allow_local_sources:
        raise web.HTTPForbidden(text=f"{what} needs a server that was started with --allow-local-sources.")


ROUTES: list[web.AbstractRouteDef] = [
    web.put(SOURCE, connect),
    web.delete(SOURCE, disconnect),
    web.get(f"{SOURCE}/pcm", speak),
]
