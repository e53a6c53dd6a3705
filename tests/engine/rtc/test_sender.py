import asyncio
import gc
import threading
import time
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any, cast

import pytest
from aiortc import RTCRtpSender

from engine.rtc.sender import ENCODING_THREAD, encode_apart


class Sender(SimpleNamespace):
    """The part of aiortc's sender that is replaced. It is asked as aiortc asks its event loop."""

    async def runs(self, function: Callable[..., Any], *args: Any) -> Any:
        return await getattr(self, "_RTCRtpSender__loop").run_in_executor(None, function, *args)  # noqa: B009


def sender() -> Sender:
    made = Sender(_RTCRtpSender__loop=asyncio.get_running_loop())
    encode_apart(cast(RTCRtpSender, made))
    return made


def encoding_threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == ENCODING_THREAD]


async def test_frames_are_encoded_in_order_in_one_thread_of_the_senders_own() -> None:
    one = sender()
    seen: list[tuple[int, int]] = []

    def encode(index: int) -> int:
        time.sleep(0.002 if index == 0 else 0)
        seen.append((index, threading.get_ident()))
        return index * index

    assert await asyncio.gather(*(one.runs(encode, index) for index in range(5))) == [0, 1, 4, 9, 16]
    assert [index for index, _ in seen] == [0, 1, 2, 3, 4]
    assert len({thread for _, thread in seen} - {threading.get_ident()}) == 1


async def test_what_an_encoder_raises_reaches_the_sender_and_the_thread_lives_on() -> None:
    one = sender()
    with pytest.raises(ZeroDivisionError):
        await one.runs(lambda: 1 / 0)
    assert await one.runs(lambda: "encoded") == "encoded"


async def test_nobody_minds_that_a_sender_stopped_while_its_frame_was_encoded() -> None:
    one = sender()
    begun, go_on = threading.Event(), threading.Event()

    def encode() -> None:
        begun.set()
        go_on.wait(5)

    waiting = asyncio.create_task(one.runs(encode))
    await asyncio.to_thread(begun.wait, 5)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    go_on.set()
    assert await one.runs(lambda: "next") == "next"


async def test_the_thread_ends_with_its_sender() -> None:
    before = set(encoding_threads())
    one = sender()
    await one.runs(int)
    (thread,) = set(encoding_threads()) - before
    del one
    gc.collect()
    await asyncio.to_thread(thread.join, 5)
    assert not thread.is_alive()


def test_a_closed_loop_does_not_break_the_thread() -> None:
    go_on = threading.Event()
    threads: list[threading.Thread] = []

    async def leave_it_encoding() -> None:
        one = sender()
        threads.extend(set(encoding_threads()))
        waiting = asyncio.ensure_future(one.runs(go_on.wait, 5))
        await asyncio.sleep(0)
        waiting.cancel()

    asyncio.run(leave_it_encoding())
    go_on.set()
    for thread in threads:
        thread.join(5)
        assert not thread.is_alive()
