"""Memory that native code freed goes back to the system."""

import asyncio
import ctypes
import sys
import threading

import psutil
import pytest

from engine import native_memory

KEPT_BYTES, PIECES = 64 * 1024, 800
"""Below the size from which the C library asks the system for every piece by itself."""


def fragmented() -> list[int]:
    """Fill the heap with pieces and free all but every sixteenth; those, to be freed."""
    libc = ctypes.CDLL(None)
    libc.malloc.restype, libc.malloc.argtypes = ctypes.c_void_p, [ctypes.c_size_t]
    libc.free.argtypes = [ctypes.c_void_p]
    pieces = [libc.malloc(KEPT_BYTES) for _ in range(PIECES)]
    for piece in pieces:
        ctypes.memset(piece, 1, KEPT_BYTES)
    kept = pieces[::16]
    for piece in set(pieces) - set(kept):
        libc.free(piece)
    return kept


@pytest.mark.skipif(native_memory._malloc_trim() is None, reason="another C library than glibc")
def test_what_lies_between_pieces_in_use_is_given_back() -> None:
    process = psutil.Process()
    kept = fragmented()
    try:
        before = process.memory_info().rss
        assert native_memory.give_back()
        assert before - process.memory_info().rss > 0.5 * KEPT_BYTES * PIECES
    finally:
        libc = ctypes.CDLL(None)
        libc.free.argtypes = [ctypes.c_void_p]
        for piece in kept:
            libc.free(piece)


def test_elsewhere_there_is_nothing_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "darwin")
    native_memory._malloc_trim.cache_clear()
    assert not native_memory.give_back()
    native_memory._malloc_trim.cache_clear()


def test_it_goes_on_until_cancelled(monkeypatch: pytest.MonkeyPatch) -> None:
    times, often = 0, threading.Event()

    def count() -> bool:
        nonlocal times
        times += 1
        if times == 3:
            often.set()
        return False

    monkeypatch.setattr(native_memory, "give_back", count)

    async def for_a_while() -> bool:
        task = asyncio.create_task(native_memory.keep_giving_back(0.001))
        is_often = await asyncio.to_thread(often.wait, 5)
        task.cancel()
        return is_often

    assert asyncio.run(for_a_while())
