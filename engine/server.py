"""HTTP: the page, WHIP in, WHEP out, control, health, metrics."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import signal
import socket
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

from aiohttp import BodyPartReader, web

from engine.backends.backend import BACKENDS
from engine.clock import MediaClock
from engine.config import BUILT_IN_CLIP, EngineConfig, PerformanceConfig, RtcConfig, VideoEncodingConfig
from engine.errors import (
    BadMediaError,
    BadOfferError,
    EngineError,
    NoFaceError,
    PortInUseError,
    SessionLimitError,
    UnknownSessionError,
    UnknownSourceError,
    UnsupportedOfferError,
)
from engine.metrics import prometheus_text
from engine.model_worker import LiveModel
from engine.performance import ClipMemory, Performance
from engine.rtc.negotiation import answer, new_connection, read_offer, with_start_bitrate
from engine.rtc.settings import accept_rsa_certificates, offer_loopback_candidates, set_bit_rates
from engine.sessions import Session, Sessions
from engine.sinks.webrtc import WebRtcSink
from engine.sources.file import ClipSource
from engine.sources.remote import RemoteSource
from engine.sources.source import HearSound, Source
from engine.sources.still import StillSource
from gcavt.audio import LOOK_AHEADS_MS

PAGE_DIR = Path(__file__).resolve().parent.parent / "clients" / "browser"
PHOTO_SUFFIXES = {".jpg", ".jpeg", ".png", ".webp", ".bmp"}
PUBLISHABLE = ("camera",)
SWEEP_S = 2.0
RETRY_AFTER_S = 10
SDP = "application/sdp"
SESSION = web.RequestKey("session", Session)
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

STATUS_OF_ERROR: dict[type[EngineError], int] = {
    UnknownSessionError: 404,
    BadOfferError: 400,
    UnsupportedOfferError: 406,
    UnknownSourceError: 422,
    BadMediaError: 422,
    NoFaceError: 422,
    SessionLimitError: 503,
}


class Server:
    """The application around one model. `app()` is what aiohttp serves."""

    def __init__(self, config: EngineConfig, model: LiveModel, clock: MediaClock) -> None:
        self._config = config
        self._model = model
        self._clock = clock
        self._clip_memory: ClipMemory = {}
        self.sessions = Sessions(clock, config.max_sessions, config.session_idle_s)

    def app(self) -> web.Application:
        app = web.Application(
            middlewares=[errors_as_json, self._authorise], client_max_size=self._config.max_upload_bytes
        )
        app.add_routes(
            [
                web.get("/", self._page),
                web.get("/healthz", self._health),
                web.get("/metrics", self._metrics),
                web.get("/identities", self._identities),
                web.get("/identities/{name}/thumbnail.png", self._thumbnail),
                web.post("/sessions", self._open_session),
                web.get("/sessions/{id}", self._session_state),
                web.patch("/sessions/{id}", self._patch_session),
                web.delete("/sessions/{id}", self._end_session),
                web.post("/sessions/{id}/identity", self._upload_identity),
                web.post("/sessions/{id}/sources/{name}", self._publish),
                web.options("/sessions/{id}/sources/{name}", self._offer_options),
                web.delete("/sessions/{id}/sources/{name}", self._unpublish),
                web.post("/sessions/{id}/watch", self._watch),
                web.options("/sessions/{id}/watch", self._offer_options),
                web.delete("/sessions/{id}/watch/{viewer}", self._unwatch),
            ]
        )
        if PAGE_DIR.is_dir():
            app.router.add_static("/static", PAGE_DIR)
            app.router.add_static("/", PAGE_DIR)
        app.cleanup_ctx.append(self._sweeping)
        return app

    async def _sweeping(self, app: web.Application) -> AsyncIterator[None]:
        sweeper = asyncio.create_task(self._sweep())
        yield
        sweeper.cancel()
        await asyncio.gather(sweeper, return_exceptions=True)
        await self.sessions.end_all()

    async def _sweep(self) -> None:
        while True:
            await asyncio.sleep(SWEEP_S)
            await self.sessions.sweep()

    @web.middleware
    async def _authorise(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Everything below /sessions/{id} needs that session's token, except the question what is allowed."""
        session_id = request.match_info.get("id")
        if session_id is not None and request.method != "OPTIONS":
            session = self.sessions.get(session_id)
            scheme, _, token = request.headers.get("Authorization", "").partition(" ")
            if scheme.lower() != "bearer" or not session.admits(token.strip()):
                raise web.HTTPUnauthorized(
                    text="This session needs its token: Authorization: Bearer <token>.",
                    headers={"WWW-Authenticate": "Bearer"},
                )
            request[SESSION] = session
        return await handler(request)

    async def _page(self, request: web.Request) -> web.StreamResponse:
        page = PAGE_DIR / "index.html"
        if not page.is_file():
            raise web.HTTPNotFound(text="The page is not part of this installation.")
        return web.FileResponse(page, headers={"Cache-Control": "no-cache"})

    async def _health(self, request: web.Request) -> web.Response:
        return web.json_response(
            {
                "status": "ok",
                "backend": self._model.generator.backend.name,
                "provider": self._model.generator.backend.provider,
                "model": self._model.bundle.name,
                "sessions": len(self.sessions),
                "max_sessions": self._config.max_sessions,
                "fps": self._config.performance.fps,
            }
        )

    async def _metrics(self, request: web.Request) -> web.Response:
        performances = {session.id: session.performance.metrics for session in self.sessions}
        text = prometheus_text(performances, self.sessions.finished_frames)
        return web.Response(text=text, headers={"Content-Type": "text/plain; version=0.0.4; charset=utf-8"})

    async def _identities(self, request: web.Request) -> web.Response:
        names = self._model.bundle.identity_names()
        entries = [{"name": name, "thumbnail": f"/identities/{name}/thumbnail.png"} for name in names]
        return web.json_response({"identities": entries})

    async def _thumbnail(self, request: web.Request) -> web.StreamResponse:
        name = request.match_info["name"]
        if name not in self._model.bundle.identity_names():
            raise web.HTTPNotFound(text=f"There is no identity {name!r}.")
        return web.FileResponse(self._model.bundle.identity(name).portrait_paths[0])

    async def _open_session(self, request: web.Request) -> web.Response:
        """The body may say at once what PATCH could say later."""
        self.sessions.check_room()
        changes = await _json_object(request) if request.can_read_body else {}
        name = changes.pop("identity", self._model.bundle.identity_names()[0])
        performance = Performance(
            clock=self._clock,
            config=self._config.performance,
            encoder=self._model.encoder,
            generator=self._model.generator,
            open_tracker=self._model.open_tracker,
            open_clip=self._open_clip,
            find_identity=self._model.identity,
            clip_memory=self._clip_memory,
            identity_name=name,
            identity=await self._model.identity(name),
        )
        session = self.sessions.add(performance)
        try:
            await performance.patch(changes)
        except EngineError:
            await self.sessions.end(session)
            raise
        location = {"Location": f"/sessions/{session.id}"}
        return web.json_response({"id": session.id, "token": session.token}, status=201, headers=location)

    async def _session_state(self, request: web.Request) -> web.Response:
        return web.json_response(_state(request[SESSION]))

    async def _patch_session(self, request: web.Request) -> web.Response:
        session: Session = request[SESSION]
        changes = await _json_object(request)
        await session.performance.patch(changes)
        return web.json_response(_state(session))

    async def _end_session(self, request: web.Request) -> web.Response:
        await self.sessions.end(request[SESSION])
        return web.Response(status=204)

    async def _upload_identity(self, request: web.Request) -> web.Response:
        """One or more photos of one person, as multipart form files."""
        if request.content_type != "multipart/form-data":
            raise web.HTTPUnsupportedMediaType(text="Send the photos as multipart/form-data.")
        photos = [
            bytes(await part.read())
            async for part in await request.multipart()
            if isinstance(part, BodyPartReader)
        ]
        if not photos:
            raise BadMediaError("No photo was sent.")
        session: Session = request[SESSION]
        session.performance.set_identity("uploaded", await self._model.identity_from_photos(photos))
        return web.json_response(_state(session))

    async def _publish(self, request: web.Request) -> web.Response:
        """WHIP."""
        session: Session = request[SESSION]
        name = request.match_info["name"]
        if name not in PUBLISHABLE:
            raise UnknownSourceError(f"There is no source {name!r} to publish; choices: {PUBLISHABLE[0]}.")
        sdp = await _sdp_offer(request)
        read_offer(sdp, "publish")
        connection = new_connection(self._config.rtc.ice_servers)
        source = RemoteSource(connection, self._clock, session.performance.hearer(name))
        try:
            sdp_answer = await answer(connection, sdp)
        except EngineError:
            await source.close()
            raise
        await session.performance.connect(name, source)
        hinted = with_start_bitrate(sdp_answer, self._config.rtc.camera_start_kbps)
        return _sdp_response(hinted, location=request.path)

    async def _unpublish(self, request: web.Request) -> web.Response:
        name = request.match_info["name"]
        if name not in PUBLISHABLE:
            raise UnknownSourceError(f"There is no source {name!r} to publish; choices: {PUBLISHABLE[0]}.")
        await request[SESSION].performance.disconnect(name)
        return web.Response(status=200)

    async def _watch(self, request: web.Request) -> web.Response:
        """WHEP."""
        session: Session = request[SESSION]
        sdp = await _sdp_offer(request)
        kinds = read_offer(sdp, "watch")
        connection = new_connection(self._config.rtc.ice_servers)
        sink = WebRtcSink(connection, kinds, self._clock, self._config.rtc.video, session.performance.metrics)
        try:
            sdp_answer = await answer(connection, sdp)
        except EngineError:
            await sink.close()
            raise
        viewer_id = session.add_viewer(sink)
        return _sdp_response(sdp_answer, location=f"{request.path}/{viewer_id}")

    async def _unwatch(self, request: web.Request) -> web.Response:
        session: Session = request[SESSION]
        await session.remove_viewer(request.match_info["viewer"])
        return web.Response(status=200)

    async def _offer_options(self, request: web.Request) -> web.Response:
        return web.Response(status=204, headers={"Accept-Post": SDP, "Allow": "POST, OPTIONS"})

    def _open_clip(self, on_sound: HearSound) -> Source:
        clip = self._config.performance.clip
        if clip.suffix.lower() in PHOTO_SUFFIXES:
            return StillSource(clip, self._clock)
        return ClipSource(clip, self._clock, on_sound)


@web.middleware
async def errors_as_json(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Deliberate errors become {"error": one sentence} with a fitting status; others are aiohttp's 500."""
    try:
        return await handler(request)
    except EngineError as error:
        status = STATUS_OF_ERROR.get(type(error), 500)
        headers = {"Retry-After": str(RETRY_AFTER_S)} if status == 503 else {}
        return web.json_response({"error": error.message}, status=status, headers=headers)
    except web.HTTPError as error:
        headers = {
            name: value for name, value in error.headers.items() if name in ("WWW-Authenticate", "Allow")
        }
        return web.json_response({"error": error.text}, status=error.status, headers=headers)


def _state(session: Session) -> dict[str, Any]:
    return {"id": session.id, **session.performance.state()}


async def _json_object(request: web.Request) -> dict[str, Any]:
    try:
        values = await request.json()
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise web.HTTPBadRequest(text="The body is not JSON.") from error
    if not isinstance(values, dict):
        raise web.HTTPBadRequest(text='The body must be a JSON object such as {"pose": "camera"}.')
    return values


async def _sdp_offer(request: web.Request) -> str:
    if request.content_type != SDP:
        raise web.HTTPUnsupportedMediaType(text=f"Send the offer as {SDP}, not {request.content_type}.")
    try:
        return await request.text()
    except UnicodeDecodeError as error:
        raise BadOfferError("The body is not a session description (SDP) that can be read.") from error


def _sdp_response(sdp: str, location: str) -> web.Response:
    return web.Response(status=201, text=sdp, content_type=SDP, headers={"Location": location})


def bind(host: str, port: int) -> socket.socket:
    """A bound socket for the server. Raises PortInUseError, so that nothing is loaded in vain."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family)
    except OSError as error:
        raise PortInUseError(
            f"cannot serve on {host}:{port}: {error.strerror or error}; choose another with --port"
        ) from error


async def serve(config: EngineConfig, listener: socket.socket, model: LiveModel) -> None:
    """Serve until interrupted."""
    await model.warm_up()
    server = Server(config, model, MediaClock())
    runner = web.AppRunner(server.app(), access_log=None)
    await runner.setup()
    await web.SockSite(runner, listener).start()
    host, port = listener.getsockname()[:2]
    url = f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
    sys.stderr.write(
        f"GC-AVT Live: open {url}  (model {model.bundle.name}, {model.generator.backend.provider})\n"
    )
    stopped = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stopped.set)
    try:
        await stopped.wait()
    finally:
        await runner.cleanup()


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `gcavt serve`."""
    defaults = EngineConfig()
    parser.add_argument("--host", default=defaults.host, help="address to serve on (default %(default)s)")
    parser.add_argument(
        "--port", type=int, default=defaults.port, help="default %(default)s; 0: any free one"
    )
    parser.add_argument(
        "--model", default=defaults.model, help="name or directory of a bundle (default lite)"
    )
    parser.add_argument("--backend", default=defaults.backend, choices=BACKENDS, help="default %(default)s")
    parser.add_argument(
        "--threads", type=int, default=None, help="inference threads (default: the backend's)"
    )
    parser.add_argument("--max-sessions", type=int, default=defaults.max_sessions, help="default %(default)s")
    parser.add_argument("--fps", type=float, default=defaults.performance.fps, help="default %(default)g")
    parser.add_argument(
        "--clip", type=Path, default=BUILT_IN_CLIP, help="built-in driver: a video or a photo"
    )
    parser.add_argument(
        "--look-ahead-ms",
        type=int,
        choices=LOOK_AHEADS_MS,
        default=defaults.performance.look_ahead_ms,
        help="how much sound after its own moment the live mouth waits for: less is sooner but follows worse "
        "(default %(default)s)",
    )
    parser.add_argument("--video-codec", choices=("vp8", "h264"), default="vp8", help="default %(default)s")
    parser.add_argument(
        "--ice-server", action="append", default=[], metavar="URL", help="STUN or TURN server"
    )
    parser.add_argument(
        "--no-audio-delay", action="store_true", help="send sound at once, not in step with the picture"
    )


def config_from(args: argparse.Namespace) -> EngineConfig:
    """Raises ValueError naming the setting that is out of range."""
    return EngineConfig(
        host=args.host,
        port=args.port,
        model=args.model,
        backend=args.backend,
        threads=args.threads,
        max_sessions=args.max_sessions,
        performance=PerformanceConfig(
            fps=args.fps,
            clip=args.clip,
            look_ahead_ms=args.look_ahead_ms,
            delay_sound=not args.no_audio_delay,
        ),
        rtc=RtcConfig(ice_servers=tuple(args.ice_server), video=VideoEncodingConfig(codec=args.video_codec)),
    )


def run(args: argparse.Namespace) -> int:
    """Serve; returns the exit code."""
    try:
        config = config_from(args)
        with contextlib.closing(bind(config.host, config.port)) as listener:
            set_bit_rates(config.rtc.video)
            accept_rsa_certificates()
            if config.host in ("127.0.0.1", "localhost", "::1"):
                offer_loopback_candidates()
            model = LiveModel.open(config)
            try:
                asyncio.run(serve(config, listener, model))
            finally:
                model.close()
    except (EngineError, ValueError) as error:
        sys.stderr.write(f"gcavt serve: {error}\n")
        return 2
    return 0
