import numpy as np
import pytest
from scipy.ndimage import gaussian_filter1d

from training.metrics.sync import correlation_at_lags, sync_of


def speech(frames: int = 120, seed: int = 0) -> np.ndarray:
    noise = np.random.default_rng(seed).normal(0, 1, (frames, 8))
    return np.asarray(gaussian_filter1d(noise, 1.5, axis=0), np.float32)


@pytest.mark.parametrize("late", [-10, -3, 0, 1, 7])
def test_a_mouth_moved_in_time_is_found_there(late: int) -> None:
    heard = speech()
    seen = np.asarray(0.4 * np.roll(heard, late, axis=0) + 0.1 * speech(seed=1) + 5, np.float32)
    found = sync_of(correlation_at_lags(heard, seen))
    assert found.offset_frames == late
    assert found.confidence > 0.6
    assert found.correlation > 0.9


def test_a_mouth_that_says_something_else_has_little_confidence() -> None:
    unrelated = [sync_of(correlation_at_lags(speech(seed=2 * i), speech(seed=2 * i + 1))) for i in range(8)]
    assert np.mean([found.confidence for found in unrelated]) < 0.35


def test_a_still_mouth_has_none() -> None:
    found = sync_of(correlation_at_lags(speech(), np.ones((120, 8), np.float32)))
    assert found.confidence == 0


def test_the_mean_over_clips_is_surer_of_the_common_offset() -> None:
    curves = [
        correlation_at_lags(speech(seed=i), np.roll(speech(seed=i), 2, 0) + speech(seed=50 + i))
        for i in range(6)
    ]
    assert sync_of(np.mean(curves, 0)).offset_frames == 2


def test_too_short_a_clip_is_refused() -> None:
    with pytest.raises(ValueError, match="needs 40 frames, got 39"):
        correlation_at_lags(speech(39), speech(39))
