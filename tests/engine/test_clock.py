from engine.clock import MediaClock, Ticker

MS = 1_000_000


class ManualClock(MediaClock):
    """Stands still until told; sleeping moves it to the deadline."""

    def __init__(self) -> None:
        self.time_ns = 0

    def now_ns(self) -> int:
        return self.time_ns

    async def sleep_until(self, deadline_ns: int) -> None:
        self.time_ns = max(self.time_ns, deadline_ns)


async def test_ticks_fall_on_absolute_deadlines() -> None:
    clock = ManualClock()
    ticker = Ticker(clock, fps=25)
    ticks = []
    for _ in range(4):
        ticks.append(await ticker.next_tick())
        clock.time_ns += 7 * MS
    assert ticks == [40 * MS, 80 * MS, 120 * MS, 160 * MS]
    assert ticker.missed == 0


async def test_missed_ticks_are_skipped_and_counted() -> None:
    clock = ManualClock()
    ticker = Ticker(clock, fps=25)
    await ticker.next_tick()
    clock.time_ns += 130 * MS  # 170 ms: the ticks at 80 and 120 have gone by
    assert await ticker.next_tick() == 160 * MS
    assert ticker.missed == 2
    assert clock.time_ns == 170 * MS


async def test_a_consumer_slower_than_the_rate_runs_back_to_back() -> None:
    clock = ManualClock()
    ticker = Ticker(clock, fps=25)
    await ticker.next_tick()
    for _ in range(50):
        clock.time_ns += 50 * MS
        await ticker.next_tick()
    # 50 jobs of 50 ms: no time was spent waiting for a later deadline
    assert clock.time_ns == 40 * MS + 50 * 50 * MS
    assert ticker.missed == 12


async def test_deadlines_that_must_stay_whole_are_never_skipped() -> None:
    clock = ManualClock()
    ticker = Ticker(clock, fps=25)
    clock.time_ns = 200 * MS
    assert [await ticker.next_deadline() for _ in range(3)] == [40 * MS, 80 * MS, 120 * MS]
    assert ticker.missed == 0
