"""What every source offers: its newest picture, and its sound as it comes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import av
import numpy as np

from engine.mailbox import LatestFrame
from engine.media import AudioChunk, VideoFrame

SOUND_RATE = 48_000
"""Samples per second of all sound inside the engine."""
MAX_SIDE_PX = 640
"""Larger pictures are reduced to this before tracking: the face crop is 256 px."""

HearSound = Callable[[AudioChunk], None]


@dataclass(frozen=True)
class Arrival:
    """A picture that has come in. Its pixels are converted only when it is taken, off the event loop."""

    frame: av.VideoFrame
    capture_time_ns: int
    arrival_ns: int
    clip_index: int | None = None
    """Its place in the built-in clip, which repeats: what was read there once holds ever after."""

    def to_video_frame(self) -> VideoFrame:
        width, height = self.frame.width, self.frame.height
        scale = min(1.0, MAX_SIDE_PX / max(width, height))
        image = self.frame.to_ndarray(
            format="rgb24", width=max(1, round(width * scale)), height=max(1, round(height * scale))
        )
        upright = np.ascontiguousarray(np.rot90(image, self.frame.rotation // 90), np.uint8)
        return VideoFrame(upright, self.capture_time_ns)


class Source(Protocol):
    """A driver. Sound is handed to the HearSound that the source was made with."""

    pictures: LatestFrame[Arrival]

    @property
    def kind(self) -> str:
        """What it is, in one word: remote, file, still, webcam, tts, ..."""

    @property
    def state(self) -> dict[str, bool]:
        """{"video", "audio": it has such a track; "live": media is coming in}."""

    def start(self) -> None: ...

    async def close(self) -> None: ...


@runtime_checkable
class Fallible(Protocol):
    """A source or a sink that depends on what may be absent: a device, a server, a disk."""

    problem: str | None
    """Why nothing comes or goes, in one sentence; None while all is well."""


def problem_of(item: object) -> str | None:
    """What is wrong with a source or a sink, if it can tell."""
    return item.problem if isinstance(item, Fallible) else None
