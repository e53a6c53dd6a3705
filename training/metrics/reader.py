"""MediaPipe's reading of single pictures, and how far its landmarks are from true ones."""

from __future__ import annotations

from types import TracebackType
from typing import Self

import numpy as np
from numpy.typing import NDArray

from engine.assets import face_landmarker_path
from engine.face_tracker import FaceTracker
from gcavt.preprocessing import Face, head_angles

POSE = "pose"
SHAPES_OF = {
    "expression": (
        "browDownLeft browDownRight browInnerUp browOuterUpLeft browOuterUpRight eyeBlinkLeft eyeBlinkRight "
        "eyeSquintLeft eyeSquintRight eyeWideLeft eyeWideRight mouthSmileLeft mouthSmileRight"
    ).split(),
    "mouth": (
        "jawOpen mouthFunnel mouthPucker mouthLowerDownLeft mouthLowerDownRight mouthUpperUpLeft "
        "mouthUpperUpRight"
    ).split(),
}
"""Blendshapes that stand for a factor."""


class FaceReader:
    """Landmarks, head angles and blendshapes of pictures that have nothing to do with each other."""

    def __init__(self) -> None:
        self._tracker = FaceTracker(face_landmarker_path())
        self._time_ms = 0

    def read(self, image: NDArray[np.uint8]) -> Face | None:
        """The face in an RGB picture. Shown twice, so that it is cut out by its own landmarks."""
        for _ in range(2):
            self._time_ms += 40
            face = self._tracker.track(image, self._time_ms)
        return face

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._tracker.close()


def landmark_error_px(points_K2: NDArray[np.floating], true_K2: NDArray[np.floating]) -> float:
    """Mean distance of corresponding points."""
    return float(np.linalg.norm(points_K2 - true_K2, axis=1).mean())


def factor_readings(face: Face, factor: str) -> NDArray[np.float32]:
    """What MediaPipe says of one factor: pitch, yaw, roll in degrees, or the blendshapes of SHAPES_OF."""
    assert face.head_rotation is not None and face.blendshapes is not None
    if factor == POSE:
        return head_angles(face.head_rotation)
    return np.array([face.blendshapes[name] for name in SHAPES_OF[factor]], np.float32)
