"""When to make the next picture: at a steady rate, soon after the driving picture has come in."""

from __future__ import annotations

import statistics
from collections import deque
from typing import Final

from engine.clock import NS_PER_MS, NS_PER_S, MediaClock

MARGIN_NS: Final = NS_PER_MS
SPREADS: Final = 1.5
"""Ticks lie this many standard deviations of the arrivals after their mean, and MARGIN_NS."""
PICTURES: Final = 16
MIN_PICTURES: Final = 8
MAX_SPREAD: Final = 1 / 7
"""Standard deviation in periods: above it arrivals have no phase (another rate, or too much jitter)."""
GAIN: Final = 0.15
MAX_SLEW_NS: Final = NS_PER_MS
"""Per tick: 2.5 % of a period of 40 ms; half a period is made up for in 20 ticks."""


class PhaseLockedTicker:
    """Ticks `fps` times a second, drawn gently towards just after the arrivals of the source it follows.

    Without that a picture waits for a tick up to a whole period. A source of another rate has no phase to
    follow, and ticks then keep their own. A missed tick is skipped and counted, never made up for.
    """

    def __init__(self, clock: MediaClock, fps: float) -> None:
        self.missed = 0
        self._clock = clock
        self._period_ns = round(NS_PER_S / fps)
        self._deadline_ns = clock.now_ns() + self._period_ns
        self._waits_ns: deque[float] = deque(maxlen=PICTURES)

    def follow(self, wait_ns: int) -> None:
        """Note how long before its tick the leading source's picture came in; below 0: after it."""
        self._waits_ns.append(wait_ns)

    def forget(self) -> None:
        """Another source leads from now on."""
        self._waits_ns.clear()

    async def next_tick(self) -> int:
        """Wait for the next deadline and return it, in nanoseconds.

        After a late return it comes at once with the latest deadline gone by, so that a consumer slower
        than the rate runs back to back on the newest input instead of waiting for a round number.
        """
        behind = (self._clock.now_ns() - self._deadline_ns) // self._period_ns
        if behind > 0:
            self._deadline_ns += behind * self._period_ns
            self.missed += behind
        tick_ns = self._deadline_ns
        await self._clock.sleep_until(tick_ns)
        self._deadline_ns += self._period_ns + self._slew_ns()
        return tick_ns

    def _slew_ns(self) -> int:
        """By how much the next tick is put off, or brought forward where negative.

        Waits are brought down from above, never through a picture: turning the phase the shorter way round
        would pass over one.
        """
        if len(self._waits_ns) < MIN_PICTURES:
            return 0
        mean_ns, spread_ns = statistics.fmean(self._waits_ns), statistics.pstdev(self._waits_ns)
        if spread_ns > MAX_SPREAD * self._period_ns:
            return 0
        wanted_ns = GAIN * (MARGIN_NS + SPREADS * spread_ns - mean_ns)
        slew_ns = round(max(-MAX_SLEW_NS, min(MAX_SLEW_NS, wanted_ns)))
        self._waits_ns = deque((wait_ns + slew_ns for wait_ns in self._waits_ns), maxlen=PICTURES)
        return slew_ns
