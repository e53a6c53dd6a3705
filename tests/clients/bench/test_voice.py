import numpy as np
import pytest

from clients.bench.voice import best_lag, closing


@pytest.mark.parametrize("lag_ms", [-80, 0, 40])
def test_the_lag_between_two_mouths_is_found(lag_ms: int) -> None:
    rng = np.random.default_rng(0)
    fine_ms = np.arange(0.0, 20_000.0, 4)
    gap = np.convolve(rng.standard_normal(len(fine_ms)), np.hanning(50), mode="same")
    theirs = np.arange(0.0, 19_000, 40)
    ours = np.arange(300.0, 19_500, 40)
    found, correlation = best_lag(
        (ours, np.interp(ours - lag_ms, fine_ms, gap)), (theirs, np.interp(theirs, fine_ms, gap))
    )
    assert abs(found - lag_ms) <= 4
    assert correlation > 0.95


def test_lips_are_closed_when_they_stay_so() -> None:
    shown_ms = np.arange(-1000.0, 3000, 40)
    gaps = np.where(shown_ms < 90, 0.1, 0.01)
    assert closing(gaps, shown_ms) == (120.0, 3)


def test_a_mouth_that_was_closed_already_says_nothing() -> None:
    shown_ms = np.arange(-1000.0, 3000, 40)
    assert closing(np.where(shown_ms < -200, 0.1, 0.01), shown_ms) is None
