"""The page, and what is said about the server as a whole."""

from __future__ import annotations

from pathlib import Path

from aiohttp import web

from engine.http.service import SERVICE
from engine.metrics import prometheus_text

PAGE_DIR = Path(__file__).resolve().parent.parent.parent / "clients" / "browser"


async def page(request: web.Request) -> web.StreamResponse:
    index = PAGE_DIR / "index.html"
    if not index.is_file():
        raise web.HTTPNotFound(text="The page is not part of this installation.")
    return web.FileResponse(index, headers={"Cache-Control": "no-cache"})


async def health(request: web.Request) -> web.Response:
    service = request.app[SERVICE]
    backend = service.model.generator.backend
    return web.json_response(
        {
            "status": "ok",
            "backend": backend.name,
            "provider": backend.provider,
            "model": service.model.bundle.name,
            "sessions": len(service.sessions),
            "max_sessions": service.config.max_sessions,
            "fps": service.config.performance.fps,
        }
    )


async def metrics(request: web.Request) -> web.Response:
    service = request.app[SERVICE]
    sessions = service.sessions
    performances = {session.id: session.performance.metrics for session in sessions}
    batcher = service.model.batcher
    batches = None if batcher is None else batcher.figures()
    text = prometheus_text(performances, sessions.finished_frames, batches)
    return web.Response(text=text, headers={"Content-Type": "text/plain; version=0.0.4; charset=utf-8"})


ROUTES: list[web.AbstractRouteDef] = [
    web.get("/", page),
    web.get("/healthz", health),
    web.get("/metrics", metrics),
]
if PAGE_DIR.is_dir():
    STATIC: list[web.AbstractRouteDef] = [web.static("/static", PAGE_DIR), web.static("/", PAGE_DIR)]
else:
    STATIC = []
