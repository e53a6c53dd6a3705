"""A photo as a driver: its pose, expression and mouth, unchanging."""

from __future__ import annotations

import asyncio
from pathlib import Path

import av

from engine.clock import MediaClock, Ticker
from engine.errors import BadMediaError
from engine.mailbox import LatestFrame
from engine.sources.source import Arrival

REPEATS_PER_SECOND = 12.5
"""Often enough for a socket to know that its source is alive; it is looked at once."""


class StillSource:
    """Shows one photo again and again."""

    kind = "still"

    def __init__(self, path: Path, clock: MediaClock) -> None:
        """Raises BadMediaError if the photo cannot be read."""
        self.pictures: LatestFrame[Arrival] = LatestFrame()
        self._frame = _read_photo(path)
        self._clock = clock
        self._task: asyncio.Task[None] | None = None

    @property
    def state(self) -> dict[str, bool]:
        return {"video": True, "audio": False, "live": self._task is not None}

    def start(self) -> None:
        if self._task is None:
            self._task = asyncio.create_task(self._show())

    async def close(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _show(self) -> None:
        ticker = Ticker(self._clock, REPEATS_PER_SECOND)
        while True:
            now_ns = await ticker.next_tick()
            self.pictures.put(Arrival(self._frame, now_ns, now_ns, clip_index=0))


def _read_photo(path: Path) -> av.VideoFrame:
    try:
        with av.open(str(path)) as container:
            return next(container.decode(video=0))
    except (av.FFmpegError, StopIteration, IndexError) as error:
        raise BadMediaError(f"The photo {path} cannot be read.") from error
