import random

import pytest

from engine.rtc.capture_clock import CaptureClock, QuickestWay, ns_from_ntp
from tests.engine.rtc.scripted import MS

SECOND = 1000 * MS


def test_capture_times_follow_the_quickest_arrivals() -> None:
    rng = random.Random(1)
    clock = CaptureClock(QuickestWay())
    errors = []
    for index in range(500):
        media_ns = index * 40 * MS
        way_ns = 5 * MS if index % 10 == 0 else rng.randint(5 * MS, 60 * MS)
        clock.note_arrival(media_ns, 7_000 * MS + media_ns + way_ns)
        errors.append(clock.capture_time_ns(media_ns) - (7_000 * MS + media_ns))
    assert all(4 * MS <= error <= 7 * MS for error in errors[20:])


def test_a_sender_whose_clock_is_slow_is_followed() -> None:
    clock = CaptureClock(QuickestWay())
    for index in range(25 * 600):
        media_ns = index * 40 * MS
        arrival_ns = round(media_ns * 1.0003)
        clock.note_arrival(media_ns, arrival_ns)
    assert arrival_ns - clock.capture_time_ns(media_ns) < MS


def test_capture_is_never_later_than_arrival() -> None:
    clock = CaptureClock(QuickestWay())
    for media_ns, arrival_ns in ((0, 500 * MS), (40 * MS, 510 * MS)):
        clock.note_arrival(media_ns, arrival_ns)
        assert clock.capture_time_ns(media_ns) <= arrival_ns


def test_a_jump_of_the_media_time_starts_afresh() -> None:
    clock = CaptureClock(QuickestWay())
    clock.note_arrival(0, 1_000 * MS)
    clock.note_arrival(60_000 * MS, 1_040 * MS)
    assert clock.capture_time_ns(60_000 * MS) == 1_040 * MS


def test_before_anything_has_arrived_there_is_no_capture_time() -> None:
    with pytest.raises(ValueError, match="nothing has arrived"):
        CaptureClock(QuickestWay()).capture_time_ns(0)


@pytest.mark.parametrize("has_reports", [False, True])
def test_reports_line_up_two_tracks_that_take_different_ways(has_reports: bool) -> None:
    """Sound comes after 5 ms, pictures after 65 ms, and their time stamps start anywhere."""
    way = QuickestWay()
    sound, picture = CaptureClock(way), CaptureClock(way)
    wall_of_sound_ns, wall_of_picture_ns = 5_000 * SECOND, 5_000 * SECOND + 300 * MS
    if has_reports:
        sound.note_report(wall_of_sound_ns, 0)
        picture.note_report(wall_of_picture_ns, 0)
    here_from_wall_ns = -4_000 * SECOND
    for index in range(100):
        media_ns = index * 40 * MS
        sound.note_arrival(media_ns, wall_of_sound_ns + media_ns + here_from_wall_ns + 5 * MS)
        picture.note_arrival(media_ns, wall_of_picture_ns + media_ns + here_from_wall_ns + 65 * MS)
    offset_ns = picture.capture_time_ns(0) - sound.capture_time_ns(0)
    assert offset_ns == pytest.approx((300 if has_reports else 360) * MS, abs=6 * MS)


def test_a_report_that_cannot_be_true_is_not_believed() -> None:
    way = QuickestWay()
    sound, picture = CaptureClock(way), CaptureClock(way)
    sound.note_report(5_000 * SECOND, 0)
    picture.note_report(5_001 * SECOND, 0)  # one second off
    for index in range(50):
        media_ns = index * 40 * MS
        sound.note_arrival(media_ns, 100 * SECOND + media_ns)
        picture.note_arrival(media_ns, 100 * SECOND + media_ns)
    assert sound.capture_time_ns(0) == pytest.approx(100 * SECOND, abs=5 * MS)
    assert picture.capture_time_ns(0) == pytest.approx(100 * SECOND, abs=5 * MS)


def test_ntp_time_becomes_nanoseconds() -> None:
    assert ns_from_ntp((100 << 32) + (1 << 31)) == 100_500_000_000
