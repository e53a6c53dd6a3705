"""When a received frame was captured, on our own clock."""

from __future__ import annotations

from engine.clock import NS_PER_MS

RISE_PER_SECOND_NS = 1 * NS_PER_MS
"""How fast the estimate follows a path that became longer or a sender whose clock is slow (0.1 %)."""
RESTART_NS = 2_000 * NS_PER_MS


class CaptureClock:
    """Maps a track's media time to our clock by its quickest arrivals.

    RTP says when a frame was captured relative to its predecessors, arrival says when it came; the smallest
    difference seen belongs to the frame that waited least on its way. What is left in it is the constant part
    of the sender's encoding and the network: milliseconds on a local link, the same for sound and picture
    within about ten.
    """

    def __init__(self) -> None:
        self._offset_ns: int | None = None
        self._last_arrival_ns = 0

    def capture_time_ns(self, media_time_ns: int, arrival_ns: int) -> int:
        """media_time_ns: from the RTP timestamp, any origin. Never later than the arrival."""
        offset_ns = arrival_ns - media_time_ns
        if self._offset_ns is None or abs(offset_ns - self._offset_ns) > RESTART_NS:
            self._offset_ns = offset_ns
        else:
            elapsed_ns = arrival_ns - self._last_arrival_ns
            risen_ns = self._offset_ns + elapsed_ns * RISE_PER_SECOND_NS // 1_000_000_000
            self._offset_ns = min(offset_ns, risen_ns)
        self._last_arrival_ns = arrival_ns
        return media_time_ns + self._offset_ns
