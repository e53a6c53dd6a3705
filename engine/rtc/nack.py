"""Which lost packets to ask for again, and when."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from engine.rtc.rtp_time import SEQUENCE_MODULUS, unwrapped

MAX_MISSING = 128
"""More than this is no loss that retransmission can mend; a key frame will."""
UNKNOWN_RETRY_MS = 15.0
"""Before the round trip is known."""
MIN_RETRY_MS, MAX_RETRY_MS = 8.0, 100.0
MAX_SECOND_MS = 15.0
"""The second request does not wait for the first one's answer: either may be lost."""
RETRY_ROUND_TRIPS = 0.5
GIVE_UP_ROUND_TRIPS = 3.0
MAX_GIVE_UP_MS = 400.0
ROUND_TRIP_WEIGHT = 0.2
MIN_STALL_MS, MAX_STALL_MS = 6.0, 40.0
STALL_STEPS = 4.0
STEP_WEIGHT = 0.1
PATIENCE_MS = 12.0
"""Before asking a peer that sends its packets again by itself."""
PATIENT_FOR_MS = 1000.0
"""After a packet that came again unasked."""


@dataclass
class _Missing:
    since_ms: float
    due_ms: float
    is_guess: bool = False
    first_asked_ms: float | None = None


class NackSchedule:
    """Asks for a missing packet at once, soon again, then twice a round trip, and stops after `give_up_ms`.

    Takes the place of aiortc's NackGenerator, which asks exactly once: one lost request (or one lost answer)
    then stalls the picture. Nor does it see that a frame's last packets are lost before the next frame comes:
    here a frame that stalls before its end has its next packet asked for. A peer that is seen to send packets
    again by itself gets the time to do so first.
    """

    def __init__(self, *, give_up_ms: float, now_ms: Callable[[], float]) -> None:
        """give_up_ms: the shortest time after which a packet is given up; long round trips get longer."""
        self._min_give_up_ms = give_up_ms
        self._now_ms = now_ms
        self._newest: int | None = None
        self._newest_ms = 0.0
        self._is_frame_open = False
        self._step_ms = 0.0
        self._missing: dict[int, _Missing] = {}
        self._asked: deque[int] = deque(maxlen=2 * MAX_MISSING)
        self._patient_until_ms = 0.0
        self.round_trip_ms: float | None = None
        """From the first request for a packet to its coming: longer than the way where requests are lost."""

    @property
    def retry_ms(self) -> float:
        """From the second request for a packet on."""
        if self.round_trip_ms is None:
            return UNKNOWN_RETRY_MS
        return min(MAX_RETRY_MS, max(MIN_RETRY_MS, RETRY_ROUND_TRIPS * self.round_trip_ms))

    @property
    def give_up_ms(self) -> float:
        wanted_ms = GIVE_UP_ROUND_TRIPS * (self.round_trip_ms or 0.0)
        return min(MAX_GIVE_UP_MS, max(self._min_give_up_ms, wanted_ms))

    @property
    def due_at_ms(self) -> float | None:
        """When `take_due` may have something; None if nothing is missing."""
        due = [missing.due_ms for missing in self._missing.values()]
        if self._may_guess:
            due.append(self._newest_ms + self._stall_ms)
        return min(due, default=None)

    def add(self, sequence_number: int, *, ends_frame: bool) -> None:
        """Note an arrived packet, retransmitted or not."""
        now_ms = self._now_ms()
        if self._newest is None:
            self._newest = sequence_number - 1
            self._newest_ms = now_ms
        sequence = unwrapped(sequence_number, self._newest, SEQUENCE_MODULUS)
        if sequence <= self._newest:
            missing = self._missing.pop(sequence, None)
            self._note_answer(missing, now_ms)
            if missing is None and sequence not in self._asked:
                self._patient_until_ms = now_ms + PATIENT_FOR_MS
            if missing is None or sequence < self._newest:
                return
        elif sequence == self._newest + 1 and self._is_frame_open:
            self._step_ms += STEP_WEIGHT * (now_ms - self._newest_ms - self._step_ms)
        first_lost = max(self._newest + 1, sequence - MAX_MISSING)
        for lost in range(first_lost, sequence):
            self._missing[lost] = _Missing(now_ms, now_ms + self._patience_ms(now_ms))
        for lost in list(self._missing)[:-MAX_MISSING]:
            del self._missing[lost]
        self._newest, self._newest_ms, self._is_frame_open = sequence, now_ms, not ends_frame

    def take_due(self) -> list[int]:
        """The 16-bit sequence numbers to ask for now; they are taken for asked."""
        now_ms = self._now_ms()
        self._guess(now_ms)
        due = []
        for sequence, missing in list(self._missing.items()):
            if now_ms - missing.since_ms > self.give_up_ms:
                del self._missing[sequence]
                self._is_frame_open &= not missing.is_guess  # nothing follows: do not go on guessing
            elif missing.due_ms <= now_ms:
                self._note_request(missing, now_ms)
                self._asked.append(sequence)
                due.append(sequence % SEQUENCE_MODULUS)
        return due

    @property
    def _may_guess(self) -> bool:
        return self._is_frame_open and self._newest not in self._missing

    @property
    def _stall_ms(self) -> float:
        """A pause this long within a frame means that its next packet is lost."""
        return min(MAX_STALL_MS, max(MIN_STALL_MS, STALL_STEPS * self._step_ms))

    def _guess(self, now_ms: float) -> None:
        """Take the packet after the newest for lost, if the frame stalls."""
        if self._newest is not None and self._may_guess and now_ms >= self._newest_ms + self._stall_ms:
            self._newest += 1
            due_ms = self._newest_ms + max(self._stall_ms, self._patience_ms(now_ms))
            self._missing[self._newest] = _Missing(now_ms, due_ms, is_guess=True)

    def _patience_ms(self, now_ms: float) -> float:
        return PATIENCE_MS if now_ms < self._patient_until_ms else 0.0

    def _note_request(self, missing: _Missing, now_ms: float) -> None:
        wait_ms = self.retry_ms
        if missing.first_asked_ms is None:
            missing.first_asked_ms = now_ms
            wait_ms = min(wait_ms, MAX_SECOND_MS)
        missing.due_ms = now_ms + wait_ms

    def _note_answer(self, missing: _Missing | None, now_ms: float) -> None:
        if missing is None or missing.first_asked_ms is None or missing.is_guess:
            return  # a late packet, or perhaps one that was about to come anyway
        sample_ms = now_ms - missing.first_asked_ms
        if self.round_trip_ms is None:
            self.round_trip_ms = sample_ms
        self.round_trip_ms += ROUND_TRIP_WEIGHT * (sample_ms - self.round_trip_ms)
