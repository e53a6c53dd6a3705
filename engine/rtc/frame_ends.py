"""Sends the last packet of each picture twice while the peer reports losses.

A receiver sees that a packet is lost by the next one that comes. After a picture's last packet, or its only
one, that is the next picture's: a whole period is gone before the packet is even asked for.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from aiortc import RTCRtpSender
from aiortc.rtcrtpparameters import RTCRtpCodecParameters
from aiortc.rtp import RtcpRrPacket, RtcpSrPacket, RtpPacket

MIN_FRACTION_LOST = 3 / 256
"""As RFC 3550 reports it: about one per cent."""
LOSSY_FOR_S = 5.0
"""After the last report of so many losses."""
REPEAT_AFTER_S = 0.005
"""Losses come in bursts; and a stalled frame is asked for one millisecond later."""


def repeat_frame_ends(sender: RTCRtpSender) -> None:
    """Make this one sender of pictures do so. Call it on the event loop, before the sender starts.

    Raises AttributeError if aiortc no longer has the parts that this needs.
    """
    loop = asyncio.get_running_loop()
    history: dict[int, RtpPacket] = getattr(sender, "_RTCRtpSender__rtp_history")  # noqa: B009 - mangled
    next_encoded_frame: Callable[[RTCRtpCodecParameters], Awaitable[Any]] = sender._next_encoded_frame
    handle: Callable[[Any], Awaitable[None]] = sender._handle_rtcp_packet
    lossy_until_s = 0.0
    sending: set[asyncio.Task[None]] = set()

    async def repeat(sequence_number: int) -> None:
        await asyncio.sleep(REPEAT_AFTER_S)
        try:
            await sender._retransmit(sequence_number)
        except ConnectionError:
            return  # the peer has gone meanwhile; the sender finds that out by itself

    async def repeating(codec: RTCRtpCodecParameters) -> Any:
        # aiortc asks for the next frame as soon as it has sent all packets of the one before
        if loop.time() < lossy_until_s and (last := _last_sent(sender, history)) is not None:
            task = loop.create_task(repeat(last))
            sending.add(task)
            task.add_done_callback(sending.discard)
        return await next_encoded_frame(codec)

    async def handle_too(packet: Any) -> None:
        nonlocal lossy_until_s
        if isinstance(packet, RtcpRrPacket | RtcpSrPacket):
            lost = [report.fraction_lost / 256 for report in packet.reports if report.ssrc == sender._ssrc]
            if any(fraction >= MIN_FRACTION_LOST for fraction in lost):
                lossy_until_s = loop.time() + LOSSY_FOR_S
        await handle(packet)

    setattr(sender, "_next_encoded_frame", repeating)  # noqa: B010 - methods are replaced on purpose
    setattr(sender, "_handle_rtcp_packet", handle_too)  # noqa: B010


def _last_sent(sender: RTCRtpSender, history: dict[int, RtpPacket]) -> int | None:
    """The sequence number of the packet that ended the frame sent last."""
    timestamp = getattr(sender, "_RTCRtpSender__rtp_timestamp")  # noqa: B009 - a mangled name
    ends = (packet for packet in history.values() if packet.marker and packet.timestamp == timestamp)
    return next((packet.sequence_number for packet in ends), None)
