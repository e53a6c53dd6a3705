"""A clip played over and over in real time: picture and sound."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import av
import numpy as np
from numpy.typing import NDArray

from engine.clock import MediaClock, Ticker
from engine.errors import BadMediaError
from engine.mailbox import LatestFrame
from engine.media import AudioChunk
from engine.sources.source import SOUND_RATE, Arrival, HearSound


@dataclass(frozen=True)
class ClipSound:
    """All sound of a clip: mono, SOUND_RATE."""

    samples: NDArray[np.float32]

    def between(self, start: int, count: int) -> NDArray[np.float32]:
        """`count` samples from `start`, silence where the clip has none."""
        part = self.samples[start : start + count]
        return np.pad(part, (0, count - len(part)))


class Clip:
    """An opened video file. Decoding is done in the thread that calls."""

    def __init__(self, path: Path) -> None:
        """Raises BadMediaError if the file is missing or shows no picture."""
        self._path = path
        if not path.is_file():
            raise BadMediaError(f"The clip {path} does not exist.")
        try:
            with av.open(str(path)) as container:
                if not container.streams.video:
                    raise BadMediaError(f"The clip {path} has no picture.")
                rate = container.streams.video[0].average_rate
                self.fps = float(rate) if rate else 25.0
                self.has_sound = bool(container.streams.audio)
        except av.FFmpegError as error:
            raise BadMediaError(f"The clip {path} cannot be read: {error}") from error

    def pictures(self) -> Iterator[av.VideoFrame]:
        """Every picture, once."""
        with av.open(str(self._path)) as container:
            yield from container.decode(video=0)

    def sound(self) -> ClipSound:
        """The whole sound; empty if the clip has none."""
        if not self.has_sound:
            return ClipSound(np.zeros(0, np.float32))
        resampler = av.AudioResampler(format="flt", layout="mono", rate=SOUND_RATE)
        parts = []
        with av.open(str(self._path)) as container:
            for frame in container.decode(audio=0):
                parts += [mono.to_ndarray()[0] for mono in resampler.resample(frame)]
        parts += [mono.to_ndarray()[0] for mono in resampler.resample(None)]
        return ClipSound(np.concatenate(parts) if parts else np.zeros(0, np.float32))


class ClipSource:
    """Plays a clip in a loop on the media clock, decoding in a thread of its own."""

    kind = "file"

    def __init__(self, path: Path, clock: MediaClock, on_sound: HearSound) -> None:
        """Raises BadMediaError if the clip cannot be opened."""
        self.pictures: LatestFrame[Arrival] = LatestFrame()
        self._clip = Clip(path)
        self._clock = clock
        self._on_sound = on_sound
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="clip")
        self._task: asyncio.Task[None] | None = None

    @property
    def state(self) -> dict[str, bool]:
        is_live = self._task is not None and not self._task.done()
        return {"video": True, "audio": self._clip.has_sound, "live": is_live}

    def start(self) -> None:
        if self._task is None:
            self._task = asyncio.create_task(self._play())

    async def close(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        self._thread.shutdown(wait=False)

    async def _play(self) -> None:
        loop = asyncio.get_running_loop()
        sound = await loop.run_in_executor(self._thread, self._clip.sound)
        ticker = Ticker(self._clock, self._clip.fps)
        while True:
            pictures = self._clip.pictures()
            index = 0
            while (frame := await loop.run_in_executor(self._thread, next, pictures, None)) is not None:
                # Every picture has its turn, late or not, so that sound and picture count alike.
                deadline_ns = await ticker.next_deadline()
                self.pictures.put(Arrival(frame, deadline_ns, self._clock.now_ns(), clip_index=index))
                self._play_sound(sound, index, deadline_ns)
                index += 1
            if index == 0:
                return

    def _play_sound(self, sound: ClipSound, index: int, deadline_ns: int) -> None:
        if not self._clip.has_sound:
            return
        start, end = (round(i * SOUND_RATE / self._clip.fps) for i in (index, index + 1))
        self._on_sound(AudioChunk(sound.between(start, end - start), SOUND_RATE, deadline_ns))
