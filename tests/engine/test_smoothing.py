import numpy as np

from engine.clock import NS_PER_S
from engine.smoothing import GAP_NS, OneEuroFilter

FRAME_NS = NS_PER_S // 25


def filtered(values: np.ndarray) -> np.ndarray:
    steady = OneEuroFilter()
    return np.stack([steady.update(value, (i + 1) * FRAME_NS) for i, value in enumerate(values)])


def test_the_tremble_of_a_still_head_is_taken_out() -> None:
    tremble = np.random.default_rng(0).normal(0, 0.1, (200, 3)).astype(np.float32)
    assert filtered(tremble)[20:].std() < 0.55 * tremble.std()


def test_a_turning_head_is_not_left_behind() -> None:
    turn = np.repeat(np.linspace(0, 4, 25, dtype=np.float32)[:, None], 2, 1)
    lag = (turn - filtered(turn))[-1] / (turn[-1] - turn[-2])
    assert (lag < 2.0).all(), lag


def test_after_a_gap_the_new_value_counts_at_once() -> None:
    steady = OneEuroFilter()
    steady.update(np.zeros(2, np.float32), FRAME_NS)
    value = steady.update(np.ones(2, np.float32), FRAME_NS + GAP_NS)
    np.testing.assert_array_equal(value, 1)


def test_a_constant_stays_what_it_is() -> None:
    constant = np.full((30, 2), 0.7, np.float32)
    np.testing.assert_allclose(filtered(constant), constant, rtol=1e-6)
