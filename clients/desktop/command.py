"""`gcavt desktop`: the avatar for video calls, out of this machine's webcam and microphone."""

from __future__ import annotations

import argparse
import asyncio
import sys
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from clients.desktop.preview import PreviewSink, PreviewWindow, can_show_windows
from engine.backends.backend import BACKENDS, DEFAULT_BACKEND
from engine.bundle import DEFAULT_MODEL, Bundle
from engine.clock import MediaClock
from engine.compositor import background_description
from engine.config import EngineConfig, PerformanceConfig
from engine.errors import BadDescriptionError, BadMediaError, DeviceMissingError
from engine.http.service import Service
from engine.media import AudioChunk
from engine.metrics import PerformanceMetrics, StageTimes
from engine.model_worker import LiveModel
from engine.native_memory import keep_giving_back
from engine.performance import Performance
from engine.rtc import settings
from engine.sinks.open import open_sink
from engine.sinks.sink import AvatarFrame, Sink
from engine.sound_devices import list_sound_devices
from engine.sources.open import open_source
from engine.sources.source import HearSound, problem_of
from engine.sources.webcam import list_webcams

Description = dict[str, object]

NONE: Final = "none"
STATUS_PERIOD_S: Final = 2.0
SINK_OF_SCHEME: Final = {"rtmp": "rtmp", "rtmps": "rtmp", "srt": "srt", "http": "whip", "https": "whip"}


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What the options come to."""

    config: EngineConfig
    sources: dict[str, Description]
    """By name: `camera`, and `mic` where a microphone is heard."""
    sinks: list[Description]
    changes: Description
    """The patch: sockets, background."""
    photos: list[Path]
    """Of whom to show; empty for an identity of the model's own."""
    seconds: float | None
    shows_preview: bool


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.epilog = (
        "examples:\n"
        "  gcavt desktop --list                            what this machine has\n"
        "  gcavt desktop --identity me.jpg                 webcam and microphone to the virtual camera\n"
        "  gcavt desktop --video talk.mp4 --microphone none --out avatar.mp4 --seconds 10\n"
        "  gcavt desktop --send rtmp://server/live/key     to a broadcast instead"
    )
    parser.add_argument("--list", action="store_true", help="show cameras and sound devices, and leave")
    _add_inputs(parser.add_argument_group("what drives"))
    _add_outputs(parser.add_argument_group("where the avatar goes (default: to the first virtual camera)"))
    model = parser.add_argument_group("the model")
    model.add_argument("--model", default=DEFAULT_MODEL, metavar="NAME|PATH", help="default %(default)s")
    model.add_argument("--backend", choices=BACKENDS, default=DEFAULT_BACKEND, help="default %(default)s")
    model.add_argument("--threads", type=int, metavar="N", help="CPU threads (default: the backend's choice)")
    model.add_argument("--fps", type=float, default=25.0, help="default %(default)g")
    parser.add_argument("--seconds", type=float, metavar="S", help="stop after this long (default: Ctrl-C)")


def _add_inputs(group: argparse._ArgumentGroup) -> None:
    group.add_argument("--webcam", metavar="DEVICE", help="as --list calls it (default: the first)")
    group.add_argument("--video", type=Path, metavar="FILE", help="a video instead of the webcam")
    group.add_argument(
        "--microphone", metavar="NAME", help=f"part of its name, or {NONE} (default: the system's choice)"
    )
    group.add_argument(
        "--identity", nargs="+", metavar="IMG|NAME", help="photos of one person, or an identity of the model"
    )
    group.add_argument("--pose", default="camera", metavar="SOURCE", help="camera (default), clip or idle")
    group.add_argument(
        "--expression", default="camera", metavar="SOURCE", help="camera (default), clip or idle"
    )
    group.add_argument(
        "--mouth",
        default="camera",
        metavar="SOURCE",
        help="camera (default), mic:audio, camera:audio, clip, idle",
    )


def _add_outputs(group: argparse._ArgumentGroup) -> None:
    group.add_argument("--camera", metavar="DEVICE", help="the virtual camera, such as /dev/video10")
    group.add_argument("--size", default="640x480", metavar="WxH", help="of the virtual camera (%(default)s)")
    group.add_argument("--speaker", metavar="NAME", help="a sound device that others take for a microphone")
    group.add_argument("--out", type=Path, metavar="FILE", help="record to .mp4, .mkv, .mov or .webm instead")
    group.add_argument("--alpha", action="store_true", help="record with transparency (.mov, .webm)")
    group.add_argument("--send", metavar="URL", help="to rtmp://, srt:// or a WHIP server (https://) instead")
    group.add_argument("--token", help="what a WHIP server knows you by")
    group.add_argument("--background", metavar="#rrggbb|IMAGE", help="behind the avatar (default: black)")
    group.add_argument("--blur", type=float, default=0.0, metavar="SHARE", help="soften the background: 0.03")
    group.add_argument(
        "--preview",
        action=argparse.BooleanOptionalAction,
        default=None,
        help="a window (default: if there can be one)",
    )


def run(args: argparse.Namespace) -> int:
    """Play until Ctrl-C, the window's end or --seconds. Raises EngineError."""
    if args.list:
        print("\n".join(listing()))
        return 0
    plan = plan_from(args)
    stop = threading.Event()
    preview = PreviewSink() if plan.shows_preview else None
    settings.install(plan.config.rtc)
    # the window belongs into the main thread (macOS insists), so the event loop gets one of its own
    with ThreadPoolExecutor(1, thread_name_prefix="desktop") as executor:
        playing = executor.submit(asyncio.run, perform(plan, stop, preview))
        with suppress(KeyboardInterrupt):
            _wait(playing, preview)
        stop.set()
        print(playing.result())
    return 0


def _wait(playing: Future[str], preview: PreviewSink | None) -> None:
    if preview is None:
        playing.exception()
        return
    with PreviewWindow("GC-AVT Live") as window:
        while not playing.done() and window.is_open:
            window.show_newest(preview)


async def perform(plan: Plan, stop: threading.Event, preview: PreviewSink | None) -> str:
    """Play until `stop`; returns what to say at the end.

    Devices come before the model, which takes long. Raises EngineError if something cannot be opened.
    """
    clock = MediaClock()
    hearers: dict[str, HearSound] = {}
    sources = {
        name: open_source(description, clock, partial(_hear, hearers, name))
        for name, description in plan.sources.items()
    }
    async with AsyncExitStack() as stack:
        gauge = LatencyGauge(clock)
        drops = PerformanceMetrics.started(clock)
        sinks: list[Sink] = [gauge, *([preview] if preview else [])]
        for description in plan.sinks:
            sinks.append(open_sink(description, clock, drops))
            stack.push_async_callback(sinks[-1].close)
        model = await asyncio.to_thread(LiveModel.open, plan.config)
        stack.callback(model.close)
        await model.warm_up()
        stack.callback(asyncio.create_task(keep_giving_back()).cancel)
        service = Service(plan.config, model, clock)
        session = await service.open_session({})
        stack.push_async_callback(service.sessions.end, session)
        performance = session.performance
        if plan.photos:
            photos = [path.read_bytes() for path in plan.photos]
            performance.set_identity("photos", await model.identity_from_photos(photos))
        for name, source in sources.items():
            hearers[name] = performance.hearer(name)
            await performance.connect(name, source)
        await performance.patch(plan.changes)
        for sink in sinks:
            performance.watch(sink)
        await _until(stop, plan.seconds, lambda: _status(performance, gauge))
        return _summary(performance, gauge, drops)


def _hear(hearers: dict[str, HearSound], name: str, chunk: AudioChunk) -> None:
    hearers[name](chunk)


class LatencyGauge:
    """A sink that only looks at how old the pictures are."""

    def __init__(self, clock: MediaClock) -> None:
        self._clock = clock
        self._stages = StageTimes(clock)

    def show(self, frame: AvatarFrame) -> None:
        self._stages.add("latency", self._clock.now_ns() - frame.capture_time_ns)

    def play(self, chunk: AudioChunk) -> None: ...

    async def close(self) -> None: ...

    def percentiles_ms(self) -> dict[str, float]:
        return self._stages.percentiles_ms().get("latency", {})


async def _until(stop: threading.Event, seconds: float | None, status: Callable[[], str]) -> None:
    clock = MediaClock()
    end_ns = None if seconds is None else clock.now_ns() + round(seconds * 1e9)
    while not stop.is_set():
        left_s = STATUS_PERIOD_S if end_ns is None else (end_ns - clock.now_ns()) / 1e9
        if left_s <= 0:
            return
        await asyncio.to_thread(stop.wait, min(STATUS_PERIOD_S, left_s))
        if sys.stderr.isatty():
            print(f"\r{status()}\033[K", end="", file=sys.stderr, flush=True)


def _status(performance: Performance, gauge: LatencyGauge) -> str:
    problems = [problem for source in performance.sources.values() if (problem := problem_of(source))]
    latency_ms = gauge.percentiles_ms().get("p50", 0)
    return "  ".join([f"{performance.metrics.rate.fps():.1f} fps, {latency_ms:.0f} ms behind", *problems])


def _summary(performance: Performance, gauge: LatencyGauge, drops: PerformanceMetrics) -> str:
    latency = ", ".join(f"{name} {value:.0f} ms" for name, value in gauge.percentiles_ms().items())
    counts = {**performance.metrics.dropped, **drops.dropped}
    dropped = ", ".join(f"{place} {count}" for place, count in counts.items() if count)
    return (
        f"{performance.metrics.frames} pictures; from capture to picture {latency or 'unknown'}; "
        f"left behind: {dropped or 'none'}"
    )


# -- from options to a plan ---------------------------------------------------------------------------------


def plan_from(args: argparse.Namespace) -> Plan:
    """What is to be done. Raises BadDescriptionError or BadMediaError before anything is opened."""
    photos, identity = _identity(args.identity, args.model)
    changes: Description = {"pose": args.pose, "expression": args.expression, "mouth": args.mouth}
    if identity is not None:
        changes["identity"] = identity
    if args.background is not None:
        changes["background"] = background_description(args.background, args.blur)
    try:
        performance = PerformanceConfig(fps=args.fps)
    except ValueError as error:
        raise BadDescriptionError(f"--{error}.") from error
    return Plan(
        config=EngineConfig(
            model=args.model, backend=args.backend, threads=args.threads, performance=performance
        ),
        sources=_sources(args),
        sinks=_sinks(args),
        changes=changes,
        photos=photos,
        seconds=args.seconds,
        shows_preview=_shows_preview(args.preview),
    )


def _identity(words: Sequence[str] | None, model: str) -> tuple[list[Path], str | None]:
    """(photos, name): one of them, or neither."""
    if not words:
        return [], None
    names = Bundle.open(model).identity_names()
    if len(words) == 1 and words[0] in names and not Path(words[0]).is_file():
        return [], words[0]
    for word in words:
        if not Path(word).is_file():
            raise BadMediaError(f"--identity {word} is neither a picture nor one of {', '.join(names)}")
    return [Path(word) for word in words], None


def _sources(args: argparse.Namespace) -> dict[str, Description]:
    camera: Description = {"kind": "webcam", "device": args.webcam}
    if args.video is not None:
        camera = {"kind": "file", "path": str(args.video)}
    sources = {"camera": camera}
    if args.microphone != NONE:
        sources["mic"] = {"kind": "microphone", "device": args.microphone}
    return sources


def _sinks(args: argparse.Namespace) -> list[Description]:
    sinks: list[Description] = []
    if args.out is not None:
        sinks.append({"kind": "file", "path": str(args.out), "alpha": args.alpha, "fps": args.fps})
    if args.send is not None:
        sinks.append(_send(args.send, args.token))
    if args.camera is not None or not sinks:
        width, height = _size(args.size)
        sinks.append(
            {
                "kind": "virtual_camera",
                "device": args.camera,
                "width": width,
                "height": height,
                "fps": args.fps,
            }
        )
    if args.speaker is not None:
        sinks.append({"kind": "virtual_microphone", "device": args.speaker})
    return sinks


def _send(url: str, token: str | None) -> Description:
    kind = SINK_OF_SCHEME.get(urlsplit(url).scheme.lower())
    if kind is None:
        raise BadDescriptionError(f"--send takes an address with {', '.join(SINK_OF_SCHEME)}, got {url}.")
    return {"kind": kind, "url": url, "token": token} if kind == "whip" else {"kind": kind, "url": url}


def _size(text: str) -> tuple[int, int]:
    width, _, height = text.lower().partition("x")
    if not (width.isdigit() and height.isdigit()):
        raise BadDescriptionError(f"--size is written like 1280x720, got {text}.")
    return int(width), int(height)


def _shows_preview(wanted: bool | None) -> bool:
    if wanted and not can_show_windows():
        raise DeviceMissingError("There is no screen here to show a preview on; leave --preview out.")
    return can_show_windows() if wanted is None else wanted


# -- what this machine has ----------------------------------------------------------------------------------


def listing() -> list[str]:
    """Lines of `--list`."""
    lines = _section("webcams (--webcam)", lambda: [f"{d.id}  {d.name}" for d in list_webcams()])
    lines += _section(
        "microphones (--microphone)", lambda: [f"{d.number}  {d.name}" for d in list_sound_devices("input")]
    )
    lines += _section(
        "sound outputs (--speaker)", lambda: [f"{d.number}  {d.name}" for d in list_sound_devices("output")]
    )
    return lines


def _section(title: str, find: Callable[[], list[str]]) -> list[str]:
    try:
        found = find() or ["none"]
    except DeviceMissingError as error:
        found = [error.message]
    return [f"{title}:", *(f"  {line}" for line in found)]
