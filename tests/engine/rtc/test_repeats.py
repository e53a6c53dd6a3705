"""A real sender of aiortc; only the network is left out."""

import asyncio
from dataclasses import dataclass, field

import av
import pytest
from aiortc import MediaStreamTrack, RTCRtpSender, rtcrtpsender
from aiortc.rtcrtpparameters import RTCRtcpParameters, RTCRtpCodecParameters, RTCRtpSendParameters
from aiortc.rtp import RtcpReceiverInfo, RtcpRrPacket, RtpPacket, is_rtcp

from engine.config import VideoEncodingConfig
from engine.rtc.encoders import encoder_factory
from engine.rtc.repeats import Redundancy, repeat_while_lossy
from tests.engine.rtc.scripted import Clock
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


@dataclass
class Sent:
    sequence_numbers: list[list[int]]
    """Of each picture's packets."""
    again: list[int]
    """Of the packets that were sent again, in that order."""


async def sent_pictures(
    monkeypatch: pytest.MonkeyPatch,
    fraction_lost: int | None,
    *,
    start_bps: int = 1_500_000,
    is_ours: bool = True,
) -> Sent:
    """Three pictures through a sender whose peer has reported losses once."""
    config = VideoEncodingConfig(start_bitrate_bps=start_bps)
    monkeypatch.setattr(rtcrtpsender, "get_encoder", encoder_factory(config))
    transport, track = Transport(), Pictures()
    sender = RTCRtpSender(track, transport)  # type: ignore[arg-type]
    repeat_while_lossy(sender)
    await sender.send(RTCRtpSendParameters(codecs=[VP8, RTX], rtcp=RTCRtcpParameters(cname="a")))
    if fraction_lost is not None:
        ssrc = sender._ssrc if is_ours else sender._ssrc ^ 1
        info = RtcpReceiverInfo(ssrc, fraction_lost, 9, 0, 0, 0, 0)
        for _ in range(2):
            await sender._handle_rtcp_packet(RtcpRrPacket(ssrc=1, reports=[info]))
    async with asyncio.timeout(10):
        for picture in pictures(3, 512, 512):
            track.waiting.put_nowait(picture)
            await transport.ends.get()
            await asyncio.sleep(0.05)
    await sender.stop()
    numbers: dict[int, list[int]] = {}
    for packet in transport.sent:
        if packet.payload_type == VP8.payloadType:
            numbers.setdefault(packet.timestamp, []).append(packet.sequence_number)
    again = [packet for packet in transport.sent if packet.payload_type == RTX.payloadType]
    return Sent(list(numbers.values()), [int.from_bytes(packet.payload[:2], "big") for packet in again])


async def test_while_packets_are_lost_each_one_is_sent_three_times(monkeypatch: pytest.MonkeyPatch) -> None:
    sent = await sent_pictures(monkeypatch, 13)  # of 256: five per cent
    assert max(map(len, sent.sequence_numbers)) > 1
    assert sent.again == [number for picture in sent.sequence_numbers for number in picture * 2]


async def test_where_few_are_lost_twice_will_do(monkeypatch: pytest.MonkeyPatch) -> None:
    sent = await sent_pictures(monkeypatch, 4)
    assert sent.again == [number for picture in sent.sequence_numbers for number in picture]


async def test_where_the_rate_is_low_only_the_last_packet_is_sent_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    sent = await sent_pictures(monkeypatch, 13, start_bps=500_000)
    assert sent.again == [picture[-1] for picture in sent.sequence_numbers]


@pytest.mark.parametrize("fraction_lost", [None, 0, 1])
async def test_nothing_is_sent_twice_where_nothing_is_lost(
    monkeypatch: pytest.MonkeyPatch, fraction_lost: int | None
) -> None:
    assert (await sent_pictures(monkeypatch, fraction_lost)).again == []


async def test_what_another_sender_lost_is_none_of_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    assert (await sent_pictures(monkeypatch, 13, is_ours=False)).again == []


def test_redundancy_ends_five_seconds_after_the_losses() -> None:
    clock = Clock(0.0)
    redundancy = Redundancy(clock)
    assert redundancy.times == 1
    for loss in (0.05, 0.05, 0.0, 0.01, 0.02):
        redundancy.note_report(loss)
        clock.now += 1
    assert redundancy.times == 3  # it does not fall while packets are lost
    clock.now += 3.9
    assert redundancy.times == 3
    clock.now += 0.2
    assert redundancy.times == 1


def test_one_lost_packet_among_thousands_is_no_reason_to_send_thrice() -> None:
    redundancy = Redundancy(Clock(0.0))
    redundancy.note_report(0.02)
    assert redundancy.times == 2
