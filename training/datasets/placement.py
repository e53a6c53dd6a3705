"""Normal placement: every person's neutral, frontal face fills the frame as the face crop cuts it.

A crop cannot tell a large head far away from a small one near by, so neither can the pose encoder. Scaling
the world about the camera changes no pixel; per person it is scaled so that neutral faces lie equally far.
Pose and depth of the data are given in that scaled world, where translation 0 means "as the crop frames it".

`place` is the translation (x, y, z) that a renderer needs to frame a person's neutral face so.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from gcavt.config import EditReposeGeneratorConfig

Floats = NDArray[np.float32]

FACE_Z = 1.4
"""Height of a face's surface towards the camera, in head units."""
_CAMERA = np.array(
    [0, EditReposeGeneratorConfig.camera_height, EditReposeGeneratorConfig.camera_distance], np.float32
)
_PIVOT = np.array(EditReposeGeneratorConfig.pivot, np.float32)


def world_scale(place_3: ArrayLike) -> Floats:
    """Factor (...) by which a person's world is scaled about the camera."""
    distance = EditReposeGeneratorConfig.camera_distance - FACE_Z
    return np.asarray(distance / (distance - np.asarray(place_3, np.float32)[..., 2]), np.float32)


def normal_pose(pose_6: ArrayLike, place_3: ArrayLike) -> Floats:
    """The pose (..., 6) in the scaled world, of a pose as rendered."""
    pose = np.array(pose_6, np.float32)
    scale = world_scale(place_3)[..., None]
    pose[..., 3:] = scale * (pose[..., 3:] + _PIVOT - _CAMERA) + _CAMERA - _PIVOT
    return pose


def rendered_pose(normal_pose_6: ArrayLike, place_3: ArrayLike) -> Floats:
    """The pose (..., 6) to render, of one in the scaled world; the inverse of `normal_pose`."""
    pose = np.array(normal_pose_6, np.float32)
    scale = world_scale(place_3)[..., None]
    pose[..., 3:] = (pose[..., 3:] + _PIVOT - _CAMERA) / scale + _CAMERA - _PIVOT
    return pose


def normal_depth(depth: ArrayLike, place_3: ArrayLike) -> Floats:
    """Depth maps (B, H, W) in the scaled world; `place` is (B, 3)."""
    distance = EditReposeGeneratorConfig.camera_distance
    scale = world_scale(place_3)[..., None, None]
    return np.asarray(distance - scale * (distance - np.asarray(depth, np.float32)), np.float32)
