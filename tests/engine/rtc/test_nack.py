from dataclasses import dataclass

from engine.rtc.nack import NackSchedule


@dataclass
class Packet:
    sequence_number: int


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def schedule(clock: Clock) -> NackSchedule:
    return NackSchedule(retry_ms=30, give_up_ms=150, now_ms=clock)


def test_a_new_gap_is_asked_for_at_once() -> None:
    nack = schedule(Clock())
    assert not nack.add(Packet(5))
    assert nack.add(Packet(8))
    assert nack.missing == [6, 7]


def test_what_does_not_come_is_asked_for_again_every_30_ms_until_it_is_given_up() -> None:
    clock = Clock()
    nack = schedule(clock)
    nack.add(Packet(0))
    asked = []
    for sequence in range(2, 42):
        if nack.add(Packet(sequence)):
            asked.append(clock.now - 1000)
        clock.now += 10
    assert asked == [0, 30, 60, 90, 120, 150]
    assert nack.missing == []


def test_a_packet_that_came_after_all_is_not_asked_for_again() -> None:
    clock = Clock()
    nack = schedule(clock)
    for sequence in (0, 2, 1):
        nack.add(Packet(sequence))
    clock.now += 100
    assert not nack.add(Packet(3))
    assert nack.missing == []


def test_gaps_are_seen_across_the_wrap() -> None:
    nack = schedule(Clock())
    nack.add(Packet(65534))
    assert nack.add(Packet(1))
    assert nack.missing == [65535, 0]


def test_a_huge_gap_asks_for_a_bounded_number() -> None:
    nack = schedule(Clock())
    nack.add(Packet(0))
    nack.add(Packet(20000))
    assert len(nack.missing) < 128
