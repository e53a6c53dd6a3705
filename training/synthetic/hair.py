"""Hair as cards of strands: ribbons that grow from the scalp, are combed, fall, and keep off the head.

A card carries a pattern of strands (see `raster._is_beside_strands`); cards in many layers give the soft,
irregular outline of hair. Cards move rigidly with the head, long ones stay behind on the shoulders.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from training.synthetic.head_pack import HeadPack, Material, smoothstep

Comb = Literal["forward", "back", "part", "up", "out"]

_KNOT_CARDS = 110
_CROWN = np.array([0.0, 8.45, 0.05])
_HAIRLINE_AROUND = np.array([0.0, 0.30, 0.60, 0.85, 1.02, 1.18, 1.35, 1.60, 1.85, 2.05, 2.4, 3.15])
"""Angles about the head's vertical axis, 0 in front, at which `_HAIRLINE_HEIGHT` holds."""
_HAIRLINE_HEIGHT = np.array([0.0, 0.02, 0.00, -0.22, -0.55, -0.88, -0.62, -0.52, -0.62, -1.15, -1.60, -1.68])
"""Height over the hairline in front, in head units."""


@dataclass(frozen=True, kw_only=True)
class HairStyle:
    """How hair of one style grows. Lengths are in head units (decimetres)."""

    length: float
    cards: int
    comb: Comb
    width: float = 0.15
    lift: float = 0.5
    """How far roots stand up before the comb takes hold: 0 flat, 1 along the normal."""
    volume: float = 0.10
    """Greatest distance of the outermost cards from the head."""
    gravity: float = 0.0
    stiffness: float = 0.55
    """Share of its direction that a strand keeps per step."""
    cling: float = 0.6
    """How far a step brings hair that stands off the head back to it: 0 not at all, 1 fully."""
    curl: float = 0.0
    """Radius of waves."""
    curl_turns: float = 2.0
    end_height: float | None = None
    """Hair is cut at this height."""
    fringe: float | None = None
    """Length of the hair that falls over the forehead."""
    side_length: float | None = None
    """Length on the sides and the back, where they are shorter than the top."""
    tip: float = 0.75
    """Width of a card at its tip, as a share of its width."""
    bun: tuple[float, float, float, float] | None = None
    """Centre and radius of a knot."""
    scalp_cover: float = 0.85


STYLES: dict[str, HairStyle] = {
    "crop": HairStyle(
        length=0.42, cards=500, comb="forward", width=0.11, lift=0.55, tip=0.35, volume=0.13, side_length=0.16
    ),
    "side_part": HairStyle(
        length=0.75,
        cards=440,
        comb="part",
        width=0.14,
        lift=0.75,
        volume=0.20,
        side_length=0.2,
        cling=0.4,
        tip=0.4,
    ),
    "quiff": HairStyle(
        length=0.65,
        cards=440,
        comb="back",
        width=0.13,
        lift=0.95,
        volume=0.27,
        side_length=0.14,
        stiffness=0.7,
        cling=0.1,
    ),
    "slick": HairStyle(
        length=0.8, cards=410, comb="back", width=0.13, lift=0.2, volume=0.07, side_length=0.4
    ),
    "messy": HairStyle(
        length=0.6,
        cards=480,
        comb="out",
        width=0.12,
        lift=0.8,
        volume=0.22,
        curl=0.03,
        gravity=0.15,
        fringe=0.5,
        cling=0.2,
    ),
    "curly": HairStyle(
        length=0.65,
        cards=560,
        comb="out",
        width=0.13,
        lift=0.9,
        volume=0.26,
        curl=0.07,
        curl_turns=2.2,
        gravity=0.1,
        cling=0.2,
    ),
    "afro": HairStyle(
        length=0.62,
        cards=740,
        comb="up",
        width=0.13,
        lift=1.0,
        volume=0.44,
        curl=0.055,
        curl_turns=2.6,
        stiffness=0.75,
        cling=0.45,
        tip=0.9,
    ),
    "buzz": HairStyle(length=0.07, cards=0, comb="forward", scalp_cover=0.72),
    "bald": HairStyle(length=0.0, cards=0, comb="forward", scalp_cover=0.14),
    "bob": HairStyle(
        length=2.2,
        cards=220,
        comb="part",
        width=0.20,
        lift=0.5,
        volume=0.20,
        gravity=0.35,
        end_height=6.45,
    ),
    "bob_fringe": HairStyle(
        length=2.2,
        cards=230,
        comb="part",
        width=0.20,
        lift=0.5,
        volume=0.18,
        gravity=0.35,
        end_height=6.3,
        fringe=0.56,
    ),
    "long": HairStyle(
        length=3.3,
        cards=210,
        comb="part",
        width=0.22,
        lift=0.5,
        volume=0.20,
        gravity=0.35,
    ),
    "long_fringe": HairStyle(
        length=3.2,
        cards=170,
        comb="part",
        width=0.23,
        lift=0.5,
        volume=0.18,
        gravity=0.35,
        fringe=0.56,
    ),
    "wavy": HairStyle(
        length=3.0,
        cards=170,
        comb="part",
        width=0.23,
        lift=0.7,
        volume=0.26,
        gravity=0.32,
        curl=0.07,
        curl_turns=3.0,
    ),
    "curly_long": HairStyle(
        length=2.3,
        cards=230,
        comb="part",
        width=0.20,
        lift=0.9,
        volume=0.36,
        gravity=0.25,
        curl=0.10,
        curl_turns=4.5,
    ),
    "bun": HairStyle(
        length=1.3, cards=360, comb="back", width=0.14, lift=0.12, volume=0.06, bun=(0.0, 8.62, -0.12, 0.30)
    ),
    "ponytail": HairStyle(
        length=1.4, cards=360, comb="back", width=0.14, lift=0.15, volume=0.07, bun=(0.0, 8.0, -0.62, 0.24)
    ),
}


@dataclass(frozen=True, kw_only=True, eq=False)
class HairMesh:
    """Cards of strands, H vertices; `coordinates` hold across (-1 to 1), along (0 root to 1 tip), number."""

    vertices_H3: NDArray[np.float32]
    normals_H3: NDArray[np.float32]
    tangents_H3: NDArray[np.float32]
    coordinates_H3: NDArray[np.float32]
    triangles_K3: NDArray[np.int32]


class Surface:
    """The head without its ears' details, for hair to keep off."""

    def __init__(
        self, vertices_F3: NDArray[np.float32], normals_F3: NDArray[np.float32], pack: HeadPack
    ) -> None:
        used = np.unique(pack.triangles_T3[pack.triangle_material_T == Material.SKIN])
        used = used[normals_F3[used].any(1)]
        self._vertices, self._normals = vertices_F3[used], normals_F3[used]
        self._tree = cKDTree(self._vertices)

    def nearest(self, points_M3: NDArray[Any]) -> tuple[NDArray[Any], NDArray[Any]]:
        """Signed distance (M,) and normal (M, 3) of the surface nearest to each point."""
        _, found = self._tree.query(points_M3)
        normals = self._normals[found]
        return ((points_M3 - self._vertices[found]) * normals).sum(1), normals


def hair_coverage(canonical: NDArray[np.float32], hairline: float, phase: float) -> NDArray[Any]:
    """How much hair grows at canonical coordinates (..., 3), in [0, 1].

    `hairline` is its height in front; `phase` seeds the waves that keep the line from being straight.
    """
    x, y, z = canonical[..., 0], canonical[..., 1], canonical[..., 2]
    around = np.arctan2(np.abs(x), z - 0.2)
    line = hairline + np.interp(around, _HAIRLINE_AROUND, _HAIRLINE_HEIGHT)
    turn = np.arctan2(x, z - 0.2)
    line = line + 0.018 * np.sin(9 * turn + phase) + 0.012 * np.sin(23 * turn + 2.3 * phase)
    return np.asarray(smoothstep(-0.05, 0.14, y - line))


def grows_over_forehead(roots: NDArray[Any]) -> NDArray[np.bool_]:
    """Which roots (..., 3) a fringe grows from."""
    return np.asarray((roots[..., 2] > 0.75) & (roots[..., 1] > 7.75) & (np.abs(roots[..., 0]) < 0.55))


def grow(
    rng: np.random.Generator,
    style: HairStyle,
    surface: Surface,
    roots_V3: NDArray[np.float32],
    root_normals_V3: NDArray[np.float32],
) -> HairMesh:
    """Cards of one style from candidate roots (already spread over the scalp); deterministic by `rng`."""
    if style.cards == 0 or len(roots_V3) == 0:
        return _empty()
    part = float(rng.choice([-1, 1])) * rng.uniform(0.0, 0.28)
    lines, layer = _comb_lines(rng, style, surface, roots_V3.astype(np.float64), root_normals_V3, part)
    widths = style.width * rng.uniform(0.7, 1.25, len(lines))
    if style.bun is not None:
        knot = _knot(rng, np.array(style.bun[:3]), style.bun[3], lines.shape[1])
        lines = np.concatenate([lines, knot])
        widths = np.concatenate([widths, np.full(len(knot), 0.13)])
        layer = np.concatenate([layer, np.full(len(knot), -1.0)])  # last, see `_cards`
    outer_first = np.argsort(-layer, kind="stable")  # what lies beneath is then skipped sooner
    return _cards(rng, lines[outer_first], widths[outer_first], surface, style)


def _empty() -> HairMesh:
    none = np.zeros((0, 3), np.float32)
    return HairMesh(
        vertices_H3=none,
        normals_H3=none,
        tangents_H3=none,
        coordinates_H3=none,
        triangles_K3=np.zeros((0, 3), np.int32),
    )


def _comb_lines(
    rng: np.random.Generator,
    style: HairStyle,
    surface: Surface,
    roots: NDArray[Any],
    normals: NDArray[Any],
    part: float,
) -> tuple[NDArray[Any], NDArray[Any]]:
    """Centre lines (M, steps + 1, 3) of the cards and each one's layer in [0, 1]."""
    count = len(roots)
    layer = rng.uniform(0, 1, count)
    length = style.length * rng.uniform(0.75, 1.1, count)
    on_top = smoothstep(7.75, 8.1, roots[:, 1])
    if style.side_length is not None:
        length *= style.side_length / style.length * (1 - on_top) + on_top
    is_fringe = grows_over_forehead(roots) & (style.fringe is not None)
    if style.fringe is not None:
        length[is_fringe] = style.fringe * rng.uniform(0.85, 1.15, int(is_fringe.sum()))
    steps = 14 if style.curl > 0 and style.length > 1 else (11 if style.length > 1 else 7)
    clearance = 0.02 + style.volume * layer * (0.45 + 0.55 * on_top if style.side_length else 1.0)
    noise = rng.normal(0, 0.16, (count, 3))
    shares = np.linspace(0.45, 1.55, steps) / steps  # short steps where the head bends the hair most
    position = roots + 0.01 * normals
    combed = _comb(style.comb, position, normals, roots, part, is_fringe)
    heading = _unit(style.lift * normals + (1 - 0.6 * style.lift) * combed + noise)
    line = [roots - 0.02 * normals]
    for k in range(steps):
        position = position + heading * (length * shares[k])[:, None]
        distance, nearest = surface.nearest(position)
        rise = min(1.0, (k + 1) / (0.35 * steps))
        deficit = np.maximum(clearance * rise - distance, 0)[:, None]
        excess = np.maximum(distance - clearance * rise, 0) * smoothstep(6.9, 7.4, position[:, 1])
        position = position + nearest * (np.minimum(deficit, 0.25) - style.cling * excess[:, None])
        position = _off_the_face(position, is_fringe) if style.gravity else position
        line.append(position)
        combed = _comb(style.comb, position, nearest, roots, part, is_fringe)
        pull = np.array([0, -style.gravity * (0.4 + 2.6 * (k + 1) / steps), 0])
        heading = _unit(style.stiffness * heading + (1 - style.stiffness) * combed + pull + 0.25 * noise)
    lines = np.stack(line, 1)
    return (_curl(rng, lines, style) if style.curl else lines), layer


def _comb(
    comb: Comb,
    position: NDArray[Any],
    normals: NDArray[Any],
    roots: NDArray[Any],
    part: float,
    is_fringe: NDArray[np.bool_],
) -> NDArray[Any]:
    """Unit directions (M, 3) that the comb asks for at each position, along the head's surface."""
    away = position - _CROWN
    if comb == "forward":
        wanted = away + np.array([0.25, 0, 0.25]) * smoothstep(7.9, 8.2, roots[:, 1])[:, None]
    elif comb == "back":
        wanted = (
            np.broadcast_to(np.array([0.0, 0.12, -1.0]), position.shape)
            + np.array([0, -0.5, 0]) * (smoothstep(0.1, -0.4, position[:, 2])[:, None])
        )
    elif comb == "up":
        wanted = normals * 1.0 + 0.2 * away
    elif comb == "out":
        wanted = away * np.array([1, 0.6, 1.0]) + 0.35 * normals
    else:
        beside = np.sign(roots[:, 0] - part)
        low = smoothstep(8.15, 7.6, position[:, 1])
        in_front = smoothstep(0.35, 0.8, position[:, 2])
        wanted = np.stack(
            [beside * (1.0 - 0.85 * low + 0.5 * in_front * low), -0.25 - 0.9 * low, -0.35 * in_front - 0.1], 1
        )
    if is_fringe.any():
        forward = np.stack(
            [0.35 * position[:, 0] - 0.25 * part, np.full(len(position), -0.7), np.ones(len(position))], 1
        )
        wanted = np.where(is_fringe[:, None], forward, wanted)
    if comb != "up":
        wanted = wanted - 0.85 * (wanted * normals).sum(1, keepdims=True) * normals
    return _unit(wanted)


def _off_the_face(position: NDArray[Any], is_fringe: NDArray[np.bool_]) -> NDArray[Any]:
    """Push falling hair aside where it would hang before the face."""
    before = smoothstep(0.5, 0.8, position[:, 2]) * smoothstep(7.95, 7.7, position[:, 1]) * ~is_fringe
    side = np.where(position[:, 0] < 0, -1.0, 1.0)
    missing = np.maximum(0.74 - np.abs(position[:, 0]), 0) * before
    moved = position.copy()
    moved[:, 0] += side * missing
    return moved


def _curl(rng: np.random.Generator, lines: NDArray[Any], style: HairStyle) -> NDArray[Any]:
    """Wind the lines about themselves, more towards the tips."""
    count, points, _ = lines.shape
    along = np.linspace(0, 1, points)
    phase = rng.uniform(0, 2 * math.pi, (count, 1)) * (1.0 if style.curl > 0.05 else 0.4)
    turn = 2 * math.pi * style.curl_turns * along + phase
    tangent = _unit(np.gradient(lines, axis=1))
    side = _unit(np.cross(tangent, np.array([0.3, 0.2, 1.0])))
    other = np.cross(tangent, side)
    radius = (style.curl * smoothstep(0, 0.4, along))[None, :, None]
    return np.asarray(lines + radius * (np.cos(turn)[..., None] * side + np.sin(turn)[..., None] * other))


def _knot(rng: np.random.Generator, centre: NDArray[Any], radius: float, points: int) -> NDArray[Any]:
    """Great circles about a ball: a bun."""
    count = _KNOT_CARDS
    axis = _unit(rng.normal(0, 1, (count, 3)) * np.array([0.5, 0.5, 1.0]))
    first = _unit(np.cross(axis, rng.normal(0, 1, (count, 3))))
    second = np.cross(axis, first)
    start, reach = rng.uniform(0, 2 * math.pi, (count, 1)), rng.uniform(1.2, 2.2, (count, 1))
    angle = (start + reach * np.linspace(0, 1, points))[..., None]
    spread = rng.uniform(0.85, 1.05, (count, 1, 1)) * radius
    ring = np.cos(angle) * first[:, None] + np.sin(angle) * second[:, None]
    return np.asarray(centre + spread * ring)


def _cards(
    rng: np.random.Generator, lines: NDArray[Any], widths: NDArray[Any], surface: Surface, style: HairStyle
) -> HairMesh:
    """Two rows of vertices per line, facing away from the head."""
    count, points, _ = lines.shape
    tangent = _unit(np.gradient(lines, axis=1))
    _, nearest = surface.nearest(lines.reshape(-1, 3))
    radial = lines * np.array([1, 0, 1]) - np.array([0, 0, 0.2])
    hanging = smoothstep(7.3, 6.7, lines[..., 1])[..., None]
    outward = _unit(nearest.reshape(lines.shape) * (1 - hanging) + _unit(radial) * hanging)
    if style.bun is not None:
        from_knot = lines - np.array(style.bun[:3])
        is_knot = np.arange(count) >= count - _KNOT_CARDS
        outward = np.where(is_knot[:, None, None], _unit(from_knot), outward)
    side = _unit(np.cross(outward, tangent))
    outward = np.cross(tangent, side)
    along = np.linspace(0, 1, points)
    shape = np.interp(along, [0, 0.25, 0.7, 1], [0.75, 1.0, 1.0, style.tip])
    half = 0.5 * widths[:, None, None] * shape[None, :, None]
    vertices = np.stack([lines - half * side, lines + half * side], 2)
    normals = np.stack([_unit(outward - 0.35 * side), _unit(outward + 0.35 * side)], 2)
    coordinates = np.empty((count, points, 2, 3))
    coordinates[..., 0] = np.array([-1, 1])
    coordinates[..., 1] = _cut_along(rng, lines, style)[..., None]
    coordinates[..., 2] = (np.arange(count) % 250)[:, None, None] + 0.5
    first = (np.arange(count)[:, None] * points + np.arange(points - 1))[..., None] * 2
    quads = first + np.array([0, 1, 3, 2])
    kept = (coordinates[:, :-1, 0, 1] < 1).reshape(-1)
    quads = quads.reshape(-1, 4)[kept]
    triangles = np.concatenate([quads[:, [0, 1, 2]], quads[:, [0, 2, 3]]])
    return HairMesh(
        vertices_H3=vertices.reshape(-1, 3).astype(np.float32),
        normals_H3=normals.reshape(-1, 3).astype(np.float32),
        tangents_H3=np.repeat(tangent[:, :, None], 2, 2).reshape(-1, 3).astype(np.float32),
        coordinates_H3=coordinates.reshape(-1, 3).astype(np.float32),
        triangles_K3=triangles.astype(np.int32),
    )


def _cut_along(rng: np.random.Generator, lines: NDArray[Any], style: HairStyle) -> NDArray[Any]:
    """How far along its strands each point lies (M, points); above 1 it is cut off."""
    count, points, _ = lines.shape
    along = np.broadcast_to(np.linspace(0, 1, points), (count, points)).copy()
    if style.end_height is None:
        return along
    end: NDArray[Any] = np.asarray(style.end_height + rng.normal(0, 0.05, count))
    for i in range(count):
        below = np.nonzero(lines[i, :, 1] < end[i])[0]
        if len(below) and below[0] > 0:
            k = int(below[0])
            high, low = lines[i, k - 1, 1], lines[i, k, 1]
            share = (k - 1 + (high - end[i]) / max(high - low, 1e-6)) / (points - 1)
            along[i] /= max(share, 1e-3)
    return along


def _unit(vectors: NDArray[Any]) -> NDArray[Any]:
    return np.asarray(vectors / (np.linalg.norm(vectors, axis=-1, keepdims=True) + 1e-9))
