"""Further places where a session's avatar goes: files, broadcasts, media servers, virtual devices.

POST /sessions/{id}/sinks takes the JSON of `engine.sinks.open.open_sink`. All of them write to this machine
or have it connect elsewhere, so all need --allow-local-sources.
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import urlsplit

from aiohttp import hdrs, web

from engine.errors import UnknownSessionError
from engine.http.service import SERVICE, SESSION
from engine.http.sessions import json_object
from engine.http.sources import require_local
from engine.sessions import NamedSink
from engine.sinks.open import open_sink

SINKS = "/sessions/{id}/sinks"


async def open_one(request: web.Request) -> web.Response:
    service, session = request.app[SERVICE], request[SESSION]
    description = await json_object(request)
    require_local(request, "A sink")
    sink = open_sink(description, service.clock, session.performance.metrics)
    sink_id = secrets.token_urlsafe(9)
    session.sinks[sink_id] = NamedSink(sink, description["kind"], label_of(description))
    session.performance.watch(sink)
    location = {hdrs.LOCATION: f"/sessions/{session.id}/sinks/{sink_id}"}
    return web.json_response({"id": sink_id}, status=201, headers=location)


async def close_one(request: web.Request) -> web.Response:
    """Returns when what was written is complete."""
    session = request[SESSION]
    named = session.sinks.pop(request.match_info["sink"], None)
    if named is None:
        raise UnknownSessionError("There is no such sink; it may have been closed.")
    await session.performance.unwatch(named.sink)
    return web.Response(status=200)


def label_of(description: Mapping[str, object]) -> str:
    """Where a sink leads, in a few words: no path of an address, in which stream keys travel."""
    if "path" in description:
        return Path(str(description["path"])).name
    if "url" in description:
        return urlsplit(str(description["url"])).hostname or ""
    return str(description.get("device") or "")


ROUTES: list[web.AbstractRouteDef] = [
    web.post(SINKS, open_one),
    web.delete(f"{SINKS}/{{sink}}", close_one),
]
