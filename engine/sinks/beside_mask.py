"""Transparency through codecs that know none: the colours and, beside them, the mask in one picture."""

from __future__ import annotations

import cv2
import numpy as np

from engine.media import AudioChunk
from engine.sinks.sink import AvatarFrame, Sink


class BesideMaskSink:
    """Gives another sink pictures twice as wide: the cut-out on black left, its mask right.

    The page alpha.html puts them together again over a transparent background.
    """

    def __init__(self, sink: Sink) -> None:
        self._sink = sink

    def show(self, frame: AvatarFrame) -> None:
        """Raises ValueError for a frame without its cut-out."""
        if frame.cut_out is None:
            raise ValueError("the avatar comes without its transparency")
        wide_HWC = frame.cut_out.beside_its_mask()
        yuv420p = np.asarray(cv2.cvtColor(wide_HWC, cv2.COLOR_RGB2YUV_I420), np.uint8)
        self._sink.show(AvatarFrame(yuv420p, frame.capture_time_ns, frame.tick_ns, frame.cut_out))

    def play(self, chunk: AudioChunk) -> None:
        self._sink.play(chunk)

    async def close(self) -> None:
        await self._sink.close()
