import numpy as np
import pytest

from gcavt import code_space


def random_weights(count: int) -> np.ndarray:
    return np.random.default_rng(0).uniform(0, 1, (count, 52)).astype(np.float32)


def test_weights_survive_the_round_trip_through_a_code() -> None:
    weights = random_weights(5)
    restored = code_space.expression_weights(code_space.expression_code(weights))
    np.testing.assert_allclose(restored, weights, atol=1e-5)


def test_a_code_has_length_16_whatever_the_weights() -> None:
    codes = code_space.content_code(np.concatenate([random_weights(4), np.zeros((1, 52), np.float32)]))
    np.testing.assert_allclose(np.linalg.norm(codes, axis=-1), 16, rtol=1e-5)


def test_noise_outside_the_basis_does_not_reach_the_weights() -> None:
    weights = random_weights(1)
    code = code_space.content_code(weights)
    noise = np.random.default_rng(1).standard_normal(256).astype(np.float32)
    noise -= (noise @ code_space.BASIS.T) @ code_space.BASIS
    np.testing.assert_allclose(code_space.content_weights(code + noise), weights, atol=1e-4)


def test_pose_survives_the_round_trip_and_leaves_six_numbers_free() -> None:
    pose = np.array([10.0, -20.0, 5.0, 0.1, -0.05, 0.3], np.float32)
    code = code_space.pose_code(pose)
    assert code.shape == (12,)
    assert not code[6:].any()
    np.testing.assert_allclose(code_space.pose_from_code(code), pose, rtol=1e-6)


def test_the_coefficients_are_the_52_of_arkit() -> None:
    assert len(code_space.COEFFICIENTS) == 52
    assert list(code_space.COEFFICIENTS) == sorted(code_space.COEFFICIENTS)
    assert {"jawOpen", "eyeBlinkLeft", "mouthSmileRight", "tongueOut"} <= set(code_space.COEFFICIENTS)


def test_an_unknown_coefficient_is_named_in_the_error() -> None:
    with pytest.raises(ValueError, match="jawOpenn"):
        code_space.coefficient_vector(jawOpenn=1.0)


@pytest.mark.parametrize("function", [code_space.expression_code, code_space.content_code])
def test_weights_of_another_length_are_refused(function) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(ValueError, match="52"):
        function(np.zeros(51, np.float32))


def test_small_turns_are_left_alone_and_large_ones_bent_back() -> None:
    poses = np.zeros((3, 6), np.float32)
    poses[:, 1] = (15, -40, 80)
    poses[:, 4] = 0.1
    poses[2, 5] = 1.8
    reached = code_space.pose_from_code(code_space.within_reach(code_space.pose_code(poses)))
    assert reached[0, 1] == pytest.approx(15)
    assert -32 < reached[1, 1] < -22
    assert 30 < reached[2, 1] <= 32
    np.testing.assert_allclose(reached[:, 4], 0.1, rtol=1e-6)
    assert 0.2 < reached[2, 5] <= 0.45
    seen = code_space.pose_from_code(code_space.within_reach(code_space.pose_code(poses), is_right_seen=True))
    assert 39 < seen[2, 1] <= 40
    np.testing.assert_array_equal(seen[:2], reached[:2])
