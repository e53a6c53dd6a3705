import asyncio

import pytest

from engine.mailbox import BoundedQueue, LatestFrame


async def test_newer_item_replaces_unread_one() -> None:
    mailbox: LatestFrame[int] = LatestFrame()
    mailbox.put(1)
    mailbox.put(2)
    assert await mailbox.get() == 2
    assert mailbox.dropped == 1


async def test_taking_from_an_empty_mailbox_gives_nothing() -> None:
    mailbox: LatestFrame[int] = LatestFrame()
    assert mailbox.take() is None
    mailbox.put(3)
    assert mailbox.has_item
    assert mailbox.take() == 3
    assert mailbox.take() is None
    assert mailbox.dropped == 0


async def test_a_reader_waits_for_the_next_item() -> None:
    mailbox: LatestFrame[int] = LatestFrame()
    reader = asyncio.create_task(mailbox.get())
    await asyncio.sleep(0)
    assert not reader.done()
    mailbox.put(4)
    assert await reader == 4


async def test_waiting_leaves_the_item_there() -> None:
    mailbox: LatestFrame[int] = LatestFrame()
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(mailbox.wait(), 0.01)
    mailbox.put(5)
    await mailbox.wait()
    assert mailbox.take() == 5


async def test_a_full_queue_loses_its_oldest_item_and_counts_it() -> None:
    queue: BoundedQueue[int] = BoundedQueue(2)
    for item in (1, 2, 3):
        queue.put(item)
    assert len(queue) == 2
    assert queue.dropped == 1
    assert await queue.get() == 2
    assert queue.take_all() == [3]
    assert queue.take_all() == []


async def test_a_queue_reader_waits_for_the_next_item() -> None:
    queue: BoundedQueue[int] = BoundedQueue(2)
    reader = asyncio.create_task(queue.get())
    await asyncio.sleep(0)
    queue.put(6)
    assert await reader == 6
