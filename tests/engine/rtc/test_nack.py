import pytest

from engine.rtc.nack import (
    MAX_GIVE_UP_MS,
    MAX_MISSING,
    MIN_RETRY_MS,
    PATIENCE_MS,
    PATIENT_FOR_MS,
    NackSchedule,
)
from tests.engine.rtc.scripted import Clock


class Schedule:
    """One whose packets are frames of their own, if nothing else is said."""

    def __init__(self, clock: Clock) -> None:
        self.nack = NackSchedule(give_up_ms=150, now_ms=clock)
        self._clock = clock

    def add(self, sequence_number: int, *, ends_frame: bool = True) -> None:
        self.nack.add(sequence_number, ends_frame=ends_frame)

    def requests(self, until_ms: float) -> list[tuple[float, list[int]]]:
        """(when, what) of all that is asked for until then, each as soon as it is due."""
        asked = []
        while (due_ms := self.nack.due_at_ms) is not None and due_ms <= until_ms:
            self._clock.now = max(self._clock.now, due_ms)
            if wanted := self.nack.take_due():
                asked.append((self._clock.now, wanted))
        self._clock.now = max(self._clock.now, until_ms)
        return asked


def schedule(clock: Clock) -> Schedule:
    return Schedule(clock)


def test_a_new_gap_is_asked_for_at_once() -> None:
    clock = Clock()
    nack = schedule(clock)
    nack.add(5)
    assert nack.nack.due_at_ms is None
    nack.add(8)
    assert nack.nack.due_at_ms == clock.now
    assert nack.nack.take_due() == [6, 7]
    assert nack.nack.take_due() == []


def test_what_does_not_come_is_asked_for_again_until_it_is_given_up() -> None:
    clock = Clock(0)
    nack = schedule(clock)
    nack.add(0)
    nack.add(2)
    assert [now_ms for now_ms, _ in nack.requests(1_000)] == [15.0 * i for i in range(11)]  # until 150


def test_a_packet_that_came_after_all_is_not_asked_for_again() -> None:
    clock = Clock()
    nack = schedule(clock)
    for sequence in (0, 2, 1):
        nack.add(sequence)
    clock.now += 100
    nack.add(3)
    assert nack.nack.due_at_ms is None
    assert nack.nack.take_due() == []


def test_gaps_are_seen_across_the_wrap_and_mended_there() -> None:
    nack = schedule(Clock())
    nack.add(65534)
    nack.add(1)
    assert nack.nack.take_due() == [65535, 0]
    nack.add(0)
    nack.add(65535)
    assert nack.nack.due_at_ms is None


def test_numbers_go_on_wrapping() -> None:
    nack = schedule(Clock())
    for sequence in range(65536):
        nack.add(sequence % 65536)
    nack.add(2)
    assert nack.nack.take_due() == [0, 1]


def test_a_huge_gap_asks_for_a_bounded_number() -> None:
    nack = schedule(Clock())
    nack.add(0)
    nack.add(20000)
    assert len(nack.nack.take_due()) <= MAX_MISSING


def test_a_long_way_is_learned_and_given_more_time() -> None:
    clock = Clock(0)
    nack = schedule(clock)
    for index in range(40):
        nack.add(3 * index)
        nack.add(3 * index + 2)
        nack.nack.take_due()
        clock.now += 110
        nack.add(3 * index + 1)
    assert nack.nack.round_trip_ms == pytest.approx(110, rel=0.01)
    assert 150 < nack.nack.give_up_ms <= MAX_GIVE_UP_MS


def test_over_a_long_way_the_second_request_comes_before_the_first_can_be_answered() -> None:
    clock = Clock(0)
    nack = schedule(clock)
    nack.add(0)
    nack.add(2)
    nack.nack.take_due()
    clock.now = 100
    nack.add(1)
    nack.add(4)
    assert [now_ms for now_ms, _ in nack.requests(230)] == [100, 115, 165, 215]


def test_over_a_short_way_requests_are_not_repeated_faster_than_every_few_milliseconds() -> None:
    clock = Clock(0)
    nack = schedule(clock)
    nack.add(0)
    nack.add(2)
    nack.nack.take_due()
    clock.now = 1
    nack.add(1)
    assert nack.nack.retry_ms == MIN_RETRY_MS


def test_the_round_trip_is_counted_from_the_first_request() -> None:
    """Else no way longer than the time between requests could ever be learned."""
    clock = Clock(0)
    nack = schedule(clock)
    nack.add(0)
    nack.add(2)
    assert len(nack.requests(59)) == 4
    clock.now = 60
    nack.add(1)
    assert nack.nack.round_trip_ms == 60


def test_the_lost_end_of_a_frame_is_asked_for_before_the_next_frame_comes() -> None:
    clock = Clock(0)
    nack = schedule(clock)
    nack.add(0, ends_frame=False)
    clock.now = 1
    nack.add(1, ends_frame=False)
    first, second = nack.requests(25)
    assert (first, second) == ((7.0, [2]), (22.0, [2]))
    clock.now = 26
    nack.add(2)
    assert nack.requests(1_000) == []
    assert nack.nack.round_trip_ms is None  # it might have come anyway


def test_each_packet_of_a_lost_end_is_asked_for_in_turn() -> None:
    clock = Clock(0)
    nack = schedule(clock)
    nack.add(0, ends_frame=False)
    assert nack.requests(8) == [(6.0, [1])]
    nack.add(1, ends_frame=False)
    assert nack.requests(15) == [(14.0, [2])]


def test_a_sender_that_takes_its_time_within_a_frame_is_given_it() -> None:
    clock = Clock(0)
    nack = schedule(clock)
    asked = 0
    for sequence in range(100):
        nack.add(sequence, ends_frame=False)
        asked += len(nack.requests(clock.now + 5.9)) if sequence < 50 else len(nack.requests(clock.now + 20))
    assert asked == 0


def test_a_sender_that_stops_within_a_frame_is_not_asked_for_ever() -> None:
    clock = Clock(0)
    nack = schedule(clock)
    nack.add(0, ends_frame=False)
    asked = nack.requests(60_000)
    assert {tuple(wanted) for _, wanted in asked} == {(1,)}
    assert len(asked) <= 11
    assert nack.nack.due_at_ms is None


def test_a_peer_that_sends_packets_again_by_itself_gets_the_time_to() -> None:
    clock = Clock(0)
    nack = schedule(clock)
    for sequence in (0, 0, 2):
        nack.add(sequence)
    assert nack.nack.due_at_ms == PATIENCE_MS
    clock.now = 6.0
    nack.add(1)
    assert nack.nack.due_at_ms is None
    assert nack.nack.round_trip_ms is None  # that was no answer


def test_patience_ends_a_second_after_the_last_packet_that_came_again() -> None:
    clock = Clock(0)
    nack = schedule(clock)
    for sequence in (0, 0):
        nack.add(sequence)
    clock.now = PATIENT_FOR_MS + 1
    nack.add(2)
    assert nack.nack.take_due() == [1]


def test_the_answer_to_a_request_that_was_made_twice_is_no_sign_of_such_a_peer() -> None:
    clock = Clock(0)
    nack = schedule(clock)
    for sequence in (0, 2):
        nack.add(sequence)
    assert nack.requests(20)
    for sequence in (1, 1, 4):
        nack.add(sequence)
    assert nack.nack.take_due() == [3]


def test_a_packet_that_comes_again_does_not_hide_that_its_frame_stalls() -> None:
    clock = Clock(0)
    nack = schedule(clock)
    nack.add(0, ends_frame=False)
    clock.now = 5.0
    nack.add(0, ends_frame=False)
    assert nack.requests(20)[0] == (PATIENCE_MS, [1])
