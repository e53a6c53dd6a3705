"""Painting the skin: albedo, gloss and folds over the texture, with brows and beards made of strokes."""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from training.synthetic.head_pack import TEXTURE_CHANNELS, TEXTURE_PX, HeadPack, smoothstep
from training.synthetic.jit import jit

_STROKE_PX = 640
"""Resolution of stroke drawings, per head unit."""


@dataclass(frozen=True, kw_only=True)
class Complexion:
    """What the painter needs to know of a person. Colours are albedo in [0, 1]."""

    skin: NDArray[np.float64]
    hair: NDArray[np.float64]
    darkness: float
    """0 the lightest skin, 1 the darkest."""
    masculinity: float
    age: float
    beard: float
    """0 none, to 0.5 stubble, to 1 full."""
    scalp_cover: float
    coverage_map: NDArray[Any]
    """Texture-space hair coverage (1024, 1024)."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Zones:
    """Parts of the face over the texture (1024, 1024), the same for everybody."""

    front: NDArray[Any]
    flushed: NDArray[Any]
    """Cheeks, nose, chin, brow and ears, which are redder."""
    pale: NDArray[Any]
    jaw: NDArray[Any]
    sockets: NDArray[Any]
    nostrils: NDArray[Any]
    freckled: NDArray[Any]
    gloss: NDArray[Any]
    lips: NDArray[Any]
    """With a soft border, as are the lids."""
    lip_lines: NDArray[Any]
    lip_shade: NDArray[Any]
    lids: NDArray[Any]
    lid_crease: NDArray[Any]
    smile_folds: NDArray[Any]
    brow_folds: NDArray[Any]


@functools.cache
def zones_of(pack: HeadPack) -> Zones:
    """Computed once per process: they cost more than all that is painted on them."""
    x, y, z = (pack.canonical_map[..., k] for k in range(3))
    side = np.abs(x)
    front = (z > 0.7).astype(np.float32)
    red = 0.9 * spot(side, y, (0.44, 6.98), (0.24, 0.20)) + 0.9 * spot(side, y, (0, 6.98), (0.15, 0.13))
    red = red + 0.45 * spot(side, y, (0, 6.38), (0.20, 0.12)) + 0.3 * spot(side, y, (0.2, 7.62), (0.3, 0.1))
    socket = spot(side, y, (0.30, 7.30), (0.21, 0.13)) + 0.5 * spot(side, y, (0.24, 7.14), (0.13, 0.06))
    zones = {
        "front": front,
        "flushed": red * front + 0.9 * pack.ears,
        "pale": spot(side, y, (0.0, 7.75), (0.5, 0.18)) * front,
        "jaw": smoothstep(6.75, 6.45, y) * front,
        "sockets": socket * front,
        "nostrils": spot(side, y, (0.155, 6.90), (0.035, 0.07)) * (z > 1.2),
        "freckled": spot(side, y, (0.1, 7.02), (0.45, 0.2)) * front,
        "gloss": _gloss(side, y, z),
        "lips": cv2.GaussianBlur(pack.lips, (0, 0), 3.5),
        "lip_lines": 0.04 * np.sin(side * 260),
        "lip_shade": 1 - 0.14 * smoothstep(6.66, 6.72, y),  # the upper lip turns away from the sky
        "lids": cv2.GaussianBlur(pack.eyelids, (0, 0), 4),
        "lid_crease": spot(side, y, (0.31, 7.395), (0.15, 0.014)) * (z > 1),
        "smile_folds": _smile_folds(side, y, z),
        "brow_folds": smoothstep(0.5, 0.3, side) * (z > 0.9),
    }
    return Zones(**{name: np.asarray(zone, np.float32) for name, zone in zones.items()})


@jit
def _scale(
    texture_TT3: NDArray[np.float32], map_TT: NDArray[np.float32], colour_3: NDArray[np.float32]
) -> None:
    """Multiply the texture by 1 + map x colour, in place: whole-picture temporaries cost ten times that."""
    for i in range(texture_TT3.shape[0]):
        for j in range(texture_TT3.shape[1]):
            for k in range(3):
                texture_TT3[i, j, k] *= np.float32(1) + map_TT[i, j] * colour_3[k]


@jit
def _cover(
    texture_TT3: NDArray[np.float32], share_TT: NDArray[np.float32], colour_3: NDArray[np.float32]
) -> None:
    """Blend the texture towards a colour, in place."""
    for i in range(texture_TT3.shape[0]):
        for j in range(texture_TT3.shape[1]):
            share = share_TT[i, j]
            for k in range(3):
                texture_TT3[i, j, k] += share * (colour_3[k] - texture_TT3[i, j, k])


@jit
def _levels(
    texture_TT3: NDArray[np.float32],
    gloss_TT: NDArray[np.float32],
    smile_TT: NDArray[np.float32],
    brow_TT: NDArray[np.float32],
    brow_depth: float,
) -> NDArray[np.uint8]:
    """All channels side by side as levels of 0 to 255; the last two are empty, see `TEXTURE_CHANNELS`."""
    side = len(gloss_TT)
    out = np.zeros((side, side, TEXTURE_CHANNELS), np.uint8)
    for i in range(side):
        for j in range(side):
            values = (
                texture_TT3[i, j, 0],
                texture_TT3[i, j, 1],
                texture_TT3[i, j, 2],
                gloss_TT[i, j],
                smile_TT[i, j],
                brow_TT[i, j] * np.float32(brow_depth),
            )
            for k in range(6):
                level = min(max(values[k], np.float32(0)), np.float32(1)) * np.float32(255)
                out[i, j, k] = np.uint8(level + np.float32(0.5))
    return out


def _colour(*channels: Any) -> NDArray[np.float32]:
    return np.array(channels, np.float32)


def paint_skin(rng: np.random.Generator, pack: HeadPack, person: Complexion) -> NDArray[np.uint8]:
    """(1024, 1024, 8): red, green, blue, gloss, folds of a smile, folds of raised brows, twice nothing."""
    x, y, z = (pack.canonical_map[..., k] for k in range(3))
    zones = zones_of(pack)
    skin, age = person.skin, person.age
    texture = np.empty((TEXTURE_PX, TEXTURE_PX, 3), np.float32)
    texture[:] = skin
    _tint(rng, pack, person, texture)
    gloss = zones.gloss.copy()
    _lips(rng, zones, person, texture, gloss)
    _make_up(rng, zones, person, texture)
    brow_colour = np.clip(person.hair * 0.62, 0.02, 0.45) * (1 - 0.25 * age)
    brow_colour = np.minimum(brow_colour, skin * 0.62)
    for sign in (-1, 1):
        brow = np.asarray(_brow(rng, person, sign, x, y, z), np.float32)
        _cover(texture, brow, _colour(*brow_colour))
        gloss *= 1 - 0.7 * brow
    if person.beard > 0:
        beard = np.asarray(_beard(rng, person, np.abs(x), x, y, z, zones.lips), np.float32)
        _cover(texture, beard, _colour(*(person.hair * 0.6 + 0.03 * skin)))
        gloss *= 1 - 0.7 * beard
    cover = person.coverage_map * person.scalp_cover
    scalp = np.asarray(np.clip(cover * (0.9 + 0.35 * noise(rng, 2)) - 0.05, 0, 1), np.float32)
    _cover(texture, scalp, _colour(*np.minimum(person.hair * 0.6, 0.9)))
    gloss *= 1 - 0.9 * scalp
    return _levels(texture, gloss, zones.smile_folds, _brow_folds(rng, zones, pack), 0.5 + 0.5 * age)


def noise(rng: np.random.Generator, cells: float) -> NDArray[Any]:
    """Smooth noise over the texture with unit variance; `cells` is the scale in texels."""
    small = max(8, int(TEXTURE_PX / cells * 2))
    grain = cv2.GaussianBlur(rng.standard_normal((small, small)).astype(np.float32), (0, 0), 1.0)
    full = cv2.resize(grain / grain.std(), (TEXTURE_PX, TEXTURE_PX), interpolation=cv2.INTER_CUBIC)
    return np.asarray(full)


def spot(
    side: NDArray[Any], y: NDArray[Any], centre: tuple[float, float], spread: tuple[float, float]
) -> NDArray[Any]:
    """A Gaussian blob at (|x|, y)."""
    return np.asarray(
        np.exp(-(((side - centre[0]) / spread[0]) ** 2) - ((y - centre[1]) / spread[1]) ** 2), np.float32
    )


def _tint(rng: np.random.Generator, pack: HeadPack, person: Complexion, texture: NDArray[np.float32]) -> None:
    """Vary the skin's colour in place: blotches, pores, zones, freckles, moles."""
    x, y = pack.canonical_map[..., 0], pack.canonical_map[..., 1]
    zones, dark = zones_of(pack), person.darkness
    blotches = 0.030 * noise(rng, 200) + 0.018 * noise(rng, 40) + 0.014 * noise(rng, 6)
    _scale(texture, np.asarray(blotches, np.float32), _colour(1, 1, 1))
    _scale(texture, noise(rng, 90), _colour(0.006, -0.012, -0.010))
    _scale(texture, zones.flushed, _colour(0.035, -0.105, -0.095) * np.float32(1 - 0.55 * dark))
    _scale(texture, zones.pale, _colour(0.02, 0.03, 0.015))
    _scale(texture, zones.jaw, _colour(-0.06, -0.045, -0.03) * np.float32(0.3 + 0.7 * person.masculinity))
    _scale(texture, zones.sockets, _colour(-0.09, -0.15, -0.12) * np.float32(0.6 + 0.5 * person.age))
    _scale(texture, zones.nostrils, _colour(-0.06, -0.14, -0.13))
    if rng.random() < 0.25 and dark < 0.5:
        freckles = cv2.GaussianBlur((noise(rng, 3) > 1.5).astype(np.float32), (0, 0), 1.0)
        _scale(texture, freckles * zones.freckled, _colour(-0.08, -0.17, -0.20))
    for _ in range(int(rng.integers(0, 4))):
        mole = spot(x, y, (rng.uniform(-0.6, 0.6), rng.uniform(6.4, 7.3)), (0.010, 0.010)) * zones.front
        _scale(texture, np.asarray(mole, np.float32), _colour(-0.32, -0.4, -0.4))


def _gloss(side: NDArray[Any], y: NDArray[Any], z: NDArray[Any]) -> NDArray[Any]:
    """Oil of the T-zone: forehead, nose, chin and the tops of the cheeks."""
    zone = 0.55 * spot(side, y, (0, 7.72), (0.35, 0.18)) + 0.75 * spot(side, y, (0, 7.05), (0.09, 0.25))
    zone = (
        zone + 0.35 * spot(side, y, (0, 6.33), (0.14, 0.09)) + 0.3 * spot(side, y, (0.42, 7.10), (0.16, 0.10))
    )
    return np.asarray(np.clip(0.30 + zone * (z > 0.7), 0, 1), np.float32)


def _lips(
    rng: np.random.Generator,
    zones: Zones,
    person: Complexion,
    texture: NDArray[np.float32],
    gloss: NDArray[np.float32],
) -> None:
    """Paint the lips with a soft border."""
    wears = rng.random() < 0.45 * (1 - person.masculinity)
    natural = person.skin * (np.array([0.90, 0.66, 0.66]) + np.array([-0.05, 0.08, 0.10]) * person.darkness)
    chosen = [[0.62, 0.16, 0.18], [0.66, 0.30, 0.30], [0.50, 0.14, 0.20], [0.70, 0.36, 0.36]][
        int(rng.integers(4))
    ]
    share = 0.45 if wears else 0.0
    colour = np.clip(natural * (1 - share) + np.array(chosen) * share * (1 - 0.35 * person.darkness), 0, 1)
    lines = 1 + 0.05 * noise(rng, 5) + zones.lip_lines
    _paint_shaded(texture, zones.lips * np.float32(0.88), lines * zones.lip_shade, _colour(*colour))
    np.maximum(gloss, zones.lips * np.float32(rng.uniform(0.7, 1.0)), out=gloss)


@jit
def _paint_shaded(
    texture_TT3: NDArray[np.float32],
    share_TT: NDArray[np.float32],
    shade_TT: NDArray[np.float32],
    colour_3: NDArray[np.float32],
) -> None:
    """Blend the texture towards a colour that is lighter and darker from place to place, in place."""
    for i in range(texture_TT3.shape[0]):
        for j in range(texture_TT3.shape[1]):
            share = share_TT[i, j]
            if share > 0:
                for k in range(3):
                    wanted = colour_3[k] * shade_TT[i, j]
                    texture_TT3[i, j, k] += share * (wanted - texture_TT3[i, j, k])


def _make_up(
    rng: np.random.Generator, zones: Zones, person: Complexion, texture: NDArray[np.float32]
) -> None:
    """Shade of the lids and of the crease above them."""
    strength = rng.uniform(0.15, 0.6) if rng.random() > person.masculinity else 0.12
    _scale(texture, zones.lids, _colour(-0.30, -0.42, -0.38) * np.float32(strength))
    _scale(texture, zones.lid_crease, _colour(-0.16, -0.22, -0.22))


def _brow(
    rng: np.random.Generator,
    person: Complexion,
    sign: int,
    x: NDArray[Any],
    y: NDArray[Any],
    z: NDArray[Any],
) -> NDArray[Any]:
    """Opacity of one eyebrow: strokes drawn on a frontal sheet, laid over the texture."""
    left, low, wide, high = 0.04, 7.36, 0.70, 0.36
    sheet = np.zeros((int(high * _STROKE_PX), int(wide * _STROKE_PX)), np.uint8)
    lift, arch = rng.normal(0.004, 0.008), rng.uniform(0.022, 0.05)
    thickness = rng.uniform(0.034, 0.052) * (0.85 + 0.40 * person.masculinity)
    count = int(rng.uniform(170, 260) * (0.8 + 0.4 * person.masculinity))
    along = rng.beta(1.15, 1.25, count)
    across = np.clip(rng.normal(0, 0.42, count), -1, 1)
    x_root = 0.115 + 0.435 * along
    bend = 7.475 + lift + arch * np.sin(along * 2.45) + 0.01 * along
    taper = np.minimum(1, 0.55 + 3.0 * along) * (1 - 0.78 * smoothstep(0.35, 1.0, along))
    y_root = bend + thickness * taper * across - 0.3 * thickness
    lean = np.interp(along, [0, 0.12, 0.4, 1], [1.15, 0.85, 0.45, -0.15])
    lean = lean - 0.5 * across * (along > 0.15) + rng.normal(0, 0.14, count)
    length = rng.uniform(0.055, 0.085, count) * np.interp(along, [0, 0.3, 1], [0.6, 1.0, 0.6])
    for k in range(count):
        points = [
            (
                (x_root[k] - left + length[k] * s * math.cos(lean[k] - 0.45 * s)) * _STROKE_PX * 16,
                (y_root[k] - low + length[k] * s * math.sin(lean[k] - 0.45 * s)) * _STROKE_PX * 16,
            )
            for s in (0.0, 0.5, 1.0)
        ]
        stroke = np.round(np.array(points)).astype(np.int32)
        level = int(rng.uniform(120, 235) * min(1.0, 0.55 + 3.5 * along[k]))
        cv2.polylines(sheet, [stroke], False, level, 2 if rng.random() < 0.6 else 3, cv2.LINE_AA, 4)
    strokes = cv2.GaussianBlur(sheet.astype(np.float32) / 255, (0, 0), 1.0)
    under = cv2.GaussianBlur(strokes, (0, 0), 8) * 0.85
    column = ((sign * x - left) * _STROKE_PX).astype(np.float32)
    row = ((y - low) * _STROKE_PX).astype(np.float32)
    laid = cv2.remap(np.maximum(strokes, under), column, row, cv2.INTER_LINEAR, borderValue=0.0)
    return np.asarray(np.clip(laid * 1.05, 0, 1) * (z > 0.85) * rng.uniform(0.78, 0.95))


def _beard(
    rng: np.random.Generator,
    person: Complexion,
    side: NDArray[Any],
    x: NDArray[Any],
    y: NDArray[Any],
    z: NDArray[Any],
    lips: NDArray[Any],
) -> NDArray[Any]:
    """Opacity of the beard: strokes that hang from an area with soft edges."""
    around = np.arctan2(side, z - 0.35)
    cheek = np.interp(around, [0, 0.25, 0.5, 0.9, 1.3, 1.6], [6.86, 6.84, 6.70, 6.72, 6.98, 7.2])
    cheek = cheek + 0.03 * noise(rng, 20)
    area = smoothstep(0.07, -0.14, y - cheek) * smoothstep(5.95, 6.25, y) * smoothstep(1.75, 1.5, around)
    bare = 0.75 * spot(side, y, (0.10, 6.49), (0.05, 0.04)) + 0.6 * spot(side, y, (0.42, 6.62), (0.10, 0.08))
    area = area * (1 - np.clip(bare, 0, 1) * (1.2 - person.beard)) * (1 - np.clip(1.6 * lips, 0, 1))
    pixels = 420
    sheet = np.zeros((int(1.5 * pixels), int(3.6 * pixels)), np.float32)
    strokes = int(9000 * (0.5 + person.beard))
    length = (0.018 + 0.055 * person.beard) * pixels
    xs, ys = rng.uniform(0, sheet.shape[1], strokes), rng.uniform(0, sheet.shape[0], strokes)
    lean = rng.normal(0, 0.35, strokes)
    ends_x, ends_y = xs + length * np.sin(lean), ys - length * np.cos(lean)
    lines = np.stack([np.stack([xs, ys], 1), np.stack([ends_x, ends_y], 1)], 1)
    drawn = np.zeros(sheet.shape, np.uint8)
    cv2.polylines(drawn, list(np.round(lines * 16).astype(np.int32)), False, 255, 1, cv2.LINE_AA, 4)
    turn = np.arctan2(x, z - 0.35)
    column, row = ((turn + 1.8) * pixels).astype(np.float32), ((y - 5.8) * pixels).astype(np.float32)
    hairs = cv2.remap(drawn.astype(np.float32) / 255, column, row, cv2.INTER_LINEAR, borderValue=0.0)
    density = np.clip(0.25 + 0.9 * person.beard, 0, 1)
    return np.asarray(np.clip(area * density * (0.35 + 0.35 * person.beard + 0.75 * hairs), 0, 0.94))


def _smile_folds(side: NDArray[Any], y: NDArray[Any], z: NDArray[Any]) -> NDArray[Any]:
    """Lines from the nose to the mouth and beside the eyes."""
    path = np.interp(y, [6.50, 6.62, 6.80, 6.93, 6.99], [0.345, 0.350, 0.285, 0.215, 0.180])
    fold = np.exp(-(((side - path) / 0.017) ** 2)) * smoothstep(6.50, 6.64, y) * smoothstep(7.0, 6.92, y)
    crow: NDArray[Any] = np.zeros_like(fold)
    for slope, weight in ((0.45, 0.5), (0.0, 0.6), (-0.5, 0.5)):
        line = 7.27 + slope * (side - 0.50)
        crow = crow + weight * np.exp(-(((y - line) / 0.008) ** 2))
    crow = crow * smoothstep(0.50, 0.55, side) * smoothstep(0.68, 0.60, side)
    return np.asarray((fold + crow) * (z > 0.7), np.float32)


def _brow_folds(rng: np.random.Generator, zones: Zones, pack: HeadPack) -> NDArray[np.float32]:
    """Lines across the brow; computed only where there is any."""
    rows, columns = np.nonzero(zones.brow_folds)
    place = pack.canonical_map[rows, columns]
    side, y = np.abs(place[:, 0]), place[:, 1]
    lines: NDArray[Any] = np.zeros_like(y)
    for height in (7.66, 7.75, 7.85):
        wave = height + 0.012 * np.sin(side * 9 + rng.uniform(0, 6)) - 0.05 * side * side
        lines = lines + np.exp(-(((y - wave) / 0.010) ** 2))
    folds = np.zeros_like(zones.brow_folds)
    folds[rows, columns] = lines * zones.brow_folds[rows, columns]
    return folds
