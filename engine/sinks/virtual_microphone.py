"""The avatar's voice into a sound device, which other programs take for a microphone."""

from __future__ import annotations

import asyncio
import sys
import threading
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from engine.errors import DeviceMissingError
from engine.media import AudioChunk
from engine.metrics import PerformanceMetrics
from engine.sinks.sink import AvatarFrame
from engine.sound_devices import find_sound_device, sounddevice

SOUND_RATE: Final = 48_000
BLOCK_SAMPLES: Final = SOUND_RATE // 100
TARGET_SAMPLES: Final = SOUND_RATE // 20
"""What waits before playing begins: 50 ms bridge the jitter of 20 ms chunks."""
MOST_SAMPLES: Final = SOUND_RATE // 5
"""More than this is delay: it is cut down to the target."""
HOW_TO_GET_ONE: Final = {
    "linux": "run pactl load-module module-null-sink sink_name=avatar, and choose its monitor",
    "darwin": "install BlackHole (https://existential.audio/blackhole)",
    "win32": "install VB-CABLE (https://vb-audio.com/Cable)",
}


class PlayoutBuffer:
    """Sound on its way from chunks to a device that wants it in its own time. Safe between two threads."""

    def __init__(self, target: int = TARGET_SAMPLES, most: int = MOST_SAMPLES) -> None:
        self._target = target
        self._most = most
        self._samples = np.zeros(0, np.float32)
        self._is_playing = False
        self._lock = threading.Lock()
        self.dropped = 0
        """Samples that had waited too long."""

    def put(self, samples: NDArray[np.float32]) -> None:
        with self._lock:
            self._samples = np.concatenate([self._samples, samples])
            if len(self._samples) > self._most:
                self.dropped += len(self._samples) - self._target
                self._samples = self._samples[-self._target :]

    def take(self, count: int) -> NDArray[np.float32]:
        """The next `count` samples; silence from running dry until the target waits again."""
        with self._lock:
            if not self._is_playing and len(self._samples) < self._target:
                return np.zeros(count, np.float32)
            part, self._samples = self._samples[:count], self._samples[count:]
            self._is_playing = len(part) == count
        return np.pad(part, (0, count - len(part)))


class VirtualMicrophoneSink:
    """Plays the avatar's sound on a named output device."""

    kind = "virtual_microphone"

    def __init__(self, device: str, metrics: PerformanceMetrics) -> None:
        """device: its number or part of its name. Raises DeviceMissingError saying how to get one."""
        self._buffer = PlayoutBuffer()
        self._metrics = metrics
        try:
            number = find_sound_device(device, "output")
        except DeviceMissingError as error:
            how = HOW_TO_GET_ONE.get(sys.platform, "install a virtual sound device")
            raise DeviceMissingError(f"{error.message} For a virtual microphone: {how}.") from error
        try:
            self._stream = sounddevice().OutputStream(
                samplerate=SOUND_RATE,
                blocksize=BLOCK_SAMPLES,
                device=number,
                channels=1,
                dtype="float32",
                latency="low",
                callback=self._fill,
            )
            self._stream.start()
        except sounddevice().PortAudioError as error:
            raise DeviceMissingError(f"The sound device {device} cannot be opened: {error}.") from error

    def show(self, frame: AvatarFrame) -> None:
        """A microphone has no picture: that is the virtual camera's."""

    def play(self, chunk: AudioChunk) -> None:
        self._buffer.put(chunk.samples)
        self._metrics.dropped[f"sink_{self.kind}"] = self._buffer.dropped // len(chunk.samples)

    async def close(self) -> None:
        await asyncio.to_thread(self._stream.close)

    def _fill(self, block_N1: NDArray[np.float32], count: int, times: Any, status: object) -> None:
        """PortAudio's thread."""
        block_N1[:, 0] = self._buffer.take(count)
