"""An event loop whose clock leaps: what takes seconds is tested in no more than the computing takes.

While a thread works time stands still, so that a slow machine shows no gap that a fast one would not.
"""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Callable, Coroutine
from concurrent.futures import Executor
from typing import Any, TypeVar

from engine.clock import NS_PER_S, MediaClock

T = TypeVar("T")


class _LeapingSelector(selectors.DefaultSelector):
    """Instead of waiting for the next timer it sets the clock to it, unless a thread is at work."""

    def __init__(self) -> None:
        super().__init__()
        self.now_s = 1000.0
        self.working = 0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        if timeout is None or timeout <= 0:
            return super().select(timeout)
        if self.working:
            return super().select(None)
        if not (events := super().select(0)):
            self.now_s += timeout
        return events


class VirtualLoop(asyncio.SelectorEventLoop):
    """For coroutines whose only threads are executors and whose only wire is memory."""

    def __init__(self) -> None:
        self._leaping = _LeapingSelector()
        super().__init__(self._leaping)

    def time(self) -> float:
        return self._leaping.now_s

    def run_in_executor(  # type: ignore[override]
        self, executor: Executor | None, func: Callable[..., T], *args: Any
    ) -> asyncio.Future[T]:
        self._leaping.working += 1
        future = super().run_in_executor(executor, func, *args)
        future.add_done_callback(self._has_worked)
        return future

    def _has_worked(self, _: object) -> None:
        self._leaping.working -= 1


class VirtualClock(MediaClock):
    """The media clock of a VirtualLoop."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop

    def now_ns(self) -> int:
        return round(self._loop.time() * NS_PER_S)


def run_virtually(main: Coroutine[Any, Any, T]) -> T:
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        return runner.run(main)
