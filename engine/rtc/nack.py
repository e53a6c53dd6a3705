"""Which lost packets to ask for again, and when."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

SEQUENCE_MODULUS = 1 << 16
MAX_MISSING = 128
"""More than this is no loss that retransmission can mend; a key frame will."""


class NumberedPacket(Protocol):
    sequence_number: int


class NackSchedule:
    """Asks for a missing packet at once, again every `retry_ms`, and stops after `give_up_ms`.

    Takes the place of aiortc's NackGenerator, which asks exactly once: one lost request (or one lost
    answer) then stalls the picture. Same two names: `add` and `missing`.
    """

    def __init__(self, *, retry_ms: float, give_up_ms: float, now_ms: Callable[[], float]) -> None:
        self._retry_ms = retry_ms
        self._give_up_ms = give_up_ms
        self._now_ms = now_ms
        self._newest: int | None = None
        self._since_ms: dict[int, float] = {}
        self._asked_ms = 0.0

    @property
    def missing(self) -> list[int]:
        """Sequence numbers to ask for."""
        return list(self._since_ms)

    def add(self, packet: NumberedPacket) -> bool:
        """Note an arrived packet. True if `missing` is to be asked for now."""
        now_ms = self._now_ms()
        has_new_gap = self._note(packet.sequence_number, now_ms)
        for sequence, since_ms in list(self._since_ms.items()):
            if now_ms - since_ms > self._give_up_ms:
                del self._since_ms[sequence]
        is_due = has_new_gap or now_ms - self._asked_ms >= self._retry_ms
        if not self._since_ms or not is_due:
            return False
        self._asked_ms = now_ms
        return True

    def _note(self, sequence: int, now_ms: float) -> bool:
        if self._newest is None:
            self._newest = sequence
            return False
        ahead = (sequence - self._newest) % SEQUENCE_MODULUS
        if ahead == 0 or ahead >= SEQUENCE_MODULUS // 2:
            self._since_ms.pop(sequence, None)
            return False
        lost = range(self._newest + 1, self._newest + min(ahead, MAX_MISSING))
        self._since_ms.update({number % SEQUENCE_MODULUS: now_ms for number in lost})
        for number in list(self._since_ms)[:-MAX_MISSING]:
            del self._since_ms[number]
        self._newest = sequence
        return bool(lost)
