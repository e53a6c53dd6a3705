"""Ends MediaPipe's tasks in time: one that the garbage collector finds first stops the process for good.

A task closes itself in `__del__`, in a thread of its own that it waits for. Found in a cycle of garbage, that
thread has been told to end already, and the wait does not. And wherever the collector comes by, closing hands
work to an executor: come by within `ThreadPoolExecutor.submit`, it would wait for a lock that its own thread
holds (mediapipe 0.10.35). So what nobody closed is closed by a thread that does nothing else.
"""

from __future__ import annotations

import logging
import queue
import threading
import weakref
from functools import cache
from typing import Protocol

logger = logging.getLogger(__name__)


class Closable(Protocol):
    def close(self) -> None: ...


class Closing:
    """Closes a task once: at once when called, soon after its owner is gone if that comes first.

    Until then the task is alive, whatever becomes of the owner.
    """

    def __init__(self, owner: object, task: Closable) -> None:
        # the one way to hand something over that may be used wherever the collector comes by
        self._left_over = weakref.finalize(owner, _abandoned().put, task)
        self._left_over.atexit = False  # the task's thread is gone by then

    def __call__(self) -> None:
        """Raises what the task raises."""
        if found := self._left_over.detach():
            _, _, (task,), _ = found
            task.close()


@cache
def _abandoned() -> queue.SimpleQueue[Closable]:
    """What is to be closed by the thread that reads this."""
    tasks: queue.SimpleQueue[Closable] = queue.SimpleQueue()
    threading.Thread(target=_close_all, args=(tasks,), name="abandoned-tasks", daemon=True).start()
    return tasks


def _close_all(tasks: queue.SimpleQueue[Closable]) -> None:
    while True:
        try:
            tasks.get().close()
        except Exception:  # nobody is there to be told, and the next one waits
            logger.exception("what nobody closed could not be closed")
