"""Painting the skin: albedo, gloss and folds over the texture, with brows and beards made of strokes."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from training.synthetic.head_pack import TEXTURE_PX, HeadPack, smoothstep

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


def paint_skin(rng: np.random.Generator, pack: HeadPack, person: Complexion) -> NDArray[np.uint8]:
    """(1024, 1024, 6): red, green, blue, gloss, folds of a smile, folds of raised brows."""
    x, y, z = (pack.canonical_map[..., k] for k in range(3))
    side = np.abs(x)
    skin, age = person.skin, person.age
    texture: NDArray[Any] = np.ones((TEXTURE_PX, TEXTURE_PX, 3), np.float32) * skin.astype(np.float32)
    texture *= _tint(rng, pack, person)
    gloss = _gloss(side, y, z)
    lips = _lips(rng, pack, person, texture, gloss, side, y)
    _make_up(rng, pack, person, texture, side, y, z)
    brow_colour = np.clip(person.hair * 0.62, 0.02, 0.45) * (1 - 0.25 * age)
    brow_colour = np.minimum(brow_colour, skin * 0.62)
    for sign in (-1, 1):
        brow = _brow(rng, person, sign, x, y, z)[..., None]
        texture = texture * (1 - brow) + brow * brow_colour
        gloss *= 1 - 0.7 * brow[..., 0]
    if person.beard > 0:
        beard = _beard(rng, person, side, x, y, z, lips)[..., None]
        colour = person.hair * 0.6 + 0.03 * skin
        texture = texture * (1 - beard) + beard * colour
        gloss *= 1 - 0.7 * beard[..., 0]
    cover = person.coverage_map * person.scalp_cover
    cover = np.clip(cover * (0.9 + 0.35 * noise(rng, 2)) - 0.05, 0, 1)[..., None]
    texture = texture * (1 - cover) + cover * np.minimum(person.hair * 0.6, 0.9)
    gloss *= 1 - 0.9 * cover[..., 0]
    channels = [np.clip(texture, 0, 1), gloss[..., None], _smile_folds(side, y, z)[..., None]]
    channels.append(_brow_folds(rng, side, y, z)[..., None] * (0.5 + 0.5 * age))
    painted = np.clip(np.concatenate(channels, 2), 0, 1) * 255
    return np.ascontiguousarray(np.round(painted), np.uint8)


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


def _tint(rng: np.random.Generator, pack: HeadPack, person: Complexion) -> NDArray[Any]:
    """Factors (1024, 1024, 3) on the skin's colour: zones, blotches, pores, freckles, moles."""
    x, y, z = (pack.canonical_map[..., k] for k in range(3))
    side, dark = np.abs(x), person.darkness
    front = (z > 0.7).astype(np.float32)
    tint: NDArray[Any] = np.ones((TEXTURE_PX, TEXTURE_PX, 3), np.float32)
    tint *= (1 + 0.030 * noise(rng, 200) + 0.018 * noise(rng, 40) + 0.014 * noise(rng, 6))[..., None]
    flush = noise(rng, 90)[..., None] * np.array([0.006, -0.012, -0.010], np.float32)
    tint *= 1 + flush
    red = 0.9 * spot(side, y, (0.44, 6.98), (0.24, 0.20)) + 0.9 * spot(side, y, (0, 6.98), (0.15, 0.13))
    red = red + 0.45 * spot(side, y, (0, 6.38), (0.20, 0.12)) + 0.3 * spot(side, y, (0.2, 7.62), (0.3, 0.1))
    red = red * front + 0.9 * pack.ears
    tint *= 1 + red[..., None] * np.array([0.035, -0.105, -0.095], np.float32) * (1 - 0.55 * dark)
    pale = spot(side, y, (0.0, 7.75), (0.5, 0.18)) * front
    tint *= 1 + pale[..., None] * np.array([0.02, 0.03, 0.015], np.float32)
    jaw = smoothstep(6.75, 6.45, y) * front * (0.3 + 0.7 * person.masculinity)
    tint *= 1 - jaw[..., None] * np.array([0.06, 0.045, 0.03], np.float32)
    socket = spot(side, y, (0.30, 7.30), (0.21, 0.13)) + 0.5 * spot(side, y, (0.24, 7.14), (0.13, 0.06))
    socket = socket * front * (0.6 + 0.5 * person.age)
    tint *= 1 - socket[..., None] * np.array([0.09, 0.15, 0.12], np.float32)
    wing = spot(side, y, (0.155, 6.90), (0.035, 0.07)) * (z > 1.2)  # beside the nostrils
    tint *= 1 - wing[..., None] * np.array([0.06, 0.14, 0.13], np.float32)
    if rng.random() < 0.25 and dark < 0.5:
        freckles = cv2.GaussianBlur((noise(rng, 3) > 1.5).astype(np.float32), (0, 0), 1.0)
        freckles = freckles * spot(side, y, (0.1, 7.02), (0.45, 0.2)) * front
        tint *= 1 - freckles[..., None] * np.array([0.08, 0.17, 0.20], np.float32)
    for _ in range(int(rng.integers(0, 4))):  # moles
        mole = spot(x, y, (rng.uniform(-0.6, 0.6), rng.uniform(6.4, 7.3)), (0.010, 0.010)) * front
        tint *= 1 - 0.4 * mole[..., None] * np.array([0.8, 1, 1], np.float32)
    return tint


def _gloss(side: NDArray[Any], y: NDArray[Any], z: NDArray[Any]) -> NDArray[Any]:
    """Oil of the T-zone: forehead, nose, chin and the tops of the cheeks."""
    zone = 0.55 * spot(side, y, (0, 7.72), (0.35, 0.18)) + 0.75 * spot(side, y, (0, 7.05), (0.09, 0.25))
    zone = (
        zone + 0.35 * spot(side, y, (0, 6.33), (0.14, 0.09)) + 0.3 * spot(side, y, (0.42, 7.10), (0.16, 0.10))
    )
    return np.asarray(np.clip(0.30 + zone * (z > 0.7), 0, 1), np.float32)


def _lips(
    rng: np.random.Generator,
    pack: HeadPack,
    person: Complexion,
    texture: NDArray[Any],
    gloss: NDArray[Any],
    side: NDArray[Any],
    y: NDArray[Any],
) -> NDArray[Any]:
    """Paint the lips with a soft border; returns their mask."""
    lips = np.asarray(cv2.GaussianBlur(pack.lips, (0, 0), 3.5))
    wears = rng.random() < 0.45 * (1 - person.masculinity)
    natural = person.skin * (np.array([0.90, 0.66, 0.66]) + np.array([-0.05, 0.08, 0.10]) * person.darkness)
    chosen = [[0.62, 0.16, 0.18], [0.66, 0.30, 0.30], [0.50, 0.14, 0.20], [0.70, 0.36, 0.36]][
        int(rng.integers(4))
    ]
    share = 0.45 if wears else 0.0
    colour = np.clip(natural * (1 - share) + np.array(chosen) * share * (1 - 0.35 * person.darkness), 0, 1)
    lines = 1 + 0.05 * noise(rng, 5) + 0.04 * np.sin(side * 260)
    shade = lines * (1 - 0.14 * smoothstep(6.66, 6.72, y))  # the upper lip turns away from the sky
    mask = lips[..., None] * 0.88
    texture *= 1 - mask
    texture += mask * colour * shade[..., None]
    np.maximum(gloss, lips * rng.uniform(0.7, 1.0), out=gloss)
    return lips


def _make_up(
    rng: np.random.Generator,
    pack: HeadPack,
    person: Complexion,
    texture: NDArray[Any],
    side: NDArray[Any],
    y: NDArray[Any],
    z: NDArray[Any],
) -> None:
    """Shade of the lids, the crease above them, and the dark line at the lashes' roots."""
    lids = cv2.GaussianBlur(pack.eyelids, (0, 0), 4)[..., None]
    strength = rng.uniform(0.15, 0.6) if rng.random() > person.masculinity else 0.12
    texture *= 1 - lids * strength * np.array([0.30, 0.42, 0.38])
    crease = spot(side, y, (0.31, 7.395), (0.15, 0.014)) * (z > 1)
    texture *= 1 - crease[..., None] * np.array([0.16, 0.22, 0.22])


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


def _brow_folds(
    rng: np.random.Generator, side: NDArray[Any], y: NDArray[Any], z: NDArray[Any]
) -> NDArray[Any]:
    lines: NDArray[Any] = np.zeros_like(y)
    for height in (7.66, 7.75, 7.85):
        wave = height + 0.012 * np.sin(side * 9 + rng.uniform(0, 6)) - 0.05 * side * side
        lines = lines + np.exp(-(((y - wave) / 0.010) ** 2))
    return np.asarray(lines * smoothstep(0.5, 0.3, side) * (z > 0.9), np.float32)
