"""Lets one aiortc sender encode in a thread of its own."""

from __future__ import annotations

import asyncio
import queue
import threading
import weakref
from collections.abc import Callable
from typing import Any

from aiortc import RTCRtpSender

ENCODING_THREAD = "rtc-encoder"

Task = tuple["asyncio.Future[Any]", Callable[..., Any], tuple[Any, ...]]


class _OwnThread:
    """The one thing that a sender uses its event loop for, done in a thread that nobody else uses.

    A `ThreadPoolExecutor` of one would do the same, but takes .14 ms longer from the loop to its thread and
    back, twice in every echo.
    """

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._tasks: queue.SimpleQueue[Task | None] = queue.SimpleQueue()
        threading.Thread(
            target=_work, args=(self._loop, self._tasks), name=ENCODING_THREAD, daemon=True
        ).start()

    def run_in_executor(self, _: None, function: Callable[..., Any], *args: Any) -> asyncio.Future[Any]:
        future = self._loop.create_future()
        self._tasks.put((future, function, args))
        return future

    def end(self) -> None:
        """The thread ends after what it has to do yet."""
        self._tasks.put(None)


def encode_apart(sender: RTCRtpSender) -> None:
    """Let this sender encode in its own thread: in the loop's shared one, a file read can delay a picture.

    Raises AttributeError if aiortc no longer has the part that this puts another in the place of.
    """
    getattr(sender, "_RTCRtpSender__loop")  # noqa: B009 - a mangled name
    thread = _OwnThread()
    setattr(sender, "_RTCRtpSender__loop", thread)  # noqa: B010
    weakref.finalize(sender, thread.end)


def _work(loop: asyncio.AbstractEventLoop, tasks: queue.SimpleQueue[Task | None]) -> None:
    while (task := tasks.get()) is not None:
        future, function, args = task
        try:
            result, error = function(*args), None
        except Exception as caught:
            result, error = None, caught
        try:
            loop.call_soon_threadsafe(_settle, future, result, error)
        except RuntimeError:  # the loop has been closed meanwhile: nobody waits any more
            return


def _settle(future: asyncio.Future[Any], result: Any, error: Exception | None) -> None:
    if future.cancelled():  # the sender has stopped meanwhile
        return
    if error is None:
        future.set_result(result)
    else:
        future.set_exception(error)
