"""Sender reports that tell when a frame was captured, not when it was sent.

A browser lines up sound and picture by the pair (wall clock, RTP time) in RTCP sender reports. aiortc writes
the moment of sending there, so time spent in our pipeline would be invisible and the lips would be off by it.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from aiortc import RTCRtpSender
from aiortc.rtp import RtcpSrPacket

from engine.clock import NS_PER_S

SendRtcp = Callable[[list[Any]], Awaitable[None]]


def report_capture_times(sender: RTCRtpSender, latency_ns: Callable[[], int]) -> None:
    """Make this one sender's reports say `latency_ns()` less: the present delay from capture to sending."""
    send_rtcp: SendRtcp = sender._send_rtcp

    async def send_shifted(packets: list[Any]) -> None:
        for packet in packets:
            # before the first media packet aiortc reports time 0, which says nothing and cannot be set back
            if isinstance(packet, RtcpSrPacket) and packet.sender_info.ntp_timestamp:
                shift(packet, latency_ns())
                # The peer's round-trip reply quotes the report, so what aiortc remembers has to match it.
                last_report = (packet.sender_info.ntp_timestamp >> 16) & 0xFFFFFFFF
                setattr(sender, "_RTCRtpSender__lsr", last_report)  # noqa: B010 - a mangled name
        await send_rtcp(packets)

    setattr(sender, "_send_rtcp", send_shifted)  # noqa: B010 - a method is replaced on purpose


def shift(packet: RtcpSrPacket, latency_ns: int) -> None:
    """Set the report's NTP time back by `latency_ns`."""
    packet.sender_info.ntp_timestamp -= (latency_ns << 32) // NS_PER_S
