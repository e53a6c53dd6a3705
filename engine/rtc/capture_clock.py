"""When a received frame was captured, on our own clock."""

from __future__ import annotations

from engine.clock import NS_PER_MS, NS_PER_S

RISE_PER_SECOND_NS = 1 * NS_PER_MS
"""How fast the estimate follows a path that became longer or a sender whose clock is slow (0.1 %)."""
RESTART_NS = 2_000 * NS_PER_MS
MAX_DISAGREEMENT_NS = 500 * NS_PER_MS
"""A sender report that puts a frame this far from its arrival is not believed."""


class QuickestWay:
    """Maps a remote clock to ours by the smallest difference seen between being sent and arriving.

    That one belongs to the frame that waited least on its way. What is left in it is the constant part of
    the sender's encoding and the network: milliseconds on a local link.
    """

    def __init__(self) -> None:
        self._offset_ns: int | None = None
        self._last_arrival_ns = 0

    def note(self, remote_ns: int, arrival_ns: int) -> None:
        offset_ns = arrival_ns - remote_ns
        if self._offset_ns is None or abs(offset_ns - self._offset_ns) > RESTART_NS:
            self._offset_ns = offset_ns
        else:
            elapsed_ns = max(0, arrival_ns - self._last_arrival_ns)
            risen_ns = self._offset_ns + elapsed_ns * RISE_PER_SECOND_NS // NS_PER_S
            self._offset_ns = min(offset_ns, risen_ns)
        self._last_arrival_ns = arrival_ns

    def here_ns(self, remote_ns: int) -> int | None:
        """The same moment on our clock; None before the first arrival."""
        return None if self._offset_ns is None else remote_ns + self._offset_ns


class CaptureClock:
    """Maps one track's media time to our clock.

    The tracks of one sender share the clock that its reports speak of (RFC 3550, 6.4.1), so with reports
    sound and picture are put on one line exactly. Without them each track goes by its own quickest arrivals,
    which agree within about ten milliseconds.
    """

    def __init__(self, sender_way: QuickestWay) -> None:
        """sender_way: shared by the tracks of one sender."""
        self._sender_way = sender_way
        self._own_way = QuickestWay()
        self._wall_from_media_ns: int | None = None
        self.rtp_origin: int | None = None
        """RTP time of a picture whose media time is 0; None before the first, and for sound."""

    def note_report(self, wall_ns: int, media_time_ns: int) -> None:
        """The sender says that its wall clock showed `wall_ns` at this media time."""
        self._wall_from_media_ns = wall_ns - media_time_ns

    def note_arrival(self, media_time_ns: int, arrival_ns: int) -> None:
        """media_time_ns: of the last sample or pixel that had to be in before the packet could leave."""
        self._own_way.note(media_time_ns, arrival_ns)
        if self._wall_from_media_ns is not None:
            self._sender_way.note(media_time_ns + self._wall_from_media_ns, arrival_ns)

    def capture_time_ns(self, media_time_ns: int) -> int:
        """Not later than the arrival. Raises ValueError before the first arrival."""
        own_ns = self._own_way.here_ns(media_time_ns)
        if own_ns is None:
            raise ValueError("nothing has arrived yet, so there is no telling when it was captured")
        if self._wall_from_media_ns is None:
            return own_ns
        shared_ns = self._sender_way.here_ns(media_time_ns + self._wall_from_media_ns)
        if shared_ns is None or abs(shared_ns - own_ns) > MAX_DISAGREEMENT_NS:
            return own_ns
        return shared_ns


def ns_from_ntp(ntp_timestamp: int) -> int:
    """64-bit NTP time (seconds and 2^-32 fractions) in nanoseconds."""
    return ntp_timestamp * NS_PER_S >> 32
