"""Sender reports that tell when a frame was captured, not when it was sent.

A browser lines up sound and picture by the pair (wall clock, RTP time) in RTCP sender reports. aiortc writes
the moment of sending there, so time spent in our pipeline would be invisible and the lips would be off by it.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from aiortc import RTCRtpSender
from aiortc.clock import current_ntp_time
from aiortc.rtcrtpparameters import RTCRtpCodecParameters
from aiortc.rtp import RtcpSrPacket

from engine.clock import NS_PER_S, MediaClock

CaptureTime = Callable[[int], int]
"""Nanoseconds from a track's first frame on -> when what is there was captured, on the media clock."""


@dataclass(frozen=True)
class ReportedFrame:
    """The frame that a report spoke of."""

    rtp_time: int
    """As its packets carry it, 32 bits."""
    capture_time_ns: int
    """On the media clock."""
    elapsed_ns: int
    """From the track's first frame on."""


class CaptureReports:
    """What the reports of one sender have said."""

    latest: ReportedFrame | None = None


class _Position:
    """How far on its track a sender has come, by the RTP times of what it encoded."""

    def __init__(self) -> None:
        self._first_ticks: int | None = None
        self.elapsed_ns: int | None = None

    def note(self, ticks: int, clock_rate: int) -> None:
        if self._first_ticks is None:
            self._first_ticks = ticks
        self.elapsed_ns = (ticks - self._first_ticks) * NS_PER_S // clock_rate


def report_capture_times(
    sender: RTCRtpSender, capture_time_ns: CaptureTime, clock: MediaClock
) -> CaptureReports:
    """Make this one sender's reports say when the frame that they speak of was captured."""
    position, reports = _Position(), CaptureReports()
    next_encoded_frame: Callable[[RTCRtpCodecParameters], Awaitable[Any]] = sender._next_encoded_frame
    send_rtcp: Callable[[list[Any]], Awaitable[None]] = sender._send_rtcp

    async def noted(codec: RTCRtpCodecParameters) -> Any:
        # aiortc sends all packets of a frame before anything else gets its turn, a report included
        frame = await next_encoded_frame(codec)
        if frame is not None:
            position.note(frame.timestamp, codec.clockRate)
        return frame

    async def send_corrected(packets: list[Any]) -> None:
        for packet in packets:
            if isinstance(packet, RtcpSrPacket) and position.elapsed_ns is not None:
                captured_ns = capture_time_ns(position.elapsed_ns)
                reports.latest = ReportedFrame(
                    packet.sender_info.rtp_timestamp, captured_ns, position.elapsed_ns
                )
                age_ns = clock.now_ns() - captured_ns
                packet.sender_info.ntp_timestamp = current_ntp_time() - ntp_duration(age_ns)
                # The peer's round-trip reply quotes the report, so what aiortc remembers has to match it.
                last_report = (packet.sender_info.ntp_timestamp >> 16) & 0xFFFFFFFF
                setattr(sender, "_RTCRtpSender__lsr", last_report)  # noqa: B010 - a mangled name
        await send_rtcp(packets)

    setattr(sender, "_next_encoded_frame", noted)  # noqa: B010 - methods are replaced on purpose
    setattr(sender, "_send_rtcp", send_corrected)  # noqa: B010
    return reports


def ntp_duration(duration_ns: int) -> int:
    """In units of 2^-32 s, as NTP time stamps have them."""
    return (duration_ns << 32) // NS_PER_S
