"""WHIP and WHEP for tools that know one URL and one token: OBS, GStreamer, ffmpeg.

POST /whip/{name} and /whep/{name} with the server's token (--token-file). Whoever comes first opens the
session of that name; its query may say what PATCH could: /whip/studio?identity=lena&mouth=microphone.
"""

from __future__ import annotations

import re

from aiohttp import web

from engine.http.access import require_servers_token
from engine.http.peers import endpoint_routes
from engine.http.service import SERVICE
from engine.http.whep import take_viewer
from engine.http.whip import take_publisher
from engine.sessions import Session

NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")
CAMERA = "camera"
WATCHING = ("layout",)
"""What a query says about the viewer and not about the session."""
FOLLOWED = {"pose": CAMERA, "expression": CAMERA, "mouth": CAMERA}


async def whip(request: web.Request) -> web.Response:
    return await take_publisher(request, await _session(request), CAMERA)


async def whep(request: web.Request) -> web.Response:
    return await take_viewer(request, await _session(request))


async def _session(request: web.Request) -> Session:
    require_servers_token(request)
    name = request.match_info["name"]
    if NAME.fullmatch(name) is None:
        raise web.HTTPBadRequest(text="A name has 1 to 64 letters, digits, hyphens and underscores.")
    wanted = {key: value for key, value in request.query.items() if key not in WATCHING}
    return await request.app[SERVICE].named_session(name, FOLLOWED | wanted)


ROUTES: list[web.AbstractRouteDef] = [
    web.post("/whip/{name}", whip),
    *endpoint_routes("/whip/{name}"),
    web.post("/whep/{name}", whep),
    *endpoint_routes("/whep/{name}"),
]
