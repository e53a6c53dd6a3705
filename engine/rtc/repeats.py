"""Sends pictures again before anyone asks for them, while the peer reports losses.

A lost packet that has to be asked for takes a round trip more, and every picture behind it waits. So each
packet is sent once or twice more, a few milliseconds later; its copies are paid for by smaller pictures, so
that a network that loses packets because it is full does not get more of them.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from aiortc import RTCRtpSender
from aiortc.rtcrtpparameters import RTCRtpCodecParameters
from aiortc.rtp import RtcpRrPacket, RtcpSrPacket, RtpPacket

from engine.rtc.encoders import BoundedRate
from engine.rtc.rtp_time import SEQUENCE_MODULUS

MIN_LOSS = 3 / 256
"""As RFC 3550 reports it: about one per cent."""
HEAVY_LOSS = 0.022
"""Of which a picture of four packets would still be torn once in 500 times if each were sent twice."""
LOSS_WEIGHT = 0.4
"""Of the newest report: one speaks of some hundred packets only."""
LOSSY_FOR_S = 5.0
"""After the last report of so many losses."""
REPEAT_AFTER_S = 0.005
"""Losses come in bursts."""


class Redundancy:
    """How many times each packet should be sent."""

    def __init__(self, now_s: Callable[[], float]) -> None:
        self._now_s = now_s
        self._loss = 0.0
        self._lossy_until_s = 0.0
        self._times = 1

    @property
    def times(self) -> int:
        """1 to 3. It does not fall before the losses are over: each change of rate may cost a key frame."""
        if self._now_s() >= self._lossy_until_s:
            self._times = 1
        return self._times

    def note_report(self, loss: float) -> None:
        """loss: the share of packets that did not come since the report before."""
        self._loss += LOSS_WEIGHT * (loss - self._loss)
        if loss >= MIN_LOSS:
            self._times = max(self.times, 3 if self._loss >= HEAVY_LOSS else 2)
            self._lossy_until_s = self._now_s() + LOSSY_FOR_S


def repeat_while_lossy(sender: RTCRtpSender) -> None:
    """Make this one sender of pictures do so. Call it on the event loop, before the sender starts.

    Where the rate does not allow it, only each picture's last packet is sent twice: that one is lost is
    seen by the next one that comes, which would be the next picture's.

    Raises AttributeError if aiortc no longer has the parts that this needs.
    """
    loop = asyncio.get_running_loop()
    history: dict[int, RtpPacket] = getattr(sender, "_RTCRtpSender__rtp_history")  # noqa: B009 - mangled
    next_encoded_frame: Callable[[RTCRtpCodecParameters], Awaitable[Any]] = sender._next_encoded_frame
    handle: Callable[[Any], Awaitable[None]] = sender._handle_rtcp_packet
    redundancy = Redundancy(loop.time)
    sending: set[asyncio.Task[None]] = set()

    async def repeat(sequence_numbers: list[int], times: int) -> None:
        try:
            for _ in range(times):
                await asyncio.sleep(REPEAT_AFTER_S)
                for sequence_number in sequence_numbers:
                    await sender._retransmit(sequence_number)
        except ConnectionError:
            return  # the peer has gone meanwhile; the sender finds that out by itself

    async def repeating(codec: RTCRtpCodecParameters) -> Any:
        # aiortc asks for the next frame as soon as it has sent all packets of the one before
        times = redundancy.times
        encoder = getattr(sender, "_RTCRtpSender__encoder")  # noqa: B009 - a mangled name
        affordable = encoder.share_rate(times) if isinstance(encoder, BoundedRate) else 1
        if times > 1 and (packets := _sent_last(sender, history)):
            repeated = packets if affordable > 1 else packets[-1:]
            task = loop.create_task(repeat(repeated, max(1, affordable - 1)))
            sending.add(task)
            task.add_done_callback(sending.discard)
        return await next_encoded_frame(codec)

    async def handle_too(packet: Any) -> None:
        if isinstance(packet, RtcpRrPacket | RtcpSrPacket):
            for report in packet.reports:
                if report.ssrc == sender._ssrc:
                    redundancy.note_report(report.fraction_lost / 256)
        await handle(packet)

    setattr(sender, "_next_encoded_frame", repeating)  # noqa: B010 - methods are replaced on purpose
    setattr(sender, "_handle_rtcp_packet", handle_too)  # noqa: B010


def _sent_last(sender: RTCRtpSender, history: dict[int, RtpPacket]) -> list[int]:
    """The sequence numbers of the last frame's packets, in order."""
    timestamp = getattr(sender, "_RTCRtpSender__rtp_timestamp")  # noqa: B009 - a mangled name
    packets = [packet for packet in history.values() if packet.timestamp == timestamp]
    end = next((packet.sequence_number for packet in packets if packet.marker), None)
    if end is None:
        return []
    numbers = [packet.sequence_number for packet in packets]
    return sorted(numbers, key=lambda number: (number - end - 1) % SEQUENCE_MODULUS)
