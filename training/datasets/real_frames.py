"""Pseudo-labelled frames of real people (see `training.prepare.pseudo_labels`), varied geometrically.

There are few of them, so each is mirrored, turned, scaled and shifted with its labels: for the camera of the
pose code, turning, scaling and shifting the picture is an exact change of the head's roll and position.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from gcavt.code_space import COEFFICIENTS
from gcavt.config import EditReposeGeneratorConfig
from gcavt.preprocessing import transform_points
from training.datasets.placement import FACE_Z

TURN_DEG = 12.0
SCALE = (0.94, 1.06)
SHIFT_PX = 5.0
CENTRE = 127.5

_MIRRORED_COEFFICIENT = np.array(
    [
        COEFFICIENTS.index(
            name.replace("Left", "?").replace("Right", "Left").replace("?", "Right")
            if name.endswith(("Left", "Right"))
            else name
        )
        for name in COEFFICIENTS
    ]
)
MIRRORED_LANDMARK = np.array(
    [*range(16, -1, -1)]
    + [*range(26, 16, -1)]
    + [27, 28, 29, 30, 35, 34, 33, 32, 31]
    + [45, 44, 43, 42, 47, 46, 39, 38, 37, 36, 41, 40]
    + [54, 53, 52, 51, 50, 49, 48, 59, 58, 57, 56, 55]
    + [64, 63, 62, 61, 60, 67, 66, 65]
)
"""Index of each of the 68 landmarks' counterpart in a mirrored face."""


@dataclass(frozen=True)
class RealFrame:
    """One face crop with its labels."""

    image: NDArray[np.uint8]
    landmarks_68: NDArray[np.float32]
    pose_6: NDArray[np.float32]
    """Normal pose: degrees and head units."""
    expression_52: NDArray[np.float32]
    mouth_52: NDArray[np.float32]
    exact_68: NDArray[np.float32] | None = None
    """The true landmarks, of a frame that was rendered."""


class RealFrames:
    """The frames of one labels file."""

    def __init__(self, path: Path) -> None:
        with np.load(path) as arrays:
            self._arrays = {key: arrays[key] for key in ("crop", "landmarks", "pose", "expression", "mouth")}
            self._clip = arrays["clip"]

    def __len__(self) -> int:
        return len(self._arrays["crop"])

    def clip_of(self, row: int) -> int:
        """Which clip a frame is of."""
        return int(self._clip[row])

    def draw_pair(self, rng: np.random.Generator) -> tuple[RealFrame, RealFrame]:
        """Two frames of one clip, each varied on its own."""
        first = int(rng.integers(len(self)))
        second = int(rng.choice(np.flatnonzero(self._clip == self._clip[first])))
        return self.frame(first, rng), self.frame(second, rng)

    def frame(self, row: int, rng: np.random.Generator) -> RealFrame:
        """Frame number `row`, mirrored every other time, turned, scaled and shifted."""
        frame = RealFrame(*(values[row] for values in self._arrays.values()))
        return varied(frame, rng, TURN_DEG)


def varied(frame: RealFrame, rng: np.random.Generator, turn_deg: float) -> RealFrame:
    """The frame mirrored every other time, turned by up to `turn_deg`, scaled and shifted."""
    if rng.random() < 0.5:
        frame = mirrored(frame)
    return moved(
        frame,
        turn_deg=float(rng.uniform(-turn_deg, turn_deg)),
        scale=float(rng.uniform(*SCALE)),
        shift_px=rng.uniform(-SHIFT_PX, SHIFT_PX, 2),
    )


def mirrored(frame: RealFrame) -> RealFrame:
    """The frame as a mirror shows it."""

    def mirror(points_68: NDArray[np.float32]) -> NDArray[np.float32]:
        points: NDArray[np.float32] = points_68[MIRRORED_LANDMARK].copy()
        points[:, 0] = 2 * CENTRE - points[:, 0]
        return points

    return RealFrame(
        np.ascontiguousarray(frame.image[:, ::-1]),
        mirror(frame.landmarks_68),
        frame.pose_6 * np.array([1, -1, -1, -1, 1, 1], np.float32),
        frame.expression_52[_MIRRORED_COEFFICIENT],
        frame.mouth_52[_MIRRORED_COEFFICIENT],
        None if frame.exact_68 is None else mirror(frame.exact_68),
    )


def moved(frame: RealFrame, *, turn_deg: float, scale: float, shift_px: NDArray[np.floating]) -> RealFrame:
    """The picture turned anticlockwise, scaled about its centre and shifted, with the pose it then shows."""
    matrix = np.asarray(cv2.getRotationMatrix2D((CENTRE, CENTRE), turn_deg, scale), np.float32)
    matrix[:, 2] += np.asarray(shift_px, np.float32)
    image = cv2.warpAffine(
        frame.image, matrix, (256, 256), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT_101
    )
    return RealFrame(
        np.asarray(image, np.uint8),
        transform_points(frame.landmarks_68, matrix),
        _moved_pose(frame.pose_6, turn_deg, scale, shift_px),
        frame.expression_52,
        frame.mouth_52,
        None if frame.exact_68 is None else transform_points(frame.exact_68, matrix),
    )


def _moved_pose(
    pose_6: NDArray[np.float32], turn_deg: float, scale: float, shift_px: NDArray[np.floating]
) -> NDArray[np.float32]:
    camera = EditReposeGeneratorConfig
    pivot = np.array(camera.pivot, np.float32)
    axis = np.array([0, camera.camera_height, camera.camera_distance], np.float32)
    position = pivot + pose_6[3:] - axis
    angle = np.radians(turn_deg)
    turned = position.copy()
    turned[0] = np.cos(angle) * position[0] - np.sin(angle) * position[1]
    turned[1] = np.sin(angle) * position[0] + np.cos(angle) * position[1]
    face_distance = camera.camera_distance - FACE_Z - pose_6[5]
    turned[2] += face_distance * (1 - 1 / scale)
    units_per_px = face_distance / scale / (camera.focal_ratio * 256)
    turned[0] += shift_px[0] * units_per_px
    turned[1] -= shift_px[1] * units_per_px
    pose = pose_6.copy()
    pose[2] += turn_deg
    pose[3:] += turned - position
    return pose
