"""A text-to-speech program as a driver: it sends raw sound as fast as it likes and is heard in real time."""

from __future__ import annotations

import asyncio

import av
import numpy as np
from numpy.typing import NDArray

from engine.clock import NS_PER_S, MediaClock, Ticker
from engine.errors import BadDescriptionError
from engine.mailbox import LatestFrame
from engine.media import AudioChunk
from engine.sources.source import SOUND_RATE, Arrival, HearSound

BLOCKS_PER_SECOND = 50
BLOCK_SAMPLES = SOUND_RATE // BLOCKS_PER_SECOND
BYTES_PER_SAMPLE = 2
CUT_OFF_BLOCKS = 10
"""200 ms of silence that are known at once when speech is cut off: the reach of the mouth's mel window, so
that the very next picture has heard nothing but silence and closes the mouth."""
MAX_WAITING_S = 120.0
"""This much speech may wait before its sender is made to wait; it could not be told to stop meanwhile."""
TRAILING_S = 0.5
"""The source counts as live this long after its last word."""


class TtsSource:
    """Speech fed as signed 16-bit little-endian mono PCM; silence in between.

    `feed` and `stop` are for the event loop's thread. What waits is bounded by `wait_for_room`.
    """

    kind = "tts"

    def __init__(self, sample_rate: int, clock: MediaClock, on_sound: HearSound) -> None:
        """Raises BadDescriptionError for a rate that is none of speech."""
        if not 8_000 <= sample_rate <= SOUND_RATE:
            raise BadDescriptionError(
                f"A voice's sample_rate must be 8000 to {SOUND_RATE}, got {sample_rate}."
            )
        self.pictures: LatestFrame[Arrival] = LatestFrame()
        self.sample_rate = sample_rate
        self._clock = clock
        self._on_sound = on_sound
        self._task: asyncio.Task[None] | None = None
        self._has_room = asyncio.Event()
        self._has_room.set()
        self._spoke_ns: int | None = None
        self._next_ns = clock.now_ns()
        self._forget()

    @property
    def state(self) -> dict[str, bool]:
        spoke_ns = self._spoke_ns
        is_speaking = spoke_ns is not None and self._clock.now_ns() - spoke_ns < TRAILING_S * NS_PER_S
        return {"video": False, "audio": True, "live": is_speaking}

    @property
    def waiting_s(self) -> float:
        """How much speech has been fed and not been heard yet."""
        return len(self._fed) / BYTES_PER_SAMPLE / self.sample_rate + len(self._speech) / SOUND_RATE

    def start(self) -> None:
        if self._task is None:
            self._task = asyncio.create_task(self._speak())

    async def close(self) -> None:
        self._has_room.set()
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    def feed(self, pcm: bytes) -> None:
        """Say this after what was fed before. A sample may be split between two calls."""
        self._fed += pcm
        if self.waiting_s > MAX_WAITING_S:
            self._has_room.clear()

    async def wait_for_room(self) -> None:
        """Returns at once unless so much waits to be said that the sender should wait too."""
        await self._has_room.wait()

    def stop(self) -> None:
        """Fall silent at once (barge-in): what waits is dropped, the mouth closes with the next picture."""
        was_speaking = bool(self.state["live"])
        self._forget()
        self._has_room.set()
        if was_speaking and self._task is not None:
            self._cut_off_blocks = CUT_OFF_BLOCKS
            for _ in range(CUT_OFF_BLOCKS):
                self._hand_on(np.zeros(BLOCK_SAMPLES, np.float32))

    def _forget(self) -> None:
        self._fed = bytearray()
        self._speech = np.zeros(0, np.float32)
        self._resampler = av.AudioResampler("flt", "mono", SOUND_RATE)
        self._cut_off_blocks = 0

    async def _speak(self) -> None:
        ticker = Ticker(self._clock, BLOCKS_PER_SECOND)
        while True:
            due_ns = await ticker.next_deadline()
            if self._cut_off_blocks:  # its silence has been handed on already
                self._cut_off_blocks -= 1
                continue
            self._next_ns = due_ns
            self._hand_on(self._next_block())

    def _hand_on(self, block: NDArray[np.float32]) -> None:
        self._on_sound(AudioChunk(block, SOUND_RATE, self._next_ns))
        self._next_ns += NS_PER_S // BLOCKS_PER_SECOND

    def _next_block(self) -> NDArray[np.float32]:
        """20 ms of what was fed, with silence after its end."""
        wanted = self.sample_rate // BLOCKS_PER_SECOND * BYTES_PER_SAMPLE
        while len(self._speech) < BLOCK_SAMPLES and len(self._fed) >= BYTES_PER_SAMPLE:
            self._resample(wanted)
        block, self._speech = self._speech[:BLOCK_SAMPLES], self._speech[BLOCK_SAMPLES:]
        if len(block):
            self._spoke_ns = self._clock.now_ns()
        if self.waiting_s < MAX_WAITING_S:
            self._has_room.set()
        return np.pad(block, (0, BLOCK_SAMPLES - len(block)))

    def _resample(self, byte_count: int) -> None:
        byte_count = min(byte_count, len(self._fed)) // BYTES_PER_SAMPLE * BYTES_PER_SAMPLE
        samples = np.frombuffer(bytes(self._fed[:byte_count]), "<i2").astype(np.int16)
        del self._fed[:byte_count]
        frame = av.AudioFrame.from_ndarray(samples[None], format="s16", layout="mono")
        frame.sample_rate = self.sample_rate
        parts = [part.to_ndarray()[0] for part in self._resampler.resample(frame)]
        self._speech = np.concatenate([self._speech, *parts])
