"""Glasses: two rims, a bridge and temples of square tube, fitted to a head."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

_EYE_X, _EYE_Y = 0.3078, 7.284
_RIM_POINTS = 26


def glasses_mesh(
    rng: np.random.Generator, skin_vertices_P3: NDArray[np.float32]
) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.int32]]:
    """Vertices, unit normals and triangles of one pair, before the face of the given skin vertices."""
    squareness = float(rng.choice([2.0, 2.6, 3.6]))
    wide, high = rng.uniform(0.215, 0.245), rng.uniform(0.155, 0.195)
    thick = rng.uniform(0.010, 0.020)
    x, y, z = skin_vertices_P3.T
    bridge = z[(np.abs(x) < 0.06) & (np.abs(y - _EYE_Y) < 0.06)].max()
    brow = z[(np.abs(np.abs(x) - _EYE_X) < 0.15) & (np.abs(y - _EYE_Y - 0.15) < 0.06)].max()
    front = max(bridge + 0.035, brow + 0.03)
    beside = np.abs(x[(np.abs(y - _EYE_Y) < 0.12) & (z > 0.80) & (z < 1.0)]).max()
    loops: list[tuple[NDArray[Any], bool]] = []
    angle = np.linspace(0, 2 * math.pi, _RIM_POINTS, endpoint=False)
    for side in (-1, 1):
        cosine, sine = np.cos(angle), np.sin(angle)
        radius = (np.abs(cosine) ** squareness + np.abs(sine) ** squareness) ** (-1 / squareness)
        rim_x = side * (_EYE_X + 0.005 + wide * radius * cosine)
        rim_y = _EYE_Y - 0.03 + high * radius * sine
        rim = np.stack([rim_x, rim_y, front - 0.30 * rim_x**2], 1)
        loops.append((rim, True))
        hinge = np.array([side * (_EYE_X + wide), _EYE_Y + 0.06, front - 0.30 * (_EYE_X + wide) ** 2])
        corner = np.array([side * (beside + 0.005), _EYE_Y + 0.07, hinge[2] - 0.16])
        end = np.array([side * (beside - 0.01), _EYE_Y + 0.03, 0.15])
        loops.append((np.stack([hinge, corner, 0.5 * (corner + end), end]), False))
    across = np.linspace(-1, 1, 6)
    reach = _EYE_X + 0.005 - wide
    arc = np.stack([reach * across, _EYE_Y + 0.045 - 0.03 * across**2, front + 0.03 * (1 - across**2)], 1)
    loops.append((arc, False))
    vertices, normals, triangles = [], [], []
    offset = 0
    for line, is_closed in loops:
        tube = _tube(line, thick, is_closed)
        vertices.append(tube[0])
        normals.append(tube[1])
        triangles.append(tube[2] + offset)
        offset += len(tube[0])
    return (
        np.concatenate(vertices).astype(np.float32),
        np.concatenate(normals).astype(np.float32),
        np.concatenate(triangles).astype(np.int32),
    )


def _tube(
    line: NDArray[Any], radius: float, is_closed: bool
) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any]]:
    """A square tube about a polyline."""
    count = len(line)
    if is_closed:
        tangent = np.roll(line, -1, 0) - np.roll(line, 1, 0)
    else:
        tangent = np.gradient(line, axis=0)
    tangent /= np.linalg.norm(tangent, axis=1, keepdims=True)
    helper = np.where(np.abs(tangent[:, 2:]) > 0.8, [[0.0, 1.0, 0.0]], [[0.0, 0.0, 1.0]])
    first = np.cross(tangent, helper)
    first /= np.linalg.norm(first, axis=1, keepdims=True)
    second = np.cross(tangent, first)
    directions = np.stack([first + second, second - first, -first - second, first - second], 1) / math.sqrt(2)
    vertices = line[:, None] + radius * directions
    quads = []
    for i in range(count if is_closed else count - 1):
        after = (i + 1) % count
        for k in range(4):
            beside = (k + 1) % 4
            quads.append([4 * i + k, 4 * after + k, 4 * after + beside, 4 * i + beside])
    corners = np.array(quads)
    triangles = np.concatenate([corners[:, [0, 1, 2]], corners[:, [0, 2, 3]]])
    return vertices.reshape(-1, 3), directions.reshape(-1, 3), triangles
