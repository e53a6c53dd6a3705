"""When received sound is passed on: late enough that most packets are there, no later.

aiortc keeps four packets (80 ms) back for good, and every loss makes that more. Here each packet has its own
due time, its media time plus the quickest way it has been seen to take plus a delay fitted to the measured
jitter. What is missing when it is due is reported lost, so that it can be concealed; a packet that comes
after its due time is passed on at once, and the next one has its own due time again. So nothing adds up.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from engine.rtc.frame_assembler import RESTART_DISTANCE, MediaPacket
from engine.rtc.rtp_time import SEQUENCE_MODULUS, unwrapped

START_DELAY_MS = 40.0
MIN_DELAY_MS = 4.0
MAX_DELAY_MS = 240.0
WINDOW_PACKETS = 100
"""Two seconds of 20 ms packets: what the delay is fitted to."""
FIRST_FIT_PACKETS = 25
IN_TIME = 0.95
"""The share of packets that the delay is long enough for. A late one is passed on late, not lost."""
SHRINK_MS_PER_S = 100.0
MAX_CONCEALED = 5
"""Packets in a row; what is missing beyond that stays a gap, which is heard as silence."""
MAX_HELD = 50
MAX_PACKET_MS = 120.0
"""The longest Opus packet; a longer step is a pause of the sender."""
RESTART_JUMP_MS = 2_000.0


class PlayoutDelay:
    """How long sound is held beyond its quickest way: grows at once with jitter, shrinks slowly."""

    def __init__(self) -> None:
        self._ways_ms: deque[float] = deque(maxlen=WINDOW_PACKETS)
        self._delay_ms = START_DELAY_MS
        self._arrival_ms = 0.0
        self._quickest_ms = 0.0

    @property
    def delay_ms(self) -> float:
        return self._delay_ms

    @property
    def total_ms(self) -> float:
        """From a packet's media time to its due time."""
        return self._quickest_ms + self._delay_ms

    def is_foreign(self, media_ms: float, arrival_ms: float) -> bool:
        """The packet's time does not belong to those seen so far: the sender's clock has been set anew."""
        return bool(self._ways_ms) and abs(arrival_ms - media_ms - self._quickest_ms) > RESTART_JUMP_MS

    def note(self, media_ms: float, arrival_ms: float) -> None:
        """One packet came. Times of any origin."""
        elapsed_s = max(0.0, arrival_ms - self._arrival_ms) / 1000 if self._ways_ms else 0.0
        self._arrival_ms = arrival_ms
        self._ways_ms.append(arrival_ms - media_ms)
        ways_ms = sorted(self._ways_ms)
        before_ms, self._quickest_ms = self._quickest_ms, ways_ms[0]
        if len(ways_ms) < FIRST_FIT_PACKETS:
            return
        wanted_ms = ways_ms[round(IN_TIME * (len(ways_ms) - 1))] - ways_ms[0]
        # The total must not leap when the quickest way is forgotten, so shrinking is counted from before.
        falling_ms = before_ms + self._delay_ms - SHRINK_MS_PER_S * elapsed_s - self._quickest_ms
        self._delay_ms = min(MAX_DELAY_MS, max(MIN_DELAY_MS, wanted_ms, falling_ms))


@dataclass(frozen=True)
class Due:
    """What is to be heard next."""

    packet: MediaPacket | None
    """None: it is lost, and to be concealed."""
    media_ms: float


class PlayoutBuffer:
    """The packets of one sound stream in order, each at its due time."""

    def __init__(self, now_ms: Callable[[], float]) -> None:
        self._now_ms = now_ms
        self._held: dict[int, tuple[MediaPacket, float]] = {}
        self._next: int | None = None
        self._next_media_ms = 0.0
        self._packet_ms = 20.0
        self._newest: tuple[int, float] | None = None
        self._concealed_in_a_row = 0
        self.delay = PlayoutDelay()
        self.concealed = 0
        self.late = 0
        """Packets that came after they had been concealed."""

    @property
    def due_at_ms(self) -> float | None:
        """When `take_due` will have something; None if nothing is held."""
        if not self._held or self._next is None:
            return None
        held = self._held.get(self._next)
        return self.delay.total_ms + (held[1] if held is not None else self._next_media_ms)

    @property
    def packet_ms(self) -> float:
        """How much sound one packet holds."""
        return self._packet_ms

    def add(self, packet: MediaPacket, media_ms: float) -> None:
        """media_ms: the packet's RTP time, any origin, not wrapping."""
        now_ms = self._now_ms()
        if self._next is None:
            self._start_at(packet.sequence_number, media_ms)
        assert self._next is not None
        sequence = unwrapped(packet.sequence_number, self._next, SEQUENCE_MODULUS)
        ahead = sequence - self._next
        if ahead < -RESTART_DISTANCE or ahead >= MAX_HELD or self.delay.is_foreign(media_ms, now_ms):
            self._start_at(sequence, media_ms)
            self.delay = PlayoutDelay()
        self.delay.note(media_ms, now_ms)
        self._learn_packet_time(sequence, media_ms)
        if sequence >= self._next:
            self._held[sequence] = (packet, media_ms)
        else:
            self.late += 1

    def take_due(self) -> list[Due]:
        """Everything whose time has come, in order."""
        due = []
        while (at_ms := self.due_at_ms) is not None and at_ms <= self._now_ms():
            assert self._next is not None
            held = self._held.pop(self._next, None)
            if held is not None:
                due.append(self._played(*held))
            elif self._concealed_in_a_row < MAX_CONCEALED:
                due.append(self._lost())
            else:
                self._skip_to_held()
        return due

    def _start_at(self, sequence: int, media_ms: float) -> None:
        self._held.clear()
        self._next = sequence
        self._next_media_ms = media_ms
        self._concealed_in_a_row = 0

    def _learn_packet_time(self, sequence: int, media_ms: float) -> None:
        if self._newest is not None and sequence == self._newest[0] + 1:
            step_ms = media_ms - self._newest[1]
            if 0 < step_ms <= MAX_PACKET_MS:
                self._packet_ms = step_ms
        self._newest = (sequence, media_ms)

    def _played(self, packet: MediaPacket, media_ms: float) -> Due:
        assert self._next is not None
        self._next += 1
        self._next_media_ms = media_ms + self._packet_ms
        self._concealed_in_a_row = 0
        return Due(packet, media_ms)

    def _lost(self) -> Due:
        assert self._next is not None
        due = Due(None, self._next_media_ms)
        self._next += 1
        self._next_media_ms += self._packet_ms
        self._concealed_in_a_row += 1
        self.concealed += 1
        return due

    def _skip_to_held(self) -> None:
        self._next = min(self._held)
        self._next_media_ms = self._held[self._next][1]
        self._concealed_in_a_row = 0
