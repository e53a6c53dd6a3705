"""A microphone of this machine, through PortAudio."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from engine.clock import NS_PER_S, MediaClock
from engine.mailbox import LatestFrame
from engine.media import AudioChunk
from engine.sound_devices import find_sound_device, sounddevice
from engine.sources.source import SOUND_RATE, Arrival, HearSound

if TYPE_CHECKING:
    import sounddevice as sd

logger = logging.getLogger(__name__)

BLOCK_SAMPLES = SOUND_RATE // 50
"""20 ms: as much as a packet of Opus holds."""
FRESH_NS = 2 * NS_PER_S


class MicrophoneSource:
    """Hands on what the microphone hears, in blocks of 20 ms. It shows no picture."""

    kind = "microphone"

    def __init__(self, device: str | None, clock: MediaClock, on_sound: HearSound) -> None:
        """device: part of its name, or its number; None is the system's choice.

        Raises DeviceMissingError if there is no such device or PortAudio is not installed.
        """
        self.pictures: LatestFrame[Arrival] = LatestFrame()
        self.problem: str | None = None
        self._clock = clock
        self._on_sound = on_sound
        self._device = find_sound_device(device, "input")
        self._stream: sd.InputStream | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._last_sound_ns: int | None = None

    @property
    def state(self) -> dict[str, bool]:
        last_ns = self._last_sound_ns
        is_live = last_ns is not None and self._clock.now_ns() - last_ns < FRESH_NS
        return {"video": False, "audio": True, "live": is_live}

    def start(self) -> None:
        """Raises nothing: a device that cannot be opened is told by `problem`."""
        if self._stream is not None:
            return
        self._loop = asyncio.get_running_loop()
        try:
            self._stream = sounddevice().InputStream(
                samplerate=SOUND_RATE,
                blocksize=BLOCK_SAMPLES,
                device=self._device,
                channels=1,
                dtype="float32",
                latency="low",
                callback=self._take,
            )
            self._stream.start()
        except sounddevice().PortAudioError as error:
            self.problem = f"The microphone cannot be opened: {error}."
            logger.warning("%s", self.problem)

    async def close(self) -> None:
        stream, self._stream = self._stream, None
        self._loop = None
        if stream is not None:
            await asyncio.to_thread(stream.close)

    def _take(self, block_N1: NDArray[np.float32], count: int, times: Any, status: object) -> None:
        """PortAudio's thread."""
        loop = self._loop
        if loop is None or loop.is_closed():
            return
        now_ns = self._last_sound_ns = self._clock.now_ns()
        capture_ns = now_ns - _age_ns(times, count)
        loop.call_soon_threadsafe(self._on_sound, AudioChunk(block_N1[:, 0].copy(), SOUND_RATE, capture_ns))


def _age_ns(times: Any, count: int) -> int:
    """How long ago the first sample was heard: as PortAudio says, and at least the block's own length.

    Some of its back ends leave the time of the converter at zero.
    """
    block_s = count / SOUND_RATE
    age_s = times.currentTime - times.inputBufferAdcTime if times.inputBufferAdcTime else block_s
    return round(min(max(age_s, block_s), 1.0) * NS_PER_S)
