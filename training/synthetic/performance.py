"""What a face does: visemes and expressions as ARKit weights, and random poses, expressions and mouths.

Weights are vectors (52,) in the order of `COEFFICIENTS`; a frame's weights are expression + mouth, clipped to
[0, 1]. A pose is pitch, yaw, roll in degrees and the translation x, y, z in head units.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from gcavt.code_space import COEFFICIENTS

Weights = NDArray[np.float32]


def both(name: str, value: float) -> dict[str, float]:
    """The same weight on the left and on the right."""
    return {f"{name}Left": value, f"{name}Right": value}


VISEMES: dict[str, dict[str, float]] = {
    "sil": {},
    "PP": {
        "jawOpen": 0.04,
        "mouthClose": 0.05,
        **both("mouthPress", 0.6),
        "mouthRollLower": 0.35,
        "mouthRollUpper": 0.3,
    },
    "FF": {"jawOpen": 0.10, "mouthRollLower": 0.75, **both("mouthUpperUp", 0.35), "mouthShrugLower": 0.2},
    "TH": {"jawOpen": 0.20, "tongueOut": 0.55, **both("mouthUpperUp", 0.2), **both("mouthLowerDown", 0.25)},
    "DD": {
        "jawOpen": 0.18,
        **both("mouthUpperUp", 0.25),
        **both("mouthLowerDown", 0.35),
        **both("mouthStretch", 0.1),
    },
    "kk": {"jawOpen": 0.25, **both("mouthUpperUp", 0.15), **both("mouthLowerDown", 0.25)},
    "CH": {"jawOpen": 0.14, "mouthFunnel": 0.75, "mouthPucker": 0.25, **both("mouthLowerDown", 0.2)},
    "SS": {
        "jawOpen": 0.06,
        **both("mouthStretch", 0.45),
        **both("mouthLowerDown", 0.45),
        **both("mouthUpperUp", 0.3),
        **both("mouthDimple", 0.2),
    },
    "nn": {"jawOpen": 0.16, **both("mouthLowerDown", 0.3), **both("mouthUpperUp", 0.15)},
    "RR": {"jawOpen": 0.15, "mouthFunnel": 0.45, "mouthPucker": 0.25},
    "aa": {"jawOpen": 0.72, **both("mouthUpperUp", 0.2), **both("mouthLowerDown", 0.3)},
    "E": {
        "jawOpen": 0.42,
        **both("mouthStretch", 0.35),
        **both("mouthUpperUp", 0.25),
        **both("mouthLowerDown", 0.3),
    },
    "ih": {
        "jawOpen": 0.22,
        **both("mouthStretch", 0.45),
        **both("mouthSmile", 0.15),
        **both("mouthLowerDown", 0.3),
        **both("mouthUpperUp", 0.2),
    },
    "oh": {"jawOpen": 0.45, "mouthFunnel": 0.65, "mouthPucker": 0.2},
    "ou": {"jawOpen": 0.18, "mouthFunnel": 0.35, "mouthPucker": 0.85},
}
"""Mouth weights at the height of each viseme."""

VISEME_NAMES = tuple(VISEMES)

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
}
"""Weights at full strength."""

_UPPER_FACE = ("browDown", "browOuterUp", "eyeSquint", "eyeWide", "eyeBlink", "cheekSquint", "noseSneer")
MOUTH_SHARE = 0.55
"""How much of an expression reaches the mouth, which belongs to speech."""


def weight_vector(weights: Mapping[str, float]) -> Weights:
    """Named weights as a vector (52,) clipped to [0, 1]. Raises ValueError on an unknown name."""
    vector = np.zeros(len(COEFFICIENTS), np.float32)
    for name, value in weights.items():
        if name not in COEFFICIENTS:
            raise ValueError(f"{name!r} is not one of the 52 coefficients")
        vector[COEFFICIENTS.index(name)] = value
    return np.clip(vector, 0, 1)


def expression_vector(name: str, strength: float = 1.0) -> Weights:
    """An expression with its mouth part reduced to `MOUTH_SHARE`."""
    return weight_vector(
        {key: value * strength * _share(key) for key, value in EXPRESSIONS[name].items()},
    )


def viseme_matrix() -> NDArray[np.float32]:
    """(15, 52): the weights of every viseme, in the order of `VISEME_NAMES`."""
    return np.stack([weight_vector(VISEMES[name]) for name in VISEME_NAMES])


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


def gaze(right: float, up: float) -> dict[str, float]:
    """Eye weights for looking to the figure's right and up by -1 to 1."""
    horizontal = ("eyeLookInLeft", "eyeLookOutRight") if right > 0 else ("eyeLookOutLeft", "eyeLookInRight")
    vertical = "eyeLookUp" if up > 0 else "eyeLookDown"
    return dict.fromkeys(horizontal, abs(right)) | both(vertical, abs(up))


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


_IPA_VISEMES = {
    "PP": "p b m",
    "FF": "f v",
    "TH": "θ ð",
    "DD": "t d ɾ",
    "kk": "k ɡ g ŋ h",
    "CH": "ʃ ʒ tʃ dʒ",
    "SS": "s z",
    "nn": "n l",
    "RR": "ɹ r ɚ ɜ",
    "aa": "a ɑ æ ʌ ɐ",
    "E": "ɛ e",
    "ih": "ə ɪ i j ᵻ",
    "oh": "o ɔ ɒ",
    "ou": "u ʊ w",
}
_VISEME_OF = {ipa: viseme for viseme, symbols in _IPA_VISEMES.items() for ipa in symbols.split()}
_DIPHTHONGS = {
    "aɪ": ("aa", "ih"),
    "eɪ": ("E", "ih"),
    "ɔɪ": ("oh", "ih"),
    "oʊ": ("oh", "ou"),
    "əʊ": ("oh", "ou"),
    "aʊ": ("aa", "ou"),
    "ɛɹ": ("E", "RR"),
    "ɑːɹ": ("aa", "RR"),
    "ɔːɹ": ("oh", "RR"),
    "ɪɹ": ("ih", "RR"),
}
_DOMINANCE = {"PP": 1.6, "FF": 1.4, "CH": 1.2, "ou": 1.2, "oh": 1.1}
"""Visemes that keep their shape against their neighbours."""
_REACH_S = 0.055
"""A viseme begins this long before its sound and ends this long after."""

TimedSymbol = tuple[str, float, float]
"""A phoneme or viseme with its start and end in seconds."""


def visemes_of(phonemes: Sequence[TimedSymbol]) -> list[TimedSymbol]:
    """Timed visemes of timed IPA phonemes; a diphthong becomes two, an unknown or empty symbol silence."""
    timed: list[TimedSymbol] = []
    for ipa, start_s, end_s in phonemes:
        symbol = ipa.replace("ˈ", "").replace("ˌ", "")
        if end_s <= start_s:
            continue
        if symbol in _DIPHTHONGS:
            first, second = _DIPHTHONGS[symbol]
            middle_s = start_s + 0.55 * (end_s - start_s)
            timed += [(first, start_s, middle_s), (second, middle_s, end_s)]
            continue
        known = [_VISEME_OF[part] for part in (symbol, symbol[:2], symbol[:1]) if part in _VISEME_OF]
        timed.append((known[0] if known else "sil", start_s, end_s))
    return timed


def _with_pauses(timed: Sequence[TimedSymbol], duration_s: float) -> list[TimedSymbol]:
    """`timed` with "sil" in every gap before, between and after its members."""
    filled: list[TimedSymbol] = []
    end_s = 0.0
    for symbol in [*timed, ("sil", duration_s, duration_s)]:
        if symbol[1] > end_s:
            filled.append(("sil", end_s, symbol[1]))
        filled.append(symbol)
        end_s = max(end_s, symbol[2])
    return [symbol for symbol in filled if symbol[2] > symbol[1]]


def viseme_track(phonemes: Sequence[TimedSymbol], frame_count: int, fps: float = 25.0) -> NDArray[np.float32]:
    """Co-articulated viseme weights (frame_count, 15); every row sums to 1.

    Each viseme is a raised cosine about the middle of its sound; pauses are "sil" sounds of their own.
    """
    frame_s = (np.arange(frame_count) + 0.5) / fps
    track = np.zeros((frame_count, len(VISEME_NAMES)), np.float64)
    for viseme, start_s, end_s in _with_pauses(visemes_of(phonemes), frame_count / fps):
        half_s = 0.5 * (end_s - start_s) + _REACH_S
        distance = np.abs(frame_s - 0.5 * (start_s + end_s)) / half_s
        bump = np.where(distance < 1, 0.5 + 0.5 * np.cos(np.pi * distance), 0.0)
        track[:, VISEME_NAMES.index(viseme)] += _DOMINANCE.get(viseme, 1.0) * bump
    track[track.sum(1) < 1e-6, VISEME_NAMES.index("sil")] = 1.0
    return np.asarray(track / track.sum(1, keepdims=True), np.float32)
