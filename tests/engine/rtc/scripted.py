"""Packets and clocks that tests write out themselves."""

from __future__ import annotations

from dataclasses import dataclass

MS = 1_000_000


@dataclass
class Packet:
    sequence_number: int
    timestamp: int = 0
    marker: int = 0
    payload_type: int = 97
    _data: bytes = b"x"
    ssrc: int = 1


class Clock:
    """Stands for the MediaClock, and as a function for its milliseconds."""

    def __init__(self, now_ms: float = 1000.0) -> None:
        self.now = now_ms

    def __call__(self) -> float:
        return self.now

    def now_ns(self) -> int:
        return round(self.now * MS)
