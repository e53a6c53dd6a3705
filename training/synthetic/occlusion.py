"""How much light reaches each vertex: ambient occlusion, baked once, and the shadow of one light, per frame.

Both look at the mesh along a direction of light: the nearest surface per cell of a small map (a shadow map)
hides what lies behind it.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from training.synthetic.jit import jit

MAP_PX = 144
"""Side of a shadow map; the figure's 5 units fill it."""
_SPAN = 4.6
_CENTRE = (0.0, 7.0, 0.3)
_DIRECTIONS = 36


def light_frame(direction_3: NDArray[np.floating]) -> NDArray[np.float32]:
    """Rotation (3, 3) whose rows are right, up and towards the light."""
    toward = np.asarray(direction_3, np.float64) / np.linalg.norm(direction_3)
    helper = np.array([0.0, 1.0, 0.0]) if abs(toward[1]) < 0.9 else np.array([1.0, 0.0, 0.0])
    right = np.cross(helper, toward)
    right /= np.linalg.norm(right)
    return np.stack([right, np.cross(toward, right), toward]).astype(np.float32)


@jit
def seen_from_light(
    vertices_N3: NDArray[np.float32],
    normals_N3: NDArray[np.float32],
    lift: float,
    frame_33: NDArray[np.float32],
) -> NDArray[np.float32]:
    """Map column, map row and height towards the light, (N, 3), of points `lift` above the vertices."""
    seen = np.empty_like(vertices_N3)
    scale, middle = np.float32(MAP_PX / _SPAN), np.float32(MAP_PX / 2)
    above = np.float32(lift)
    cx, cy, cz = np.float32(_CENTRE[0]), np.float32(_CENTRE[1]), np.float32(_CENTRE[2])
    for i in range(len(vertices_N3)):
        x = vertices_N3[i, 0] + above * normals_N3[i, 0] - cx
        y = vertices_N3[i, 1] + above * normals_N3[i, 1] - cy
        z = vertices_N3[i, 2] + above * normals_N3[i, 2] - cz
        seen[i, 0] = (x * frame_33[0, 0] + y * frame_33[0, 1] + z * frame_33[0, 2]) * scale + middle
        seen[i, 1] = (x * frame_33[1, 0] + y * frame_33[1, 1] + z * frame_33[1, 2]) * scale + middle
        seen[i, 2] = x * frame_33[2, 0] + y * frame_33[2, 1] + z * frame_33[2, 2]
    return seen


@jit
def height_map(seen_N3: NDArray[np.float32], triangles_T3: NDArray[np.int32]) -> NDArray[np.float32]:
    """The surface nearest to the light in each cell of the map, -1e9 where there is none."""
    side = MAP_PX
    heights = np.full((side, side), np.float32(-1e9), np.float32)
    for t in range(len(triangles_T3)):
        a, b, c = triangles_T3[t, 0], triangles_T3[t, 1], triangles_T3[t, 2]
        x0, y0, z0 = seen_N3[a, 0], seen_N3[a, 1], seen_N3[a, 2]
        ux, uy = seen_N3[b, 0] - x0, seen_N3[b, 1] - y0
        vx, vy = seen_N3[c, 0] - x0, seen_N3[c, 1] - y0
        area = ux * vy - vx * uy
        if abs(area) < 1e-6:
            continue
        left = max(0, int(math.ceil(x0 + min(np.float32(0), ux, vx) - np.float32(0.5))))
        right = min(side - 1, int(math.floor(x0 + max(np.float32(0), ux, vx) - np.float32(0.5))))
        top = max(0, int(math.ceil(y0 + min(np.float32(0), uy, vy) - np.float32(0.5))))
        bottom = min(side - 1, int(math.floor(y0 + max(np.float32(0), uy, vy) - np.float32(0.5))))
        inverse = np.float32(1) / area
        dz1, dz2 = seen_N3[b, 2] - z0, seen_N3[c, 2] - z0
        for y in range(top, bottom + 1):
            py = np.float32(y) + np.float32(0.5) - y0
            for x in range(left, right + 1):
                px = np.float32(x) + np.float32(0.5) - x0
                w1 = (px * vy - vx * py) * inverse
                w2 = (ux * py - px * uy) * inverse
                if w1 < np.float32(0) or w2 < np.float32(0) or w1 + w2 > np.float32(1):
                    continue
                z = z0 + w1 * dz1 + w2 * dz2
                if z > heights[y, x]:
                    heights[y, x] = z
    return heights


@jit
def visibility(
    seen_N3: NDArray[np.float32],
    asked_N: NDArray[np.bool_],
    heights: NDArray[np.float32],
    bias: float,
    softness: float,
    reach: int,
) -> NDArray[np.float32]:
    """Share of the light that reaches each vertex (N,), from its (2 reach + 1)^2 neighbouring cells.

    Only the vertices that are asked for; 1 elsewhere.
    """
    side = MAP_PX
    out = np.ones(len(seen_N3), np.float32)
    per_cell = np.float32(1) / np.float32((2 * reach + 1) ** 2)
    steepness = np.float32(1) / np.float32(softness)
    for i in range(len(seen_N3)):
        if not asked_N[i]:
            continue
        column, row = int(seen_N3[i, 0]), int(seen_N3[i, 1])
        if column < reach or row < reach or column >= side - reach or row >= side - reach:
            continue
        height = seen_N3[i, 2] + np.float32(bias)
        hidden = np.float32(0)
        for y in range(row - reach, row + reach + 1):
            for x in range(column - reach, column + reach + 1):
                hidden += min(np.float32(1), max(np.float32(0), (heights[y, x] - height) * steepness))
        out[i] = np.float32(1) - hidden * per_cell
    return out


def ambient_occlusion(
    vertices_N3: NDArray[np.float32], normals_N3: NDArray[np.float32], blockers_T3: NDArray[np.int32]
) -> NDArray[np.float32]:
    """Share of a cosine-weighted sky that each vertex sees, (N,), in [0, 1]."""
    total = np.zeros(len(vertices_N3), np.float32)
    weight = np.full(len(vertices_N3), np.float32(1e-6), np.float32)
    golden = math.pi * (3 - math.sqrt(5))
    for k in range(_DIRECTIONS):
        height = 1 - (k + 0.5) / _DIRECTIONS * 1.7  # down to 45 degrees below the horizon
        radius = math.sqrt(1 - height * height)
        direction = np.array([radius * math.cos(golden * k), height, radius * math.sin(golden * k)])
        frame = light_frame(direction)
        heights = height_map(seen_from_light(vertices_N3, normals_N3, 0.0, frame), blockers_T3)
        facing = np.maximum(normals_N3 @ direction.astype(np.float32), 0)
        lifted = seen_from_light(vertices_N3, normals_N3, 0.03, frame)
        total += facing * visibility(lifted, facing > 0, heights, 0.02, 0.06, 1)
        weight += facing
    return np.asarray(np.clip(total / weight, 0, 1), np.float32)
