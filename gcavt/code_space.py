"""The code space that `lite` is taught: codes as known, invertible functions of exact parameters.

Rendered heads come with exact head pose and 52 blendshape weights, so the codes need not be discovered:
each is a fixed, invertible embedding of those parameters, the generator learns to read it and the encoders
learn to write it, independently of each other. The embedding uses rows of the orthonormal DCT-II:
    v = e_0 + sum_k w_k e_k,   code = 16 v / |v|
so that a code has length 16 (the square root of 256) and w_k = <code, e_k> / <code, e_0>.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import ArrayLike, NDArray

_PAIRS: Final = (
    "browDown browOuterUp cheekSquint eyeBlink eyeLookDown eyeLookIn eyeLookOut eyeLookUp eyeSquint eyeWide "
    "mouthDimple mouthFrown mouthLowerDown mouthPress mouthSmile mouthStretch mouthUpperUp noseSneer"
).split()
_SINGLES: Final = (
    "browInnerUp cheekPuff jawForward jawLeft jawOpen jawRight mouthClose mouthFunnel mouthLeft mouthPucker "
    "mouthRight mouthRollLower mouthRollUpper mouthShrugLower mouthShrugUpper tongueOut"
).split()
COEFFICIENTS: Final[tuple[str, ...]] = tuple(
    sorted([f"{name}{side}" for name in _PAIRS for side in ("Left", "Right")] + _SINGLES)
)
"""The 52 ARKit blendshape names, sorted; index = position in every weights_52 array."""

POSE_SCALE: Final[NDArray[np.float32]] = np.array([8.0, 15.0, 6.0, 0.10, 0.10, 0.60], np.float32)
"""About the standard deviation of pitch, yaw, roll (degrees) and head translation x, y, z (head units)."""

_FREE: Final = np.array([16.0, 22.0, 16.0, 0.15, 0.15, 0.20], np.float32)
_MOST: Final = np.array([22.0, 32.0, 24.0, 0.30, 0.30, 0.45], np.float32)
_FREE_YAW_SEEN, _MOST_YAW_SEEN = 28.0, 40.0

POSE_DIM: Final = 12
CODE_DIM: Final = 256
CODE_NORM: Final = 16.0


def _dct_rows(count: int) -> NDArray[np.float32]:
    column = np.arange(CODE_DIM)
    rows = np.cos(np.pi * (2 * column + 1) * np.arange(count)[:, None] / (2 * CODE_DIM))
    rows *= np.sqrt(2.0 / CODE_DIM)
    rows[0] /= np.sqrt(2.0)
    return rows.astype(np.float32)


BASIS: Final[NDArray[np.float32]] = _dct_rows(1 + len(COEFFICIENTS))
"""53 x 256, orthonormal rows: the constant, then one row per coefficient."""


def pose_code(pose_6: ArrayLike) -> NDArray[np.float32]:
    """Pose code (..., 12) of pitch, yaw, roll in degrees and translation x, y, z in head units (..., 6)."""
    pose = np.asarray(pose_6, np.float32)
    if pose.shape[-1] != 6:
        raise ValueError(f"pose must have 6 numbers in its last axis, got shape {pose.shape}")
    code = np.zeros((*pose.shape[:-1], POSE_DIM), np.float32)
    code[..., :6] = pose / POSE_SCALE
    return code


def pose_from_code(code: ArrayLike) -> NDArray[np.float32]:
    """Pitch, yaw, roll in degrees and translation in head units (..., 6) out of a pose code (..., 12)."""
    return np.asarray(np.asarray(code, np.float32)[..., :6] * POSE_SCALE, np.float32)


def within_reach(
    code: ArrayLike, *, is_left_seen: bool = False, is_right_seen: bool = False
) -> NDArray[np.float32]:
    """The pose code (..., 12) bent back smoothly where `lite` would tear a face or lose it from the frame.

    Pitch, yaw and roll are unchanged up to 16, 22 and 16 degrees and never exceed 22, 32 and 24; where a
    portrait shows the head turned to that side, yaw is unchanged up to 28 degrees and never exceeds 40.
    x, y and z are unchanged up to .15, .15 and .2 head units, never beyond .3, .3 and .45: the face crop
    leaves no more room.
    """
    reached = np.array(code, np.float32)
    size = np.abs(reached[..., :6])
    free, most = (np.broadcast_to(limit, size.shape).copy() for limit in (_FREE, _MOST))
    is_seen = np.where(reached[..., 1] < 0, is_left_seen, is_right_seen)
    free[..., 1] = np.where(is_seen, _FREE_YAW_SEEN, free[..., 1])
    most[..., 1] = np.where(is_seen, _MOST_YAW_SEEN, most[..., 1])
    free, most = free / POSE_SCALE, most / POSE_SCALE
    bent = free + (most - free) * np.tanh((size - free) / (most - free))
    reached[..., :6] = np.sign(reached[..., :6]) * np.where(size > free, bent, size)
    return reached


def _embed(weights_52: ArrayLike) -> NDArray[np.float32]:
    weights = np.asarray(weights_52, np.float32)
    if weights.shape[-1] != len(COEFFICIENTS):
        raise ValueError(f"weights must have 52 numbers in their last axis, got shape {weights.shape}")
    vector = BASIS[0] + weights @ BASIS[1:]
    return np.asarray(CODE_NORM * vector / np.linalg.norm(vector, axis=-1, keepdims=True), np.float32)


def _weights(code: ArrayLike) -> NDArray[np.float32]:
    coordinates = np.asarray(code, np.float32) @ BASIS.T
    constant = np.maximum(coordinates[..., :1], 1e-3 * CODE_NORM)
    return np.asarray(coordinates[..., 1:] / constant, np.float32)


def expression_code(weights_52: ArrayLike) -> NDArray[np.float32]:
    """Expression code (..., 256) of blendshape weights (..., 52) without the mouth's speech shape."""
    return _embed(weights_52)


def expression_weights(code: ArrayLike) -> NDArray[np.float32]:
    """Blendshape weights (..., 52) of an expression code (..., 256); least-squares inverse."""
    return _weights(code)


def content_code(weights_52: ArrayLike) -> NDArray[np.float32]:
    """Speech content code (..., 256) of the mouth's blendshape weights (..., 52)."""
    return _embed(weights_52)


def content_weights(code: ArrayLike) -> NDArray[np.float32]:
    """Mouth blendshape weights (..., 52) of a speech content code (..., 256); least-squares inverse."""
    return _weights(code)


def coefficient_vector(**weights: float) -> NDArray[np.float32]:
    """52 weights with the named ones set. Raises ValueError for a name that is no ARKit coefficient."""
    vector = np.zeros(len(COEFFICIENTS), np.float32)
    for name, value in weights.items():
        if name not in COEFFICIENTS:
            raise ValueError(f"unknown coefficient {name!r}; known: {', '.join(COEFFICIENTS)}")
        vector[COEFFICIENTS.index(name)] = value
    return vector
