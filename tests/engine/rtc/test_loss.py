"""Five per cent of the packets lost in both directions, for a minute: our receiver, and aiortc's own."""

import numpy as np
import pytest

from tests.engine.rtc.virtual_line import Shown, transmitted

LOSSY_S = (10.0, 70.0)
STRETCHES_S = (10.0, 60.0, 15.0)


def video(delay_ms: float, frame_packets: int, *, is_ours: bool, seed: int = 0) -> list[Shown]:
    shown = transmitted(
        "video",
        is_ours=is_ours,
        delay_ms=delay_ms,
        seed=seed,
        stretches_s=STRETCHES_S,
        frame_packets=frame_packets,
    )
    return [frame for frame in shown if LOSSY_S[0] <= frame.at_s < LOSSY_S[1]]


def longest_freeze_ms(shown: list[Shown]) -> float:
    return float(np.diff([frame.at_s for frame in shown]).max() * 1000)


def p99_ms(shown: list[Shown]) -> float:
    return float(np.percentile([frame.latency_ms for frame in shown], 99))


@pytest.mark.parametrize(("frame_packets", "seed"), [(1, 0), (2, 1), (6, 2)])
def test_no_freeze_of_the_picture_lasts_300_ms_on_a_short_way(frame_packets: int, seed: int) -> None:
    shown = video(0, frame_packets, is_ours=True, seed=seed)
    assert longest_freeze_ms(shown) <= 160
    assert len(shown) > 0.99 * 60 * 25
    assert p99_ms(shown) < 80


def test_on_a_long_way_late_pictures_come_when_the_second_request_is_answered() -> None:
    shown = video(50, 6, is_ours=True)
    assert longest_freeze_ms(shown) <= 300
    assert p99_ms(shown) < 300


@pytest.mark.parametrize("delay_ms", [0, 50])
def test_where_a_picture_is_one_packet_the_worst_are_four_times_sooner_than_with_aiortc_alone(
    delay_ms: float,
) -> None:
    ours, stock = video(delay_ms, 1, is_ours=True), video(delay_ms, 1, is_ours=False)
    assert 4 * p99_ms(ours) <= p99_ms(stock)
    assert 4 * longest_freeze_ms(ours) <= longest_freeze_ms(stock)


def sound(seed: int, *, is_ours: bool) -> tuple[list[Shown], float, float]:
    """(all that was heard, median latency before the losses, and from two seconds after them)."""
    heard = transmitted("audio", is_ours=is_ours, delay_ms=0, seed=seed, stretches_s=STRETCHES_S)
    before = [chunk.latency_ms for chunk in heard if 5 <= chunk.media_s < LOSSY_S[0]]
    after = [chunk.latency_ms for chunk in heard if LOSSY_S[1] + 2 <= chunk.media_s]
    return heard, float(np.median(before)), float(np.median(after))


@pytest.mark.parametrize("seed", range(2))
def test_losses_leave_no_delay_in_the_sound(seed: int) -> None:
    heard, before_ms, after_ms = sound(seed, is_ours=True)
    assert after_ms - before_ms <= 5
    lossy = [chunk for chunk in heard if LOSSY_S[0] <= chunk.at_s < LOSSY_S[1]]
    assert p99_ms(lossy) < 60


def test_every_moment_of_sound_is_heard_or_made_up() -> None:
    heard, _, _ = sound(2, is_ours=True)
    places = [round(chunk.media_s / 0.02) for chunk in heard]
    assert places == sorted(set(places))
    assert len(places) == places[-1] + 1
    assert 0.03 < sum(chunk.is_lost for chunk in heard) / 3000 < 0.07


def test_aiortc_alone_keeps_the_delay_that_losses_brought() -> None:
    """What the comparison is worth: the line shows the fault that it is known for."""
    _, before_ms, after_ms = sound(0, is_ours=False)
    assert before_ms == pytest.approx(80, abs=5)
    assert after_ms - before_ms > 60
