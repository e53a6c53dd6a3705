"""Lets one aiortc sender encode in a thread of its own."""

from __future__ import annotations

import asyncio
import weakref
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from aiortc import RTCRtpSender

ENCODING_THREAD = "rtc-encoder"


class _OwnThread:
    """The one thing that a sender uses its event loop for, done in a thread that nobody else uses."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self.executor = ThreadPoolExecutor(1, thread_name_prefix=ENCODING_THREAD)

    def run_in_executor(self, _: None, function: Callable[..., Any], *args: Any) -> asyncio.Future[Any]:
        return self._loop.run_in_executor(self.executor, function, *args)


def encode_apart(sender: RTCRtpSender) -> None:
    """Let this sender encode in its own thread: in the loop's shared one, a file read can delay a picture.

    Raises AttributeError if aiortc no longer has the part that this puts another in the place of.
    """
    getattr(sender, "_RTCRtpSender__loop")  # noqa: B009 - a mangled name
    thread = _OwnThread()
    setattr(sender, "_RTCRtpSender__loop", thread)  # noqa: B010
    weakref.finalize(sender, thread.executor.shutdown, wait=False)
