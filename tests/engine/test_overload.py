"""What a model that is too slow does to the age of pictures, in virtual time."""

import asyncio

from engine.mailbox import LatestFrame
from tests.engine.rtc.virtual_line import VirtualLoop

PERIOD_S = 0.040


def ages_s(busy_s: list[tuple[float, float]]) -> list[tuple[float, float]]:
    """(when it was done, its age then) of every picture; busy_s: (from when on, how long each takes)."""
    loop = VirtualLoop()
    mailbox: LatestFrame[float] = LatestFrame()
    done: list[tuple[float, float]] = []
    end_s = busy_s[-1][0] + 10

    async def camera() -> None:
        for index in range(round(end_s / PERIOD_S)):
            await asyncio.sleep(max(0.0, index * PERIOD_S - loop.time()))
            mailbox.put(loop.time())

    async def model() -> None:
        while True:
            captured_s = await mailbox.get()
            await asyncio.sleep(next(each_s for from_s, each_s in reversed(busy_s) if from_s <= loop.time()))
            done.append((loop.time(), loop.time() - captured_s))

    async def run() -> None:
        worker = asyncio.create_task(model())
        await camera()
        worker.cancel()
        await asyncio.gather(worker, return_exceptions=True)

    loop.run_until_complete(run())
    loop.close()
    return done


def test_a_model_40_per_cent_too_slow_stays_under_two_of_its_periods() -> None:
    slow_s = 1.4 * PERIOD_S
    done = ages_s([(0.0, slow_s), (60.0, slow_s)])
    assert max(age_s for _, age_s in done) < 2 * slow_s
    assert len(done) > 0.97 * 70 / slow_s  # it is never idle either


def test_after_ten_seconds_of_twice_the_load_the_next_picture_but_one_is_on_time() -> None:
    done = ages_s([(0.0, 0.5 * PERIOD_S), (10.0, 2 * PERIOD_S), (20.0, 0.5 * PERIOD_S)])
    assert max(age_s for at_s, age_s in done if 11 < at_s < 20) <= 3 * PERIOD_S + 1e-6
    assert max(age_s for at_s, age_s in done if at_s > 20.2) <= 0.5 * PERIOD_S + 1e-6
