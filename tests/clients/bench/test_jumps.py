import numpy as np
import pytest
from numpy.typing import NDArray

from clients.bench.jumps import EYES_AND_BROWS, LIPS, largest, missing_pictures, motion, spread, within

Points = NDArray[np.float32]


def face() -> Points:
    """478 points of a face 100 pixels high."""
    points = np.random.default_rng(0).uniform(0, 100, (478, 2)).astype(np.float32)
    points[10], points[152] = (50, 0), (50, 100)
    return points


def test_a_face_that_is_moved_turned_and_scaled_moves_neither_lips_nor_brows() -> None:
    before = face()
    turn = 1.1 * np.array([[np.cos(0.3), -np.sin(0.3)], [np.sin(0.3), np.cos(0.3)]])
    head, eyes, lips = motion(before, (before @ turn.T + [7, -3]).astype(np.float32))
    assert head > 5
    assert (eyes, lips) == pytest.approx((0, 0), abs=1e-3)


def test_a_heads_way_is_in_percent_of_its_height() -> None:
    before = face()
    assert motion(before, before + np.array([3, 4], np.float32))[0] == pytest.approx(5, rel=1e-4)


@pytest.mark.parametrize(("part", "moved"), [(EYES_AND_BROWS, 1), (LIPS, 2)])
def test_each_part_is_told_apart(part: tuple[int, ...], moved: int) -> None:
    before, after = face(), face()
    after[[point for point in part if point not in (10, 152)]] += np.array([2, 0], np.float32)
    found = motion(before, after)
    assert found[moved] == pytest.approx(2, rel=0.01)
    assert found[3 - moved] == pytest.approx(0, abs=1e-3)


def test_without_a_face_nothing_is_said() -> None:
    assert np.isnan(motion(None, face())).all()


def test_periods_without_a_picture_are_counted() -> None:
    times_s = np.array([0, 0.04, 0.12, 0.161, 0.32])
    is_repeated = np.array([False, False, False, True, False])
    assert missing_pictures(times_s, is_repeated, 25).tolist() == [0, 0, 1, 1, 3]


def test_the_largest_step_is_that_which_led_to_a_picture_of_the_window() -> None:
    times_s = np.array([0.0, 0.04, 0.08, 0.12, 0.16])
    windows = within(times_s, [(0.05, 0.13)])
    assert windows[0].tolist() == [2, 3]
    assert largest(np.array([9.0, 1.0, 2.0, 8.0]), windows) == 2
    assert np.isnan(largest(np.array([1.0]), [np.array([], int)]))


def test_steps_without_a_face_are_left_out_of_what_is_natural() -> None:
    assert spread(np.array([1.0, np.nan, 3.0])) == {"p50": 2.0, "p99": 2.98, "largest": 3.0}
