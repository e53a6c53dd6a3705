"""Pictures and sound that carry the time at which they were made, so that whoever gets them knows their age.

A picture holds a barcode of 32 bits: tenths of milliseconds of this machine's monotonic clock. Sound holds a
short tone now and then; which of the tones it is tells which of the noted moments it belongs to.
"""

from __future__ import annotations

import math
import time
from bisect import bisect_right
from collections.abc import Sequence
from fractions import Fraction

import av
import cv2
import numpy as np
from aiortc import MediaStreamTrack
from numpy.typing import NDArray

from engine.clock import NS_PER_S, MediaClock, Ticker

BITS = 32
CODES = 1 << BITS
COLUMNS, ROWS = 16, 2
DARK, BRIGHT, THRESHOLD = 28, 228, 128
UNITS_PER_S = 10_000
SOUND_RATE = 48_000
PACKET_SAMPLES = SOUND_RATE // 50
TONES_HZ = (600, 1000, 1700, 2700)
TONE_EVERY_S = 0.5
TONE_PACKETS = 2
TONE_LEVEL = 0.6
HEARD_LEVEL = 0.15
QUIET_S = 0.2
LONGEST_LATENCY_S = TONE_EVERY_S * len(TONES_HZ)

Moment = tuple[int, float]
"""(which tone, seconds of the monotonic clock)."""


def code_now() -> int:
    return int(time.monotonic() * UNITS_PER_S) % CODES


def age_ms(code: int) -> float:
    """How long ago this code was written."""
    return ((code_now() - code) % CODES) * 1000 / UNITS_PER_S


def write_code(luma_HW: NDArray[np.uint8], code: int) -> None:
    """Lay the barcode over the picture's upper edge, in place."""
    block = luma_HW.shape[1] // COLUMNS
    bits = (code >> np.arange(BITS)) & 1
    values = np.where(bits, BRIGHT, DARK).astype(np.uint8).reshape(ROWS, COLUMNS)
    luma_HW[: ROWS * block, : COLUMNS * block] = values.repeat(block, 0).repeat(block, 1)


def read_code(luma_HW: NDArray[np.uint8]) -> int:
    """What `write_code` wrote, read at the blocks' centres; the picture may have been scaled since."""
    block = luma_HW.shape[1] / COLUMNS
    y = ((np.arange(ROWS) + 0.5) * block).astype(int)
    x = ((np.arange(COLUMNS) + 0.5) * block).astype(int)
    bits = (luma_HW[np.ix_(y, x)] > THRESHOLD).ravel().astype(np.uint64)
    return int((bits << np.arange(BITS, dtype=np.uint64)).sum())


def luma(frame: av.VideoFrame) -> NDArray[np.uint8]:
    """(height, width): the Y plane of a planar YUV frame."""
    plane = frame.planes[0]
    rows = np.frombuffer(memoryview(plane), np.uint8).reshape(plane.height, plane.line_size)
    return np.asarray(rows[:, : frame.width])


class MarkedPictures(MediaStreamTrack):
    """A texture that moves, with the barcode of the moment at which each picture is handed out."""

    kind = "video"

    def __init__(self, size_px: int, fps: float = 25.0) -> None:
        super().__init__()
        self._size = size_px
        self._fps = fps
        self._ticker: Ticker | None = None
        self._index = 0
        noise = np.random.default_rng(0).integers(0, 255, (size_px // 8 + 40,) * 2).astype(np.uint8)
        texture = cv2.resize(noise, None, fx=8, fy=8, interpolation=cv2.INTER_CUBIC)
        self._texture = np.asarray(texture, np.uint8) // 2 + 64

    async def recv(self) -> av.VideoFrame:
        if self._ticker is None:
            self._ticker = Ticker(MediaClock(), self._fps)
        tick_ns = await self._ticker.next_deadline()
        index, self._index = self._index, self._index + 1
        y, x = int(60 + 50 * np.sin(index * 0.12)), int(60 + 50 * np.cos(index * 0.09))
        picture = np.full((self._size * 3 // 2, self._size), 128, np.uint8)
        picture[: self._size] = self._texture[y : y + self._size, x : x + self._size]
        write_code(picture[: self._size], code_now())
        frame = av.VideoFrame.from_numpy_buffer(picture, format="yuv420p")
        frame.pts, frame.time_base = tick_ns * 90_000 // NS_PER_S, Fraction(1, 90_000)
        return frame


class MarkedSound(MediaStreamTrack):
    """Faint noise with a tone every half second; the moments of the tones are noted."""

    kind = "audio"

    def __init__(self) -> None:
        super().__init__()
        self._ticker: Ticker | None = None
        self._index = 0
        self._noise = np.random.default_rng(0).normal(0, 0.002, PACKET_SAMPLES)
        self.moments: list[Moment] = []

    async def recv(self) -> av.AudioFrame:
        if self._ticker is None:
            self._ticker = Ticker(MediaClock(), SOUND_RATE / PACKET_SAMPLES)
        await self._ticker.next_deadline()
        index, self._index = self._index, self._index + 1
        samples = self._noise + self._tone(index)
        frame = av.AudioFrame.from_ndarray(
            np.round(samples * 32767).astype(np.int16)[None], format="s16", layout="mono"
        )
        frame.sample_rate = SOUND_RATE
        frame.pts, frame.time_base = index * PACKET_SAMPLES, Fraction(1, SOUND_RATE)
        return frame

    def _tone(self, index: int) -> NDArray[np.float64]:
        every = round(TONE_EVERY_S * SOUND_RATE / PACKET_SAMPLES)
        number, packet = divmod(index, every)
        if packet >= TONE_PACKETS:
            return np.zeros(PACKET_SAMPLES)
        if packet == 0:
            self.moments.append((number % len(TONES_HZ), time.monotonic()))
        time_N = (np.arange(PACKET_SAMPLES) + packet * PACKET_SAMPLES) / SOUND_RATE
        return np.asarray(TONE_LEVEL * np.sin(2 * np.pi * TONES_HZ[number % len(TONES_HZ)] * time_N))


class ToneListener:
    """Notes when each tone was heard to begin."""

    def __init__(self) -> None:
        self.heard: list[Moment] = []
        self._loud_s = -math.inf
        self._begun_s: float | None = None
        self._tone_N: NDArray[np.float64] = np.zeros(0)

    def hear(self, samples_N: NDArray[np.floating], now_s: float) -> None:
        """samples_N: mono in [-1, 1], as they come in at `now_s`."""
        loud = np.flatnonzero(np.abs(samples_N) > HEARD_LEVEL)
        if self._begun_s is None and len(loud) and now_s - self._loud_s > QUIET_S:
            self._begun_s, self._tone_N = now_s, np.zeros(0)
            samples_N = samples_N[loud[0] :]
        if len(loud):
            self._loud_s = now_s
        if self._begun_s is None:
            return
        self._tone_N = np.concatenate([self._tone_N, samples_N])
        if len(self._tone_N) >= PACKET_SAMPLES:
            self.heard.append((_tone_of(self._tone_N[:PACKET_SAMPLES]), self._begun_s))
            self._begun_s = None


def _tone_of(samples_N: NDArray[np.float64]) -> int:
    spectrum = np.abs(np.fft.rfft(samples_N * np.hanning(len(samples_N)), 4 * len(samples_N)))
    peak_hz = np.argmax(spectrum) * SOUND_RATE / (4 * len(samples_N))
    return int(np.argmin(np.abs(np.array(TONES_HZ) - peak_hz)))


def latencies_ms(sent: Sequence[Moment], heard: Sequence[Moment]) -> list[tuple[float, float]]:
    """(when it was sent, how long it took) of every tone heard that can be told.

    The same tone comes again after LONGEST_LATENCY_S, so nothing longer can be measured.
    """
    found = []
    for tone, heard_s in heard:
        moments_s = [sent_s for number, sent_s in sent if number == tone]
        index = bisect_right(moments_s, heard_s) - 1
        if index >= 0 and heard_s - moments_s[index] < LONGEST_LATENCY_S:
            found.append((moments_s[index], (heard_s - moments_s[index]) * 1000))
    return found
