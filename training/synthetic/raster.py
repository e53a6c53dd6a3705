"""Compiled geometry: vertex normals, a z-buffer, and reading surface attributes back out of it.

Legend: N vertices, T triangles, R raster side in pixels. The centre of pixel (x, y) is at (x + 0.5, y + 0.5).
A z-buffer here is four (R, R) arrays: depth, triangle (-1 where empty), and the weights of the triangle's
second and third corner.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gcavt.config import EditReposeGeneratorConfig
from training.synthetic.elementwise import angle_of, floor, formula, greatest, least, whole
from training.synthetic.jit import jit

FOCAL_RATIO = EditReposeGeneratorConfig.focal_ratio
"""Focal length over image side; the camera is the one the model's pose code speaks of."""
CAMERA_DISTANCE = EditReposeGeneratorConfig.camera_distance
CAMERA_HEIGHT = EditReposeGeneratorConfig.camera_height

# Enumerations are slow to compile against; the kernels use `Material`'s numbers as plain ints.
_SKIN, _UPPER_TEETH, _HAIR, _LOWER_TEETH, _CLOTH, _LASH, _FRAME, _CAP = 0, 2, 5, 6, 7, 8, 9, 10
GRAIN_PX = 256
STRANDS_PER_CARD, STRANDS_PER_LASH = np.float32(10), np.float32(15)
CARD_TAPER, LASH_TAPER = np.float32(0.26), np.float32(0.5)
"""How much shorter the shortest strands are, as a share of the card's length."""
LASH_ROOT = np.float32(0.22)
"""Lashes have grown together up to here."""
CAP_WHOLE = np.float32(0.85)
"""Coverage above which the hair's lowest layer has no gaps."""
_TILE_PX = 8
"""Side of the tiles by which hair behind the head is skipped."""
# Single precision throughout: a plain 0.5 or 1 would turn every product into doubles.
_ZERO, _HALF, _ONE, _TWO = np.float32(0), np.float32(0.5), np.float32(1), np.float32(2)
_FAR = np.float32(1e6)


def grain_table(seed: int = 20_000) -> NDArray[np.float32]:
    """Uniform noise (256, 256) in [0, 1], which wraps: the source of every strand and weave."""
    return np.random.default_rng(seed).random((GRAIN_PX, GRAIN_PX), np.float32)


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
        scale = _ONE / (math.sqrt(x * x + y * y + z * z) + np.float32(1e-12))
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


@formula
def grain_at(grain: Any, x: Any, y: Any) -> Any:
    """The noise table read smoothly, one cell per unit, in [0, 1]."""
    column, row = floor(x), floor(y)
    fx, fy = x - column, y - row
    left, top = whole(column) & 255, whole(row) & 255
    right, bottom = (left + 1) & 255, (top + 1) & 255
    above = grain[top, left] * (_ONE - fx) + grain[top, right] * fx
    below = grain[bottom, left] * (_ONE - fx) + grain[bottom, right] * fx
    return above * (_ONE - fy) + below * fy


@formula
def strand_end(reach: Any, taper: Any) -> Any:
    """How far along a card a strand ends; `reach` is the strand's own, in [0, 1]."""
    return _ONE - taper * reach


@formula
def strand_odds(across: Any) -> Any:
    """Strands of a card whose own number in [0, 1] is above this are missing: fewer towards the sides."""
    return np.float32(0.25) + np.float32(1.6) * (_ONE - across * across)


@formula
def strand_half_width(across: Any, along: Any) -> Any:
    """Half a strand's width, as a share of its room; along is 0 at the roots and 1 at the tips."""
    rim = _ONE - across * across
    left = greatest((along - _HALF) * _TWO, _ZERO)
    full = np.float32(0.35) + np.float32(0.15) * least(rim * _TWO, _ONE)
    return full * (_ONE - np.float32(0.40) * left * left)


@jit
def _is_beside_strands(
    grain: NDArray[np.float32], across: Any, along: Any, card: Any, strands: Any, taper: Any
) -> Any:
    """Whether a point of a card of strands lies between them; `card` seeds the pattern."""
    if along > _ONE:
        return True
    position = (across + _ONE) * _HALF * strands
    lane, number = int(position), int(card)
    if along > strand_end(grain[(lane + 128) & 255, number & 255], taper):
        return True
    if grain[lane & 255, number & 255] > strand_odds(across):
        return True
    return abs(position - np.float32(lane) - _HALF) > strand_half_width(across, along)


@formula
def cap_threshold(grain: Any, x: Any, y: Any, z: Any) -> Any:
    """Coverage below which the hair's lowest layer has a gap at canonical coordinates: a ragged edge."""
    around = angle_of(x, z - np.float32(0.2))
    return np.float32(0.15) + np.float32(0.7) * grain_at(grain, around * np.float32(60), y * np.float32(5))


@formula
def collar_at(collar: Any, x: Any, z: Any) -> Any:
    """Height of the neckline; `collar` holds its height, how far it falls in front, and the depth of a V."""
    front = greatest(z - np.float32(0.2), _ZERO)
    dip = greatest(_ONE - abs(x) * np.float32(2.4), _ZERO) * front
    return collar[0] - collar[1] * front + np.float32(0.10) * abs(x) - collar[2] * dip


@jit
def _narrow(first: int, last: int, left: int, weight: Any, per_step: Any) -> tuple[int, int]:
    """The part of a row on which a weight, `weight` at column `left`, may be positive.

    per_step is 1 over the weight's growth from one column to the next, 0 where it does not grow.
    """
    crossing = -weight * per_step
    if per_step > np.float32(0):
        if crossing > np.float32(0):
            first = max(first, left + int(_FAR if crossing > _FAR else crossing))
    elif per_step < np.float32(0):
        if crossing < np.float32(0):
            last = first - 1
        elif crossing < _FAR:
            last = min(last, left + int(crossing) + 1)
    elif weight < np.float32(0):
        last = first - 1
    return first, last


@jit
def _per_step(step: Any) -> Any:
    if abs(step) > np.float32(1e-9):
        return _ONE / step
    return np.float32(0)


@jit
def _farthest_per_tile(depth_RR: NDArray[np.float32]) -> NDArray[np.float32]:
    """Greatest depth in each tile of `_TILE_PX` pixels; tiles at the edge may be cut."""
    side = len(depth_RR)
    tiles = (side + _TILE_PX - 1) // _TILE_PX
    farthest = np.zeros((tiles, tiles), np.float32)
    for row in range(tiles):
        for column in range(tiles):
            greatest_depth = np.float32(0)
            for y in range(row * _TILE_PX, min(side, (row + 1) * _TILE_PX)):
                for x in range(column * _TILE_PX, min(side, (column + 1) * _TILE_PX)):
                    greatest_depth = max(greatest_depth, depth_RR[y, x])
            farthest[row, column] = greatest_depth
    return farthest


@jit
def _is_hidden(
    farthest: NDArray[np.float32], left: int, right: int, top: int, bottom: int, nearest: float
) -> bool:
    """Whether everything in a box of pixels is already nearer than `nearest`."""
    for y in range(top // _TILE_PX, bottom // _TILE_PX + 1):
        for x in range(left // _TILE_PX, right // _TILE_PX + 1):
            if farthest[y, x] > nearest:
                return False
    return True


@jit
def rasterise(
    screen_N3: NDArray[np.float32],
    triangles_T3: NDArray[np.int32],
    material_T: NDArray[np.int32],
    coordinates_N3: NDArray[np.float32],
    coverage_N: NDArray[np.float32],
    collar: tuple[float, float, float],
    grain: NDArray[np.float32],
    side_px: int,
) -> tuple[NDArray[np.float32], NDArray[np.int32], NDArray[np.float32], NDArray[np.float32]]:
    """The z-buffer of a projected mesh: depth (1e9 where empty), triangle, weight_1, weight_2.

    Hair, lashes and cloth are cut out pixel by pixel; their edges turn soft when the picture is downsampled.
    """
    depth = np.full((side_px, side_px), np.float32(1e9), np.float32)
    triangle = np.full((side_px, side_px), -1, np.int32)
    weight_1 = np.zeros((side_px, side_px), np.float32)
    weight_2 = np.zeros((side_px, side_px), np.float32)
    farthest = np.zeros((1, 1), np.float32)
    for t in range(len(triangles_T3)):
        material = material_T[t]
        if material == _HAIR:
            if t == 0 or material_T[t - 1] != _HAIR:
                farthest = _farthest_per_tile(depth)
        a, b, c = triangles_T3[t, 0], triangles_T3[t, 1], triangles_T3[t, 2]
        x0, y0, z0 = screen_N3[a, 0], screen_N3[a, 1], screen_N3[a, 2]
        ux, uy = screen_N3[b, 0] - x0, screen_N3[b, 1] - y0
        vx, vy = screen_N3[c, 0] - x0, screen_N3[c, 1] - y0
        area = ux * vy - vx * uy
        two_sided = material == _HAIR or material == _LASH or material == _FRAME
        two_sided = two_sided or material == _UPPER_TEETH or material == _LOWER_TEETH
        if (area >= 0 and not two_sided) or abs(area) < 1e-9:
            continue
        left = max(0, int(math.ceil(x0 + min(np.float32(0), ux, vx) - np.float32(0.5))))
        right = min(side_px - 1, int(math.floor(x0 + max(np.float32(0), ux, vx) - np.float32(0.5))))
        top = max(0, int(math.ceil(y0 + min(np.float32(0), uy, vy) - np.float32(0.5))))
        bottom = min(side_px - 1, int(math.floor(y0 + max(np.float32(0), uy, vy) - np.float32(0.5))))
        if left > right or top > bottom:
            continue
        inverse = np.float32(1) / area
        dz1, dz2 = screen_N3[b, 2] - z0, screen_N3[c, 2] - z0
        if material == _HAIR and _is_hidden(
            farthest, left, right, top, bottom, z0 + min(np.float32(0), dz1, dz2)
        ):
            continue
        step_1, step_2 = vy * inverse, -uy * inverse
        step_z = step_1 * dz1 + step_2 * dz2
        per_1, per_2, per_0 = _per_step(step_1), _per_step(step_2), _per_step(-step_1 - step_2)
        is_cut = material == _LASH or material == _CAP or material == _CLOTH
        a0, a1, a2 = coordinates_N3[a, 0], coordinates_N3[a, 1], coordinates_N3[a, 2]
        b0, b1, b2 = coordinates_N3[b, 0], coordinates_N3[b, 1], coordinates_N3[b, 2]
        c0, c1, c2 = coordinates_N3[c, 0], coordinates_N3[c, 1], coordinates_N3[c, 2]
        px = np.float32(left) + np.float32(0.5) - x0
        for y in range(top, bottom + 1):
            py = np.float32(y) + np.float32(0.5) - y0
            w1 = (px * vy - vx * py) * inverse
            w2 = (ux * py - px * uy) * inverse
            first, last = left, right
            if right - left > 3:  # skip the empty corners of the box
                first, last = _narrow(first, last, left, w1, per_1)
                first, last = _narrow(first, last, left, w2, per_2)
                first, last = _narrow(first, last, left, _ONE - w1 - w2, per_0)
                w1 += step_1 * np.float32(first - left)
                w2 += step_2 * np.float32(first - left)
            while first <= last and (w1 < _ZERO or w2 < _ZERO or w1 + w2 > _ONE):
                w1 += step_1
                w2 += step_2
                first += 1
            if first > last:
                continue
            end_1 = w1 + step_1 * np.float32(last - first)
            end_2 = w2 + step_2 * np.float32(last - first)
            while end_1 < _ZERO or end_2 < _ZERO or end_1 + end_2 > _ONE:
                end_1 -= step_1
                end_2 -= step_2
                last -= 1
                if last < first:
                    break
            z = z0 + w1 * dz1 + w2 * dz2 - step_z
            w1 -= step_1
            w2 -= step_2
            if material == _HAIR:  # most pixels are hair's: a card's number is the same all over it
                across = a0 + w1 * (b0 - a0) + w2 * (c0 - a0)
                along = a1 + w1 * (b1 - a1) + w2 * (c1 - a1)
                step_across = step_1 * (b0 - a0) + step_2 * (c0 - a0)
                step_along = step_1 * (b1 - a1) + step_2 * (c1 - a1)
                for x in range(first, last + 1):
                    z += step_z
                    across += step_across
                    along += step_along
                    if z >= depth[y, x] or _is_beside_strands(
                        grain, across, along, a2, STRANDS_PER_CARD, CARD_TAPER
                    ):
                        continue
                    count = np.float32(x - first + 1)
                    depth[y, x] = z
                    triangle[y, x] = t
                    weight_1[y, x] = w1 + count * step_1
                    weight_2[y, x] = w2 + count * step_2
                continue
            for x in range(first, last + 1):
                w1 += step_1
                w2 += step_2
                z += step_z
                if z >= depth[y, x]:
                    continue
                if is_cut:
                    w0 = _ONE - w1 - w2
                    p0 = w0 * a0 + w1 * b0 + w2 * c0
                    p1 = w0 * a1 + w1 * b1 + w2 * c1
                    p2 = w0 * a2 + w1 * b2 + w2 * c2
                    if material == _LASH:
                        if p1 > LASH_ROOT and _is_beside_strands(
                            grain, p0, p1, p2, STRANDS_PER_LASH, LASH_TAPER
                        ):
                            continue
                    elif material == _CLOTH:
                        if p1 > collar_at(collar, p0, p2):
                            continue
                    else:
                        cover = w0 * coverage_N[a] + w1 * coverage_N[b] + w2 * coverage_N[c]
                        if cover < CAP_WHOLE and cover < cap_threshold(grain, p0, p1, p2):
                            continue
                depth[y, x] = z
                triangle[y, x] = t
                weight_1[y, x] = w1
                weight_2[y, x] = w2
    return depth, triangle, weight_1, weight_2


@jit
def seen_vertices(
    triangles_T3: NDArray[np.int32], triangle_RR: NDArray[np.int32], count: int
) -> NDArray[np.bool_]:
    """Which of `count` vertices belong to a triangle in the z-buffer."""
    seen = np.zeros(count, np.bool_)
    is_drawn = np.zeros(len(triangles_T3) + 1, np.bool_)
    for row in range(triangle_RR.shape[0]):
        for column in range(triangle_RR.shape[1]):
            is_drawn[triangle_RR[row, column] + 1] = True  # -1, where nothing is, comes first
    for t in range(len(triangles_T3)):
        if is_drawn[t + 1]:
            for k in range(3):
                seen[triangles_T3[t, k]] = True
    return seen


@jit
def side_by_side(
    normals_N3: NDArray[np.float32],
    coordinates_N3: NDArray[np.float32],
    sky_N: NDArray[np.float32],
    key_N: NDArray[np.float32],
) -> NDArray[np.float32]:
    """The attributes of vertices (N, 8) as shading reads them."""
    attributes = np.empty((len(normals_N3), 8), np.float32)
    for i in range(len(normals_N3)):
        for k in range(3):
            attributes[i, k] = normals_N3[i, k]
            attributes[i, 3 + k] = coordinates_N3[i, k]
        attributes[i, 6] = sky_N[i]
        attributes[i, 7] = key_N[i]
    return attributes


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
