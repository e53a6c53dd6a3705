"""What a sink takes: finished avatar pictures, and the sound that belongs to them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from engine.media import AudioChunk


@dataclass(frozen=True)
class AvatarFrame:
    """One generated picture, ready to be encoded. All sinks share it: nobody writes into it."""

    yuv420p: NDArray[np.uint8]
    """(height * 3 / 2, width): the planes Y, U, V one below the other (I420)."""
    capture_time_ns: int
    """When what is seen here happened before the camera or the microphone."""
    tick_ns: int
    """Its place in the output, evenly spaced."""


class Sink(Protocol):
    def show(self, frame: AvatarFrame) -> None: ...

    def play(self, chunk: AudioChunk) -> None: ...

    async def close(self) -> None: ...
