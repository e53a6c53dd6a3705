from engine.rtc.rtp_time import RtpTimeline, unwrapped


def test_a_number_is_continued_to_the_nearest() -> None:
    assert unwrapped(3, 65534, 65536) == 65539
    assert unwrapped(65533, 65539, 65536) == 65533
    assert unwrapped(7, 10 * 65536 + 5, 65536) == 10 * 65536 + 7


def test_time_stamps_run_on_across_the_wrap() -> None:
    timeline = RtpTimeline(90_000)
    start = 2**32 - 3600
    assert [timeline.ticks((start + 3600 * i) % 2**32) for i in range(4)] == [0, 3600, 7200, 10800]


def test_a_step_back_is_no_wrap() -> None:
    timeline = RtpTimeline(48_000)
    assert [timeline.ticks(t) for t in (5000, 5960, 5480, 4040, 6920)] == [0, 960, 480, -960, 1920]


def test_ticks_become_nanoseconds() -> None:
    timeline = RtpTimeline(90_000)
    timeline.ticks(12345)
    assert timeline.media_time_ns(12345 + 3600) == 40_000_000
