"""When to ask the sender for a key frame, and how to tell one."""

from __future__ import annotations

from collections.abc import Callable

MIN_REPEAT_MS = 120.0
"""A request or the key frame itself may be lost; asking more often would make the sender send two."""
H264_SELF_CONTAINED = (5, 7)
"""NAL unit types: a picture that needs no other, and the parameters that precede it."""
START_CODE = b"\x00\x00\x01"


class KeyFrameRequests:
    """Asks at once, and again every `repeat_ms` until a key frame has come."""

    def __init__(self, now_ms: Callable[[], float]) -> None:
        self.repeat_ms = MIN_REPEAT_MS
        self._now_ms = now_ms
        self._is_wanted = False
        self._asked_ms: float | None = None

    @property
    def is_wanted(self) -> bool:
        return self._is_wanted

    @property
    def due_at_ms(self) -> float | None:
        if not self._is_wanted:
            return None
        return self._now_ms() if self._asked_ms is None else self._asked_ms + self.repeat_ms

    def want(self) -> None:
        self._is_wanted = True

    def note_arrival(self) -> None:
        """A key frame has come."""
        self._is_wanted = False

    def take_due(self) -> bool:
        """True if it is to be asked for now; it is taken for asked."""
        due_at_ms = self.due_at_ms
        if due_at_ms is None or due_at_ms > self._now_ms():
            return False
        self._asked_ms = self._now_ms()
        return True


def is_key_frame(codec: str, data: bytes) -> bool:
    """codec: "VP8" (RFC 6386, 9.1: the first bit is 0) or "H264" (Annex B, as depacketised)."""
    if codec.upper() == "VP8":
        return bool(data) and not data[0] & 1
    start = data.find(START_CODE)
    while 0 <= start < len(data) - len(START_CODE):
        if data[start + len(START_CODE)] & 0x1F in H264_SELF_CONTAINED:
            return True
        start = data.find(START_CODE, start + len(START_CODE))
    return False
