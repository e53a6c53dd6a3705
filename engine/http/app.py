"""The application: all routes, in front of them CORS, clear errors and tokens; behind them the sweeper."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

from aiohttp import web

from engine.clock import MediaClock
from engine.config import EngineConfig
from engine.control import osc
from engine.http import control, identities, named, page, presets, sessions, sinks, sources, whep, whip
from engine.http.access import authorise, share_with_origins
from engine.http.errors import errors_as_json
from engine.http.service import SERVICE, Service
from engine.model_worker import LiveModel

SWEEP_S = 2.0


class Server:
    """The application around one model. `app()` is what aiohttp serves."""

    def __init__(self, config: EngineConfig, model: LiveModel, clock: MediaClock) -> None:
        self._config = config
        self._service = Service(config, model, clock)
        self.sessions = self._service.sessions

    def app(self) -> web.Application:
        app = web.Application(
            middlewares=[share_with_origins, errors_as_json, authorise],
            client_max_size=self._config.max_upload_bytes,
        )
        app[SERVICE] = self._service
        for module in (page, identities, presets, sessions, control, sources, sinks, whip, whep, named):
            app.add_routes(module.ROUTES)
        app.add_routes(page.STATIC)
        app.on_shutdown.append(_end_sessions)
        app.cleanup_ctx.extend([_sweeping, _listening_for_osc])
        return app


async def _sweeping(app: web.Application) -> AsyncIterator[None]:
    sweeper = asyncio.create_task(_sweep(app))
    yield
    sweeper.cancel()
    await asyncio.gather(sweeper, return_exceptions=True)


async def _end_sessions(app: web.Application) -> None:
    """Before aiohttp waits for open connections: WebSockets stay open as long as their session."""
    await app[SERVICE].sessions.end_all()


async def _sweep(app: web.Application) -> None:
    while True:
        await asyncio.sleep(SWEEP_S)
        await app[SERVICE].sessions.sweep()


async def _listening_for_osc(app: web.Application) -> AsyncIterator[None]:
    """Raises PortInUseError when the application starts."""
    service = app[SERVICE]
    if service.config.osc_port is None:
        yield
        return
    listening = await osc.listen(
        service.config.host, service.config.osc_port, service.sessions, service.presets
    )
    yield
    await listening.close()
