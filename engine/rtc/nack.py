"""Which lost packets to ask for again, and when."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from engine.rtc.rtp_time import SEQUENCE_MODULUS, unwrapped

MAX_MISSING = 128
"""More than this is no loss that retransmission can mend; a key frame will."""
MIN_RETRY_MS = 15.0
MAX_RETRY_MS = 200.0
RETRY_ROUND_TRIPS = 1.3
GIVE_UP_ROUND_TRIPS = 3.0
MAX_GIVE_UP_MS = 400.0
ROUND_TRIP_WEIGHT = 0.2


@dataclass
class _Missing:
    since_ms: float
    asked_ms: float | None = None
    times_asked: int = 0


class NackSchedule:
    """Asks for a missing packet at once and again every `retry_ms`, and stops after `give_up_ms`.

    Takes the place of aiortc's NackGenerator, which asks exactly once: one lost request (or one lost answer)
    then stalls the picture. The round trip is learned from requests that were answered at first asking.
    """

    def __init__(self, *, give_up_ms: float, now_ms: Callable[[], float]) -> None:
        """give_up_ms: the shortest time after which a packet is given up; long round trips get longer."""
        self._min_give_up_ms = give_up_ms
        self._now_ms = now_ms
        self._newest: int | None = None
        self._missing: dict[int, _Missing] = {}
        self._round_trip_ms: float | None = None

    @property
    def retry_ms(self) -> float:
        return min(MAX_RETRY_MS, max(MIN_RETRY_MS, RETRY_ROUND_TRIPS * (self._round_trip_ms or 0.0)))

    @property
    def give_up_ms(self) -> float:
        wanted_ms = GIVE_UP_ROUND_TRIPS * (self._round_trip_ms or 0.0)
        return min(MAX_GIVE_UP_MS, max(self._min_give_up_ms, wanted_ms))

    @property
    def due_at_ms(self) -> float | None:
        """When `take_due` will have something; None if nothing is missing."""
        if not self._missing:
            return None
        return min(self._asked_again_at_ms(missing) for missing in self._missing.values())

    def add(self, sequence_number: int) -> None:
        """Note an arrived packet, retransmitted or not."""
        now_ms = self._now_ms()
        if self._newest is None:
            self._newest = sequence_number
            return
        sequence = unwrapped(sequence_number, self._newest, SEQUENCE_MODULUS)
        if sequence <= self._newest:
            self._note_answer(self._missing.pop(sequence, None), now_ms)
            return
        first_lost = max(self._newest + 1, sequence - MAX_MISSING)
        for lost in range(first_lost, sequence):
            self._missing[lost] = _Missing(now_ms)
        for lost in list(self._missing)[:-MAX_MISSING]:
            del self._missing[lost]
        self._newest = sequence

    def take_due(self) -> list[int]:
        """The 16-bit sequence numbers to ask for now; they are taken for asked."""
        now_ms = self._now_ms()
        due = []
        for sequence, missing in list(self._missing.items()):
            if now_ms - missing.since_ms > self.give_up_ms:
                del self._missing[sequence]
            elif self._asked_again_at_ms(missing) <= now_ms:
                missing.asked_ms = now_ms
                missing.times_asked += 1
                due.append(sequence % SEQUENCE_MODULUS)
        return due

    def _asked_again_at_ms(self, missing: _Missing) -> float:
        return missing.since_ms if missing.asked_ms is None else missing.asked_ms + self.retry_ms

    def _note_answer(self, missing: _Missing | None, now_ms: float) -> None:
        if missing is None or missing.asked_ms is None or missing.times_asked > 1:
            return  # a late packet, or no telling which request was answered
        sample_ms = now_ms - missing.asked_ms
        if self._round_trip_ms is None:
            self._round_trip_ms = sample_ms
        self._round_trip_ms += ROUND_TRIP_WEIGHT * (sample_ms - self._round_trip_ms)
