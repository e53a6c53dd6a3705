"""What the mouth shows of speech: IPA phonemes -> 15 visemes -> ARKit weights, with co-articulation.

The fifteen are those of the Oculus lip-sync set. Co-articulation follows Cohen and Massaro 1993 ("Modeling
coarticulation in synthetic visual speech"): every sound has a time course of dominance, and a frame shows the
mean of the sounds about it, weighted by dominance. Lips that must meet (p b m) or touch the teeth (f v)
dominate and hold their shape for as long as the sound lasts; rounding begins early; what happens behind the
teeth (k, n, h, schwa) gives way to its neighbours.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from training.synthetic.coefficients import both, weight_vector

VISEMES: dict[str, dict[str, float]] = {
    "sil": {},
    "PP": {  # lips rolled in and pressed: nothing between them, hardly any red
        "mouthRollLower": 0.55,
        "mouthRollUpper": 0.55,
        "mouthClose": 0.08,
        **both("mouthPress", 0.15),
        "mouthShrugLower": 0.15,
    },
    "FF": {  # upper teeth on the lower lip
        "jawOpen": 0.04,
        "mouthRollLower": 0.9,
        **both("mouthUpperUp", 0.6),
        "mouthShrugLower": 0.1,
    },
    "TH": {  # tongue between the teeth
        "jawOpen": 0.17,
        "tongueOut": 0.62,
        **both("mouthUpperUp", 0.45),
        **both("mouthStretch", 0.1),
    },
    "DD": {  # teeth nearly shut, upper ones bare, lips apart
        "jawOpen": 0.09,
        **both("mouthUpperUp", 0.7),
        **both("mouthLowerDown", 0.2),
    },
    "kk": {  # loose jaw, idle lips: the dark of the mouth above the lower teeth
        "jawOpen": 0.32,
        **both("mouthLowerDown", 0.45),
    },
    "CH": {  # lips pushed out like a trumpet, teeth shut behind them
        "jawOpen": 0.02,
        "mouthFunnel": 0.85,
        **both("mouthUpperUp", 0.35),
        **both("mouthLowerDown", 0.35),
    },
    "SS": {  # both rows of teeth edge to edge in a wide slit
        "jawOpen": 0.02,
        **both("mouthStretch", 0.55),
        **both("mouthLowerDown", 0.7),
        **both("mouthUpperUp", 0.45),
    },
    "nn": {  # the tongue behind the upper teeth fills the gap
        "jawOpen": 0.16,
        "tongueOut": 0.40,
        **both("mouthLowerDown", 0.15),
    },
    "RR": {  # lips drawn together and a little forward, over a half-open jaw
        "jawOpen": 0.20,
        "mouthPucker": 0.45,
        "mouthFunnel": 0.3,
        **both("mouthLowerDown", 0.5),
    },
    "aa": {"jawOpen": 0.75, **both("mouthUpperUp", 0.2), **both("mouthLowerDown", 0.35)},
    "E": {
        "jawOpen": 0.42,
        **both("mouthStretch", 0.4),
        **both("mouthUpperUp", 0.45),
        **both("mouthLowerDown", 0.3),
        **both("mouthSmile", 0.1),
    },
    "ih": {  # wide and narrow
        "jawOpen": 0.16,
        **both("mouthStretch", 0.5),
        **both("mouthSmile", 0.35),
        **both("mouthUpperUp", 0.2),
        **both("mouthLowerDown", 0.25),
    },
    "oh": {"jawOpen": 0.48, "mouthFunnel": 0.7, "mouthPucker": 0.3},
    "ou": {"jawOpen": 0.12, "mouthFunnel": 0.25, "mouthPucker": 0.95},
}
"""Mouth weights at the height of each viseme. Chosen by looking at the rendered mouths."""

VISEME_NAMES = tuple(VISEMES)

TimedSymbol = tuple[str, float, float]
"""A phoneme, viseme or word with its start and end in seconds."""


@dataclass(frozen=True)
class _Dominance:
    """How a viseme asserts itself: weight, and how long before and after its sound it begins and ends."""

    weight: float
    lead_s: float = 0.07
    lag_s: float = 0.07
    hold: float = 0.0
    """Share of the sound over which the shape is held; the rest is a raised cosine."""


_DOMINANCE = {
    "sil": _Dominance(1.0, 0.09, 0.06, 0.2),
    "PP": _Dominance(7.0, 0.05, 0.05, 0.7),
    "FF": _Dominance(4.0, 0.055, 0.055, 0.6),
    "TH": _Dominance(2.5, 0.06, 0.05, 0.5),
    "DD": _Dominance(1.3, 0.05, 0.05, 0.3),
    "kk": _Dominance(0.7, 0.05, 0.05),
    "CH": _Dominance(2.6, 0.11, 0.07, 0.4),
    "SS": _Dominance(2.0, 0.06, 0.06, 0.4),
    "nn": _Dominance(1.0, 0.05, 0.05),
    "RR": _Dominance(1.4, 0.09, 0.07),
    "aa": _Dominance(1.2),
    "E": _Dominance(1.1),
    "ih": _Dominance(0.9),
    "oh": _Dominance(1.5, 0.10, 0.08),
    "ou": _Dominance(2.0, 0.12, 0.09),
}
_REDUCED = {"ə": 0.55, "ɐ": 0.7, "ᵻ": 0.6, "h": 0.25, "ʔ": 0.2}
"""Sounds that take little part in what the lips do: share of their viseme's dominance."""
_SMALLEST_SUM = 0.15
"""Where all dominance together is less than this, silence fills the rest."""

_IPA_VISEMES = {
    "PP": "p b m",
    "FF": "f v",
    "TH": "θ ð",
    "DD": "t d ɾ",
    "kk": "k ɡ g ŋ h x ɣ ʔ",
    "CH": "ʃ ʒ tʃ dʒ ʧ ʤ",
    "SS": "s z",
    "nn": "n l ɫ",
    "RR": "ɹ r ɚ ɜ ɝ ʁ",
    "aa": "a ɑ æ ʌ ɐ",
    "E": "ɛ e",
    "ih": "ə ɪ i j ᵻ",
    "oh": "o ɔ ɒ",
    "ou": "u ʊ w y ø œ",
}
_VISEME_OF = {ipa: viseme for viseme, symbols in _IPA_VISEMES.items() for ipa in symbols.split()}
_IGNORED = str.maketrans("", "", "ˈˌːˑ̩̃ʲʰ")


def viseme_matrix() -> NDArray[np.float32]:
    """(15, 52): the weights of every viseme, in the order of `VISEME_NAMES`."""
    return np.stack([weight_vector(VISEMES[name]) for name in VISEME_NAMES])


def sounds_of(ipa: str) -> list[str]:
    """The known sounds in a symbol, in order: "tʃ" is one, "aɪ" and "əl" are two. Marks are dropped."""
    symbol = ipa.translate(_IGNORED)
    sounds, i = [], 0
    while i < len(symbol):
        length = 2 if symbol[i : i + 2] in _VISEME_OF else 1
        if symbol[i : i + length] in _VISEME_OF:
            sounds.append(symbol[i : i + length])
        i += length
    return sounds


def visemes_of(phonemes: Sequence[TimedSymbol]) -> list[TimedSymbol]:
    """Timed visemes of timed IPA phonemes; a diphthong becomes two, an unknown or empty symbol silence."""
    return [(viseme, start_s, end_s) for viseme, start_s, end_s, _ in _gestures(phonemes)]


def _gestures(phonemes: Sequence[TimedSymbol]) -> list[tuple[str, float, float, float]]:
    """(viseme, start, end, share of its dominance) of every sound."""
    gestures = []
    for ipa, start_s, end_s in phonemes:
        if end_s <= start_s:
            continue
        sounds = sounds_of(ipa)
        if not sounds:
            gestures.append(("sil", start_s, end_s, 1.0))
            continue
        step_s = (end_s - start_s) / len(sounds)
        for k, sound in enumerate(sounds):
            span = (start_s + k * step_s, start_s + (k + 1) * step_s)
            gestures.append((_VISEME_OF[sound], *span, _REDUCED.get(sound, 1.0)))
    return gestures


def _with_pauses(
    gestures: Sequence[tuple[str, float, float, float]], duration_s: float
) -> list[tuple[str, float, float, float]]:
    """`gestures` with "sil" in every gap before, between and after its members, neighbouring ones joined."""
    filled: list[tuple[str, float, float, float]] = []
    end_s = 0.0
    for gesture in [*gestures, ("sil", duration_s, duration_s, 1.0)]:
        start_s = gesture[1]
        if gesture[0] == "sil" or start_s > end_s:
            start_s = min(start_s, end_s)
            silence_ends_s = gesture[2] if gesture[0] == "sil" else gesture[1]
            if filled and filled[-1][0] == "sil":
                start_s = filled.pop()[1]
            filled.append(("sil", start_s, silence_ends_s, 1.0))
        if gesture[0] != "sil":
            filled.append(gesture)
        end_s = max(end_s, gesture[2])
    return [gesture for gesture in filled if gesture[2] > gesture[1]]


def viseme_track(phonemes: Sequence[TimedSymbol], frame_count: int, fps: float = 25.0) -> NDArray[np.float32]:
    """Co-articulated viseme weights (frame_count, 15); every row sums to 1.

    Frame t shows the middle of its time, (t + 0.5) / fps. Pauses are "sil" sounds of their own.
    """
    frame_s = (np.arange(frame_count, dtype=np.float64) + 0.5) / fps
    track = np.zeros((frame_count, len(VISEME_NAMES)), np.float64)
    gestures = _with_pauses(_gestures(phonemes), frame_count / fps)
    last = len(gestures) - 1
    for i, (viseme, start_s, end_s, share) in enumerate(gestures):
        before_s = -np.inf if i == 0 and viseme == "sil" else start_s
        after_s = np.inf if i == last and viseme == "sil" else end_s
        column = track[:, VISEME_NAMES.index(viseme)]
        column += share * _time_course(frame_s, before_s, after_s, _DOMINANCE[viseme])
    silence = VISEME_NAMES.index("sil")
    track[:, silence] += np.maximum(0, _SMALLEST_SUM - track.sum(1))
    return np.asarray(track / track.sum(1, keepdims=True), np.float32)


def _time_course(
    frame_s: NDArray[np.float64], start_s: float, end_s: float, dominance: _Dominance
) -> NDArray[np.float64]:
    """Dominance of a sound at each time: a raised cosine up, a plateau, a raised cosine down."""
    if np.isinf(start_s) or np.isinf(end_s):  # silence before the first word or after the last
        rise_from, rise_to = (
            (start_s, start_s) if np.isinf(start_s) else (start_s - dominance.lead_s, start_s)
        )
        fall_from, fall_to = (end_s, end_s) if np.isinf(end_s) else (end_s, end_s + dominance.lag_s)
    else:
        edge_s = 0.5 * (1 - dominance.hold) * (end_s - start_s)
        rise_from, rise_to = start_s - dominance.lead_s, start_s + edge_s
        fall_from, fall_to = end_s - edge_s, end_s + dominance.lag_s
    return dominance.weight * np.minimum(
        _raised_cosine(frame_s, rise_from, rise_to), _raised_cosine(-frame_s, -fall_to, -fall_from)
    )


def _raised_cosine(x: NDArray[np.float64], zero_at: float, one_at: float) -> NDArray[np.float64]:
    """0 up to `zero_at`, 1 from `one_at`, half a cosine between."""
    if np.isinf(zero_at):
        return np.ones_like(x)
    share = np.clip((x - zero_at) / max(one_at - zero_at, 1e-9), 0, 1)
    return np.asarray(0.5 - 0.5 * np.cos(np.pi * share))
