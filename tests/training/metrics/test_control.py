import numpy as np
import pytest

from training.metrics.control import Leak, drift, excess, follow, leak, mean_leak

RNG = np.random.default_rng(0)
TRUE, NUISANCE, NOISE = RNG.normal(0, 10, (3, 4000)).astype(np.float32)


def test_half_the_true_change_is_a_response_of_one_half_in_the_right_direction() -> None:
    half = follow(0.5 * TRUE, TRUE)
    assert half is not None
    assert (half.response, half.cosine, half.size) == pytest.approx((0.5, 1.0, 0.5))


def test_what_moves_wrongly_lowers_the_cosine_and_not_the_response() -> None:
    noisy = follow(TRUE + NOISE, TRUE)
    assert noisy is not None
    assert noisy.response == pytest.approx(1, abs=0.05)
    assert noisy.cosine == pytest.approx(np.sqrt(0.5), abs=0.03)
    assert noisy.size > 1.3


def test_a_true_change_too_small_to_see_is_not_scored() -> None:
    assert follow(TRUE, 0.1 * TRUE) is None


def test_changes_of_different_shape_are_refused() -> None:
    with pytest.raises(ValueError, match="one shape"):
        follow(TRUE, TRUE[:10])


def test_a_constructed_leak_is_found_whatever_the_response() -> None:
    for response in (0.3, 1.0, 1.4):
        error = (response - 1) * TRUE + 0.2 * NUISANCE + 0.1 * NOISE
        after = drift(error, TRUE, NUISANCE)
        assert leak(0.0, after, NUISANCE).share == pytest.approx(0.2, abs=0.01)


def test_following_too_little_is_no_leak_even_where_the_nuisance_looks_alike() -> None:
    alike = 0.8 * TRUE + 0.6 * NUISANCE
    assert drift(-0.5 * TRUE, TRUE, alike) == pytest.approx(0, abs=1e-6)


def test_a_factor_shown_too_weakly_before_and_after_is_no_leak() -> None:
    weak = drift(0.3 * NUISANCE, TRUE, NUISANCE), drift(0.3 * NOISE, TRUE, NOISE)
    assert weak[0] == pytest.approx(0.3)
    assert leak(*weak, NOISE).share == pytest.approx(0, abs=1e-6)


def test_opposite_leaks_cancel_in_the_signed_mean_only() -> None:
    leaks = [Leak(share=0.3, weight=1), Leak(share=-0.3, weight=1), Leak(share=9, weight=0)]
    assert mean_leak(leaks) == pytest.approx((0.3, 0))
    assert all(np.isnan(mean_leak([])))


def test_a_reading_that_holds_has_no_excess() -> None:
    out, true, driven = (np.array(v, np.float32) for v in ([3, 1], [3, 1], [0, 10]))
    assert excess(out, true, driven) == (0, 10)
    assert excess(out + np.array([0, 2], np.float32), true, driven) == (2, 10)
