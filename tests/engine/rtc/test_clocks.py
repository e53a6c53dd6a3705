import random

import pytest
from aiortc.rtp import RtcpSenderInfo, RtcpSrPacket

from engine.rtc.capture_clock import CaptureClock
from engine.rtc.sender_reports import shift

MS = 1_000_000


def test_capture_times_follow_the_quickest_arrivals() -> None:
    rng = random.Random(1)
    clock = CaptureClock()
    errors = []
    for index in range(500):
        media_ns = index * 40 * MS
        arrival_ns = 7_000 * MS + media_ns + (5 * MS if index % 10 == 0 else rng.randint(5 * MS, 60 * MS))
        errors.append(clock.capture_time_ns(media_ns, arrival_ns) - (7_000 * MS + media_ns))
    assert all(4 * MS <= error <= 7 * MS for error in errors[20:])


def test_a_sender_whose_clock_is_slow_is_followed() -> None:
    clock = CaptureClock()
    for index in range(25 * 600):
        media_ns = index * 40 * MS
        arrival_ns = round(media_ns * 1.0003)
        capture_ns = clock.capture_time_ns(media_ns, arrival_ns)
    assert arrival_ns - capture_ns < MS


def test_capture_is_never_later_than_arrival() -> None:
    clock = CaptureClock()
    assert clock.capture_time_ns(0, 500 * MS) == 500 * MS
    assert clock.capture_time_ns(40 * MS, 510 * MS) <= 510 * MS


def test_a_jump_of_the_media_time_starts_afresh() -> None:
    clock = CaptureClock()
    clock.capture_time_ns(0, 1_000 * MS)
    assert clock.capture_time_ns(60_000 * MS, 1_040 * MS) == 1_040 * MS


def test_a_report_is_set_back_by_the_latency() -> None:
    info = RtcpSenderInfo(ntp_timestamp=100 << 32, rtp_timestamp=1, packet_count=0, octet_count=0)
    report = RtcpSrPacket(ssrc=1, sender_info=info)
    shift(report, 150 * MS)
    assert (100 << 32) - info.ntp_timestamp == pytest.approx(0.15 * (1 << 32), rel=1e-6)
