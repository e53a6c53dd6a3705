"""Decoding in aiortc's own decoder thread, with what its worker lacks: concealment, codec switches."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import queue
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import av
import numpy as np
from aiortc.codecs import get_decoder
from aiortc.codecs.base import Decoder
from aiortc.codecs.vpx import Vp8Decoder
from aiortc.jitterbuffer import JitterFrame
from aiortc.rtcrtpparameters import RTCRtpCodecParameters

from engine.rtc.concealment import Concealer

logger = logging.getLogger(__name__)

PCM_SCALE = 32768.0


@dataclass(frozen=True)
class Undecoded:
    """One frame's bytes, or the room where a lost one should have been."""

    codec: RTCRtpCodecParameters
    data: bytes | None
    """None: lost."""
    ticks: int
    """Media time in units of the RTP clock since the track's first timestamp."""


class QuickVp8Decoder(Vp8Decoder):
    """FFmpeg's own VP8 decoder: it takes three quarters of libvpx's time, and gives the same pictures.

    They are the decoder's own reference pictures too: read them, but never write into them.
    """

    def __init__(self) -> None:
        self.codec = av.CodecContext.create("vp8", "r")
        self.codec.thread_count = 1  # several would work on several frames, and so give each of them late


def open_decoder(codec: RTCRtpCodecParameters) -> Decoder:
    """Raises ValueError for a codec that aiortc does not know."""
    return QuickVp8Decoder() if codec.mimeType.lower() == "video/vp8" else get_decoder(codec)


Deliver = Callable[[av.VideoFrame | av.AudioFrame], None]


class DecoderFeed:
    """Stands where aiortc's decoder thread asks for its next task.

    The thread gets only the end from it: everything else is decoded in `get` itself, still in that thread,
    and handed to the event loop. So aiortc goes on starting, stopping and joining the thread.
    """

    def __init__(
        self, loop: asyncio.AbstractEventLoop, on_frame: Deliver, on_error: Callable[[], None]
    ) -> None:
        """on_frame and on_error are called on the loop."""
        # wakes its reader sooner than a queue.Queue, which is written in Python
        self._tasks: queue.SimpleQueue[Undecoded | None] = queue.SimpleQueue()
        self._loop = loop
        self._on_frame = on_frame
        self._on_error = on_error
        self._codec: RTCRtpCodecParameters | None = None
        self._decoder: Decoder | None = None
        self._concealer: Concealer | None = None
        self._last: av.AudioFrame | None = None
        self.is_closed = False

    def put(self, task: Undecoded | None) -> None:
        """None ends decoding; what still waits then is not decoded any more."""
        if task is None:
            self.is_closed = True
            self.drop_waiting()
        self._tasks.put(task)

    def qsize(self) -> int:
        """How many frames wait to be decoded."""
        return self._tasks.qsize()

    def drop_waiting(self) -> None:
        """Give up what has not been decoded yet."""
        with contextlib.suppress(queue.Empty):
            while True:
                self._tasks.get_nowait()

    def get(self) -> None:
        while (task := self._tasks.get()) is not None:
            for frame in self._decoded(task):
                self._loop.call_soon_threadsafe(self._on_frame, frame)
        self._decoder = None

    def _decoded(self, task: Undecoded) -> list[Any]:
        if self._codec is None or task.codec.name != self._codec.name:
            self._codec = task.codec
            self._decoder = open_decoder(task.codec)
            self._concealer = self._last = None
        if task.data is None:
            return self._made_up(task.ticks)
        assert self._decoder is not None
        try:
            frames = self._decoder.decode(JitterFrame(task.data, task.ticks))
        except av.FFmpegError as error:
            # The decoder is kept: a new one would fail on every frame until the next key frame.
            logger.warning("a %s frame could not be decoded: %s", task.codec.name, error)
            self._loop.call_soon_threadsafe(self._on_error)
            return []
        return [self._heard(frame) if isinstance(frame, av.AudioFrame) else frame for frame in frames]

    def _heard(self, frame: av.AudioFrame) -> av.AudioFrame:
        if self._concealer is None:
            self._concealer = Concealer(frame.sample_rate)
        samples_NC = _samples(frame)
        joined_NC = self._concealer.heard(samples_NC)
        self._last = frame
        return frame if joined_NC is samples_NC else _like(frame, joined_NC, frame.pts)

    def _made_up(self, ticks: int) -> list[av.AudioFrame]:
        if self._concealer is None or self._last is None:
            return []
        made_NC = self._concealer.made_up(self._last.samples)
        if made_NC is None or self._codec is None or self._last.time_base is None:
            return []
        pts = round(ticks / (self._codec.clockRate * self._last.time_base))
        return [_like(self._last, made_NC, pts)]


def _samples(frame: av.AudioFrame) -> np.ndarray[Any, np.dtype[np.float32]]:
    """(samples, channels) in [-1, 1]. aiortc's decoders all give packed 16-bit sound."""
    interleaved = frame.to_ndarray().reshape(-1, len(frame.layout.channels))
    return interleaved.astype(np.float32) / PCM_SCALE


def _like(
    frame: av.AudioFrame, samples_NC: np.ndarray[Any, np.dtype[np.float32]], pts: int | None
) -> av.AudioFrame:
    interleaved = np.clip(samples_NC * PCM_SCALE, -PCM_SCALE, PCM_SCALE - 1).astype(np.int16).reshape(1, -1)
    made = av.AudioFrame.from_ndarray(interleaved, format="s16", layout=frame.layout.name)
    made.sample_rate = frame.sample_rate
    made.pts = pts
    made.time_base = frame.time_base
    return made
