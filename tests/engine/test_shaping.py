"""Gains, neutral faces and relative poses, in numbers that can be read back."""

import numpy as np
import pytest
from numpy.typing import NDArray

from engine.codes import Code
from engine.shaping import Shaping, shaped
from gcavt import code_space
from gcavt.code_space import COEFFICIENTS, coefficient_vector

Weights = NDArray[np.float32]
POSE: Code = code_space.pose_code([4, 10, -3, 0.05, 0, 0.1])
NEUTRAL: Code = code_space.pose_code([2, -5, 1, 0, 0.02, 0])
REST: Code = code_space.pose_code([-1, 3, 0, 0, 0, 0])


def pose(shaping: Shaping, *, is_exact: bool = True) -> Weights:
    return code_space.pose_from_code(shaped("pose", POSE, shaping, is_exact=is_exact))


def expression(shaping: Shaping, **weights: float) -> dict[str, float]:
    code = code_space.expression_code(coefficient_vector(**weights))
    found = code_space.expression_weights(shaped("expression", code, shaping, is_exact=True))
    return {name: round(float(found[COEFFICIENTS.index(name)]), 3) for name in weights}


def mouth(shaping: Shaping, **weights: float) -> dict[str, float]:
    code = code_space.content_code(coefficient_vector(**weights))
    found = code_space.content_weights(shaped("mouth", code, shaping, is_exact=True))
    return {name: round(float(found[COEFFICIENTS.index(name)]), 3) for name in weights}


@pytest.mark.parametrize("is_exact", [True, False])
def test_what_is_not_to_be_changed_is_the_very_same_code(is_exact: bool) -> None:
    code = code_space.content_code(coefficient_vector(jawOpen=0.4))
    assert shaped("mouth", code, Shaping(rest=code), is_exact=is_exact) is code
    assert shaped("expression", code, Shaping(), is_exact=is_exact) is code
    assert shaped("pose", POSE, Shaping(rest=REST), is_exact=is_exact) is POSE


@pytest.mark.parametrize("gain", [0, 0.5, 1.5])
def test_pose_intensity_turns_the_head_further_or_less_far(gain: float) -> None:
    assert np.allclose(pose(Shaping(gain=gain)), gain * code_space.pose_from_code(POSE), atol=1e-5)


def test_a_calibrated_head_looks_ahead_where_its_neutral_looked() -> None:
    assert np.allclose(pose(Shaping(neutral=NEUTRAL)), [2, 15, -4, 0.05, -0.02, 0.1], atol=1e-5)


def test_a_relative_pose_moves_the_avatar_about_its_own_rest() -> None:
    shaping = Shaping(gain=2, neutral=NEUTRAL, rest=REST, pose_mode="relative")
    assert np.allclose(pose(shaping), [3, 33, -8, 0.1, -0.04, 0.2], atol=1e-5)
    still = Shaping(neutral=POSE, rest=REST, pose_mode="relative")
    assert np.allclose(shaped("pose", POSE, still, is_exact=True), REST)


def test_in_a_free_space_pose_intensity_is_about_the_avatars_rest() -> None:
    assert np.allclose(shaped("pose", POSE, Shaping(gain=0, rest=REST), is_exact=False), REST)


def test_expression_strength_scales_smiles_but_neither_blinks_nor_gaze() -> None:
    found = expression(Shaping(gain=0.5), mouthSmileLeft=0.8, eyeBlinkLeft=1.0, eyeLookInLeft=0.6)
    assert found == {"mouthSmileLeft": 0.4, "eyeBlinkLeft": 1.0, "eyeLookInLeft": 0.6}
    assert expression(Shaping(gain=2), browDownLeft=0.3, jawLeft=0.7) == {"browDownLeft": 0.6, "jawLeft": 1}


def test_mouth_gain_opens_the_jaw_further_but_no_further_than_it_goes() -> None:
    assert mouth(Shaping(gain=1.5), jawOpen=0.4, mouthPucker=0.9) == {"jawOpen": 0.6, "mouthPucker": 1}
    assert mouth(Shaping(gain=0), jawOpen=0.4) == {"jawOpen": 0}


def test_a_neutral_face_is_subtracted_and_the_whole_range_stays() -> None:
    neutral = code_space.expression_code(coefficient_vector(browDownLeft=0.2, eyeBlinkLeft=0.25))
    found = expression(Shaping(neutral=neutral), browDownLeft=0.2, eyeBlinkLeft=1.0)
    assert found == {"browDownLeft": 0, "eyeBlinkLeft": 1}


def test_a_face_caught_in_a_blink_is_not_taken_for_its_neutral_whole() -> None:
    neutral = code_space.expression_code(coefficient_vector(eyeBlinkLeft=1.0))
    assert expression(Shaping(neutral=neutral), eyeBlinkLeft=1.0) == {"eyeBlinkLeft": 1}


def test_in_a_free_space_gains_move_towards_the_neutral_code() -> None:
    rng = np.random.default_rng(0)
    code, neutral = (16 * v / np.linalg.norm(v) for v in rng.normal(size=(2, 256)).astype(np.float32))
    at = {
        gain: shaped("mouth", code, Shaping(gain=gain, rest=neutral), is_exact=False) for gain in (0, 0.5, 1)
    }
    distances = [float(np.linalg.norm(at[gain] - neutral)) for gain in (0, 0.5, 1)]
    assert distances == sorted(distances)
    assert distances[0] < 1e-4
    assert at[1] is code
    assert np.linalg.norm(at[0.5]) == pytest.approx(16, rel=1e-5)
