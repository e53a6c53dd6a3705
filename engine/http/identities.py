"""The faces that came with the model, and those that a visitor brings."""

from __future__ import annotations

from aiohttp import BodyPartReader, web

from engine.errors import BadMediaError
from engine.http.service import SERVICE, SESSION
from engine.http.sessions import state_response


async def identities(request: web.Request) -> web.Response:
    names = request.app[SERVICE].model.bundle.identity_names()
    entries = [{"name": name, "thumbnail": f"/identities/{name}/thumbnail.png"} for name in names]
    return web.json_response({"identities": entries})


async def thumbnail(request: web.Request) -> web.StreamResponse:
    bundle = request.app[SERVICE].model.bundle
    name = request.match_info["name"]
    if name not in bundle.identity_names():
        raise web.HTTPNotFound(text=f"There is no identity {name!r}.")
    return web.FileResponse(bundle.identity(name).portrait_paths[0])


async def upload(request: web.Request) -> web.Response:
    """One or more photos of one person, as multipart form files."""
    if request.content_type != "multipart/form-data":
        raise web.HTTPUnsupportedMediaType(text="Send the photos as multipart/form-data.")
    parts = await request.multipart()
    photos = [bytes(await part.read()) async for part in parts if isinstance(part, BodyPartReader)]
    if not photos:
        raise BadMediaError("No photo was sent.")
    session = request[SESSION]
    session.performance.set_identity(
        "uploaded", await request.app[SERVICE].model.identity_from_photos(photos)
    )
    return state_response(session)


ROUTES: list[web.AbstractRouteDef] = [
    web.get("/identities", identities),
    web.get("/identities/{name}/thumbnail.png", thumbnail),
    web.post("/sessions/{id}/identity", upload),
]
