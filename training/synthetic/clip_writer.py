"""Writes pictures and their sound into one MP4: H.264 and AAC."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import Any

import av
import numpy as np
from av.audio.frame import AudioFrame
from av.video.frame import VideoFrame
from numpy.typing import NDArray


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A temporary path beside `path` that takes its name if the block succeeds and is removed if not."""
    temporary = path.with_name(f".partial-{path.name}")
    try:
        yield temporary
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


class ClipWriter:
    """Encodes frames one by one, each with the sound that belongs to it. Use as a context manager."""

    def __init__(
        self,
        path: Path,
        *,
        size_px: int,
        fps: int,
        samples: NDArray[np.float32],
        sample_rate: int,
        quality_crf: int = 18,
        sound_kbps: int = 64,
    ) -> None:
        self._samples, self._sample_rate, self._fps = samples, sample_rate, fps
        self._frames = 0
        self._container = av.open(str(path), "w")
        options = {"crf": str(quality_crf), "preset": "medium"}
        self._video: Any = self._container.add_stream("libx264", rate=fps, options=options)
        self._video.width = self._video.height = size_px
        self._video.pix_fmt = "yuv420p"
        self._video.thread_count = 1
        self._audio: Any = self._container.add_stream("aac", rate=sample_rate, layout="mono")
        self._audio.bit_rate = sound_kbps * 1000

    def __enter__(self) -> ClipWriter:
        return self

    def write(self, image_HW3: NDArray[np.uint8]) -> None:
        """Append one RGB frame and its share of the sound."""
        frame = VideoFrame.from_ndarray(image_HW3, format="rgb24")
        frame.pts, frame.time_base = self._frames, Fraction(1, self._fps)
        self._container.mux(self._video.encode(frame))
        start = round(self._frames * self._sample_rate / self._fps)
        self._frames += 1
        chunk = self._samples[start : round(self._frames * self._sample_rate / self._fps)]
        if len(chunk):
            sound = AudioFrame.from_ndarray(np.ascontiguousarray(chunk[None]), format="fltp", layout="mono")
            sound.sample_rate, sound.pts = self._sample_rate, start
            sound.time_base = Fraction(1, self._sample_rate)
            self._container.mux(self._audio.encode(sound))

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self._container.mux(self._video.encode(None))
            self._container.mux(self._audio.encode(None))
        self._container.close()
