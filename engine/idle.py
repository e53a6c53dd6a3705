"""What a head does when nothing drives it: it sways, breathes, blinks and looks about, its mouth closed.

Every function is a pure function of time, so a file is reproducible and a live picture may start anywhere.
"""

from __future__ import annotations

import math
from typing import Final

import numpy as np
from numpy.typing import NDArray

from engine.codes import DrivingCodes
from gcavt import code_space

_SWAY: Final = (
    # amplitude, period in seconds, phase; degrees for the first three rows, head units for the last three
    ((0.9, 7.3, 0.0), (0.5, 4.1, 1.0)),  # pitch
    ((1.8, 9.7, 0.5), (0.7, 5.3, 2.1)),  # yaw
    ((0.8, 11.9, 1.7), (0.3, 6.1, 0.2)),  # roll
    ((0.012, 10.3, 0.9), (0.0, 1.0, 0.0)),  # x
    ((0.010, 4.1, 1.3), (0.0, 1.0, 0.0)),  # y: breathing lifts the head, in step with the pitch's second term
    ((0.015, 12.7, 0.3), (0.0, 1.0, 0.0)),  # z
)
_SETTLE_S: Final = 1.0
"""The sway starts from rest, so that the first frame looks straight ahead."""

BLINK_EVERY_S: Final = 3.4
GAZE_EVERY_S: Final = 1.3
"""Eyes jump from one point to the next; on every other occasion they come back to the middle."""
_GAZE_JUMP_S: Final = 0.06
_GAZE_RIGHT: Final = 0.22
_GAZE_UP: Final = 0.10
"""Weights of the eyes' coefficients at the furthest."""
_BLINK_CLOSE_S: Final = 0.08
_BLINK_HOLD_S: Final = 0.04
_BLINK_OPEN_S: Final = 0.16


def idle_pose(time_s: float) -> NDArray[np.float32]:
    """(6,): pitch, yaw, roll in degrees, then translation in head units."""
    settle = min(1.0, max(0.0, time_s) / _SETTLE_S)
    return np.array(
        [settle * sum(a * math.sin(2 * math.pi * time_s / p + f) for a, p, f in terms) for terms in _SWAY],
        np.float32,
    )


def blink(time_s: float) -> float:
    """How far the lids are closed, 0 to 1: one blink per BLINK_EVERY_S, at uneven moments."""
    interval = math.floor(time_s / BLINK_EVERY_S)
    # the fractional part of multiples of the golden ratio spreads the moments evenly without repeating
    start_s = (interval + 0.25 + 0.55 * ((interval * 0.6180339887) % 1.0)) * BLINK_EVERY_S
    since_s = time_s - start_s
    if since_s < 0:
        return 0.0
    if since_s < _BLINK_CLOSE_S:
        return since_s / _BLINK_CLOSE_S
    since_s -= _BLINK_CLOSE_S + _BLINK_HOLD_S
    return min(1.0, max(0.0, 1.0 - since_s / _BLINK_OPEN_S))


def gaze(time_s: float) -> tuple[float, float]:
    """Where the eyes look: to the person's right and up, as weights, negative for left and down."""
    interval = math.floor(time_s / GAZE_EVERY_S)
    progress = min(1.0, (time_s - interval * GAZE_EVERY_S) / _GAZE_JUMP_S)
    before, after = _gaze_point(interval - 1), _gaze_point(interval)
    return (before[0] + progress * (after[0] - before[0]), before[1] + progress * (after[1] - before[1]))


def _gaze_point(interval: int) -> tuple[float, float]:
    if interval <= 0 or interval % 2 == 0:
        return (0.0, 0.0)
    # fractional parts of multiples of two irrational numbers: spread evenly, never repeating
    right, up = (interval * 0.7548776662) % 1.0, (interval * 0.5698402910) % 1.0
    return (_GAZE_RIGHT * (2 * right - 1), _GAZE_UP * (2 * up - 1))


def _gaze_weights(right: float, up: float) -> dict[str, float]:
    """Each eye's own coefficients: looking right is out for the right eye and in for the left one."""
    return {
        "eyeLookOutRight": max(0.0, right),
        "eyeLookInLeft": max(0.0, right),
        "eyeLookInRight": max(0.0, -right),
        "eyeLookOutLeft": max(0.0, -right),
        "eyeLookUpLeft": max(0.0, up),
        "eyeLookUpRight": max(0.0, up),
        "eyeLookDownLeft": max(0.0, -up),
        "eyeLookDownRight": max(0.0, -up),
    }


def idle_codes(time_s: float) -> DrivingCodes:
    """Codes of the exact code space at a moment; a free code space has no known motion (see Puppeteer)."""
    lids = blink(time_s)
    return DrivingCodes(
        pose_code=code_space.pose_code(idle_pose(time_s)),
        expression_code=code_space.expression_code(
            code_space.coefficient_vector(
                eyeBlinkLeft=lids, eyeBlinkRight=lids, **_gaze_weights(*gaze(time_s))
            )
        ),
        content_code=code_space.content_code(code_space.coefficient_vector()),
    )
