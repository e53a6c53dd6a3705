"""Ground truth of rendered frames: landmarks and which are seen, flow between two frames of one identity,
depth and neck blend.

The pose, the 52 weights, segmentation and alpha are fields of `Render` itself.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from training.synthetic.head_pack import load_head_pack
from training.synthetic.landmark_vertices import iris_points, landmark_vertices_468
from training.synthetic.raster import flow_to, project, sample_attributes
from training.synthetic.renderer import Render

EMPTY_Z = -9.0
"""Depth map value where there is no figure."""
_EMPTY_DEPTH = 1e8
_SAME_SURFACE = 0.05
"""Two depths closer than this, in head units, are the same surface."""


_BEHIND_LID = 0.03
"""An iris's point this far behind the nearest surface, in head units, is covered."""


def landmarks(render: Render) -> NDArray[np.float32]:
    """MediaPipe's 468 landmarks (468, 2), x and y in pixels of the picture, occluded ones included."""
    points = render.vertices_N3[landmark_vertices_468(load_head_pack())]
    return project(points, len(render.image))[:, :2].copy()


def landmarks_478(render: Render) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """MediaPipe's 478 landmarks (478, 2) in pixels of the picture, and which are seen (478,).

    Seen means: inside the picture, and nothing in front of it.
    """
    pack = load_head_pack()
    points = np.concatenate(
        [render.vertices_N3[landmark_vertices_468(pack)], iris_points(pack, render.vertices_N3)]
    )
    return project(points, len(render.image))[:, :2].copy(), _is_seen(render, points)


def _is_seen(render: Render, points_K3: NDArray[np.float32]) -> NDArray[np.bool_]:
    side = len(render.depth_RR)
    projected = project(np.ascontiguousarray(points_K3), side)
    column, row = np.floor(projected[:, 0]).astype(int), np.floor(projected[:, 1]).astype(int)
    inside = (column >= 0) & (column < side) & (row >= 0) & (row < side)
    nearest = np.full(len(points_K3), -np.inf)
    for down in (-1, 0, 1):  # a landmark on an outline may fall on the pixel beside it
        for across in (-1, 0, 1):
            rows, columns = np.clip(row + down, 0, side - 1), np.clip(column + across, 0, side - 1)
            found = render.depth_RR[rows, columns]
            nearest = np.maximum(nearest, np.where(found < _EMPTY_DEPTH, found, -np.inf))
    slack = np.where(
        np.arange(len(points_K3)) < len(render.landmark_vertices_468), _SAME_SURFACE, _BEHIND_LID
    )
    return np.asarray(inside & (projected[:, 2] <= nearest + slack))


def flow(
    here: Render, there: Render, size_px: int | None = None
) -> tuple[NDArray[np.float32], NDArray[np.uint8]]:
    """Where each pixel of `here` comes from in `there`, another frame of the same Renderer.

    Returns flow (size, size, 2), in pixels of a size_px grid: `here[y, x]` shows what `there` shows at
    `(x, y) + flow[y, x]`; and visibility (size, size): 0 background, 1 hidden in `there`, 2 seen in both.
    Raises ValueError if the frames differ in mesh or size, or if size_px does not divide the raster.
    """
    if here.triangles_T3 is not there.triangles_T3 or here.depth_RR.shape != there.depth_RR.shape:
        raise ValueError("flow needs two frames of one Renderer")
    return flow_to(
        here.triangles_T3,
        here.triangle_RR,
        here.weight_1_RR,
        here.weight_2_RR,
        there.vertices_N3,
        there.depth_RR,
        _SAME_SURFACE,
        _grid(here, size_px),
    )


def depth_and_blend(
    render: Render, size_px: int | None = None
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Height towards the camera z and head blend h, (size, size) each; `EMPTY_Z` and 0 on the background.

    z is in head units in world coordinates, so depth along the optical axis is CAMERA_DISTANCE - z; h is 1
    where the surface follows the head's pose and 0 where it stays with the shoulders.
    """
    attributes = np.stack([render.vertices_N3[:, 2], render.head_blend_N], 1)
    maps = sample_attributes(
        render.triangles_T3,
        render.triangle_RR,
        render.weight_1_RR,
        render.weight_2_RR,
        attributes,
        np.array([EMPTY_Z, 0], np.float32),
        _grid(render, size_px),
    )
    return maps[..., 0].copy(), maps[..., 1].copy()


def _grid(render: Render, size_px: int | None) -> int:
    size = len(render.image) if size_px is None else size_px
    if size < 1 or len(render.depth_RR) % size:
        raise ValueError(f"size_px must divide the raster side {len(render.depth_RR)}, got {size}")
    return size
