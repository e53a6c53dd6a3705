"""What stages hand to each other: pixels or samples, with the time at which they were captured."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class VideoFrame:
    """One picture: RGB uint8, any size; sizes may change from frame to frame."""

    image_HWC: NDArray[np.uint8]
    capture_time_ns: int


@dataclass(frozen=True)
class AudioChunk:
    """A stretch of mono sound, float32 in [-1, 1]; `capture_time_ns` belongs to its first sample."""

    samples: NDArray[np.float32]
    sample_rate: int
    capture_time_ns: int

    @property
    def end_time_ns(self) -> int:
        return self.capture_time_ns + len(self.samples) * 1_000_000_000 // self.sample_rate
