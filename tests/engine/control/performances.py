"""A stand-in that keeps what it is told: control is tested by what it asks for."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import Any, cast

from engine.errors import UnknownSourceError
from engine.patch_bay import PatchBay
from engine.performance import Performance
from engine.sessions import Session


class Told:
    """Takes patches as a performance does, and checks them as one does."""

    def __init__(self) -> None:
        self.changes: list[dict[str, object]] = []
        self.bay = PatchBay()
        self.background: object = {}
        self.is_closed = False
        self._changed = asyncio.Condition()

    async def patch(self, changes: Mapping[str, object]) -> None:
        known = {
            key: value for key, value in changes.items() if key not in ("identity", "calibrate", "background")
        }
        if changes.get("identity") == "nobody":
            raise UnknownSourceError("There is no identity 'nobody'.")
        self.bay = self.bay.patched(known)
        self.background = changes.get("background", self.background)
        self.changes.append(dict(changes))
        async with self._changed:
            self._changed.notify_all()

    async def until(self, condition: Callable[[], bool]) -> None:
        """Wait until what was told so far fulfils the condition."""
        async with self._changed:
            await self._changed.wait_for(condition)

    def state(self) -> dict[str, Any]:
        return {
            "sockets": {"pose": str(self.bay.pose)},
            "background": self.background,
            "patched": len(self.changes),
        }


def session(told: Told, session_id: str) -> Session:
    return Session(cast(Performance, told), id=session_id)
