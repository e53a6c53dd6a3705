"""How the head moves: with the voice, after the eyes, and by itself.

Heads nod on emphasis and sink at the end of a phrase (Graf et al. 2002, "Visual prosody"; Munhall et al.
2004: head motion follows pitch and loudness); between, they sway, settle into a new posture every few
seconds, and breathe.

Legend: T video frames. A pose is pitch, yaw, roll in degrees and x, y, z in head units; positive pitch looks
down, positive yaw turns to the figure's left.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter1d

from training.synthetic.motion_curves import Track, drift, frame_times, minimum_jerk, pulse
from training.synthetic.prosody import Prosody

MOST_POSE = np.array([20.0, 28.0, 16.0, 0.25, 0.18, 0.45])
"""The head never goes beyond: it is bent back smoothly from two thirds of this on."""
_NOD_DEG = (1.5, 5.5)
_BREATHS_HZ = (0.2, 0.32)


@dataclass(frozen=True, kw_only=True)
class Temperament:
    """How somebody moves; drawn once per performance."""

    liveliness: float
    """Size of all head motion, 1 on average."""
    nods: float
    """Share of accents with a nod."""
    brow_raises: float
    """Share of accents with raised brows."""
    blink_rate_hz: float
    breaths_hz: float

    @classmethod
    def draw(cls, rng: np.random.Generator) -> Temperament:
        return cls(
            liveliness=float(np.clip(rng.lognormal(0, 0.3), 0.5, 1.8)),
            nods=float(rng.uniform(0.45, 0.85)),
            brow_raises=float(rng.uniform(0.2, 0.6)),
            blink_rate_hz=float(rng.uniform(11, 24)) / 60,
            breaths_hz=float(rng.uniform(*_BREATHS_HZ)),
        )


def head_track(
    rng: np.random.Generator,
    prosody: Prosody,
    fps: float,
    temperament: Temperament,
    following_T2: NDArray[np.float64],
    emotion_T4: NDArray[np.float64],
) -> NDArray[np.float64]:
    """The pose (T, 6) of a performance.

    following_T2 is what `eyes.head_following` returns, emotion_T4 what `emotion.emotion_pose` returns.
    """
    count = prosody.frame_count
    time_s = frame_times(count, fps)
    pose = _posture(rng, time_s) + _sway(rng, prosody, fps)
    pose[:, 0] += _nods(rng, time_s, prosody.accents, temperament.nods)
    pose[:, 0] += _phrase_falls(rng, time_s, prosody.phrases)
    pose[:, 0] += _assent(rng, time_s, prosody.phrases)
    pose[:, 0] -= 0.25 * gaussian_filter1d(prosody.pitch_T, 2.5)  # a rising voice lifts the chin
    pose *= temperament.liveliness
    pose[:, 0] -= following_T2[:, 1]
    pose[:, 1] -= following_T2[:, 0]
    pose[:, :3] += emotion_T4[:, :3]
    pose[:, 5] += emotion_T4[:, 3]
    pose += _breathing(rng, time_s, temperament.breaths_hz) + _tremor(rng, count, fps)
    return within_range(pose)


def within_range(pose_T6: NDArray[np.float64]) -> NDArray[np.float64]:
    """Poses bent back smoothly so that none exceeds `MOST_POSE`; small ones are unchanged."""
    free = MOST_POSE * 2 / 3
    size = np.abs(pose_T6)
    bent = free + (MOST_POSE - free) * np.tanh((size - free) / (MOST_POSE - free))
    return np.asarray(np.sign(pose_T6) * np.where(size > free, bent, size))


def _posture(rng: np.random.Generator, time_s: Track) -> NDArray[np.float64]:
    """(T, 6): a way of sitting that changes every few seconds within about a second, and drifts."""
    spread = np.array([2.5, 8.0, 2.5, 0.05, 0.025, 0.10])
    at = rng.normal(0, spread)
    pose = np.tile(at, (len(time_s), 1))
    start_s = float(rng.uniform(1.5, 5))
    while len(time_s) and start_s < time_s[-1]:
        target = rng.normal(0, spread)
        pose += minimum_jerk(time_s, start_s, rng.uniform(0.7, 1.6))[:, None] * (target - at)
        at = target
        start_s += float(rng.uniform(2.5, 8))
    fps = 1 / (time_s[1] - time_s[0]) if len(time_s) > 1 else 25.0
    wander = [drift(rng, len(time_s), fps, 1.2) for _ in range(6)]
    return np.asarray(pose + np.stack(wander, 1) * spread * 0.45)


def _sway(rng: np.random.Generator, prosody: Prosody, fps: float) -> NDArray[np.float64]:
    """(T, 6): livelier while speaking."""
    count = prosody.frame_count
    speaking = 0.25 + 0.75 * np.clip(gaussian_filter1d(prosody.loudness_T, 6), 0, 1)
    size = np.array([1.3, 2.2, 1.3, 0.012, 0.008, 0.02])
    slow = np.stack([drift(rng, count, fps, 0.45) for _ in range(6)], 1)
    quick = np.stack([drift(rng, count, fps, 0.16) for _ in range(6)], 1)
    return np.asarray(speaking[:, None] * size * (0.8 * slow + 0.35 * quick))


def _nods(
    rng: np.random.Generator, time_s: Track, accents: Sequence[tuple[float, float]], share: float
) -> Track:
    """Pitch (T,): a dip on accents, sometimes after a lift; the stronger the accent, the deeper."""
    track = np.zeros(len(time_s))
    for at_s, strength in accents:
        if rng.random() > share * (0.5 + strength):
            continue
        depth = rng.uniform(*_NOD_DEG) * (0.4 + 0.6 * strength)
        rise_s, fall_s = rng.uniform(0.14, 0.22), rng.uniform(0.22, 0.38)
        track += depth * pulse(time_s, at_s - 0.6 * rise_s, rise_s, 0.03, fall_s)
        if rng.random() < 0.35:
            track -= 0.5 * depth * pulse(time_s, at_s - 1.6 * rise_s, 0.7 * rise_s, 0.0, 0.7 * rise_s)
    return track


def _phrase_falls(rng: np.random.Generator, time_s: Track, phrases: Sequence[tuple[float, float]]) -> Track:
    """Pitch (T,): the head sinks towards the end of a phrase and is up again when the next begins."""
    track = np.zeros(len(time_s))
    following = [*(start_s for start_s, _ in phrases[1:]), np.inf]
    for (_, end_s), next_s in zip(phrases, following, strict=False):
        up_s = min(end_s + rng.uniform(0.5, 1.2), next_s + 0.1)
        shape = minimum_jerk(time_s, end_s - 0.35, 0.5) - minimum_jerk(time_s, up_s - 0.2, 0.5)
        track += rng.uniform(1.5, 4.5) * np.clip(shape, 0, 1)
    return track


def _assent(rng: np.random.Generator, time_s: Track, phrases: Sequence[tuple[float, float]]) -> Track:
    """Pitch (T,): small double nods of somebody who listens, in silences longer than a second."""
    track = np.zeros(len(time_s))
    edges = [0.0, *(edge for phrase in phrases for edge in phrase), float(time_s[-1]) if len(time_s) else 0.0]
    for silent_s, speaks_s in zip(edges[::2], edges[1::2], strict=True):
        at_s = silent_s + rng.uniform(0.8, 2.5)
        while at_s < speaks_s - 0.6:
            if rng.random() < 0.6:
                for k in range(int(rng.integers(1, 4))):
                    track += rng.uniform(1.2, 3.0) * pulse(time_s, at_s + 0.36 * k, 0.15, 0.0, 0.2)
            at_s += rng.uniform(1.5, 4.5)
    return track


def _breathing(rng: np.random.Generator, time_s: Track, breaths_hz: float) -> NDArray[np.float64]:
    """(T, 6): in quickly and out slowly, chest and head together."""
    phase = breaths_hz * time_s + rng.uniform()
    phase = phase + 0.06 * np.sin(2 * np.pi * 0.07 * time_s + rng.uniform(0, 6))
    share = phase % 1.0
    breath = np.where(
        share < 0.4, np.sin(0.5 * np.pi * share / 0.4), np.cos(0.5 * np.pi * (share - 0.4) / 0.6)
    )
    return np.outer(breath - 0.6, [-0.45, 0.0, 0.0, 0.0, 0.012, 0.010])


def _tremor(rng: np.random.Generator, count: int, fps: float) -> NDArray[np.float64]:
    """(T, 6): nobody holds quite still."""
    return np.stack([drift(rng, count, fps, 0.06) for _ in range(6)], 1) * [
        0.07,
        0.07,
        0.05,
        0.001,
        0.001,
        0.001,
    ]


def brow_raises(
    rng: np.random.Generator, time_s: Track, accents: Sequence[tuple[float, float]], share: float
) -> Track:
    """How far the brows go up (T,) on accents: they lead the syllable by a tenth of a second."""
    track = np.zeros(len(time_s))
    for at_s, strength in accents:
        if rng.random() < share * (0.4 + strength):
            height = rng.uniform(0.15, 0.5) * (0.4 + 0.6 * strength)
            track = np.maximum(track, height * pulse(time_s, at_s - 0.22, 0.16, 0.08, 0.35))
    return track
