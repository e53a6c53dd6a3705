"""How long pictures wait for each other, by scripted arrivals."""

from __future__ import annotations

import pytest

from engine.batch_policy import BatchPolicy, Waiting
from engine.clock import NS_PER_MS

MS = NS_PER_MS
PERIOD = 40 * MS


def policy(run_ms: dict[int, float], phases_ms: dict[str, float], largest: int = 32) -> BatchPolicy:
    """Five periods in which every session asked in its phase, and runs that took so long."""
    learnt = BatchPolicy(largest)
    for pictures, duration_ms in run_ms.items():
        for _ in range(4):
            learnt.note_run(pictures, round(duration_ms * MS))
    for index in range(5):
        for session, phase_ms in phases_ms.items():
            learnt.note_request(session, round(index * PERIOD + phase_ms * MS))
    return learnt


def asks(session: str, deadline_ms: float) -> Waiting:
    """A request whose deadline lies so far into the sixth period."""
    return Waiting(session=session, deadline_ns=round(5 * PERIOD + deadline_ms * MS))


def test_a_lone_session_never_waits() -> None:
    lone = policy({1: 35}, {"a": 0})
    assert lone.start_ns([asks("a", 40)], 5 * PERIOD) <= 5 * PERIOD


def test_nothing_is_waited_for_before_anything_was_measured() -> None:
    fresh = BatchPolicy(8)
    fresh.note_request("a", 0)
    fresh.note_request("b", 0)
    assert fresh.start_ns([Waiting(session="a", deadline_ns=PERIOD)], 0) <= 0


def test_a_device_with_time_for_all_singly_makes_nobody_wait() -> None:
    two = policy({1: 10, 2: 12}, {"a": 0, "b": 6})
    assert two.start_ns([asks("a", 40)], 5 * PERIOD) <= 5 * PERIOD


def test_a_busy_device_waits_for_who_is_about_to_come() -> None:
    busy = policy({1: 16, 2: 18}, {"a": 0, "b": 6})
    start_ns = busy.start_ns([asks("a", 40)], 5 * PERIOD)
    assert start_ns == 5 * PERIOD + 10 * MS  # foreseen at 6 ms, with 4 ms of grace


def test_when_all_are_there_the_batch_begins() -> None:
    busy = policy({1: 16, 2: 18}, {"a": 0, "b": 6})
    now_ns = 5 * PERIOD + 6 * MS
    busy.note_request("b", now_ns)
    assert busy.start_ns([asks("a", 40), asks("b", 46)], now_ns) <= now_ns


def test_a_batch_begins_so_early_that_it_is_done_by_the_earliest_deadline() -> None:
    busy = policy({1: 12, 2: 18, 4: 24}, {"a": 0, "b": 8, "c": 13})
    waiting = [asks("a", 40), asks("b", 38)]
    # c is foreseen at 13 ms, with grace 17; three pictures take as long as four, and 38 - 24 is sooner
    assert busy.start_ns(waiting, 5 * PERIOD + 9 * MS) == 5 * PERIOD + 14 * MS


def test_who_would_come_too_late_for_the_deadline_is_not_waited_for() -> None:
    busy = policy({1: 16, 2: 18}, {"a": 0, "b": 30})
    assert busy.start_ns([asks("a", 40)], 5 * PERIOD) <= 5 * PERIOD


def test_a_picture_that_is_late_already_begins_at_once() -> None:
    busy = policy({1: 16, 2: 18}, {"a": 0, "b": 6})
    assert busy.start_ns([asks("a", 15)], 5 * PERIOD) <= 5 * PERIOD


def test_who_stays_away_is_waited_for_no_longer_than_the_grace() -> None:
    busy = policy({1: 16, 2: 18}, {"a": 0, "b": 6})
    now_ns = 5 * PERIOD + 11 * MS
    assert busy.start_ns([asks("a", 40)], now_ns) <= now_ns


def test_a_full_batch_begins_at_once() -> None:
    busy = policy({1: 16, 2: 18}, {"a": 0, "b": 1, "c": 6}, largest=2)
    now_ns = 5 * PERIOD + MS
    assert busy.start_ns([asks("a", 40), asks("b", 41)], now_ns) <= now_ns


def test_a_session_that_left_is_forgotten() -> None:
    busy = policy({1: 16, 2: 18}, {"a": 0, "b": 6})
    busy.forget("b")
    assert busy.start_ns([asks("a", 40)], 5 * PERIOD) <= 5 * PERIOD


@pytest.mark.parametrize(("pictures", "expected_ms"), [(1, 10), (2, 14), (3, 20), (4, 20), (8, 40)])
def test_the_time_of_sizes_not_yet_run_is_that_of_the_next_known(pictures: int, expected_ms: int) -> None:
    assert policy({1: 10, 2: 14, 4: 20}, {}).run_time_ns(pictures) == expected_ms * MS


def test_the_first_run_of_a_size_compiles_and_is_not_counted() -> None:
    fresh = BatchPolicy(8)
    for duration_ms in (900, 10, 12):
        fresh.note_run(1, duration_ms * MS)
    assert fresh.run_time_ns(1) == 12 * MS
