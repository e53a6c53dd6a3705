"""How far a face moves from one received picture to the next, and how far it does around given moments."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

from engine.assets import face_landmarker_path
from engine.face_tracker import FaceTracker

Image = NDArray[np.uint8]
Points = NDArray[np.float32]
Floats = NDArray[np.float64]

MEASURES: Final = ("head", "eyes and brows", "lips", "pixels")
"""The first three: mean way of landmarks, in percent of the face's height; `head` as they lie in the picture,
the others after the head's motion has been taken out. `pixels`: mean change of brightness, 0 to 255."""
FOREHEAD, CHIN = 10, 152
STEADY: Final = (10, 152, 234, 454, 127, 356, 6, 168, 197, 195, 5, 4, 98, 327, 93, 323, 132, 361)
"""Of MediaPipe's 478 landmarks: the face's outline down to the jaw's angles and the nose, which no expression
moves far."""
EYES_AND_BROWS: Final = (
    *(70, 63, 105, 66, 107, 336, 296, 334, 293, 300),
    *(159, 145, 158, 153, 386, 374, 385, 380),
)
LIPS: Final = (13, 14, 82, 87, 312, 317, 61, 291, 0, 17, 78, 308)


def find_faces(pictures: Sequence[Image]) -> list[Points | None]:
    """(478, 2) landmarks of every I420 picture of a stream, None where no face is found."""
    faces = []
    with FaceTracker(face_landmarker_path(), reads_shapes=False) as tracker:
        for index, planes in enumerate(pictures):
            face = tracker.track(as_rgb(planes), 40 * index)
            faces.append(None if face is None else face.landmarks_478)
    return faces


def as_rgb(planes: Image) -> Image:
    return np.asarray(cv2.cvtColor(planes, cv2.COLOR_YUV2RGB_I420), np.uint8)


def motions(pictures: Sequence[Image], faces: Sequence[Points | None]) -> dict[str, Floats]:
    """By measure: (pictures - 1,) how far from each picture to the next, NaN where a face is missing."""
    found = [motion(before, after) for before, after in zip(faces, faces[1:], strict=False)]
    moved = np.array(found, np.float64).reshape(-1, 3)
    changes = [brightness_change(*pair) for pair in zip(pictures, pictures[1:], strict=False)]
    return dict(zip(MEASURES, [*moved.T, np.array(changes)], strict=True))


def motion(before: Points | None, after: Points | None) -> tuple[float, float, float]:
    """The first three of MEASURES."""
    if before is None or after is None:
        return float("nan"), float("nan"), float("nan")
    height = float(np.linalg.norm(before[FOREHEAD] - before[CHIN]))
    still = _without_the_heads_motion(before, after)
    ways = (after - before, *((still - before)[list(part)] for part in (EYES_AND_BROWS, LIPS)))
    head, eyes, lips = (100 * float(np.linalg.norm(way, axis=1).mean()) / height for way in ways)
    return head, eyes, lips


def _without_the_heads_motion(before: Points, after: Points) -> Points:
    """`after`, moved, turned and scaled so that what is steady lies where it was.

    Source: Umeyama, "Least-squares estimation of transformation parameters", PAMI 1991, in the plane.
    """
    steady = list(STEADY)
    x, y = after[steady], before[steady]
    centre_x, centre_y = x.mean(0), y.mean(0)
    a, b = (x - centre_x) @ [1, 1j], (y - centre_y) @ [1, 1j]
    turn = np.vdot(a, b) / np.vdot(a, a)
    moved = ((after - centre_x) @ [1, 1j]) * turn
    return np.asarray(np.stack([moved.real, moved.imag], 1) + centre_y, np.float32)


def brightness_change(before: Image, after: Image) -> float:
    """The last of MEASURES, of two I420 pictures."""
    return float(np.abs(_brightness(after).astype(np.int16) - _brightness(before)).mean())


def _brightness(planes: Image) -> Image:
    return planes[: len(planes) * 2 // 3]


def missing_pictures(media_times_s: Floats, is_repeated: NDArray[np.bool_], fps: float) -> NDArray[np.int_]:
    """(pictures,) how many periods without a new picture there were from the one before to each."""
    periods = np.rint(np.diff(media_times_s) * fps).astype(int) - 1
    return np.concatenate([[0], np.maximum(periods, 0)]) + is_repeated


def within(times_s: Floats, spans_s: Sequence[tuple[float, float]]) -> list[NDArray[np.int_]]:
    """For each (start, end) the numbers of the pictures that came in it."""
    return [np.flatnonzero((times_s >= start) & (times_s < end)) for start, end in spans_s]


def largest(steps: Floats, windows: Sequence[NDArray[np.int_]]) -> float:
    """Of the steps that led to the windows' pictures, NaN if there are none; `steps[i]` led to i + 1."""
    chosen = [steps[window[window > 0] - 1] for window in windows]
    found = np.concatenate(chosen) if chosen else np.array([])
    return float(np.nanmax(found)) if np.isfinite(found).any() else float("nan")


def spread(steps: Floats) -> dict[str, float]:
    """What is natural."""
    p50, p99 = np.nanpercentile(steps, (50, 99))
    values = {"p50": p50, "p99": p99, "largest": np.nanmax(steps)}
    return {name: round(float(value), 3) for name, value in values.items()}
