from dataclasses import dataclass
from typing import Any

import pytest
from aiortc.clock import current_ntp_time
from aiortc.rtcrtpparameters import RTCRtpCodecParameters
from aiortc.rtp import RtcpSenderInfo, RtcpSrPacket

from engine.rtc.sender_reports import ReportedFrame, ntp_duration, report_capture_times
from tests.engine.rtc.scripted import MS, Clock

NTP_SECOND = 1 << 32
OPUS = RTCRtpCodecParameters(mimeType="audio/opus", clockRate=48000, channels=2, payloadType=96)
VP8 = RTCRtpCodecParameters(mimeType="video/VP8", clockRate=90000, payloadType=97)


@dataclass
class Encoded:
    timestamp: int


class RecordingSender:
    """What `report_capture_times` touches of an RTCRtpSender."""

    def __init__(self) -> None:
        self.sent: list[Any] = []
        self.next: Encoded | None = None

    async def _next_encoded_frame(self, codec: RTCRtpCodecParameters) -> Encoded | None:
        return self.next

    async def _send_rtcp(self, packets: list[Any]) -> None:
        self.sent += packets


def report(ntp_timestamp: int) -> RtcpSrPacket:
    info = RtcpSenderInfo(ntp_timestamp=ntp_timestamp, rtp_timestamp=1, packet_count=1, octet_count=1)
    return RtcpSrPacket(ssrc=1, sender_info=info)


async def reported_age_s(
    sender: Any, codec: RTCRtpCodecParameters, ticks: list[int], now_ms: float, first_capture_ms: float
) -> float:
    """How long ago, by the report, the last of these frames was captured."""
    report_capture_times(sender, lambda elapsed: round(first_capture_ms * MS) + elapsed, Clock(now_ms))  # type: ignore[arg-type]
    for tick in ticks:
        sender.next = Encoded(tick)
        assert await sender._next_encoded_frame(codec) is sender.next
    await sender._send_rtcp([report(100 * NTP_SECOND)])
    age_s: float = (current_ntp_time() - sender.sent[-1].sender_info.ntp_timestamp) / NTP_SECOND
    return age_s


@pytest.mark.parametrize(("codec", "step"), [(VP8, 3600), (OPUS, 1920)])
async def test_a_report_tells_when_the_last_frame_was_captured(
    codec: RTCRtpCodecParameters, step: int
) -> None:
    """Three frames of 40 ms, the first captured at 1000 ms; now it is 1330 ms."""
    ticks = [777 + index * step for index in range(3)]
    age_s = await reported_age_s(RecordingSender(), codec, ticks, now_ms=1330, first_capture_ms=1000)
    assert age_s == pytest.approx(0.250, abs=0.1)


async def test_a_frame_that_was_not_encoded_moves_nothing() -> None:
    sender: Any = RecordingSender()
    asked = []
    report_capture_times(sender, lambda elapsed: asked.append(elapsed) or 0, Clock(0))  # type: ignore[arg-type, func-returns-value]
    for frame in (Encoded(0), Encoded(3600), None):
        sender.next = frame
        await sender._next_encoded_frame(VP8)
    await sender._send_rtcp([report(NTP_SECOND)])
    assert asked == [40 * MS]


async def test_what_aiortc_remembers_of_the_report_matches_it() -> None:
    sender: Any = RecordingSender()
    await reported_age_s(sender, VP8, [0], now_ms=250, first_capture_ms=0)
    expected = (sender.sent[0].sender_info.ntp_timestamp >> 16) & 0xFFFFFFFF
    assert getattr(sender, "_RTCRtpSender__lsr") == expected  # noqa: B009


async def test_a_report_before_the_first_packet_stays_at_zero_and_can_be_packed() -> None:
    sender: Any = RecordingSender()
    report_capture_times(sender, lambda elapsed: elapsed, Clock(0))  # type: ignore[arg-type]
    await sender._send_rtcp([report(0)])
    assert sender.sent[0].sender_info.ntp_timestamp == 0
    assert bytes(sender.sent[0])


def test_a_duration_becomes_ntp_units() -> None:
    assert ntp_duration(1_500_000_000) == 3 << 31


async def test_the_frame_that_a_report_spoke_of_is_known_afterwards() -> None:
    sender: Any = RecordingSender()
    clock: Any = Clock(1330)
    reports = report_capture_times(sender, lambda elapsed: 1000 * MS + elapsed, clock)
    assert reports.latest is None
    for tick in (777, 777 + 3600):
        sender.next = Encoded(tick)
        await sender._next_encoded_frame(VP8)
    await sender._send_rtcp([report(100 * NTP_SECOND)])
    assert reports.latest == ReportedFrame(rtp_time=1, capture_time_ns=1040 * MS, elapsed_ns=40 * MS)
