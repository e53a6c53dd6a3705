"""Does the avatar do what the person in a clip does? Readings of both by MediaPipe, correlated."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from gcavt.preprocessing import Face, head_angles

READINGS = ("pitch", "yaw", "roll", "jaw", "blink", "smile", "brow")
"""Head angles in degrees; the others are MediaPipe's blendshapes, 0 to 1."""
_SHAPES = {
    "jaw": ("jawOpen",),
    "blink": ("eyeBlinkLeft", "eyeBlinkRight"),
    "smile": ("mouthSmileLeft", "mouthSmileRight"),
    "brow": ("browInnerUp",),
}
STILL = {"pitch": 0.4, "yaw": 0.4, "roll": 0.3, "jaw": 0.02, "blink": 0.1, "smile": 0.05, "brow": 0.05}
"""A clip whose reading has a smaller standard deviation does not move it, and says nothing about it."""

Readings = NDArray[np.floating]
"""(frames, len(READINGS)), NaN where no face was found."""


def face_readings(face: Face | None) -> NDArray[np.float32]:
    """(len(READINGS),) of one tracked face; NaN where there is none."""
    if face is None or face.head_rotation is None or face.blendshapes is None:
        return np.full(len(READINGS), np.nan, np.float32)
    shapes = [np.mean([face.blendshapes[name] for name in names]) for names in _SHAPES.values()]
    return np.array([*head_angles(face.head_rotation), *shapes], np.float32)


def correlations(driver: Readings, avatar: Readings) -> list[float]:
    """Pearson's r per reading over frames where both show a face; NaN where the driver keeps still."""
    frames = min(len(driver), len(avatar))
    driver, avatar = driver[:frames], avatar[:frames]
    both = np.isfinite(driver[:, 0]) & np.isfinite(avatar[:, 0])
    results = []
    for column, name in enumerate(READINGS):
        x, y = driver[both, column], avatar[both, column]
        moves = len(x) > 2 and x.std() >= STILL[name] and y.std() > 0
        results.append(float(np.corrcoef(x, y)[0, 1]) if moves else float("nan"))
    return results


def pooled_correlations(
    pairs: Sequence[tuple[Readings, Readings]], *, clip_means_removed: bool, moving_only: bool = False
) -> list[float]:
    """Pearson's r per reading over the frames of all (driver, avatar) pairs taken together.

    With the means left in, how the people of the clips differ counts too, and usually flatters. With
    `moving_only` a reading is pooled over just those clips whose driver moves it (see STILL).
    """
    results = []
    for column, name in enumerate(READINGS):
        used = [(d, a) for d, a in pairs if not moving_only or _moves(d[:, column], name)]
        if not used:
            results.append(float("nan"))
            continue
        cut = [(d[: min(len(d), len(a))], a[: min(len(d), len(a))]) for d, a in used]
        if clip_means_removed:
            cut = [_without_means(d, a) for d, a in cut]
        driver, avatar = (np.concatenate(side) for side in zip(*cut, strict=True))
        results.append(correlations(driver, avatar)[column])
    return results


def _moves(values: NDArray[np.floating], name: str) -> bool:
    found = values[np.isfinite(values)]
    return len(found) > 2 and float(found.std()) >= STILL[name]


def _without_means(driver: Readings, avatar: Readings) -> tuple[Readings, Readings]:
    both = np.isfinite(driver[:, 0]) & np.isfinite(avatar[:, 0])
    if not both.any():
        return driver, avatar
    return driver - driver[both].mean(0), avatar - avatar[both].mean(0)
