import numpy as np
import pytest

from gcavt.preprocessing import head_angles
from training.metrics.follow import READINGS, correlations


def readings(frames: int = 100) -> np.ndarray:
    return np.random.default_rng(0).normal(0, 5, (frames, len(READINGS))).astype(np.float32)


def test_an_avatar_that_does_the_same_correlates_fully() -> None:
    driver = readings()
    np.testing.assert_allclose(correlations(driver, 0.5 * driver + 3), 1, atol=1e-5)


def test_an_avatar_that_mirrors_correlates_negatively() -> None:
    driver = readings()
    assert correlations(driver, -driver)[1] == pytest.approx(-1)


def test_what_the_driver_keeps_still_is_not_scored() -> None:
    driver = readings()
    driver[:, READINGS.index("yaw")] = 0.1
    assert np.isnan(correlations(driver, readings())[READINGS.index("yaw")])


def test_frames_without_a_face_are_left_out() -> None:
    driver, avatar = readings(), readings()
    avatar[10:20] = np.nan
    driver[15:30] = np.nan
    np.testing.assert_allclose(correlations(driver, avatar), 1, atol=1e-5)


def test_head_angles_invert_the_rotation() -> None:
    from training.synthetic.renderer import rotation_matrix

    np.testing.assert_allclose(head_angles(rotation_matrix(12.0, -25.0, 7.0)), [12, -25, 7], atol=1e-3)
