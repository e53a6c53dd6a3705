import subprocess
import sys

import numpy as np
import pytest

from training.metrics.follow import READINGS, face_readings, pooled_correlations


def readings(seed: int, frames: int = 200) -> np.ndarray:
    return np.random.default_rng(seed).normal(0, 5, (frames, len(READINGS))).astype(np.float32)


def test_people_who_differ_flatter_the_pooled_correlation_until_means_are_removed() -> None:
    pairs = [(readings(2 * i) + 40 * i, readings(2 * i + 1) + 40 * i) for i in range(3)]
    assert min(pooled_correlations(pairs, clip_means_removed=False)) > 0.9
    assert max(map(abs, pooled_correlations(pairs, clip_means_removed=True))) < 0.2


def test_a_known_correlation_is_found_across_clips_of_unequal_length() -> None:
    pairs = []
    for seed in range(4):
        driver = readings(seed, 1000)
        pairs.append((driver, (0.6 * driver + 0.8 * readings(seed + 100, 1000))[:-3]))
    np.testing.assert_allclose(pooled_correlations(pairs, clip_means_removed=True), 0.6, atol=0.05)


def test_clips_that_do_not_move_a_reading_are_left_out_of_it() -> None:
    still, moving = readings(0), readings(1)
    still[:, READINGS.index("smile")] *= 1e-4
    pairs = [(still, readings(2)), (moving, moving)]
    pooled = pooled_correlations(pairs, clip_means_removed=True, moving_only=True)
    assert pooled[READINGS.index("smile")] == pytest.approx(1)
    assert pooled[READINGS.index("yaw")] < 0.9


def test_a_lost_face_reads_as_nothing() -> None:
    assert np.isnan(face_readings(None)).all()


def test_the_shared_reader_does_not_pull_torch_into_the_clients() -> None:
    code = "import sys, training.metrics.follow; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
