import numpy as np
import pytest

from training.metrics.flicker import flicker


def film(values: list[int]) -> np.ndarray:
    return np.array(values, np.uint8)[:, None, None, None] * np.ones((1, 4, 4, 3), np.uint8)


def test_jumping_to_and_fro_by_six_reads_six() -> None:
    assert flicker(film([100, 106, 100, 106, 100])) == pytest.approx(6)


def test_a_steady_fade_and_a_still_reading_are_no_flicker() -> None:
    assert flicker(film([10, 20, 30, 40])) == 0
    assert flicker(film([7, 7, 7])) == 0


def test_two_frames_are_too_few() -> None:
    with pytest.raises(ValueError, match="three frames"):
        flicker(film([1, 2]))
