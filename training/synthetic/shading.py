"""Compiled deferred shading: colour and class of every pixel of a z-buffer. Colours are linear RGB.

Each material function returns albedo (red, green, blue), occlusion and specular light, and the pixel's class.
"""

from __future__ import annotations

import math
from enum import IntEnum
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from training.synthetic.head_pack import TEXTURE_U, TEXTURE_V
from training.synthetic.jit import jit
from training.synthetic.raster import STRANDS_PER_CARD, collar_at, grain_at


class Segment(IntEnum):
    """Classes of the segmentation map."""

    BACKGROUND = 0
    SKIN = 1
    SCLERA = 2
    IRIS = 3
    MOUTH = 4
    TEETH = 5
    TONGUE = 6
    CLOTH = 7
    HAIR = 8
    GLASSES = 9


Colour = tuple[float, float, float]
"""Linear RGB; also a direction. Tuples cost the kernels nothing, arrays are counted at every call."""


class Look(NamedTuple):
    """What a person's surfaces look like, beside the skin's texture."""

    hair_root: Colour
    hair_tip: Colour
    iris: Colour
    teeth: Colour
    cloth: Colour
    cloth_accent: Colour
    cloth_pattern: int
    """0 plain, 1 stripes, 2 checks, 3 heather."""
    collar: Colour
    """See `raster.collar_at`."""
    frame: Colour
    """Colour of the glasses."""
    gloss: float


class Light(NamedTuple):
    """The scene's lights."""

    key_direction: Colour
    key_colour: Colour
    rim_direction: Colour
    rim_colour: Colour
    sky: Colour
    ground: Colour
    catch_direction: Colour
    """Where the eyes' normals must point to show the light."""


# Enumerations are slow to compile against; the kernels use the same numbers as plain ints.
_SKIN, _EYE, _UPPER_TEETH, _TONGUE, _MOUTH, _HAIR, _LOWER_TEETH = 0, 1, 2, 3, 4, 5, 6
_CLOTH, _LASH, _FRAME, _CAP = 7, 8, 9, 10
_SEG_SKIN, _SEG_SCLERA, _SEG_IRIS, _SEG_MOUTH, _SEG_TEETH, _SEG_TONGUE, _SEG_CLOTH, _SEG_HAIR = range(1, 9)
_SEG_GLASSES = 9
_U0, _U1 = TEXTURE_U
_V0, _V1 = TEXTURE_V
_STRIPES, _CHECKS, _HEATHER = 1, 2, 3

# What a material function returns: red, green, blue, occlusion, specular, class.
Surface = tuple[float, float, float, float, float, int]


@jit
def _ramp(low: float, high: float, x: float) -> float:
    t = min(1.0, max(0.0, (x - low) / (high - low)))
    return t * t * (3 - 2 * t)


@jit
def _power(base: float, doublings: int) -> float:
    """base to the power of 2 ** doublings."""
    for _ in range(doublings):
        base = base * base
    return base


@jit
def _deeper(z: float, front: float, span: float) -> float:
    """0 in front to 1 at `span` behind: how far back in the mouth a point lies."""
    return min(1.0, max(0.0, (front - z) / span))


@jit
def _cloth(x: float, y: float, z: float, facing: float, look: Look, grain: NDArray[np.float32]) -> Surface:
    first, second = look.cloth, look.cloth_accent
    share = 0.0
    if look.cloth_pattern == _STRIPES:
        share = _ramp(-0.25, 0.25, math.sin(y * 26))
    elif look.cloth_pattern == _CHECKS:
        share = 0.5 * _ramp(-0.2, 0.2, math.sin(y * 20)) + 0.5 * _ramp(-0.2, 0.2, math.sin(x * 20))
    elif look.cloth_pattern == _HEATHER:
        share = 0.5 * grain_at(grain, x * 70, y * 25)
    below = collar_at(look.collar, x, z) - y
    weave = 0.93 + 0.14 * grain_at(grain, x * 55 + 3, y * 55)
    if below < 0.16:  # the ribbed band of the collar
        weave *= 0.88 + 0.08 * math.sin(math.atan2(x, z - 0.1) * 120)
        share *= 0.3
    if 0.15 < below < 0.18:
        weave *= 0.75
    folds = 0.94 + 0.12 * grain_at(grain, x * 2.2 + 11, y * 1.4 + 7)
    k = weave * folds
    fuzz = 0.05 * (1 - max(0.0, facing)) ** 3
    return (
        (first[0] * (1 - share) + second[0] * share) * k + fuzz,
        (first[1] * (1 - share) + second[1] * share) * k + fuzz,
        (first[2] * (1 - share) + second[2] * share) * k + fuzz,
        1.0,
        0.0,
        _SEG_CLOTH,
    )


@jit
def _texel(skin: NDArray[np.uint8], u: float, v: float) -> tuple[float, float, float, float, float, float]:
    """The six channels of the skin's texture, read smoothly, in [0, 1]."""
    size = len(skin)
    u = min(max((u - _U0) / (_U1 - _U0) * size, 0.0), size - 1.001)
    v = min(max((v - _V0) / (_V1 - _V0) * size, 0.0), size - 1.001)
    column, row = int(u), int(v)
    fu, fv = u - column, v - row
    fu, fv = fu / 255, fv
    k1, k3 = fu * (1 - fv), fu * fv
    k0, k2 = (1 - fv) / 255 - k1, fv / 255 - k3
    right, below = column + 1, row + 1
    return (
        k0 * skin[row, column, 0]
        + k1 * skin[row, right, 0]
        + k2 * skin[below, column, 0]
        + k3 * skin[below, right, 0],
        k0 * skin[row, column, 1]
        + k1 * skin[row, right, 1]
        + k2 * skin[below, column, 1]
        + k3 * skin[below, right, 1],
        k0 * skin[row, column, 2]
        + k1 * skin[row, right, 2]
        + k2 * skin[below, column, 2]
        + k3 * skin[below, right, 2],
        k0 * skin[row, column, 3]
        + k1 * skin[row, right, 3]
        + k2 * skin[below, column, 3]
        + k3 * skin[below, right, 3],
        k0 * skin[row, column, 4]
        + k1 * skin[row, right, 4]
        + k2 * skin[below, column, 4]
        + k3 * skin[below, right, 4],
        k0 * skin[row, column, 5]
        + k1 * skin[row, right, 5]
        + k2 * skin[below, column, 5]
        + k3 * skin[below, right, 5],
    )


@jit
def _skin(
    u: float,
    v: float,
    facing: float,
    half_angle: float,
    smile: float,
    brows: float,
    gloss_scale: float,
    skin: NDArray[np.uint8],
) -> Surface:
    red, green, blue, gloss, smile_fold, brow_fold = _texel(skin, u, v)
    fold = 1 - 0.22 * smile * smile_fold - 0.5 * brows * brow_fold
    grazing = 1 - max(0.0, facing)
    shine = gloss * gloss_scale * (0.7 * _power(half_angle, 4) + 0.3 * _power(half_angle, 3))
    shine += 0.05 * grazing**4
    # Folds keep more red than green and blue: light that went through the skin.
    return red * (0.5 + 0.5 * fold), green * fold, blue * fold, 1.0, shine * fold, _SEG_SKIN


@jit
def _lid_shadow(
    row: int, column: int, triangle_RR: NDArray[np.int32], material_T: NDArray[np.int32]
) -> float:
    """Light that the lids or lips around a pixel let through, most of all the one above."""
    side = len(triangle_RR)
    reach = max(2, side * 10 // 512)
    above, below, beside = reach, reach, reach
    for k in range(1, reach):
        if above == reach and row - k >= 0:
            t = triangle_RR[row - k, column]
            if t >= 0 and (material_T[t] == _SKIN or material_T[t] == _LASH):
                above = k
        if below == reach and row + k < side:
            t = triangle_RR[row + k, column]
            if t >= 0 and material_T[t] == _SKIN:
                below = k
        if beside == reach and column - k >= 0 and column + k < side:
            left, right = triangle_RR[row, column - k], triangle_RR[row, column + k]
            if (left >= 0 and material_T[left] == _SKIN) or (right >= 0 and material_T[right] == _SKIN):
                beside = k
    open_above = 0.55 + 0.45 * _ramp(0.0, 1.0, above / reach)
    open_below = 0.80 + 0.20 * _ramp(0.0, 0.4, below / reach)
    return open_above * open_below * (0.74 + 0.26 * _ramp(0.0, 0.5, beside / reach))


@jit
def _eye(x: float, y: float, z: float, catch: float, iris: Colour, grain: NDArray[np.float32]) -> Surface:
    dx = x - (0.3078 if x > 0 else -0.3078)
    dy, dz = y - 7.284, z - 1.235
    length = math.sqrt(dx * dx + dy * dy + dz * dz)
    angle = math.acos(min(1.0, max(-1.0, dz / length)))
    radius = angle / 0.52
    shine = 1.15 * _ramp(0.979, 0.990, catch)
    white = 0.88 - 0.30 * _ramp(0.5, 1.3, angle)
    veins = 0.97 + 0.03 * grain_at(grain, x * 90, y * 60)
    ring = _ramp(0.93, 1.12, radius)  # the dark limbal ring melts into the white
    if radius < 1.04:
        pupil = _ramp(0.34, 0.42, radius)
        fibre = 0.72 + 0.5 * grain_at(grain, math.atan2(dy, dx) * 8 + 20, radius * 3)
        lower = 1 + 0.35 * min(1.0, max(-1.0, -dy / 0.07))  # light gathers opposite its entry
        limbal = 1 - 0.60 * _ramp(0.72, 1.0, radius)
        k = pupil * fibre * lower * limbal * 1.3
        share = 0.5 * ring
        return (
            (iris[0] * k + 0.008) * (1 - share) + share * white * 0.5,
            (iris[1] * k + 0.008) * (1 - share) + share * white * 0.48,
            (iris[2] * k + 0.010) * (1 - share) + share * white * 0.47,
            1.0,
            shine,
            _SEG_IRIS,
        )
    white *= 0.55 + 0.45 * ring
    pink = 0.10 * _ramp(0.75, 1.25, angle)
    return (
        white * (1 + pink),
        white * veins * (0.955 - pink),
        white * veins * (0.94 - pink),
        1.0,
        shine * 0.6,
        _SEG_SCLERA,
    )


@jit
def _tooth_place(x: float, z: float) -> tuple[float, float]:
    """Place across a tooth, -1 to 1, and how far from the front it stands, 0 to 1."""
    arc = math.atan2(abs(x), max(0.05, z - 1.13)) * 0.315
    if arc < 0.085:
        return (arc - 0.0425) / 0.0425, 0.0
    if arc < 0.150:
        return (arc - 0.1175) / 0.0325, 0.12
    if arc < 0.222:
        return (arc - 0.186) / 0.036, 0.35
    place = (arc - 0.222) / 0.07
    return (place - math.floor(place)) * 2 - 1, min(1.0, 0.55 + 0.2 * math.floor(place))


@jit
def _teeth(is_upper: bool, x: float, y: float, z: float, half_angle: float, teeth: Colour) -> Surface:
    across, back = _tooth_place(x, z)
    k = (1 - 0.45 * back) * (1 - 0.5 * _deeper(z, 1.5, 0.5))
    if (is_upper and y > 6.765) or (not is_upper and y < 6.525):  # gums
        return 0.62 * k, 0.27 * k, 0.26 * k, 1.0, 0.08 * _power(half_angle, 4), _SEG_TEETH
    squared = across * across
    k *= 1 - 0.10 * squared - 0.30 * _ramp(0.80, 1.0, squared)
    root = _ramp(6.69, 6.78, y) if is_upper else _ramp(6.60, 6.51, y)
    warm = 1 - 0.06 * root
    shine = 0.14 * _power(half_angle * (1 - 0.08 * squared), 5)
    return teeth[0] * k, teeth[1] * k * warm, teeth[2] * k * warm * warm, 1.0, shine, _SEG_TEETH


@jit
def _mouth(z: float, half_angle: float) -> Surface:
    k = 0.62 - 0.58 * _deeper(z, 1.38, 0.45)
    return 0.50 * k, 0.17 * k, 0.16 * k, 0.6, 0.05 * _power(half_angle, 5), _SEG_MOUTH


@jit
def _tongue(x: float, z: float, half_angle: float, grain: NDArray[np.float32]) -> Surface:
    k = (0.82 - 0.60 * _deeper(z, 1.42, 0.5)) * (0.92 + 0.16 * grain_at(grain, x * 60, z * 60))
    k *= 1 - 0.10 * math.exp(-((x / 0.04) ** 2))
    return 0.68 * k, 0.30 * k, 0.29 * k, 0.75, 0.10 * _power(half_angle, 4), _SEG_TONGUE


@jit
def _hair(
    across: float,
    along: float,
    card: float,
    sine_light: float,
    cosine_half: float,
    root_colour: Colour,
    tip_colour: Colour,
    grain: NDArray[np.float32],
) -> Surface:
    """One card of strands; the highlight runs across the strands (Kajiya and Kay 1989)."""
    lane, number = int((across + 1) * 0.5 * STRANDS_PER_CARD) & 255, int(card) & 255
    strand, of_card = grain[(lane + 64) & 255, number], grain[200, number]
    k = (0.75 + 0.45 * strand + 0.35 * of_card) * (0.55 + 0.45 * sine_light)
    k *= 0.62 + 0.38 * _ramp(0.0, 0.45, along)
    tip = _ramp(0.25, 1.0, along) * (0.6 + 0.4 * of_card)
    root = 1 - tip
    shifted = cosine_half + 0.10 * (strand - 0.5)
    first = max(0.0, 1 - (shifted - 0.10) ** 2)
    second = max(0.0, 1 - (shifted + 0.14) ** 2)
    tone = (tip_colour[0] + tip_colour[1] + tip_colour[2]) / 3
    shine = (0.035 + 0.10 * tone) * _power(first, 6) * (0.4 + strand)
    glow = 0.9 * _power(second, 4) * strand
    return (
        (root_colour[0] * root + tip_colour[0] * tip) * (k + glow),
        (root_colour[1] * root + tip_colour[1] * tip) * (k + glow),
        (root_colour[2] * root + tip_colour[2] * tip) * (k + glow),
        1.0,
        shine,
        _SEG_HAIR,
    )


@jit
def _cap(x: float, y: float, z: float, root: Colour, grain: NDArray[np.float32]) -> Surface:
    around = math.atan2(x, z - 0.2)
    k = 0.45 + 0.55 * grain_at(grain, around * 45, y * 6)
    return root[0] * k, root[1] * k, root[2] * k, 1.0, 0.0, _SEG_HAIR


@jit
def _wrap(material: int, segment: int) -> tuple[float, float, float]:
    """How far diffuse light bends around the edge, per colour: light scattered under the surface."""
    if segment == _SEG_CLOTH:
        return 0.10, 0.10, 0.10
    if material == _EYE:
        return 0.35, 0.30, 0.30
    if material == _HAIR or material == _CAP:
        return 0.40, 0.40, 0.40
    return 0.34, 0.16, 0.12


@jit
def shade(
    triangles_T3: NDArray[np.int32],
    material_T: NDArray[np.int32],
    uv_T32: NDArray[np.float32],
    attributes_N8: NDArray[np.float32],
    tangents_N3: NDArray[np.float32],
    triangle_RR: NDArray[np.int32],
    weight_1_RR: NDArray[np.float32],
    weight_2_RR: NDArray[np.float32],
    grain: NDArray[np.float32],
    skin_TT6: NDArray[np.uint8],
    look: Look,
    light: Light,
    smile: float,
    brows: float,
    image_RR3: NDArray[np.float32],
) -> NDArray[np.uint8]:
    """Light every covered pixel of `image_RR3` in place; returns the segmentation (R, R).

    The attributes of a vertex are its normal (3), its coordinates (3), and its shares of the ambient light
    and of the key light; tangents run along the strands of hair. smile and brows, 0 to 1, deepen the folds.
    """
    side = len(image_RR3)
    segmentation = np.zeros((side, side), np.uint8)
    lx, ly, lz = light.key_direction[0], light.key_direction[1], light.key_direction[2]
    norm = math.sqrt(lx * lx + ly * ly + (lz + 1) * (lz + 1))
    hx, hy, hz = lx / norm, ly / norm, (lz + 1) / norm
    qx, qy, qz = light.rim_direction[0], light.rim_direction[1], light.rim_direction[2]
    key, rim, sky, ground = light.key_colour, light.rim_colour, light.sky, light.ground
    for row in range(side):
        for column in range(side):
            t = triangle_RR[row, column]
            if t < 0:
                continue
            a, b, c = triangles_T3[t, 0], triangles_T3[t, 1], triangles_T3[t, 2]
            w1, w2 = weight_1_RR[row, column], weight_2_RR[row, column]
            w0 = 1 - w1 - w2
            nx = w0 * attributes_N8[a, 0] + w1 * attributes_N8[b, 0] + w2 * attributes_N8[c, 0]
            ny = w0 * attributes_N8[a, 1] + w1 * attributes_N8[b, 1] + w2 * attributes_N8[c, 1]
            nz = w0 * attributes_N8[a, 2] + w1 * attributes_N8[b, 2] + w2 * attributes_N8[c, 2]
            scale = 1 / math.sqrt(nx * nx + ny * ny + nz * nz + np.float32(1e-12))
            material = material_T[t]
            nx, ny, nz = nx * scale, ny * scale, nz * scale
            x = w0 * attributes_N8[a, 3] + w1 * attributes_N8[b, 3] + w2 * attributes_N8[c, 3]
            y = w0 * attributes_N8[a, 4] + w1 * attributes_N8[b, 4] + w2 * attributes_N8[c, 4]
            z = w0 * attributes_N8[a, 5] + w1 * attributes_N8[b, 5] + w2 * attributes_N8[c, 5]
            open_sky = w0 * attributes_N8[a, 6] + w1 * attributes_N8[b, 6] + w2 * attributes_N8[c, 6]
            lit = w0 * attributes_N8[a, 7] + w1 * attributes_N8[b, 7] + w2 * attributes_N8[c, 7]
            facing_key = nx * lx + ny * ly + nz * lz
            half_angle = max(np.float32(0), nx * hx + ny * hy + nz * hz)
            if material == _SKIN:
                u = w0 * uv_T32[t, 0, 0] + w1 * uv_T32[t, 1, 0] + w2 * uv_T32[t, 2, 0]
                v = w0 * uv_T32[t, 0, 1] + w1 * uv_T32[t, 1, 1] + w2 * uv_T32[t, 2, 1]
                surface = _skin(u, v, nz, half_angle, smile, brows, look.gloss, skin_TT6)
            elif material == _EYE:
                catch = light.catch_direction
                shadow = _lid_shadow(row, column, triangle_RR, material_T)
                open_sky, lit = shadow, lit * shadow
                surface = _eye(x, y, z, nx * catch[0] + ny * catch[1] + nz * catch[2], look.iris, grain)
            elif material == _UPPER_TEETH or material == _LOWER_TEETH:
                open_sky = np.float32(0.25) + np.float32(0.75) * _lid_shadow(
                    row, column, triangle_RR, material_T
                )
                lit = open_sky
                surface = _teeth(material == _UPPER_TEETH, x, y, z, half_angle, look.teeth)
            elif material == _MOUTH:
                open_sky, lit = np.float32(1), np.float32(0.7)
                surface = _mouth(z, half_angle)
            elif material == _TONGUE:
                open_sky = _lid_shadow(row, column, triangle_RR, material_T)
                lit = open_sky
                surface = _tongue(x, z, half_angle, grain)
            elif material == _CLOTH:
                surface = _cloth(x, y, z, nz, look, grain)
            elif material == _HAIR:
                tx = w0 * tangents_N3[a, 0] + w1 * tangents_N3[b, 0] + w2 * tangents_N3[c, 0]
                ty = w0 * tangents_N3[a, 1] + w1 * tangents_N3[b, 1] + w2 * tangents_N3[c, 1]
                tz = w0 * tangents_N3[a, 2] + w1 * tangents_N3[b, 2] + w2 * tangents_N3[c, 2]
                cosine = tx * lx + ty * ly + tz * lz
                sine_light = math.sqrt(max(np.float32(0), 1 - cosine * cosine))
                surface = _hair(
                    x, y, z, sine_light, tx * hx + ty * hy + tz * hz, look.hair_root, look.hair_tip, grain
                )
            elif material == _LASH:
                surface = (0.022, 0.016, 0.014, 1.0, 0.0, _SEG_HAIR)
            elif material == _FRAME:
                shine = 0.5 * _power(half_angle, 5)
                surface = (look.frame[0], look.frame[1], look.frame[2], 1.0, shine, _SEG_GLASSES)
            else:
                surface = _cap(x, y, z, look.hair_root, grain)
            red, green, blue, occlusion, shine, segment = surface
            segmentation[row, column] = segment
            wrap_r, wrap_g, wrap_b = _wrap(material, segment)
            up = 0.5 + 0.5 * ny
            facing_rim = nx * qx + ny * qy + nz * qz
            behind = open_sky * max(np.float32(0), facing_rim)
            glint = behind * behind * 0.35 * (1 - max(np.float32(0), nz))
            # Light that is only partly blocked is redder on skin: it has passed through some of it.
            lit_g = lit * (0.80 + 0.20 * lit) if segment == _SEG_SKIN else lit
            sky_g = open_sky * (0.88 + 0.12 * open_sky) if segment == _SEG_SKIN else open_sky
            light_r = open_sky * (sky[0] * up + ground[0] * (1 - up)) + rim[0] * behind
            light_g = sky_g * (sky[1] * up + ground[1] * (1 - up)) + rim[1] * behind
            light_b = sky_g * (sky[2] * up + ground[2] * (1 - up)) + rim[2] * behind
            light_r += key[0] * lit * max(np.float32(0), (facing_key + wrap_r) / (1 + wrap_r))
            light_g += key[1] * lit_g * max(np.float32(0), (facing_key + wrap_g) / (1 + wrap_g))
            light_b += key[2] * lit_g * max(np.float32(0), (facing_key + wrap_b) / (1 + wrap_b))
            gleam = shine * (0.25 + 0.75 * lit) * open_sky
            image_RR3[row, column, 0] = occlusion * (red * light_r + gleam * key[0]) + glint * rim[0]
            image_RR3[row, column, 1] = occlusion * (green * light_g + gleam * key[1]) + glint * rim[1]
            image_RR3[row, column, 2] = occlusion * (blue * light_b + gleam * key[2]) + glint * rim[2]
    return segmentation


@jit
def apply_tone_curve(image_HW3: NDArray[np.float32], curve: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Linear colour to display levels through a table over [0, 4]."""
    height, width, _ = image_HW3.shape
    out = np.empty((height, width, 3), np.uint8)
    scale = (len(curve) - 1) / 4.0
    for y in range(height):
        for x in range(width):
            for k in range(3):
                level = int(min(max(image_HW3[y, x, k], 0.0), 4.0) * scale + 0.5)
                out[y, x, k] = curve[level]
    return out


def tone_curve(entries: int = 32768) -> NDArray[np.uint8]:
    """The camera's response for `apply_tone_curve`: gamma 0.85 with a soft shoulder."""
    light = np.linspace(0, 4, entries) ** 0.85
    return (np.clip(light / (1 + 0.12 * light) * 1.1, 0, 1) * 255).astype(np.uint8)
