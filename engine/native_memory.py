"""Gives memory that native code has freed back to the system now and then.

Pictures, packets and sound of many sizes come and go on the C library's heap, and what is freed between
pieces still in use stays with the process: an echo of 25 pictures a second grew by 8 to 12 MB in an hour so,
though what it used did not (`gcavt bench overload --seconds 1800`). Giving back takes about a millisecond.
"""

from __future__ import annotations

import asyncio
import ctypes
import sys
from collections.abc import Callable
from functools import cache
from typing import cast

EVERY_S = 30.0


@cache
def _malloc_trim() -> Callable[[int], int] | None:
    """The C library's own; None where it has none, as on macOS, on Windows and with musl."""
    if sys.platform != "linux":
        return None
    return cast("Callable[[int], int] | None", getattr(ctypes.CDLL(None), "malloc_trim", None))


def give_back() -> bool:
    """Whether there was something to give back."""
    trim = _malloc_trim()
    return trim is not None and bool(trim(0))


async def keep_giving_back(every_s: float = EVERY_S) -> None:
    """Do so again and again, until cancelled."""
    while True:
        await asyncio.sleep(every_s)
        await asyncio.to_thread(give_back)
