"""Ends MediaPipe's tasks in time: one that the garbage collector finds first stops the process for good.

A task closes itself in `__del__`, in a thread of its own that it waits for. Found in a cycle of garbage, that
thread has been told to end already, and the wait does not (mediapipe 0.10.35).
"""

from __future__ import annotations

import weakref
from typing import Protocol


class Closable(Protocol):
    def close(self) -> None: ...


def closed_with(owner: object, task: Closable) -> weakref.finalize[..., object]:
    """What closes the task once, when called or at the latest when its owner is gone.

    Until then the task is alive, whatever becomes of the owner.
    """
    closing = weakref.finalize(owner, task.close)
    closing.atexit = False  # the task's thread is gone by then
    return closing
