"""The clock that tests of time go by."""

import asyncio
import time
from concurrent.futures import ThreadPoolExecutor

from engine.clock import NS_PER_S
from tests.virtual_time import VirtualClock, run_virtually


def test_an_hour_passes_at_once_and_in_order() -> None:
    woken: list[float] = []

    async def sleep(seconds: float) -> None:
        await asyncio.sleep(seconds)
        woken.append(seconds)

    async def main() -> int:
        clock = VirtualClock(asyncio.get_running_loop())
        start_ns = clock.now_ns()
        await asyncio.gather(sleep(3600), sleep(2), sleep(40))
        return clock.now_ns() - start_ns

    assert abs(run_virtually(main()) - 3600 * NS_PER_S) < NS_PER_S // 1000
    assert woken == [2, 40, 3600]


def test_time_stands_still_while_a_thread_works() -> None:
    async def main() -> float:
        loop = asyncio.get_running_loop()
        start_s = loop.time()
        ticking = asyncio.create_task(asyncio.sleep(1))
        with ThreadPoolExecutor(1) as thread:
            await loop.run_in_executor(thread, time.sleep, 0.05)
        passed_s = loop.time() - start_s
        await ticking
        return passed_s

    assert run_virtually(main()) == 0
