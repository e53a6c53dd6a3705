"""Real media made by the tests that need it, and clocks that do not wait."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
from numpy.typing import NDArray

from engine.clock import MediaClock
from engine.sinks.sink import AvatarFrame, CutOut
from engine.sources.source import SOUND_RATE


class ManualClock(MediaClock):
    """Sleeping moves it to the deadline at once."""

    def __init__(self) -> None:
        self.time_ns = 0

    def now_ns(self) -> int:
        return self.time_ns

    async def sleep_until(self, deadline_ns: int) -> None:
        self.time_ns = max(self.time_ns, deadline_ns)
        await asyncio.sleep(0)


async def eventually(condition: Callable[[], bool], patience_s: float = 20.0) -> None:
    """Return when it holds. Raises TimeoutError where it does not come to that."""
    async with asyncio.timeout(patience_s):
        while not condition():  # noqa: ASYNC110  threads and processes make it true, and tell nobody
            await asyncio.sleep(0.005)


def tone(seconds: float, hz: float = 440.0, rate: int = SOUND_RATE) -> NDArray[np.float32]:
    return (0.5 * np.sin(2 * np.pi * hz * np.arange(round(seconds * rate)) / rate)).astype(np.float32)


def write_video(path: Path, frames: int, *, fps: int = 25, sound_s: float = 0.0) -> Path:
    """Pictures of 64 px whose brightness counts up by 20, and a tone."""
    with av.open(str(path), "w") as container:
        video = container.add_stream("libx264", rate=fps)
        video.width = video.height = 64
        video.pix_fmt = "yuv420p"
        audio = container.add_stream("aac", rate=SOUND_RATE, layout="mono") if sound_s else None
        for index in range(frames):
            picture = np.full((64, 64, 3), 20 * index % 256, np.uint8)
            container.mux(video.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(video.encode(None))
        if audio is not None:
            sound = av.AudioFrame.from_ndarray(tone(sound_s)[None], format="fltp", layout="mono")
            sound.sample_rate = SOUND_RATE
            sound.pts, sound.time_base = 0, Fraction(1, SOUND_RATE)
            container.mux(audio.encode(sound))
            container.mux(audio.encode(None))
    return path


def write_sound(path: Path, seconds: float, rate: int = 16_000) -> Path:
    with av.open(str(path), "w") as container:
        stream = container.add_stream("pcm_s16le", rate=rate, layout="mono")
        samples = (tone(seconds, rate=rate) * 32767).astype(np.int16)
        frame = av.AudioFrame.from_ndarray(samples[None], format="s16", layout="mono")
        frame.sample_rate = rate
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def avatar_frame(
    tick_ns: int, *, level: int = 100, capture_time_ns: int | None = None, side_px: int = 64
) -> AvatarFrame:
    """A grey disc of this brightness on black, transparent around it."""
    mask = cv2.circle(np.zeros((side_px, side_px), np.uint8), (side_px // 2,) * 2, side_px // 3, 255, -1)
    image = np.asarray(cv2.merge([np.minimum(mask, level)] * 3), np.uint8)
    yuv420p = np.asarray(cv2.cvtColor(image, cv2.COLOR_RGB2YUV_I420), np.uint8)
    captured_ns = tick_ns if capture_time_ns is None else capture_time_ns
    return AvatarFrame(yuv420p, captured_ns, tick_ns, CutOut(image, np.asarray(mask, np.uint8)))
