"""Eyelashes: ribbons along the margins of the upper lids, carried by the skin of each frame."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from training.synthetic.head_pack import HeadPack, Material, load_head_pack
from training.synthetic.jit import jit

_COLUMNS = 15
"""Points along one lid."""
_ROWS = 3
_WINDOW_PX = 420
_WINDOW_UNITS = 0.42
_EYE_X, _EYE_Y = 0.3078, 7.284


@dataclass(frozen=True, kw_only=True, eq=False)
class LashMesh:
    """Both upper lids' lashes, E = 2 * columns * rows vertices."""

    anchor_triangles_A3: NDArray[np.int32]
    """Fine vertices of the triangle that each of the A = 2 * columns roots sits on."""
    anchor_weights_A3: NDArray[np.float32]
    sides_A: NDArray[np.float32]
    """1 for the figure's left eye, -1 for the right one."""
    across_A: NDArray[np.float32]
    """-1 at the inner corner, 1 at the outer one."""
    coordinates_E3: NDArray[np.float32]
    triangles_K3: NDArray[np.int32]

    def vertices(
        self, head_F3: NDArray[np.float32], eyes_23: NDArray[np.float32], closed_2: Any, length: float
    ) -> Any:
        """Posed vertices (E, 3) for posed skin; eyes are the eyeballs' centres, left then right, and
        closed_2 is how far each eye is shut.
        """
        corners = head_F3[self.anchor_triangles_A3]
        root = (corners * self.anchor_weights_A3[..., None]).sum(1)
        left = self.sides_A > 0
        centre = np.where(left[:, None], eyes_23[0], eyes_23[1])
        shut = np.where(left, closed_2[0], closed_2[1])[:, None].astype(np.float32)
        away = root - centre
        away /= np.linalg.norm(away, axis=1, keepdims=True) + np.float32(1e-9)
        lateral = np.zeros_like(away)
        lateral[:, 0] = self.sides_A * self.across_A
        up = np.array([0, 1, 0], np.float32)
        first = 0.75 * away + 0.28 * lateral + up * (0.35 - 0.75 * shut)
        second = 0.45 * away + 0.30 * lateral + up * (0.85 - 0.95 * shut)
        grown = np.float32(length) * (0.66 + 0.22 * self.across_A - 0.40 * self.across_A**4)[:, None]
        base = root - np.float32(0.004) * away
        rows = np.stack(
            [base, base + 0.45 * grown * first, base + 0.45 * grown * first + 0.55 * grown * second], 1
        )
        return np.asarray(rows.reshape(-1, 3), np.float32)


@functools.cache
def lash_mesh() -> LashMesh:
    """Lashes on the margins of the base head's lids; the same for every identity."""
    pack = load_head_pack()
    anchors, weights, sides, across = [], [], [], []
    for side in (1.0, -1.0):
        triangles, corner_weights = _upper_margin(pack, side)
        anchors.append(triangles)
        weights.append(corner_weights)
        sides.append(np.full(_COLUMNS, side, np.float32))
        across.append(np.linspace(-1, 1, _COLUMNS, dtype=np.float32))
    sheet = np.zeros((2, _COLUMNS, _ROWS, 3), np.float32)
    sheet[..., 0] = np.stack(across)[:, :, None]
    sheet[..., 1] = np.linspace(0, 1, _ROWS)
    sheet[..., 2] = np.array([40.5, 41.5])[:, None, None]
    first = (np.arange(2)[:, None, None] * _COLUMNS + np.arange(_COLUMNS - 1)[:, None]) * _ROWS
    first = (first + np.arange(_ROWS - 1)).reshape(-1, 1)
    quads = first + np.array([0, 1, _ROWS + 1, _ROWS])
    return LashMesh(
        anchor_triangles_A3=np.concatenate(anchors),
        anchor_weights_A3=np.concatenate(weights),
        sides_A=np.concatenate(sides),
        across_A=np.concatenate(across),
        coordinates_E3=sheet.reshape(-1, 3),
        triangles_K3=np.concatenate([quads[:, [0, 1, 2]], quads[:, [0, 2, 3]]]).astype(np.int32),
    )


def _upper_margin(pack: HeadPack, side: float) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
    """Triangles and weights of points just above the open eye, from the inner corner to the outer one."""
    scale = _WINDOW_PX / _WINDOW_UNITS
    corner = np.array([side * _EYE_X - _WINDOW_UNITS / 2, _EYE_Y - _WINDOW_UNITS / 2])
    flat = np.concatenate([(pack.canonical_F3[:, :2] - corner) * scale, pack.canonical_F3[:, 2:]], 1)
    seen, weight_1, weight_2 = _look_at(flat.astype(np.float32), pack.triangles_T3)
    material = np.where(seen >= 0, pack.triangle_material_T[seen], -1)
    eye = material == Material.EYE
    columns = np.nonzero(eye.any(0))[0]
    margin = 3
    wanted = np.round(np.linspace(columns[0] + margin, columns[-1] - margin, _COLUMNS)).astype(int)
    triangles, weights = [], []
    for column in wanted if side > 0 else wanted[::-1]:
        row = int(np.nonzero(eye[:, column])[0].max())
        while material[row, column] != Material.SKIN:  # rows run upwards
            row += 1
        t = seen[row, column]
        w1, w2 = weight_1[row, column], weight_2[row, column]
        triangles.append(pack.triangles_T3[t])
        weights.append([1 - w1 - w2, w1, w2])
    return np.array(triangles, np.int32), np.array(weights, np.float32)


@jit
def _look_at(
    flat_N3: NDArray[np.float32], triangles_T3: NDArray[np.int32]
) -> tuple[NDArray[np.int32], NDArray[np.float32], NDArray[np.float32]]:
    """Triangle and weights seen in each cell of the window, looking along -z."""
    side = _WINDOW_PX
    height = np.full((side, side), np.float32(-1e9), np.float32)
    seen = np.full((side, side), -1, np.int32)
    weight_1 = np.zeros((side, side), np.float32)
    weight_2 = np.zeros((side, side), np.float32)
    for t in range(len(triangles_T3)):
        a, b, c = triangles_T3[t, 0], triangles_T3[t, 1], triangles_T3[t, 2]
        x0, y0 = flat_N3[a, 0], flat_N3[a, 1]
        ux, uy = flat_N3[b, 0] - x0, flat_N3[b, 1] - y0
        vx, vy = flat_N3[c, 0] - x0, flat_N3[c, 1] - y0
        area = ux * vy - vx * uy
        if area <= 1e-9:
            continue
        for y in range(max(0, int(y0 + min(0.0, uy, vy))), min(side - 1, int(y0 + max(0.0, uy, vy)) + 1) + 1):
            for x in range(
                max(0, int(x0 + min(0.0, ux, vx))), min(side - 1, int(x0 + max(0.0, ux, vx)) + 1) + 1
            ):
                px, py = x + 0.5 - x0, y + 0.5 - y0
                w1, w2 = (px * vy - vx * py) / area, (ux * py - px * uy) / area
                if w1 < 0 or w2 < 0 or w1 + w2 > 1:
                    continue
                z = (1 - w1 - w2) * flat_N3[a, 2] + w1 * flat_N3[b, 2] + w2 * flat_N3[c, 2]
                if z > height[y, x]:
                    height[y, x] = z
                    seen[y, x] = t
                    weight_1[y, x] = w1
                    weight_2[y, x] = w2
    return seen, weight_1, weight_2
