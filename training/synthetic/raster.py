"""Compiled geometry: vertex normals, a z-buffer, and reading surface attributes back out of it.

Legend: N vertices, T triangles, R raster side in pixels. The centre of pixel (x, y) is at (x + 0.5, y + 0.5).
A z-buffer here is four (R, R) arrays: depth, triangle (-1 where empty), and the weights of the triangle's
second and third corner.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from gcavt.config import EditReposeGeneratorConfig
from training.synthetic.jit import jit

FOCAL_RATIO = EditReposeGeneratorConfig.focal_ratio
"""Focal length over image side; the camera is the one the model's pose code speaks of."""
CAMERA_DISTANCE = EditReposeGeneratorConfig.camera_distance
CAMERA_HEIGHT = EditReposeGeneratorConfig.camera_height

_HAIR = 5
_UPPER_TEETH = 2
_LOWER_TEETH = 6


@jit
def vertex_normals(vertices_N3: NDArray[np.float32], triangles_T3: NDArray[np.int32]) -> NDArray[np.float32]:
    """Area-weighted unit normals (N, 3)."""
    normals = np.zeros_like(vertices_N3)
    for t in range(len(triangles_T3)):
        a, b, c = triangles_T3[t, 0], triangles_T3[t, 1], triangles_T3[t, 2]
        ux = vertices_N3[b, 0] - vertices_N3[a, 0]
        uy = vertices_N3[b, 1] - vertices_N3[a, 1]
        uz = vertices_N3[b, 2] - vertices_N3[a, 2]
        vx = vertices_N3[c, 0] - vertices_N3[a, 0]
        vy = vertices_N3[c, 1] - vertices_N3[a, 1]
        vz = vertices_N3[c, 2] - vertices_N3[a, 2]
        nx, ny, nz = uy * vz - uz * vy, uz * vx - ux * vz, ux * vy - uy * vx
        for i in (a, b, c):
            normals[i, 0] += nx
            normals[i, 1] += ny
            normals[i, 2] += nz
    for i in range(len(normals)):
        x, y, z = normals[i, 0], normals[i, 1], normals[i, 2]
        scale = 1 / (math.sqrt(x * x + y * y + z * z) + 1e-12)
        normals[i, 0], normals[i, 1], normals[i, 2] = x * scale, y * scale, z * scale
    return normals


@jit
def project(vertices_N3: NDArray[np.float32], side_px: int) -> NDArray[np.float32]:
    """Pixel x, pixel y and depth along the optical axis, (N, 3), in an image of side_px x side_px."""
    screen = np.empty_like(vertices_N3)
    focal = side_px * FOCAL_RATIO
    for i in range(len(vertices_N3)):
        depth = CAMERA_DISTANCE - vertices_N3[i, 2]
        screen[i, 0] = side_px * 0.5 + focal * vertices_N3[i, 0] / depth
        screen[i, 1] = side_px * 0.5 - focal * (vertices_N3[i, 1] - CAMERA_HEIGHT) / depth
        screen[i, 2] = depth
    return screen


@jit
def _hash(a: float, b: float) -> float:
    value = math.sin(a * 127.1 + b * 311.7) * 43758.5453
    return value - math.floor(value)


@jit
def value_noise(x: float, y: float) -> float:
    """Smooth noise in [0, 1] with cells of one unit."""
    xi, yi = math.floor(x), math.floor(y)
    fx, fy = x - xi, y - yi
    fx = fx * fx * (3 - 2 * fx)
    fy = fy * fy * (3 - 2 * fy)
    near = _hash(xi, yi) * (1 - fx) + _hash(xi + 1, yi) * fx
    far = _hash(xi, yi + 1) * (1 - fx) + _hash(xi + 1, yi + 1) * fx
    return near * (1 - fy) + far * fy


@jit
def _is_gap_between_strands(coverage: float, x: float, y: float, z: float) -> bool:
    """Ragged edge of the hair: canonical coordinates where no strand is."""
    around = math.atan2(x, z - 0.2)
    return coverage < 0.10 + 0.55 * value_noise(around * 70, y * 2.0)


@jit
def rasterise(
    screen_N3: NDArray[np.float32],
    triangles_T3: NDArray[np.int32],
    material_T: NDArray[np.int32],
    canonical_N3: NDArray[np.float32],
    coverage_N: NDArray[np.float32],
    side_px: int,
) -> tuple[NDArray[np.float32], NDArray[np.int32], NDArray[np.float32], NDArray[np.float32]]:
    """The z-buffer of a projected mesh: depth (1e9 where empty), triangle, weight_1, weight_2."""
    depth = np.full((side_px, side_px), np.float32(1e9), np.float32)
    triangle = np.full((side_px, side_px), -1, np.int32)
    weight_1 = np.zeros((side_px, side_px), np.float32)
    weight_2 = np.zeros((side_px, side_px), np.float32)
    for t in range(len(triangles_T3)):
        a, b, c = triangles_T3[t, 0], triangles_T3[t, 1], triangles_T3[t, 2]
        x0, y0, z0 = screen_N3[a, 0], screen_N3[a, 1], screen_N3[a, 2]
        ux, uy = screen_N3[b, 0] - x0, screen_N3[b, 1] - y0
        vx, vy = screen_N3[c, 0] - x0, screen_N3[c, 1] - y0
        area = ux * vy - vx * uy
        material = material_T[t]
        two_sided = material == _HAIR or material == _UPPER_TEETH or material == _LOWER_TEETH
        if (area >= 0 and not two_sided) or abs(area) < 1e-9:
            continue
        left = max(0, int(math.ceil(x0 + min(0.0, ux, vx) - 0.5)))
        right = min(side_px - 1, int(math.floor(x0 + max(0.0, ux, vx) - 0.5)))
        top = max(0, int(math.ceil(y0 + min(0.0, uy, vy) - 0.5)))
        bottom = min(side_px - 1, int(math.floor(y0 + max(0.0, uy, vy) - 0.5)))
        inverse = 1 / area
        dz1, dz2 = screen_N3[b, 2] - z0, screen_N3[c, 2] - z0
        for y in range(top, bottom + 1):
            py = y + 0.5 - y0
            for x in range(left, right + 1):
                px = x + 0.5 - x0
                w1 = (px * vy - vx * py) * inverse
                w2 = (ux * py - px * uy) * inverse
                if w1 < 0 or w2 < 0 or w1 + w2 > 1:
                    continue
                z = z0 + w1 * dz1 + w2 * dz2
                if z >= depth[y, x]:
                    continue
                if material == _HAIR:
                    w0 = 1 - w1 - w2
                    cover = w0 * coverage_N[a] + w1 * coverage_N[b] + w2 * coverage_N[c]
                    if cover < 0.8 and _is_gap_between_strands(
                        cover,
                        w0 * canonical_N3[a, 0] + w1 * canonical_N3[b, 0] + w2 * canonical_N3[c, 0],
                        w0 * canonical_N3[a, 1] + w1 * canonical_N3[b, 1] + w2 * canonical_N3[c, 1],
                        w0 * canonical_N3[a, 2] + w1 * canonical_N3[b, 2] + w2 * canonical_N3[c, 2],
                    ):
                        continue
                depth[y, x] = z
                triangle[y, x] = t
                weight_1[y, x] = w1
                weight_2[y, x] = w2
    return depth, triangle, weight_1, weight_2


@jit
def sample_attributes(
    triangles_T3: NDArray[np.int32],
    triangle_RR: NDArray[np.int32],
    weight_1_RR: NDArray[np.float32],
    weight_2_RR: NDArray[np.float32],
    attributes_NA: NDArray[np.float32],
    empty_A: NDArray[np.float32],
    size_px: int,
) -> NDArray[np.float32]:
    """Vertex attributes at the middle of each cell of a size_px grid, (size_px, size_px, A)."""
    step = len(triangle_RR) // size_px
    count = attributes_NA.shape[1]
    out = np.empty((size_px, size_px, count), np.float32)
    for y in range(size_px):
        for x in range(size_px):
            row, column = step * y + step // 2, step * x + step // 2
            t = triangle_RR[row, column]
            if t < 0:
                out[y, x] = empty_A
                continue
            a, b, c = triangles_T3[t, 0], triangles_T3[t, 1], triangles_T3[t, 2]
            w1, w2 = weight_1_RR[row, column], weight_2_RR[row, column]
            w0 = 1 - w1 - w2
            for k in range(count):
                out[y, x, k] = w0 * attributes_NA[a, k] + w1 * attributes_NA[b, k] + w2 * attributes_NA[c, k]
    return out


@jit
def flow_to(
    triangles_T3: NDArray[np.int32],
    triangle_RR: NDArray[np.int32],
    weight_1_RR: NDArray[np.float32],
    weight_2_RR: NDArray[np.float32],
    other_vertices_N3: NDArray[np.float32],
    other_depth_RR: NDArray[np.float32],
    tolerance: float,
    size_px: int,
) -> tuple[NDArray[np.float32], NDArray[np.uint8]]:
    """Where the surface seen in each cell lies in another render of the same mesh.

    Returns flow (size_px, size_px, 2) in pixels of that grid (x, y; other minus here) and visibility:
    0 nothing here, 1 a surface that is hidden or outside there, 2 a surface seen in both.
    """
    side = len(triangle_RR)
    step = side // size_px
    focal = side * FOCAL_RATIO
    flow = np.zeros((size_px, size_px, 2), np.float32)
    visibility = np.zeros((size_px, size_px), np.uint8)
    for y in range(size_px):
        for x in range(size_px):
            row, column = step * y + step // 2, step * x + step // 2
            t = triangle_RR[row, column]
            if t < 0:
                continue
            a, b, c = triangles_T3[t, 0], triangles_T3[t, 1], triangles_T3[t, 2]
            w1, w2 = weight_1_RR[row, column], weight_2_RR[row, column]
            w0 = 1 - w1 - w2
            px = w0 * other_vertices_N3[a, 0] + w1 * other_vertices_N3[b, 0] + w2 * other_vertices_N3[c, 0]
            py = w0 * other_vertices_N3[a, 1] + w1 * other_vertices_N3[b, 1] + w2 * other_vertices_N3[c, 1]
            pz = w0 * other_vertices_N3[a, 2] + w1 * other_vertices_N3[b, 2] + w2 * other_vertices_N3[c, 2]
            depth = CAMERA_DISTANCE - pz
            u = side * 0.5 + focal * px / depth
            v = side * 0.5 - focal * (py - CAMERA_HEIGHT) / depth
            flow[y, x, 0] = (u - column - 0.5) / step
            flow[y, x, 1] = (v - row - 0.5) / step
            visibility[y, x] = 1
            if u >= 0 and v >= 0 and u < side and v < side:
                if abs(depth - other_depth_RR[int(v), int(u)]) < tolerance:
                    visibility[y, x] = 2
    return flow, visibility
