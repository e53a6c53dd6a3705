import random
from collections.abc import Callable, Iterable

import pytest

from engine.rtc.playout import MAX_CONCEALED, MAX_DELAY_MS, MIN_DELAY_MS, Due, PlayoutBuffer, PlayoutDelay
from tests.engine.rtc.scripted import Clock, Packet

Released = tuple[float, Due]
"""(when, what)"""


def played(
    arrivals: Iterable[tuple[float, int]], first_sequence: int = 0
) -> tuple[list[Released], PlayoutBuffer]:
    """Run a buffer over packets of 20 ms given as (arrival in ms, index), served by an exact timer."""
    clock = Clock(0)
    buffer = PlayoutBuffer(clock)
    released: list[Released] = []

    def serve(until_ms: float) -> None:
        while (due_ms := buffer.due_at_ms) is not None and due_ms <= until_ms:
            clock.now = max(clock.now, due_ms)
            released.extend((clock.now, due) for due in buffer.take_due())

    for arrival_ms, index in sorted(arrivals):
        serve(arrival_ms)
        clock.now = arrival_ms
        buffer.add(Packet((first_sequence + index) % 65536), index * 20.0)
    serve(clock.now + 1000)
    return released, buffer


def delays_ms(released: list[Released]) -> list[float]:
    """How long after its media time each was released."""
    return [now_ms - due.media_ms for now_ms, due in released]


def steady(count: int, way_ms: Callable[[int], float]) -> list[tuple[float, int]]:
    return [(20.0 * index + way_ms(index), index) for index in range(count)]


def test_the_buffer_starts_at_40_ms_and_shrinks_on_a_calm_way() -> None:
    released, _ = played(steady(300, lambda _: 5.0))
    delays = delays_ms(released)
    assert delays[0] == pytest.approx(45.0)
    assert delays[-1] == pytest.approx(5.0 + MIN_DELAY_MS)
    assert all(
        -2.0 - 1e-6 <= after - before <= 1e-6 for before, after in zip(delays, delays[1:], strict=False)
    )


def test_the_buffer_grows_at_once_with_jitter_and_comes_down_again() -> None:
    rng = random.Random(0)
    arrivals = steady(1200, lambda i: 5.0 + (rng.uniform(0, 80) if 300 <= i < 600 else rng.uniform(0, 4)))
    delays = delays_ms(played(arrivals)[0])
    assert delays[299] < 15
    assert 60 < delays[420] < 95
    assert delays[-1] < 15


def test_most_packets_are_released_at_even_times_in_spite_of_jitter() -> None:
    rng = random.Random(1)
    arrivals, newest_ms = [], 0.0
    for index in range(1000):  # a queue: nothing overtakes
        newest_ms = max(newest_ms, 20.0 * index + 5 + rng.uniform(0, 30))
        arrivals.append((newest_ms, index))
    released, buffer = played(arrivals)
    delays = delays_ms(released[200:])
    late = sum(delay > 5 + 32 for delay in delays)
    assert late < 0.06 * len(delays)
    assert buffer.concealed == 0


def test_a_lost_packet_is_reported_when_it_is_due_and_delays_nothing() -> None:
    lost = {100, 150, 151}
    released, buffer = played([a for a in steady(300, lambda _: 5.0) if a[1] not in lost])
    assert [round(due.media_ms / 20) for _, due in released] == list(range(300))
    assert {round(due.media_ms / 20) for _, due in released if due.packet is None} == lost
    delays = delays_ms(released)
    assert delays[100] == pytest.approx(25.0)  # nothing proves a loss before a later packet is there
    assert max(delays[90:150] + delays[151:]) <= 25 + 1e-6
    assert delays[-1] < 10
    assert buffer.concealed == 3


def test_losses_do_not_make_the_delay_grow() -> None:
    rng = random.Random(2)
    kept = [a for a in steady(3000, lambda _: 5 + rng.uniform(0, 6)) if rng.random() > 0.05]
    released, _ = played(kept)
    assert sorted(delays_ms(released))[len(released) // 2] < 15
    assert delays_ms(released)[-1] < 15


def test_a_burst_after_a_stall_is_passed_on_at_once_and_leaves_no_delay() -> None:
    def way_ms(index: int) -> float:
        return 5.0 + (max(0.0, 500.0 - 20.0 * (index - 200)) if 200 <= index < 225 else 0.0)

    released, buffer = played(steady(600, way_ms))
    assert buffer.concealed == 0
    assert len(released) == 600
    after_ms = [
        delay for (_, due), delay in zip(released, delays_ms(released), strict=True) if due.media_ms > 7000
    ]
    assert max(after_ms) <= 5 + MAX_DELAY_MS
    assert delays_ms(released)[-1] < 10


def test_packets_out_of_order_come_out_in_order() -> None:
    arrivals = steady(200, lambda i: 5.0 + (25.0 if i % 10 == 3 else 0.0))
    released, buffer = played(arrivals)
    assert [round(due.media_ms / 20) for _, due in released] == list(range(200))
    assert buffer.late + sum(due.packet is not None for _, due in released) == 200


def test_sequence_numbers_may_wrap() -> None:
    released, buffer = played(steady(200, lambda _: 5.0), first_sequence=65500)
    assert len(released) == 200
    assert buffer.concealed == 0


def test_a_long_outage_is_concealed_for_a_while_and_then_left_a_gap() -> None:
    released, buffer = played([a for a in steady(200, lambda _: 5.0) if not 100 <= a[1] < 120])
    assert buffer.concealed == MAX_CONCEALED
    assert released[-1][1].media_ms == 199 * 20
    assert delays_ms(released)[-1] < 10


def test_a_sender_that_pauses_without_loss_is_not_concealed() -> None:
    clock = Clock(0)
    buffer = PlayoutBuffer(clock)
    for sequence, media_ms in enumerate((0.0, 20.0, 40.0, 840.0, 860.0)):
        clock.now = media_ms + 5
        buffer.add(Packet(sequence), media_ms)
        clock.now += 50
        buffer.take_due()
    assert buffer.concealed == 0
    assert buffer.due_at_ms is None


def test_a_sender_that_sets_its_clock_anew_is_followed() -> None:
    clock = Clock(0)
    buffer = PlayoutBuffer(clock)
    for index in range(100):
        clock.now = 20.0 * index
        buffer.add(Packet(index), 20.0 * index + (1e6 if index >= 50 else 0))
        buffer.take_due()
    clock.now += 60
    assert [due.media_ms for due in buffer.take_due()][-1] == 1e6 + 99 * 20
    assert buffer.due_at_ms is None


def test_what_is_held_is_bounded_where_nothing_is_taken() -> None:
    clock = Clock(0)
    buffer = PlayoutBuffer(clock)
    for index in range(500):
        clock.now = 20.0 * index
        buffer.add(Packet(index), 20.0 * index)
    assert len(buffer._held) <= 50


def test_a_slow_sender_clock_is_followed() -> None:
    delay = PlayoutDelay()
    for index in range(30_000):  # ten minutes, 300 ppm
        delay.note(20.0 * index, 20.0 * index * 1.0003)
    newest_ms = 20.0 * 29_999
    assert delay.total_ms - newest_ms * 0.0003 == pytest.approx(MIN_DELAY_MS, abs=2)
