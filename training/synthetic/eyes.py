"""Where the eyes look and when the lids close.

Gaze is made in space, in degrees from the camera, as fixations with saccades between; the head follows a
part of every large shift, and the eyes turn by what is left, so that they stay on the camera while the head
nods. Rates and amplitudes: Lee, Badler and Badler 2002 ("Eyes alive"), Bentivoglio et al. 1997 (blinking at
rest and in conversation: 17 and 26 a minute), Trutoiu et al. 2011 (lids close fast and open slowly).

Legend: T video frames. Right and up are the figure's.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from training.synthetic.coefficients import both
from training.synthetic.motion_curves import Track, drift, frame_times, minimum_jerk

EYE_DEG = (15.0, 10.5)
"""How far a gaze coefficient of 1 turns the eye, sideways and up or down: measured on the face units."""
HEAD_SHARE = 0.35
"""Part of a gaze shift that the head takes over."""
_HEAD_DEAD_ZONE_DEG = 4.0
"""Smaller shifts leave the head alone."""
_CLOSE_S, _SHUT_S, _OPEN_S = 0.09, 0.045, 0.22
_MOST_GAZE = 0.95


@dataclass(frozen=True, kw_only=True)
class GazeHabits:
    """How somebody looks about."""

    on_camera: float = 0.75
    """Share of fixations near the camera; the others wander."""
    near_deg: float = 1.6
    """Spread of fixations on the face in the camera: from eye to eye to mouth."""
    away_deg: tuple[float, float] = (9.0, 5.0)
    """Spread of the others, sideways and up or down."""


@dataclass(frozen=True, kw_only=True)
class Glance:
    """Eyes that an emotion turns away, in degrees right and up, from `start_s` to `end_s`."""

    start_s: float
    end_s: float
    target_deg: tuple[float, float]


def gaze_track(
    rng: np.random.Generator,
    frame_count: int,
    fps: float,
    habits: GazeHabits | None = None,
    glances: Sequence[Glance] = (),
) -> tuple[NDArray[np.float64], tuple[tuple[float, float], ...]]:
    """Gaze in space (T, 2), degrees right and up of the camera, and (time, amplitude) of each saccade.

    A saccade takes 21 ms and 2.2 ms for each degree (Carpenter 1988); fixations tremble a little.
    """
    habits = GazeHabits() if habits is None else habits
    time_s = frame_times(frame_count, fps)
    track = np.zeros((frame_count, 2))
    at, saccades = np.zeros(2), []
    for start_s, target in _fixations(rng, frame_count / fps, habits, glances):
        amplitude = float(np.hypot(*(target - at)))
        course = minimum_jerk(time_s + 0.5 / fps, start_s, 0.021 + 0.0022 * amplitude)
        track += course[:, None] * (target - at)
        saccades.append((start_s, amplitude))
        at = target
    tremble = np.stack([drift(rng, frame_count, fps, 0.15) for _ in range(2)], 1) * 0.25
    return track + tremble, tuple(saccades)


def _fixations(
    rng: np.random.Generator, duration_s: float, habits: GazeHabits, glances: Sequence[Glance]
) -> list[tuple[float, NDArray[np.float64]]]:
    """When the eyes jump, and to where, in order."""
    fixations, start_s = [], 0.0
    while start_s < duration_s:
        away = rng.random() > habits.on_camera
        spread = habits.away_deg if away else (habits.near_deg, habits.near_deg)
        target = np.clip(rng.normal(0, spread), (-22, -11), (22, 11))
        held_s = rng.uniform(0.3, 1.3) if away else float(np.clip(rng.lognormal(-0.1, 0.6), 0.25, 3.5))
        inside = [glance for glance in glances if glance.start_s <= start_s < glance.end_s]
        if inside:
            target = np.asarray(inside[0].target_deg) + rng.normal(0, 1.2, 2)
        fixations.append((start_s, target))
        following = [glance.start_s for glance in glances if start_s < glance.start_s < start_s + held_s]
        start_s = min([start_s + held_s, *following])
    return fixations


def head_following(gaze_T2: NDArray[np.float64], fps: float) -> NDArray[np.float64]:
    """Degrees right and up (T, 2) that the head turns after the gaze: late, slowly, for large shifts only."""
    size = np.hypot(gaze_T2[:, 0], gaze_T2[:, 1])
    wanted = gaze_T2 * (HEAD_SHARE * np.clip((size - _HEAD_DEAD_ZONE_DEG) / 6.0, 0, 1))[:, None]
    followed, speed, at = np.zeros_like(wanted), np.zeros(2), wanted[0].copy()
    stiffness = (2 * np.pi * 1.1) ** 2  # a critically damped spring of 1.1 Hz
    damping = 2 * np.sqrt(stiffness)
    for t, target in enumerate(wanted):
        for _ in range(4):
            speed += (stiffness * (target - at) - damping * speed) / (4 * fps)
            at = at + speed / (4 * fps)
        followed[t] = at
    return followed


def eye_weights(
    gaze_T2: NDArray[np.float64], yaw_T: Track, pitch_T: Track
) -> tuple[dict[str, Track], NDArray[np.float64]]:
    """Gaze coefficients (T,) by name for a gaze in space under a turning head, and the gaze in the head.

    Positive yaw turns the head to the figure's left and positive pitch downwards; the eyes turn back.
    """
    right = np.clip((gaze_T2[:, 0] + yaw_T) / EYE_DEG[0], -_MOST_GAZE, _MOST_GAZE)
    up = np.clip((gaze_T2[:, 1] + pitch_T) / EYE_DEG[1], -_MOST_GAZE, _MOST_GAZE)
    rightward, leftward = np.maximum(right, 0), np.maximum(-right, 0)
    weights = {
        "eyeLookInLeft": rightward,
        "eyeLookOutRight": rightward,
        "eyeLookOutLeft": leftward,
        "eyeLookInRight": leftward,
        "eyeLookUpLeft": np.maximum(up, 0),
        "eyeLookUpRight": np.maximum(up, 0),
        "eyeLookDownLeft": np.maximum(-up, 0),
        "eyeLookDownRight": np.maximum(-up, 0),
    }
    return weights, np.stack([right, up], 1)


def gaze(right: float, up: float) -> dict[str, float]:
    """Eye weights for looking to the figure's right and up by -1 to 1."""
    horizontal = ("eyeLookInLeft", "eyeLookOutRight") if right > 0 else ("eyeLookOutLeft", "eyeLookInRight")
    vertical = "eyeLookUp" if up > 0 else "eyeLookDown"
    return dict.fromkeys(horizontal, abs(right)) | both(vertical, abs(up))


def blink_times(
    rng: np.random.Generator,
    duration_s: float,
    rate_hz: float,
    phrase_ends_s: Sequence[float] = (),
    saccades: Sequence[tuple[float, float]] = (),
) -> list[float]:
    """When the lids begin to close: on average `rate_hz`, twice that within half a second of a phrase's end.

    Large saccades bring a blink along one time in four. Blinks are at least 0.45 s apart.
    """
    step_s = 0.02
    at = np.arange(0.2, duration_s, step_s)
    chance = np.full(len(at), rate_hz * step_s)
    for end_s in phrase_ends_s:
        chance[(at - end_s >= -0.1) & (at - end_s < 0.4)] = 2 * rate_hz * step_s
    for saccade_s, amplitude in saccades:
        if amplitude > 14 and rng.random() < 0.25:
            chance[(at >= saccade_s) & (at < saccade_s + step_s)] = 1.0
    times: list[float] = []
    for at_s in at[rng.random(len(at)) < chance]:
        if not times or at_s - times[-1] >= 0.45:
            times.append(float(at_s))
    return times


def blink_track(
    rng: np.random.Generator, frame_count: int, fps: float, times_s: Sequence[float]
) -> NDArray[np.float64]:
    """Lid closure (T, 2), left and right: shut in 90 ms, open again in 220; one blink in eight is partial."""
    time_s = frame_times(frame_count, fps)
    track = np.zeros((frame_count, 2))
    for start_s in times_s:
        depth = rng.uniform(0.55, 0.8) if rng.random() < 0.125 else 1.0
        pace = rng.uniform(0.9, 1.25)
        lag_s = rng.normal(0, 0.008)
        for side, shift_s in enumerate((0.0, lag_s)):
            closing = minimum_jerk(time_s, start_s + shift_s, _CLOSE_S * pace)
            opening = minimum_jerk(time_s, start_s + shift_s + _CLOSE_S * pace + _SHUT_S, _OPEN_S * pace)
            track[:, side] = np.maximum(track[:, side], depth * np.minimum(closing, 1 - opening))
    return track
