"""Numbers that wrap, continued without wrapping: RTP timestamps (32 bits) and sequence numbers (16 bits)."""

from __future__ import annotations

from engine.clock import NS_PER_S

TIMESTAMP_MODULUS = 1 << 32
SEQUENCE_MODULUS = 1 << 16


def unwrapped(value: int, reference: int, modulus: int) -> int:
    """The number congruent to `value` that lies nearest to `reference`, which does not wrap."""
    distance = (value - reference) % modulus
    if distance >= modulus // 2:
        distance -= modulus
    return reference + distance


class RtpTimeline:
    """One track's RTP timestamps as ticks since the first one seen; earlier ones become negative.

    aiortc's TimestampMapper takes every step back for a wrap, so one early frame moves all later ones by
    thirteen hours.
    """

    def __init__(self, clock_rate: int) -> None:
        """clock_rate: ticks per second of the RTP timestamps."""
        self.clock_rate = clock_rate
        self.origin: int | None = None
        """The first timestamp seen."""
        self._newest = 0

    def ticks(self, timestamp: int) -> int:
        if self.origin is None:
            self.origin = self._newest = timestamp
        self._newest = unwrapped(timestamp, self._newest, TIMESTAMP_MODULUS)
        return self._newest - self.origin

    def media_time_ns(self, timestamp: int) -> int:
        return self.ticks(timestamp) * NS_PER_S // self.clock_rate
