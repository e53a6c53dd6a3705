"""`gcavt bench voice`: how soon the lips follow a voice, whether they fit it, and how soon they close.

The engine's own parts with a real model, in one process, without a network. Lips are measured in the
pictures: the gap between them by a face tracker, as a share of the face's height.

1. The built-in clip's sound moves the mouth. The avatar's lips are compared with those in the clip's own
   pictures: at which lag do they agree best? Below zero the avatar's lips come before the sound's.
2. A speech program talks and is told to stop (barge-in): how long until a picture with closed lips, and all
   after it closed too?
"""

from __future__ import annotations

import argparse
import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import av
import cv2
import numpy as np
from numpy.typing import NDArray

from clients.bench.report import json_line, table
from engine.assets import face_landmarker_path
from engine.clock import NS_PER_MS, NS_PER_S, MediaClock
from engine.config import BUILT_IN_CLIP, EngineConfig, PerformanceConfig
from engine.face_tracker import FaceTracker
from engine.media import AudioChunk
from engine.metrics import percentiles
from engine.model_worker import LiveModel
from engine.performance import Performance
from engine.sinks.sink import AvatarFrame
from engine.sources.file import open_file
from engine.sources.source import Source
from engine.sources.tts import TtsSource

SPEECH_RATE = 24_000
WARM_UP_S = 4.0
SETTLED_S = 1.5
"""Nothing moves the lips any more this long after speech was cut off."""
CLOSED_SHARE = 0.15
"""Lips open by less than this of the way from rest to wide open count as closed."""
OPEN_SHARE = 0.3
LARGEST_LAG_MS = 240
LAG_STEP_MS = 4
UPPER_LIP, LOWER_LIP, FOREHEAD, CHIN = 13, 14, 10, 152
"""Of MediaPipe's 478 landmarks: the inner lips' middles, the face's top and bottom."""

Floats = NDArray[np.float64]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `gcavt bench voice`."""
    parser.add_argument("--seconds", type=float, default=30.0, help="of speech (default %(default)g)")
    parser.add_argument("--stops", type=int, default=10, help="times it is cut off (default %(default)s)")
    parser.add_argument("--model", default="lite", help="name or directory of a bundle (default lite)")
    parser.add_argument("--backend", default="openvino", help="default %(default)s")
    parser.add_argument(
        "--look-ahead-ms", type=int, default=PerformanceConfig().look_ahead_ms, help="default %(default)s"
    )


def run(args: argparse.Namespace) -> int:
    performance = PerformanceConfig(look_ahead_ms=args.look_ahead_ms)
    config = EngineConfig(model=args.model, backend=args.backend, performance=performance)
    model = LiveModel.open(config)
    try:
        result = asyncio.run(_measured(args, config, model))
    finally:
        model.close()
    lips, closing = result["lips"], result["barge_in"]
    rows = [
        ["a sound to the picture that it moves", lips["sound_to_picture_ms"]["p50"], "ms, median"],
        ["of that the model", lips["model_ms"], "ms, median"],
        ["look-ahead and waiting", lips["waited_ms"], "ms"],
        ["the avatar's lips behind the clip's", lips["lag_ms"], "ms"],
        ["correlation at that lag", lips["correlation"], ""],
        ["stop to closed lips", closing["closed_ms"].get("p50"), "ms, median"],
        ["stop to closed lips, slowest", closing["slowest_ms"], f"ms of {closing['stops']} stops"],
    ]
    print(table(["measured at the picture", "", ""], rows))
    print(json_line("voice", {"model": args.model, "look_ahead_ms": args.look_ahead_ms, **result}))
    return 0


@dataclass
class Footage:
    """Pictures with when they were captured and when they were shown."""

    pictures: list[AvatarFrame] = field(default_factory=list)
    shown_ns: list[int] = field(default_factory=list)
    clock: MediaClock = field(default_factory=MediaClock)

    def show(self, frame: AvatarFrame) -> None:
        self.pictures.append(frame)
        self.shown_ns.append(self.clock.now_ns())

    def play(self, chunk: AudioChunk) -> None: ...

    async def close(self) -> None: ...

    def clear(self) -> None:
        self.pictures.clear()
        self.shown_ns.clear()


@dataclass(frozen=True)
class Stopped:
    """One speech that was cut off."""

    pictures: list[AvatarFrame]
    shown_ms: Floats
    """After speech was cut off."""


async def _measured(args: argparse.Namespace, config: EngineConfig, model: LiveModel) -> dict[str, Any]:
    """Everything is recorded first: looking for lips meanwhile would slow the engine down."""
    name = model.bundle.identity_names()[0]
    footage = Footage()
    performance = Performance(
        clock=footage.clock,
        config=config.performance,
        encoder=model.encoder,
        generator=model.generator,
        open_tracker=model.open_tracker,
        open_clip=lambda on_sound: open_file(BUILT_IN_CLIP, footage.clock, on_sound),
        find_identity=model.identity,
        clip_memory={},
        identity_name=name,
        identity=await model.identity(name),
    )
    performance.watch(footage)
    performance.start()
    try:
        clip = await _talk(args.seconds, performance, footage)
        voiced = Footage(list(footage.pictures), list(footage.shown_ns))
        stages = ("encode", "generate", "deliver")
        model_ms = sum(float(np.median(performance.metrics.stages.values_ms(stage))) for stage in stages)
        fps = performance.metrics.rate.fps()
        stopped = await _cut_off(args.stops, performance, footage)
    finally:
        await performance.close()
    return {"lips": _lips(voiced, clip, model_ms) | {"fps": fps}, "barge_in": _closing(stopped)}


async def _talk(
    seconds: float, performance: Performance, footage: Footage
) -> tuple[Floats, list[NDArray[np.uint8]]]:
    """Lets the clip's sound move the mouth; returns the clip's own pictures, with their times in ns."""
    source = open_file(BUILT_IN_CLIP, footage.clock, performance.hearer("talk"))
    await performance.connect("talk", source)
    await performance.patch({"mouth": "talk:audio"})
    await asyncio.sleep(WARM_UP_S)
    footage.clear()
    filmed = await _film(source, seconds, footage.clock)
    await performance.patch({"mouth": "idle"})
    await performance.disconnect("talk")
    return filmed


def _lips(voiced: Footage, clip: tuple[Floats, list[NDArray[np.uint8]]], model_ms: float) -> dict[str, Any]:
    captured_ns = np.array([picture.capture_time_ns for picture in voiced.pictures])
    avatar = lip_gaps([_rgb(picture) for picture in voiced.pictures])
    lag_ms, correlation = best_lag(
        (captured_ns / NS_PER_MS, avatar), (clip[0] / NS_PER_MS, lip_gaps(clip[1]))
    )
    ages = percentiles((np.array(voiced.shown_ns) - captured_ns) / NS_PER_MS)
    return {
        "sound_to_picture_ms": ages,
        "model_ms": round(model_ms, 1),
        "waited_ms": round(ages["p50"] - model_ms, 1),
        "lag_ms": lag_ms,
        "correlation": round(correlation, 3),
        "pictures": len(avatar),
    }


async def _film(source: Source, seconds: float, clock: MediaClock) -> tuple[Floats, list[NDArray[np.uint8]]]:
    """What the source shows meanwhile, which nobody else takes: only its sound is routed."""
    times_ns, images = [], []
    end_ns = clock.now_ns() + round(seconds * NS_PER_S)
    while clock.now_ns() < end_ns:
        arrival = await source.pictures.get()
        times_ns.append(arrival.capture_time_ns)
        picture = await asyncio.to_thread(arrival.to_video_frame)
        images.append(picture.image_HWC)
    return np.array(times_ns, np.float64), images


async def _cut_off(stops: int, performance: Performance, footage: Footage) -> list[Stopped]:
    speech = _speech()
    source = TtsSource(SPEECH_RATE, footage.clock, performance.hearer("speech"))
    await performance.connect("speech", source)
    await performance.patch({"mouth": "speech:audio"})
    rng = np.random.default_rng(0)
    found = []
    for _ in range(stops):
        footage.clear()
        source.feed(speech)
        await asyncio.sleep(rng.uniform(1.5, 3.0))
        stopped_ns = footage.clock.now_ns()
        source.stop()
        await asyncio.sleep(SETTLED_S + 1.0)
        shown_ms = (np.array(footage.shown_ns) - stopped_ns) / NS_PER_MS
        found.append(Stopped(list(footage.pictures), shown_ms))
    return found


def _closing(stopped: list[Stopped]) -> dict[str, Any]:
    found = [
        closing(lip_gaps([_rgb(picture) for picture in each.pictures]), each.shown_ms) for each in stopped
    ]
    told = [each for each in found if each is not None]
    closed_ms = [ms for ms, _ in told]
    return {
        "closed_ms": percentiles(closed_ms),
        "slowest_ms": round(max(closed_ms), 1) if told else None,
        "pictures": percentiles([pictures for _, pictures in told]),
        "stops": len(told),
        "of": len(found),
    }


def closing(gaps: Floats, shown_ms: Floats) -> tuple[float, int] | None:
    """When the first picture was shown from which on all lips are closed, and which after the cut that was.

    shown_ms: after speech was cut off.

    None if the lips were about closed at that moment: that says nothing.
    """
    rest = float(np.median(gaps[shown_ms > SETTLED_S * 1000]))
    wide = float(np.percentile(gaps[shown_ms < 0], 95))
    openness = (gaps - rest) / (wide - rest)
    if openness[shown_ms < 0][-1] < OPEN_SHARE:
        return None
    last_open = np.flatnonzero(openness > CLOSED_SHARE)[-1]
    return float(shown_ms[last_open + 1]), int(np.sum(shown_ms[: last_open + 2] > 0))


def lip_gaps(images: Sequence[NDArray[np.uint8]]) -> Floats:
    """The gap between the lips of each RGB picture of a video, as a share of the face's height.

    Raises RuntimeError for a picture without a face.
    """
    gaps = []
    with FaceTracker(face_landmarker_path(), reads_shapes=False) as tracker:
        for index, image in enumerate(images):
            face = tracker.track(image, 40 * index)
            if face is None:
                raise RuntimeError("there is no face in a picture that should show one")
            points = face.landmarks_478
            height = np.linalg.norm(points[FOREHEAD] - points[CHIN])
            gaps.append(np.linalg.norm(points[UPPER_LIP] - points[LOWER_LIP]) / height)
    return np.array(gaps)


def best_lag(ours: tuple[Floats, Floats], theirs: tuple[Floats, Floats]) -> tuple[int, float]:
    """(by how many ms `ours` is best moved back to fit `theirs`, the correlation then).

    Each is (times in ms, values); above zero ours comes later.
    """
    first = max(ours[0][0], theirs[0][0]) + LARGEST_LAG_MS
    last = min(ours[0][-1], theirs[0][-1]) - LARGEST_LAG_MS
    grid = np.arange(first, last, LAG_STEP_MS)
    reference = np.interp(grid, *theirs)
    lags = range(-LARGEST_LAG_MS, LARGEST_LAG_MS + 1, LAG_STEP_MS)
    found = [(float(np.corrcoef(np.interp(grid + lag, *ours), reference)[0, 1]), lag) for lag in lags]
    correlation, lag = max(found)
    return lag, correlation


def _rgb(picture: AvatarFrame) -> NDArray[np.uint8]:
    return np.asarray(cv2.cvtColor(picture.yuv420p, cv2.COLOR_YUV2RGB_I420), np.uint8)


def _speech() -> bytes:
    """The built-in clip's sound as a speech program would send it."""
    resampler = av.AudioResampler("s16", "mono", SPEECH_RATE)
    with av.open(str(BUILT_IN_CLIP)) as container:
        parts = [part for frame in container.decode(audio=0) for part in resampler.resample(frame)]
    return b"".join(part.to_ndarray().tobytes() for part in parts)
