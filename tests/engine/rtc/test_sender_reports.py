from typing import Any

from aiortc.rtp import RtcpSenderInfo, RtcpSrPacket

from engine.rtc.sender_reports import report_capture_times

NTP_SECOND = 1 << 32


class RecordingSender:
    """What `report_capture_times` touches of an RTCRtpSender."""

    def __init__(self) -> None:
        self.sent: list[Any] = []

    async def _send_rtcp(self, packets: list[Any]) -> None:
        self.sent += packets


def report(ntp_timestamp: int) -> RtcpSrPacket:
    info = RtcpSenderInfo(ntp_timestamp=ntp_timestamp, rtp_timestamp=1, packet_count=1, octet_count=1)
    return RtcpSrPacket(ssrc=1, sender_info=info)


async def test_a_report_is_set_back_by_the_latency() -> None:
    sender: Any = RecordingSender()
    report_capture_times(sender, lambda: 250_000_000)
    await sender._send_rtcp([report(100 * NTP_SECOND)])
    assert sender.sent[0].sender_info.ntp_timestamp == 100 * NTP_SECOND - NTP_SECOND // 4


async def test_what_aiortc_remembers_of_the_report_matches_it() -> None:
    sender: Any = RecordingSender()
    report_capture_times(sender, lambda: 250_000_000)
    await sender._send_rtcp([report(100 * NTP_SECOND)])
    expected = (sender.sent[0].sender_info.ntp_timestamp >> 16) & 0xFFFFFFFF
    assert getattr(sender, "_RTCRtpSender__lsr") == expected  # noqa: B009


async def test_a_report_before_the_first_packet_stays_at_zero_and_can_be_packed() -> None:
    sender: Any = RecordingSender()
    report_capture_times(sender, lambda: 250_000_000)
    await sender._send_rtcp([report(0)])
    assert sender.sent[0].sender_info.ntp_timestamp == 0
    assert bytes(sender.sent[0])
