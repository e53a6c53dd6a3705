"""Emotions that come over a face and pass: onset, apex, decay, and never quite the same on both sides.

Onsets are faster than decays; surprise is the quickest. Felt smiles are nearly even, contempt has one side
(Ekman and Friesen 1982; Schmidt et al. 2006 for the timing of smiles).

Legend: T video frames.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gcavt.code_space import COEFFICIENTS
from training.synthetic.eyes import Glance
from training.synthetic.motion_curves import frame_times, minimum_jerk
from training.synthetic.performance import EXPRESSIONS, MOUTH_SHARE, weight_vector

ONSET_S = {"surprised": (0.12, 0.28), "fear": (0.15, 0.35), "disgust": (0.25, 0.5), "sad": (0.6, 1.3)}
_USUAL_ONSET_S = (0.25, 0.65)
_APEX_S = (0.4, 2.6)
_DECAY_S = (0.6, 1.8)
_REST_S = (0.6, 4.0)
_ASYMMETRY = {"happy": 0.10, "surprised": 0.08, "contempt": 0.0, "thinking": 0.0, "angry": 0.15}
_USUAL_ASYMMETRY = 0.18
"""Largest share by which the weaker side stays behind."""
_LARGEST_LAG_S = 0.06
"""By which a side or a muscle comes later."""
_POSE = {
    "happy": (-1.5, 0.0, 2.0, 0.0),
    "sad": (5.0, 0.0, 2.5, 0.0),
    "angry": (3.0, 0.0, 0.0, 0.10),
    "fear": (-1.5, 0.0, 0.0, -0.14),
    "disgust": (-2.0, 5.0, 2.0, -0.08),
    "surprised": (-4.0, 0.0, 0.0, -0.10),
    "contempt": (-3.5, 0.0, 3.5, 0.0),
    "thinking": (-3.0, 5.0, 3.0, 0.0),
}
"""Pitch, yaw, roll in degrees and the way towards the camera in head units that go with an emotion."""
_GLANCE_DEG = {"thinking": (11.0, 7.0), "sad": (2.0, -7.0), "disgust": (-7.0, -2.0)}


@dataclass(frozen=True, kw_only=True)
class Episode:
    """One emotion, once."""

    name: str
    start_s: float
    onset_s: float
    apex_s: float
    decay_s: float
    strength: float
    side_shares: tuple[float, float]
    """Strength of the left and of the right side, the stronger one 1."""
    side_lags_s: tuple[float, float]
    is_mirrored: bool
    """One-sided expressions, and the turn of the head, are swapped."""

    @property
    def end_s(self) -> float:
        return self.start_s + self.onset_s + self.apex_s + self.decay_s


def draw_episodes(rng: np.random.Generator, duration_s: float, moods: Sequence[str]) -> tuple[Episode, ...]:
    """Emotions from `moods` with rest between, until `duration_s`. None if there are no moods."""
    episodes: list[Episode] = []
    start_s = float(rng.uniform(0, 1.5))
    while moods and start_s < duration_s:
        episodes.append(_draw_episode(rng, str(rng.choice(list(moods))), start_s))
        start_s = episodes[-1].end_s + float(rng.uniform(*_REST_S))
    return tuple(episodes)


def _draw_episode(rng: np.random.Generator, name: str, start_s: float) -> Episode:
    weaker = 1 - float(rng.uniform(0, _ASYMMETRY.get(name, _USUAL_ASYMMETRY)))
    lag_s = float(rng.uniform(0, _LARGEST_LAG_S))
    left_leads = rng.random() < 0.6  # emotions show a little more on the left
    return Episode(
        name=name,
        start_s=start_s,
        onset_s=float(rng.uniform(*ONSET_S.get(name, _USUAL_ONSET_S))),
        apex_s=float(rng.uniform(*_APEX_S)),
        decay_s=float(rng.uniform(*_DECAY_S)),
        strength=float(rng.uniform(0.35, 1.0)),
        side_shares=(1.0, weaker) if left_leads else (weaker, 1.0),
        side_lags_s=(0.0, lag_s) if left_leads else (lag_s, 0.0),
        is_mirrored=bool(rng.random() < 0.5),
    )


def emotion_track(
    rng: np.random.Generator,
    episodes: Sequence[Episode],
    frame_count: int,
    fps: float,
    speaking_T: NDArray[np.float64],
) -> NDArray[np.float64]:
    """Weights (T, 52) of all episodes.

    The mouth gives way to speech: it keeps `MOUTH_SHARE` of an emotion where `speaking_T` is 1.
    """
    time_s = frame_times(frame_count, fps)
    track = np.zeros((frame_count, len(COEFFICIENTS)))
    for episode in episodes:
        weights = weight_vector(EXPRESSIONS[episode.name])
        for index in np.nonzero(weights)[0]:
            name = _mirrored(COEFFICIENTS[index]) if episode.is_mirrored else COEFFICIENTS[index]
            lag_s = rng.uniform(0, _LARGEST_LAG_S) + _of_side(name, episode.side_lags_s, 0.0)
            share = episode.strength * _of_side(name, episode.side_shares, 1.0)
            shape = course(episode, time_s - lag_s) * share * weights[index]
            if name.startswith(("mouth", "jaw")):
                shape = shape * (1 - (1 - MOUTH_SHARE) * speaking_T)
            track[:, COEFFICIENTS.index(name)] += shape
    return np.clip(track, 0, 1)


def course(episode: Episode, time_s: NDArray[np.float64]) -> NDArray[np.float64]:
    """0, up to 1 over the onset, a slowly falling apex, and down over the decay."""
    rising = minimum_jerk(time_s, episode.start_s, episode.onset_s)
    apex_from_s = episode.start_s + episode.onset_s
    falling = minimum_jerk(time_s, apex_from_s + episode.apex_s, episode.decay_s)
    sagging = 1 - 0.12 * np.clip((time_s - apex_from_s) / max(episode.apex_s, 1e-6), 0, 1)
    return np.asarray(rising * sagging * (1 - falling))


def emotion_pose(episodes: Sequence[Episode], frame_count: int, fps: float) -> NDArray[np.float64]:
    """Pitch, yaw, roll in degrees and z in head units (T, 4) by which the emotions move the head."""
    time_s = frame_times(frame_count, fps)
    track = np.zeros((frame_count, 4))
    for episode in episodes:
        mirror = -1 if episode.is_mirrored else 1
        amount = np.array(_POSE[episode.name]) * (1, mirror, mirror, 1) * episode.strength
        track += course(episode, time_s - 0.08)[:, None] * amount
    return track


def emotion_glances(episodes: Sequence[Episode]) -> tuple[Glance, ...]:
    """Where the eyes go with those emotions that turn them away."""
    glances = []
    for episode in episodes:
        if episode.name in _GLANCE_DEG:
            right, up = _GLANCE_DEG[episode.name]
            glances.append(
                Glance(
                    start_s=episode.start_s,
                    end_s=episode.end_s - 0.6 * episode.decay_s,
                    target_deg=(-right if episode.is_mirrored else right, up),
                )
            )
    return tuple(glances)


def emotion_labels(episodes: Sequence[Episode], frame_count: int, fps: float) -> tuple[str, ...]:
    """The emotion of every frame (T), "neutral" where none is stronger than a tenth."""
    labels = ["neutral"] * frame_count
    time_s = frame_times(frame_count, fps)
    for episode in episodes:
        for t in np.nonzero(course(episode, time_s) * episode.strength > 0.1)[0]:
            labels[t] = episode.name
    return tuple(labels)


def _mirrored(name: str) -> str:
    for side, other in (("Left", "Right"), ("Right", "Left")):
        if name.endswith(side):
            return name.removesuffix(side) + other
    return name


def _of_side(name: str, left_right: tuple[float, float], otherwise: float) -> float:
    if name in ("mouthLeft", "mouthRight", "jawLeft", "jawRight"):
        return otherwise
    if name.endswith("Left"):
        return left_right[0]
    return left_right[1] if name.endswith("Right") else otherwise
