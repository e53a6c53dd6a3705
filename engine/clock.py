"""The one media clock: every capture time and every deadline in the engine is read from it."""

from __future__ import annotations

import asyncio
import time

NS_PER_MS = 1_000_000
NS_PER_S = 1_000_000_000


class MediaClock:
    """Monotonic nanoseconds. Tests pass a clock of their own instead."""

    def now_ns(self) -> int:
        return time.monotonic_ns()

    async def sleep_until(self, deadline_ns: int) -> None:
        """Return at `deadline_ns`, or after one turn of the event loop if that is past already."""
        await asyncio.sleep(max(0, deadline_ns - self.now_ns()) / NS_PER_S)


class Ticker:
    """Absolute deadlines start + i / fps. A missed tick is skipped and counted, never made up for."""

    def __init__(self, clock: MediaClock, fps: float) -> None:
        self._clock = clock
        self._period_ns = round(NS_PER_S / fps)
        self._start_ns = clock.now_ns()
        self._index = 0
        self.missed = 0

    async def next_tick(self) -> int:
        """Wait for the next deadline and return it, in nanoseconds.

        After a late return it comes at once with the latest deadline gone by, so that a consumer slower
        than the rate runs back to back on the newest input instead of waiting for a round number.
        """
        behind = (self._clock.now_ns() - self._start_ns) // self._period_ns - self._index - 1
        if behind > 0:
            self._index += behind
            self.missed += behind
        return await self.next_deadline()

    async def next_deadline(self) -> int:
        """Wait for the next deadline without skipping any, and return it: for media that must stay whole."""
        self._index += 1
        deadline_ns = self._start_ns + self._index * self._period_ns
        await self._clock.sleep_until(deadline_ns)
        return deadline_ns
