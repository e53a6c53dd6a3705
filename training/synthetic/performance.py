"""What a face does besides speaking: expressions as ARKit weights, and random poses, expressions and mouths.

Weights are vectors (52,) in the order of `COEFFICIENTS`; a frame's weights are expression + mouth, clipped to
[0, 1]. A pose is pitch, yaw, roll in degrees and the translation x, y, z in head units. The visemes and the
naming of weights are handed on from `visemes` and `coefficients`.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from training.synthetic.coefficients import Weights, both, weight_vector
from training.synthetic.eyes import gaze
from training.synthetic.visemes import (
    VISEME_NAMES,
    VISEMES,
    TimedSymbol,
    viseme_matrix,
    viseme_track,
    visemes_of,
)

__all__ = [
    "EXPRESSIONS",
    "MOUTH_SHARE",
    "VISEMES",
    "VISEME_NAMES",
    "TimedSymbol",
    "Weights",
    "both",
    "expression_vector",
    "gaze",
    "random_expression",
    "random_mouth",
    "random_pose",
    "viseme_matrix",
    "viseme_track",
    "visemes_of",
    "weight_vector",
]

EXPRESSIONS: dict[str, dict[str, float]] = {
    "neutral": {},
    "happy": {
        **both("mouthSmile", 0.9),
        "jawOpen": 0.10,
        **both("cheekSquint", 0.6),
        **both("eyeSquint", 0.35),
        **both("mouthUpperUp", 0.45),
        **both("mouthLowerDown", 0.15),
        "browInnerUp": 0.1,
    },
    "sad": {
        "browInnerUp": 0.95,
        **both("mouthFrown", 0.8),
        **both("eyeSquint", 0.2),
        **both("browDown", 0.15),
        "mouthShrugLower": 0.35,
        **both("eyeBlink", 0.2),
    },
    "angry": {
        **both("browDown", 1.0),
        **both("eyeWide", 0.3),
        **both("noseSneer", 0.6),
        **both("mouthPress", 0.4),
        **both("mouthFrown", 0.35),
        **both("eyeSquint", 0.3),
    },
    "fear": {
        "browInnerUp": 0.9,
        **both("browOuterUp", 0.4),
        **both("eyeWide", 0.9),
        **both("mouthStretch", 0.8),
        "jawOpen": 0.15,
    },
    "disgust": {
        **both("noseSneer", 1.0),
        **both("browDown", 0.6),
        **both("mouthUpperUp", 0.6),
        **both("eyeSquint", 0.5),
        **both("mouthFrown", 0.4),
    },
    "surprised": {
        "browInnerUp": 1.0,
        **both("browOuterUp", 1.0),
        **both("eyeWide", 1.0),
        "jawOpen": 0.45,
        "mouthFunnel": 0.15,
    },
    "contempt": {
        "mouthSmileLeft": 0.75,
        "mouthDimpleLeft": 0.7,
        "cheekSquintLeft": 0.3,
        "browDownRight": 0.25,
        "browOuterUpLeft": 0.35,
    },
    "thinking": {
        "browDownLeft": 0.45,
        "browDownRight": 0.15,
        "browOuterUpRight": 0.45,
        "browInnerUp": 0.2,
        **both("eyeSquint", 0.35),
        **both("mouthPress", 0.35),
        "mouthRight": 0.35,
        "mouthPucker": 0.2,
    },
}
"""Weights at full strength; one-sided ones are mirrored half of the time where they pass in motion."""

_UPPER_FACE = ("browDown", "browOuterUp", "eyeSquint", "eyeWide", "eyeBlink", "cheekSquint", "noseSneer")
MOUTH_SHARE = 0.55
"""How much of an expression reaches the mouth, which belongs to speech."""


def expression_vector(name: str, strength: float = 1.0) -> Weights:
    """An expression with its mouth part reduced to `MOUTH_SHARE`."""
    return weight_vector(
        {key: value * strength * _share(key) for key, value in EXPRESSIONS[name].items()},
    )


def _share(coefficient: str) -> float:
    return MOUTH_SHARE if coefficient.startswith(("mouth", "jaw")) else 1.0


def random_pose(rng: np.random.Generator) -> NDArray[np.float32]:
    """A head pose (6,); one in five is drawn from a wider spread."""
    spread = 1.0 if rng.random() < 0.8 else 1.6
    angles = [rng.normal(0, sigma) * spread for sigma in (8, 15, 6)]
    shifts = [rng.normal(0, sigma) for sigma in (0.10, 0.08, 0.25)]
    return np.array(angles + shifts, np.float32)


def random_expression(rng: np.random.Generator) -> Weights:
    """One or two mixed expressions, free brows and lids, a blink now and then, and a gaze."""
    weights: dict[str, float] = {}

    def add(name: str, value: float) -> None:
        weights[name] = weights.get(name, 0.0) + value

    named = [name for name in EXPRESSIONS if name != "neutral"]
    if rng.random() < 0.8:
        for name in rng.choice(named, size=2 if rng.random() < 0.3 else 1, replace=False):
            strength = rng.uniform(0.2, 1.0)
            for key, value in EXPRESSIONS[str(name)].items():
                add(key, strength * value * _share(key))
    if rng.random() < 0.6:
        for _ in range(rng.integers(1, 4)):
            name, value = _UPPER_FACE[rng.integers(len(_UPPER_FACE))], rng.uniform(0, 0.8)
            add(f"{name}Left", value)
            add(f"{name}Right", value if rng.random() < 0.7 else 0.0)
        if rng.random() < 0.4:
            add("browInnerUp", rng.uniform(0, 0.9))
    if rng.random() < 0.25:
        weights |= both("eyeBlink", rng.uniform(0.3, 1))
    return weight_vector(weights | gaze(rng.normal(0, 0.35), rng.normal(0, 0.25)))


def random_mouth(rng: np.random.Generator) -> Weights:
    """A viseme or a blend of two, sometimes with the jaw moved aside or further open."""
    first, second = (VISEME_NAMES[i] for i in rng.choice(len(VISEME_NAMES), 2))
    blend = rng.uniform(0, 1) if rng.random() < 0.6 else 1.0
    strength = rng.uniform(0.6, 1.1)
    weights: dict[str, float] = {}
    for name, amount in ((first, blend), (second, 1 - blend)):
        for key, value in VISEMES[name].items():
            weights[key] = weights.get(key, 0.0) + strength * amount * value
    if rng.random() < 0.3:
        weights["jawOpen"] = max(0.0, weights.get("jawOpen", 0.0) + rng.normal(0, 0.12))
    if rng.random() < 0.15:
        weights["jawLeft" if rng.random() < 0.5 else "jawRight"] = rng.uniform(0, 0.3)
    return weight_vector(weights)
