import numpy as np
import pytest

from training.synthetic.performance import (
    EXPRESSIONS,
    expression_vector,
    random_expression,
    random_mouth,
    random_pose,
    weight_vector,
)


def test_random_draws_follow_their_seed_and_stay_in_range() -> None:
    def draw() -> list[np.ndarray]:
        rng = np.random.default_rng(3)
        return [f(rng) for _ in range(20) for f in (random_pose, random_expression, random_mouth)]

    first, second = draw(), draw()
    assert all(np.array_equal(a, b) for a, b in zip(first, second, strict=True))
    weights = np.stack([v for v in first if len(v) == 52])
    assert weights.min() >= 0 and weights.max() <= 1


def test_unknown_coefficient_is_refused() -> None:
    with pytest.raises(ValueError, match="smile"):
        weight_vector({"smile": 1.0})


def test_every_expression_moves_the_face_and_leaves_most_of_the_mouth_to_speech() -> None:
    for name in EXPRESSIONS:
        if name != "neutral":
            assert expression_vector(name).max() > 0.2
    assert expression_vector("surprised").max() == 1
    assert expression_vector("neutral").max() == 0
