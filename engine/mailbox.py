"""Room for one: the newest item wins, and what it replaced is counted."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Generic, TypeVar

T = TypeVar("T")


class LatestFrame(Generic[T]):
    """A mailbox with room for one unread item. Use it from one event loop."""

    def __init__(self) -> None:
        self._item: T | None = None
        self._arrived = asyncio.Event()
        self.dropped = 0
        self.newest: T | None = None
        """The last that came, whether it has been read or not."""

    def put(self, item: T) -> None:
        """Leave `item`; an unread predecessor is dropped."""
        self.newest = item
        if self._item is not None:
            self.dropped += 1
        self._item = item
        self._arrived.set()

    @property
    def has_item(self) -> bool:
        return self._item is not None

    async def wait(self) -> None:
        """Return as soon as there is an unread item, leaving it there."""
        await self._arrived.wait()

    def take(self) -> T | None:
        """The unread item, or None at once."""
        item, self._item = self._item, None
        self._arrived.clear()
        return item

    async def get(self) -> T:
        """The unread item, waiting for one if need be."""
        while (item := self.take()) is None:
            await self._arrived.wait()
        return item


class BoundedQueue(Generic[T]):
    """First in, first out, for sound: nothing is lost until `capacity` items wait, then the oldest goes."""

    def __init__(self, capacity: int) -> None:
        self._items: deque[T] = deque(maxlen=capacity)
        self._arrived = asyncio.Event()
        self.dropped = 0

    def __len__(self) -> int:
        return len(self._items)

    def put(self, item: T) -> None:
        self.dropped += len(self._items) == self._items.maxlen
        self._items.append(item)
        self._arrived.set()

    def take_all(self) -> list[T]:
        """Everything that waits, oldest first."""
        items = list(self._items)
        self._items.clear()
        self._arrived.clear()
        return items

    async def get(self) -> T:
        """The oldest item, waiting for one if need be."""
        while not self._items:
            self._arrived.clear()
            await self._arrived.wait()
        return self._items.popleft()
