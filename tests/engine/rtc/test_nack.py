import pytest

from engine.rtc.nack import MAX_GIVE_UP_MS, MAX_MISSING, NackSchedule
from tests.engine.rtc.scripted import Clock


def schedule(clock: Clock) -> NackSchedule:
    return NackSchedule(give_up_ms=150, now_ms=clock)


def test_a_new_gap_is_asked_for_at_once() -> None:
    clock = Clock()
    nack = schedule(clock)
    nack.add(5)
    assert nack.due_at_ms is None
    nack.add(8)
    assert nack.due_at_ms == clock.now
    assert nack.take_due() == [6, 7]
    assert nack.take_due() == []


def test_what_does_not_come_is_asked_for_again_until_it_is_given_up() -> None:
    clock = Clock(0)
    nack = schedule(clock)
    nack.add(0)
    nack.add(2)
    asked: list[float] = []
    while (due_ms := nack.due_at_ms) is not None and len(asked) < 100:
        clock.now = max(clock.now, due_ms)
        asked += [clock.now] * bool(nack.take_due())
    assert asked == [15.0 * i for i in range(11)]  # 0, 15, ..., 150


def test_a_packet_that_came_after_all_is_not_asked_for_again() -> None:
    clock = Clock()
    nack = schedule(clock)
    for sequence in (0, 2, 1):
        nack.add(sequence)
    clock.now += 100
    nack.add(3)
    assert nack.due_at_ms is None
    assert nack.take_due() == []


def test_gaps_are_seen_across_the_wrap_and_mended_there() -> None:
    nack = schedule(Clock())
    nack.add(65534)
    nack.add(1)
    assert nack.take_due() == [65535, 0]
    nack.add(0)
    nack.add(65535)
    assert nack.due_at_ms is None


def test_numbers_go_on_wrapping() -> None:
    nack = schedule(Clock())
    for sequence in range(65536):
        nack.add(sequence % 65536)
    nack.add(2)
    assert nack.take_due() == [0, 1]


def test_a_huge_gap_asks_for_a_bounded_number() -> None:
    nack = schedule(Clock())
    nack.add(0)
    nack.add(20000)
    assert len(nack.take_due()) <= MAX_MISSING


def test_a_long_way_is_learned_and_given_more_time() -> None:
    clock = Clock(0)
    nack = schedule(clock)
    for index in range(40):
        nack.add(3 * index)
        nack.add(3 * index + 2)
        nack.take_due()
        clock.now += 110
        nack.add(3 * index + 1)
    assert nack.retry_ms == pytest.approx(1.3 * 110, rel=0.01)
    assert 150 < nack.give_up_ms <= MAX_GIVE_UP_MS


def test_an_answer_to_the_second_request_says_nothing_of_the_way() -> None:
    clock = Clock(0)
    nack = schedule(clock)
    nack.add(0)
    nack.add(2)
    nack.take_due()
    clock.now = 20
    assert nack.take_due() == [1]
    clock.now = 21
    nack.add(1)
    assert nack.retry_ms == 15
