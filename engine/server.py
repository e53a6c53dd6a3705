"""The entry of `gcavt serve`: options, start, stop. What is served is put together in engine.http.app."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import signal
import socket
import sys
from pathlib import Path

from aiohttp import web
from aiortc.rtcicetransport import parse_stun_turn_uri

from engine.backends.backend import BACKENDS
from engine.clock import MediaClock
from engine.config import (
    BUILT_IN_CLIP,
    LOOPBACK_HOSTS,
    EngineConfig,
    PerformanceConfig,
    RtcConfig,
    VideoEncodingConfig,
)
from engine.errors import EngineError, PortInUseError
from engine.http.app import Server
from engine.model_worker import LiveModel
from engine.native_memory import keep_giving_back
from engine.rtc import settings
from gcavt.audio import LOOK_AHEADS_MS


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
    tidying = asyncio.create_task(keep_giving_back())
    try:
        await stopped.wait()
    finally:
        tidying.cancel()
        await runner.cleanup()


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `gcavt serve`."""
    _add_serving(parser.add_argument_group("serving"))
    _add_performing(parser.add_argument_group("the avatar"))
    _add_connecting(parser.add_argument_group("WebRTC (WHIP in, WHEP out)"))


def _add_serving(group: argparse._ArgumentGroup) -> None:
    defaults = EngineConfig()
    group.add_argument("--host", default=defaults.host, help="address to serve on (default %(default)s)")
    group.add_argument("--port", type=int, default=defaults.port, help="default %(default)s; 0: any free one")
    group.add_argument("--max-sessions", type=int, default=defaults.max_sessions, help="default %(default)s")
    group.add_argument(
        "--overflow-url",
        metavar="URL",
        help="another such server: when all sessions here are taken, new ones are sent on to it (307)",
    )
    group.add_argument(
        "--token-file",
        type=Path,
        metavar="FILE",
        help="file with the bearer token for /whip/NAME and /whep/NAME, by which tools such as OBS and "
        "GStreamer publish and watch without a page; it admits to every session",
    )
    group.add_argument(
        "--allow-origin",
        action="append",
        default=[],
        metavar="ORIGIN",
        help="another site, as https://host, whose pages may talk to this server; * is any; repeatable",
    )
    group.add_argument(
        "--presets",
        type=Path,
        default=defaults.presets_dir,
        metavar="DIR",
        help="presets lie here as JSON files (default %(default)s)",
    )
    group.add_argument(
        "--osc-port",
        type=int,
        metavar="PORT",
        help="also listen for OSC on this UDP port, as /gcavt/*/pose camera; OSC knows no passwords: whoever "
        "reaches the port controls every session",
    )
    group.add_argument(
        "--allow-local-sources",
        action="store_true",
        help="let clients have this machine's files, cameras, microphones and network addresses read as "
        "sources, and written as sinks; without it they can only send media themselves",
    )


def _add_performing(group: argparse._ArgumentGroup) -> None:
    defaults = EngineConfig()
    group.add_argument(
        "--model", default=defaults.model, help="name or directory of a bundle (default %(default)s)"
    )
    group.add_argument("--backend", default=defaults.backend, choices=BACKENDS, help="default %(default)s")
    group.add_argument("--threads", type=int, default=None, help="inference threads (default: the backend's)")
    group.add_argument(
        "--batching",
        choices=("auto", "on", "off"),
        default=defaults.batching,
        help="draw the pictures of several sessions together; auto: where the backend gains by it, as on a "
        "GPU (default %(default)s)",
    )
    group.add_argument("--fps", type=float, default=defaults.performance.fps, help="default %(default)g")
    group.add_argument("--clip", type=Path, default=BUILT_IN_CLIP, help="built-in driver: a video or a photo")
    group.add_argument(
        "--look-ahead-ms",
        type=int,
        choices=LOOK_AHEADS_MS,
        default=defaults.performance.look_ahead_ms,
        help="how much sound after its own moment the live mouth waits for: less is sooner but follows worse "
        "(default %(default)s)",
    )
    group.add_argument(
        "--no-audio-delay", action="store_true", help="send sound at once, not in step with the picture"
    )


def _add_connecting(group: argparse._ArgumentGroup) -> None:
    group.add_argument("--video-codec", choices=("vp8", "h264"), default="vp8", help="default %(default)s")
    group.add_argument(
        "--video-encoder",
        choices=("cpu", "nvenc"),
        default="cpu",
        help="what encodes H.264: libx264 or an NVIDIA GPU (default %(default)s)",
    )
    group.add_argument(
        "--ice-server", action="append", default=[], metavar="URL", help="STUN server; repeatable"
    )
    group.add_argument(
        "--turn",
        action="append",
        default=[],
        metavar="URL",
        help="TURN server, as turn:host:3478, for both sides of each connection; repeatable, the engine "
        "itself uses the first",
    )
    group.add_argument(
        "--turn-secret-file",
        type=Path,
        metavar="FILE",
        help="file with the secret that the TURN server shares (coturn: use-auth-secret), from which "
        "short-lived passwords are made",
    )


def config_from(args: argparse.Namespace) -> EngineConfig:
    """Raises ValueError naming the setting that is out of range."""
    return EngineConfig(
        host=args.host,
        port=args.port,
        model=args.model,
        backend=args.backend,
        threads=args.threads,
        batching=args.batching,
        max_sessions=args.max_sessions,
        token=_secret("--token-file", args.token_file),
        allow_origins=tuple(args.allow_origin),
        overflow_url=args.overflow_url,
        presets_dir=args.presets,
        osc_port=args.osc_port,
        allow_local_sources=args.allow_local_sources,
        performance=PerformanceConfig(
            fps=args.fps,
            clip=args.clip,
            look_ahead_ms=args.look_ahead_ms,
            delay_sound=not args.no_audio_delay,
        ),
        rtc=RtcConfig(
            ice_servers=_checked("--ice-server", args.ice_server),
            turn=_checked("--turn", args.turn),
            turn_secret=_secret("--turn-secret-file", args.turn_secret_file),
            offer_loopback=args.host in LOOPBACK_HOSTS,
            video=VideoEncodingConfig(codec=args.video_codec, encoder=args.video_encoder, fps=args.fps),
        ),
    )


def _secret(option: str, path: Path | None) -> str | None:
    """The file's text without white space at its ends. Raises ValueError for none that can be used."""
    if path is None:
        return None
    try:
        secret = path.read_text().strip()
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"{option} cannot be read: {error}") from error
    if not secret or not secret.isascii() or any(character.isspace() for character in secret):
        raise ValueError(f"{option} {path} must hold one word of ASCII")
    return secret


def _checked(option: str, urls: list[str]) -> tuple[str, ...]:
    for url in urls:
        try:
            parse_stun_turn_uri(url)
        except ValueError as error:
            raise ValueError(f"{option} must be an address such as turn:host:3478, got {url!r}") from error
    return tuple(urls)


def run(args: argparse.Namespace) -> int:
    """Serve; returns the exit code."""
    try:
        config = config_from(args)
        with contextlib.closing(bind(config.host, config.port)) as listener:
            settings.install(config.rtc)
            model = LiveModel.open(config)
            try:
                asyncio.run(serve(config, listener, model))
            finally:
                model.close()
    except (EngineError, ValueError) as error:
        sys.stderr.write(f"gcavt serve: {error}\n")
        return 2
    return 0
