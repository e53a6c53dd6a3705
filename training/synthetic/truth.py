"""Ground truth of rendered frames: landmarks, flow between two frames of one identity, depth and neck blend.

The pose, the 52 weights, segmentation and alpha are fields of `Render` itself.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from training.synthetic.raster import flow_to, project, sample_attributes
from training.synthetic.renderer import Render

EMPTY_Z = -9.0
"""Depth map value where there is no figure."""
_SAME_SURFACE = 0.05
"""Two depths closer than this, in head units, are the same surface."""


def landmarks(render: Render) -> NDArray[np.float32]:
    """MediaPipe's 468 landmarks (468, 2), x and y in pixels of the picture, occluded ones included."""
    points = render.vertices_N3[render.landmark_vertices_468]
    return project(points, len(render.image))[:, :2].copy()


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
