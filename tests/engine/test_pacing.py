"""The tick's phase against a camera's arrivals, on a scripted clock: no waiting is real."""

from dataclasses import dataclass, field

import numpy as np
import pytest

from engine.clock import MediaClock
from engine.pacing import MAX_SLEW_NS, PhaseLockedTicker

MS = 1_000_000
PERIOD_NS = 40 * MS
GRACE_NS = PERIOD_NS // 2
"""What a performance grants a picture that is late for its tick."""


class ScriptedClock(MediaClock):
    def __init__(self) -> None:
        self.time_ns = 0

    def now_ns(self) -> int:
        return self.time_ns

    async def sleep_until(self, deadline_ns: int) -> None:
        self.time_ns = max(self.time_ns, deadline_ns)


@dataclass
class Run:
    """What a performance that took the newest picture at every tick would have seen."""

    ticks_ns: list[int] = field(default_factory=list)
    waits_ns: list[int] = field(default_factory=list)
    taken: list[int] = field(default_factory=list)
    """Number of the picture taken at each tick; -1 for none."""


async def follow(arrivals_ns: list[int], ticks: int) -> Run:
    clock, run, taken = ScriptedClock(), Run(), -1
    ticker = PhaseLockedTicker(clock, 25)
    for _ in range(ticks):
        tick_ns = await ticker.next_tick()
        run.ticks_ns.append(tick_ns)
        newest = int(np.searchsorted(arrivals_ns, clock.time_ns, side="right")) - 1
        if newest == taken and newest + 1 < len(arrivals_ns):
            late_ns = arrivals_ns[newest + 1]
            if late_ns <= tick_ns + GRACE_NS:
                clock.time_ns, newest = late_ns, newest + 1
        run.taken.append(newest if newest > taken else -1)
        if newest > taken:
            run.waits_ns.append(clock.time_ns - arrivals_ns[newest])
            ticker.follow(tick_ns - arrivals_ns[newest])
            taken = newest
    return run


def camera(first_ms: float, period_ms: float = 40, jitter_ms: float = 0, count: int = 1000) -> list[int]:
    rng = np.random.default_rng(0)
    times_ms = first_ms + period_ms * np.arange(count) + rng.normal(0, jitter_ms, count)
    return sorted(int(t * MS) for t in times_ms)


@pytest.mark.parametrize("first_ms", range(0, 40, 5))
async def test_whatever_the_phase_pictures_soon_wait_two_milliseconds_at_most(first_ms: int) -> None:
    run = await follow(camera(first_ms), 250)
    assert max(run.waits_ns[100:]) <= 2 * MS
    assert np.all(np.diff(run.taken[5:]) == 1)


@pytest.mark.parametrize("first_ms", [3, 19, 33])
async def test_jitter_neither_drops_nor_doubles_a_picture(first_ms: int) -> None:
    run = await follow(camera(first_ms, jitter_ms=3), 500)
    assert np.percentile(run.waits_ns[100:], 50) <= 7 * MS
    assert np.all(np.diff(run.taken[100:]) == 1)


@pytest.mark.parametrize("period_ms", [39.8, 40.2])
async def test_a_camera_whose_clock_is_off_is_followed_without_losing_a_picture(period_ms: float) -> None:
    run = await follow(camera(7, period_ms, jitter_ms=1), 800)
    assert np.percentile(run.waits_ns[100:], 95) <= 8 * MS
    assert np.all(np.diff(run.taken[100:]) == 1)


async def test_ticks_stay_even_while_they_move() -> None:
    run = await follow(camera(25, jitter_ms=2), 250)
    assert np.abs(np.diff(run.ticks_ns) - PERIOD_NS).max() <= MAX_SLEW_NS


@pytest.mark.parametrize("camera_fps", [15, 24, 30, 60])
async def test_a_camera_of_another_rate_leaves_the_rate_alone(camera_fps: float) -> None:
    run = await follow(camera(11, 1000 / camera_fps), 500)
    assert (run.ticks_ns[-1] - run.ticks_ns[0]) / 499 == pytest.approx(PERIOD_NS, rel=0.005)


async def test_half_the_rate_is_followed_too() -> None:
    run = await follow(camera(30, 80), 250)
    assert max(run.waits_ns[60:]) <= 2 * MS


async def test_a_late_consumer_gets_the_latest_deadline_and_the_count_of_those_gone_by() -> None:
    clock = ScriptedClock()
    ticker = PhaseLockedTicker(clock, 25)
    assert await ticker.next_tick() == PERIOD_NS
    clock.time_ns = 170 * MS
    assert await ticker.next_tick() == 160 * MS
    assert ticker.missed == 2
    assert await ticker.next_tick() == 200 * MS
