import pytest

from clients.bench.overload import memory_growth


def test_growth_of_memory_is_from_the_first_tenth_to_the_last_and_its_pace_from_the_second_half() -> None:
    points = [(60.0 * minute, 100 + min(minute, 10) + 0.1 * max(0, minute - 10)) for minute in range(31)]
    growth = memory_growth(points)
    assert growth == {"memory_growth_mb": pytest.approx(10.9), "memory_mb_per_h": pytest.approx(6.0)}
