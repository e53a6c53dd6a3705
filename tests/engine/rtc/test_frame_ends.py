"""A real sender of aiortc; only the network is left out."""

import asyncio
from dataclasses import dataclass, field

import av
import pytest
from aiortc import MediaStreamTrack, RTCRtpSender
from aiortc.rtcrtpparameters import RTCRtcpParameters, RTCRtpCodecParameters, RTCRtpSendParameters
from aiortc.rtp import RtcpReceiverInfo, RtcpRrPacket, RtpPacket, is_rtcp

from engine.rtc.frame_ends import repeat_frame_ends
from tests.engine.rtc.test_encoders import pictures

VP8 = RTCRtpCodecParameters(mimeType="video/VP8", clockRate=90000, payloadType=97)
RTX = RTCRtpCodecParameters(mimeType="video/rtx", clockRate=90000, payloadType=98, parameters={"apt": 97})


@dataclass
class Transport:
    """What a sender asks of its DTLS transport: it only keeps what is sent."""

    state: str = "connected"
    _stats_id: str = "transport"
    ends: asyncio.Queue[int] = field(default_factory=asyncio.Queue)
    sent: list[RtpPacket] = field(default_factory=list)

    def _register_rtp_sender(self, sender: object, parameters: object) -> None: ...

    def _unregister_rtp_sender(self, sender: object) -> None: ...

    async def _send_rtp(self, data: bytes) -> None:
        if is_rtcp(data):
            return
        packet = RtpPacket.parse(data)
        self.sent.append(packet)
        if packet.marker and packet.payload_type == VP8.payloadType:
            self.ends.put_nowait(packet.sequence_number)


class Pictures(MediaStreamTrack):
    kind = "video"

    def __init__(self) -> None:
        super().__init__()
        self.waiting: asyncio.Queue[av.VideoFrame] = asyncio.Queue()

    async def recv(self) -> av.VideoFrame:
        return await self.waiting.get()


async def ends_and_repeats(fraction_lost: int | None, *, is_ours: bool = True) -> tuple[list[int], list[int]]:
    """Sequence numbers of the packets that ended three pictures, and of those that were sent again."""
    transport, track = Transport(), Pictures()
    sender = RTCRtpSender(track, transport)  # type: ignore[arg-type]
    repeat_frame_ends(sender)
    await sender.send(RTCRtpSendParameters(codecs=[VP8, RTX], rtcp=RTCRtcpParameters(cname="a")))
    if fraction_lost is not None:
        ssrc = sender._ssrc if is_ours else sender._ssrc ^ 1
        info = RtcpReceiverInfo(ssrc, fraction_lost, 9, 0, 0, 0, 0)
        await sender._handle_rtcp_packet(RtcpRrPacket(ssrc=1, reports=[info]))
    for picture in pictures(3):
        track.waiting.put_nowait(picture)
    async with asyncio.timeout(10):
        ends = [await transport.ends.get() for _ in range(3)]
    await asyncio.sleep(0.05)
    await sender.stop()
    again = [packet for packet in transport.sent if packet.payload_type == RTX.payloadType]
    return ends, [int.from_bytes(packet.payload[:2], "big") for packet in again]


async def test_while_packets_are_lost_the_last_one_of_each_picture_is_sent_again() -> None:
    ends, repeated = await ends_and_repeats(13)  # of 256: five per cent
    assert repeated == ends


@pytest.mark.parametrize("fraction_lost", [None, 0, 1])
async def test_nothing_is_sent_twice_where_nothing_is_lost(fraction_lost: int | None) -> None:
    assert (await ends_and_repeats(fraction_lost))[1] == []


async def test_what_another_sender_lost_is_none_of_ours() -> None:
    assert (await ends_and_repeats(13, is_ours=False))[1] == []
