"""Deferred shading: colour and class of every pixel of a z-buffer. Colours are linear RGB.

Materials and lights are formulas (see `elementwise`): `shade` compiles them for the CPU, `torch_renderer`
calls the same ones with tensors.
"""

from __future__ import annotations

import math
from enum import IntEnum
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from training.synthetic.elementwise import (
    angle_of,
    arc_cosine,
    exponential,
    floor,
    formula,
    greatest,
    least,
    sine,
    square_root,
    unit,
    where,
    whole,
)
from training.synthetic.head_pack import TEXTURE_CHANNELS, TEXTURE_U, TEXTURE_V
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


Colour = tuple[Any, Any, Any]
"""Linear RGB; also a direction. Tuples of np.float32 cost the kernels nothing, arrays are counted at every
call; in torch they hold tensors.
"""


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
    gloss: Any


class Light(NamedTuple):
    """The scene's lights."""

    key_direction: Colour
    key_colour: Colour
    half_direction: Colour
    """Half way between the key light and the camera."""
    rim_direction: Colour
    rim_colour: Colour
    sky: Colour
    ground: Colour
    catch_direction: Colour
    """Where the eyes' normals must point to show the light."""


# Enumerations are slow to compile against; the kernels use `Material`'s numbers as plain ints.
_SKIN, _EYE, _UPPER_TEETH, _TONGUE, _MOUTH, _HAIR, _LOWER_TEETH = 0, 1, 2, 3, 4, 5, 6
_CLOTH, _LASH, _FRAME, _CAP = 7, 8, 9, 10
_SEG_SKIN, _SEG_SCLERA, _SEG_IRIS, _SEG_MOUTH, _SEG_TEETH, _SEG_TONGUE, _SEG_CLOTH, _SEG_HAIR = range(1, 9)
_SEG_GLASSES = 9
STRIPES, CHECKS, HEATHER = 1, 2, 3
"""Values of `Look.cloth_pattern`."""
F = np.float32
_ZERO, _HALF, _ONE = F(0), F(0.5), F(1)
_U0, _V0 = F(TEXTURE_U[0]), F(TEXTURE_V[0])
_U_SPAN, _V_SPAN = F(TEXTURE_U[1] - TEXTURE_U[0]), F(TEXTURE_V[1] - TEXTURE_V[0])
_PER_LEVEL = F(1 / 255)
COLLAR_BAND = F(0.16)
"""How far below the neckline the collar's ribs reach."""
_EYE_X, _EYE_Y, _EYE_Z = F(0.3078), F(7.284), F(1.235)

Surface = tuple[Any, Any, Any, Any, Any]
"""What a material's formula returns: red, green, blue, share of the light that is let in, specular light."""


@formula
def ramp(low: Any, high: Any, x: Any) -> Any:
    t = unit((x - low) / (high - low))
    return t * t * (F(3) - F(2) * t)


@formula
def to_the_4th(base: Any) -> Any:
    squared = base * base
    return squared * squared


@formula
def to_the_16th(base: Any) -> Any:
    return to_the_4th(to_the_4th(base))


@formula
def to_the_32nd(base: Any) -> Any:
    half = to_the_16th(base)
    return half * half


@formula
def deeper(z: Any, front: Any, span: Any) -> Any:
    """0 in front to 1 at `span` behind: how far back in the mouth a point lies."""
    return unit((front - z) / span)


@formula
def stripes(y: Any) -> Any:
    """Share of a cloth's second colour, as of `checks` and `heather`."""
    return ramp(F(-0.25), F(0.25), sine(y * F(26)))


@formula
def checks(x: Any, y: Any) -> Any:
    across, along = ramp(F(-0.2), F(0.2), sine(x * F(20))), ramp(F(-0.2), F(0.2), sine(y * F(20)))
    return _HALF * along + _HALF * across


@formula
def heather(x: Any, y: Any, grain: Any) -> Any:
    return _HALF * grain_at(grain, x * F(70), y * F(25))


@formula
def ribs(x: Any, z: Any) -> Any:
    """Light and dark of the collar's band."""
    return F(0.88) + F(0.08) * sine(angle_of(x, z - F(0.1)) * F(120))


@formula
def cloth(x: Any, y: Any, facing: Any, below: Any, rib: Any, share: Any, look: Look, grain: Any) -> Surface:
    """`below` is the distance to the neckline, `rib` the value of `ribs`, `share` the pattern's."""
    weave = F(0.93) + F(0.14) * grain_at(grain, x * F(55) + F(3), y * F(55))
    in_band = below < COLLAR_BAND
    weave = where(in_band, weave * rib, weave)
    share = where(in_band, F(0.3) * share, share)
    weave = where((below > F(0.15)) & (below < F(0.18)), F(0.75) * weave, weave)
    folds = F(0.94) + F(0.12) * grain_at(grain, x * F(2.2) + F(11), y * F(1.4) + F(7))
    k = weave * folds
    grazing = _ONE - greatest(facing, _ZERO)
    fuzz = F(0.05) * grazing * grazing * grazing
    first, second = look.cloth, look.cloth_accent
    rest = _ONE - share
    return (
        (first[0] * rest + second[0] * share) * k + fuzz,
        (first[1] * rest + second[1] * share) * k + fuzz,
        (first[2] * rest + second[2] * share) * k + fuzz,
        _ONE,
        _ZERO,
    )


@formula
def texel_place(u: Any, v: Any, size: Any) -> tuple[Any, Any]:
    """Column and row of the skin's texture, `size` texels wide."""
    column = least(greatest((u - _U0) / _U_SPAN * size, _ZERO), size - F(1.001))
    row = least(greatest((v - _V0) / _V_SPAN * size, _ZERO), size - F(1.001))
    return column, row


@formula
def skin(texel: Any, facing: Any, half_angle: Any, smile: Any, brows: Any, gloss_scale: Any) -> Surface:
    """`texel` holds red, green, blue, gloss, folds of a smile and of raised brows, 0 to 255."""
    fold = _ONE - F(0.22) * smile * (texel[4] * _PER_LEVEL) - _HALF * brows * (texel[5] * _PER_LEVEL)
    grazing = _ONE - greatest(facing, _ZERO)
    fourth = to_the_4th(half_angle)
    sharp = fourth * fourth
    shine = texel[3] * _PER_LEVEL * gloss_scale * sharp * (F(0.7) * sharp + F(0.3))
    shine = shine + F(0.05) * to_the_4th(grazing)
    # Folds keep more red than green and blue: light that went through the skin.
    return (
        texel[0] * _PER_LEVEL * (_HALF + _HALF * fold),
        texel[1] * _PER_LEVEL * fold,
        texel[2] * _PER_LEVEL * fold,
        _ONE,
        shine * fold,
    )


@formula
def lid_light(above: Any, below: Any, beside: Any) -> Any:
    """Light that lids or lips around a point let through, most of all the one above.

    Each is the distance to the nearest skin on that side, as a share of the farthest that counts.
    """
    open_above = F(0.55) + F(0.45) * ramp(_ZERO, _ONE, above)
    open_below = F(0.80) + F(0.20) * ramp(_ZERO, F(0.4), below)
    return open_above * open_below * (F(0.74) + F(0.26) * ramp(_ZERO, _HALF, beside))


def lid_reach(side_px: int) -> int:
    """Pixels that `lid_light` looks far in a raster of that side."""
    return max(2, side_px * 10 // 512)


@formula
def eye(x: Any, y: Any, z: Any, catch: Any, iris: Any, grain: Any) -> tuple[Surface, Any]:
    """Surface of an eyeball and whether the point belongs to the iris."""
    dx = abs(x) - _EYE_X
    dy, dz = y - _EYE_Y, z - _EYE_Z
    length = square_root(dx * dx + dy * dy + dz * dz)
    angle = arc_cosine(least(greatest(dz / length, -_ONE), _ONE))
    radius = angle / F(0.52)
    shine = F(1.15) * ramp(F(0.979), F(0.990), catch)
    white = F(0.88) - F(0.30) * ramp(_HALF, F(1.3), angle)
    veins = F(0.97) + F(0.03) * grain_at(grain, x * F(90), y * F(60))
    ring = ramp(F(0.93), F(1.12), radius)  # the dark limbal ring melts into the white
    pupil = ramp(F(0.34), F(0.42), radius)
    outward = where(x > _ZERO, dx, -dx)
    fibre = F(0.72) + _HALF * grain_at(grain, angle_of(dy, outward) * F(8) + F(20), radius * F(3))
    lower = _ONE + F(0.35) * least(greatest(-dy / F(0.07), -_ONE), _ONE)  # light gathers opposite its entry
    limbal = _ONE - F(0.60) * ramp(F(0.72), _ONE, radius)
    k = pupil * fibre * lower * limbal * F(1.3)
    share = _HALF * ring
    inside, outside = _ONE - share, share * white
    dimmed = white * (F(0.55) + F(0.45) * ring)
    veined = dimmed * veins
    pink = F(0.10) * ramp(F(0.75), F(1.25), angle)
    is_iris = radius < F(1.04)
    surface = (
        where(is_iris, (iris[0] * k + F(0.008)) * inside + outside * _HALF, dimmed * (_ONE + pink)),
        where(is_iris, (iris[1] * k + F(0.008)) * inside + outside * F(0.48), veined * (F(0.955) - pink)),
        where(is_iris, (iris[2] * k + F(0.010)) * inside + outside * F(0.47), veined * (F(0.94) - pink)),
        _ONE,
        where(is_iris, shine, F(0.6) * shine),
    )
    return surface, is_iris


@formula
def tooth_place(x: Any, z: Any) -> tuple[Any, Any]:
    """Place across a tooth, -1 to 1, and how far from the front it stands, 0 to 1."""
    arc = angle_of(abs(x), greatest(z - F(1.13), F(0.05))) * F(0.315)
    molar = (arc - F(0.222)) / F(0.07)
    number = floor(molar)
    across, back = (molar - number) * F(2) - _ONE, least(F(0.55) + F(0.2) * number, _ONE)
    is_canine, is_lateral, is_incisor = arc < F(0.222), arc < F(0.150), arc < F(0.085)
    across = where(is_canine, (arc - F(0.186)) / F(0.036), across)
    back = where(is_canine, F(0.35), back)
    across = where(is_lateral, (arc - F(0.1175)) / F(0.0325), across)
    back = where(is_lateral, F(0.12), back)
    across = where(is_incisor, (arc - F(0.0425)) / F(0.0425), across)
    return across, where(is_incisor, _ZERO, back)


@formula
def teeth(is_upper: bool, x: Any, y: Any, z: Any, half_angle: Any, colour: Any) -> Surface:
    across, back = tooth_place(x, z)
    depth = (_ONE - F(0.45) * back) * (_ONE - _HALF * deeper(z, F(1.5), _HALF))
    squared = across * across
    k = depth * (_ONE - F(0.10) * squared - F(0.30) * ramp(F(0.80), _ONE, squared))
    if is_upper:
        is_gum, root = y > F(6.765), ramp(F(6.69), F(6.78), y)
    else:
        is_gum, root = y < F(6.525), ramp(F(-6.60), F(-6.51), -y)
    warm = _ONE - F(0.06) * root
    shine = F(0.14) * to_the_32nd(half_angle * (_ONE - F(0.08) * squared))
    return (
        where(is_gum, F(0.62) * depth, colour[0] * k),
        where(is_gum, F(0.27) * depth, colour[1] * k * warm),
        where(is_gum, F(0.26) * depth, colour[2] * k * warm * warm),
        _ONE,
        where(is_gum, F(0.08) * to_the_16th(half_angle), shine),
    )


@formula
def mouth(z: Any, half_angle: Any) -> Surface:
    k = F(0.62) - F(0.58) * deeper(z, F(1.38), F(0.45))
    return F(0.50) * k, F(0.17) * k, F(0.16) * k, F(0.6), F(0.05) * to_the_32nd(half_angle)


@formula
def tongue(x: Any, z: Any, half_angle: Any, grain: Any) -> Surface:
    k = F(0.82) - F(0.60) * deeper(z, F(1.42), _HALF)
    k = k * (F(0.92) + F(0.16) * grain_at(grain, x * F(60), z * F(60)))
    groove = x / F(0.04)
    k = k * (_ONE - F(0.10) * exponential(-groove * groove))
    return F(0.68) * k, F(0.30) * k, F(0.29) * k, F(0.75), F(0.10) * to_the_16th(half_angle)


@formula
def hair(
    across: Any, along: Any, card: Any, cosine_light: Any, cosine_half: Any, root: Any, tip: Any, grain: Any
) -> Surface:
    """One card of strands; the highlight runs across the strands (Kajiya and Kay 1989)."""
    lane, number = whole((across + _ONE) * _HALF * STRANDS_PER_CARD) & 255, whole(card) & 255
    strand, of_card = grain[(lane + 64) & 255, number], grain[200, number]
    sine_light = square_root(greatest(_ONE - cosine_light * cosine_light, _ZERO))
    k = (F(0.75) + F(0.45) * strand + F(0.35) * of_card) * (F(0.55) + F(0.45) * sine_light)
    k = k * (F(0.62) + F(0.38) * ramp(_ZERO, F(0.45), along))
    dyed = ramp(F(0.25), _ONE, along) * (F(0.6) + F(0.4) * of_card)
    own = _ONE - dyed
    shifted = cosine_half + F(0.10) * (strand - _HALF)
    first, second = shifted - F(0.10), shifted + F(0.14)
    tone = (tip[0] + tip[1] + tip[2]) / F(3)
    narrow, wide = greatest(_ONE - first * first, _ZERO), greatest(_ONE - second * second, _ZERO)
    shine = (F(0.035) + F(0.10) * tone) * to_the_4th(to_the_16th(narrow)) * (F(0.4) + strand)
    k = k + F(0.9) * to_the_16th(wide) * strand
    return (
        (root[0] * own + tip[0] * dyed) * k,
        (root[1] * own + tip[1] * dyed) * k,
        (root[2] * own + tip[2] * dyed) * k,
        _ONE,
        shine,
    )


@formula
def cap(x: Any, y: Any, z: Any, root: Any, grain: Any) -> Surface:
    around = angle_of(x, z - F(0.2))
    k = F(0.45) + F(0.55) * grain_at(grain, around * F(45), y * F(6))
    return root[0] * k, root[1] * k, root[2] * k, _ONE, _ZERO


LASH_SURFACE = (F(0.022), F(0.016), F(0.014), F(1), F(0))


@formula
def frame(half_angle: Any, colour: Any) -> Surface:
    """Glasses."""
    return colour[0], colour[1], colour[2], _ONE, _HALF * to_the_32nd(half_angle)


@formula
def wrap_of(material: int) -> tuple[Any, Any, Any]:
    """How far diffuse light bends around the edge, per colour: light scattered under the surface."""
    if material == _CLOTH:
        return F(0.10), F(0.10), F(0.10)
    if material == _EYE:
        return F(0.35), F(0.30), F(0.30)
    if material == _HAIR or material == _CAP:
        return F(0.40), F(0.40), F(0.40)
    return F(0.34), F(0.16), F(0.12)


@formula
def mouth_light() -> tuple[Any, Any]:
    """Shares of the ambient and of the key light inside the mouth, whose own formula darkens it."""
    return F(1), F(0.7)


@formula
def teeth_light(shadow: Any) -> Any:
    return F(0.25) + F(0.75) * shadow


@formula
def lit_colour(
    surface: Surface,
    material: int,
    facing_key: Any,
    ny: Any,
    nz: Any,
    facing_rim: Any,
    sky: Any,
    key: Any,
    light: Light,
) -> tuple[Any, Any, Any]:
    """Linear red, green and blue; `sky` and `key` are the shares of the ambient and the key light."""
    red, green, blue, let_in, shine = surface
    wrap = wrap_of(material)
    up = _HALF + _HALF * ny
    down = _ONE - up
    behind = sky * greatest(facing_rim, _ZERO)
    glint = behind * behind * F(0.35) * (_ONE - greatest(nz, _ZERO))
    key_g, sky_g = key, sky
    if material == _SKIN:  # light that is only partly blocked is redder: it has passed through some skin
        key_g, sky_g = key * (F(0.80) + F(0.20) * key), sky * (F(0.88) + F(0.12) * sky)
    bent_r = greatest((facing_key + wrap[0]) * (_ONE / (_ONE + wrap[0])), _ZERO)
    bent_g = greatest((facing_key + wrap[1]) * (_ONE / (_ONE + wrap[1])), _ZERO)
    bent_b = greatest((facing_key + wrap[2]) * (_ONE / (_ONE + wrap[2])), _ZERO)
    colour, rim, top, bottom = light.key_colour, light.rim_colour, light.sky, light.ground
    light_r = sky * (top[0] * up + bottom[0] * down) + rim[0] * behind + colour[0] * key * bent_r
    light_g = sky_g * (top[1] * up + bottom[1] * down) + rim[1] * behind + colour[1] * key_g * bent_g
    light_b = sky_g * (top[2] * up + bottom[2] * down) + rim[2] * behind + colour[2] * key_g * bent_b
    gleam = shine * (F(0.25) + F(0.75) * key) * sky
    return (
        let_in * (red * light_r + gleam * colour[0]) + glint * rim[0],
        let_in * (green * light_g + gleam * colour[1]) + glint * rim[1],
        let_in * (blue * light_b + gleam * colour[2]) + glint * rim[2],
    )


@jit
def _lid_shadow(row: int, column: int, triangle_RR: NDArray[np.int32], material_T: NDArray[np.int32]) -> Any:
    """`lid_light` of a pixel."""
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
    far = F(reach)
    return lid_light(F(above) / far, F(below) / far, F(beside) / far)


@jit
def _cloth(
    x: float, y: float, z: float, facing: float, look: Look, grain: NDArray[np.float32]
) -> tuple[float, float, float, float, float]:
    share = F(0)
    if look.cloth_pattern == STRIPES:
        share = stripes(y)
    elif look.cloth_pattern == CHECKS:
        share = checks(x, y)
    elif look.cloth_pattern == HEATHER:
        share = heather(x, y, grain)
    below = collar_at(look.collar, x, z) - y
    rib = ribs(x, z) if below < COLLAR_BAND else F(1)
    return cloth(x, y, facing, below, rib, share, look, grain)


@jit
def _is_smooth(row: int, column: int, triangle_RR: NDArray[np.int32], material_T: NDArray[np.int32]) -> Any:
    """Whether the four pixels from here on show skin alone, or cloth alone: two of them tell the others."""
    side = len(triangle_RR)
    if row + 1 >= side or column + 1 >= side:
        return False
    first = triangle_RR[row, column]
    if first < 0:
        return False
    material = material_T[first]
    if material != _SKIN and material != _CLOTH:
        return False
    beside, below = triangle_RR[row, column + 1], triangle_RR[row + 1, column]
    across = triangle_RR[row + 1, column + 1]
    if beside < 0 or below < 0 or across < 0:
        return False
    return material_T[beside] == material and material_T[below] == material and material_T[across] == material


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
    skin_TT8: NDArray[np.uint8],
    look: Look,
    light: Light,
    smile: Any,
    brows: Any,
    is_halved: bool,
    image_RR3: NDArray[np.float32],
    segmentation_RR: NDArray[np.uint8],
    room_16: NDArray[np.float32],
) -> None:
    """Light every covered pixel of `image_RR3` in place and note its class; `room_16` is to work in.

    is_halved: the picture will have half the raster's side, so where four pixels of skin or of cloth become
    one, two of them are enough (`_is_smooth`).

    The attributes of a vertex are its normal (3), its coordinates (3), and its shares of the ambient light
    and of the key light; tangents run along the strands of hair. smile and brows, 0 to 1, deepen the folds.
    """
    side = len(image_RR3)
    here, texel = room_16[:8], room_16[8:]
    texture_px = F(len(skin_TT8))
    lx, ly, lz = light.key_direction
    hx, hy, hz = light.half_direction
    qx, qy, qz = light.rim_direction
    for row in range(side):
        for column in range(side):
            t = triangle_RR[row, column]
            if t < 0:
                continue
            if (
                is_halved
                and (row + column) & 1
                and _is_smooth(row & ~1, column & ~1, triangle_RR, material_T)
            ):
                continue  # `halved` does without it
            a, b, c = triangles_T3[t, 0], triangles_T3[t, 1], triangles_T3[t, 2]
            w1, w2 = weight_1_RR[row, column], weight_2_RR[row, column]
            w0 = _ONE - w1 - w2
            for k in range(8):
                here[k] = w0 * attributes_N8[a, k] + w1 * attributes_N8[b, k] + w2 * attributes_N8[c, k]
            nx, ny, nz, x, y, z = here[0], here[1], here[2], here[3], here[4], here[5]
            sky, key = here[6], here[7]
            scale = _ONE / math.sqrt(nx * nx + ny * ny + nz * nz + F(1e-12))
            nx, ny, nz = nx * scale, ny * scale, nz * scale
            half_angle = max(_ZERO, nx * hx + ny * hy + nz * hz)
            material = material_T[t]
            if material == _SKIN:
                u = w0 * uv_T32[t, 0, 0] + w1 * uv_T32[t, 1, 0] + w2 * uv_T32[t, 2, 0]
                v = w0 * uv_T32[t, 0, 1] + w1 * uv_T32[t, 1, 1] + w2 * uv_T32[t, 2, 1]
                across, down = texel_place(u, v, texture_px)
                left, top = int(across), int(down)
                fu, fv = across - F(left), down - F(top)
                k0, k1, k2, k3 = (_ONE - fu) * (_ONE - fv), fu * (_ONE - fv), (_ONE - fu) * fv, fu * fv
                for k in range(TEXTURE_CHANNELS):
                    above = k0 * F(skin_TT8[top, left, k]) + k1 * F(skin_TT8[top, left + 1, k])
                    below = k2 * F(skin_TT8[top + 1, left, k]) + k3 * F(skin_TT8[top + 1, left + 1, k])
                    texel[k] = above + below
                painted = (texel[0], texel[1], texel[2], texel[3], texel[4], texel[5])
                surface = skin(painted, nz, half_angle, smile, brows, look.gloss)
                segment = _SEG_SKIN
            elif material == _HAIR:
                tx = w0 * tangents_N3[a, 0] + w1 * tangents_N3[b, 0] + w2 * tangents_N3[c, 0]
                ty = w0 * tangents_N3[a, 1] + w1 * tangents_N3[b, 1] + w2 * tangents_N3[c, 1]
                tz = w0 * tangents_N3[a, 2] + w1 * tangents_N3[b, 2] + w2 * tangents_N3[c, 2]
                along_key, along_half = tx * lx + ty * ly + tz * lz, tx * hx + ty * hy + tz * hz
                surface = hair(x, y, z, along_key, along_half, look.hair_root, look.hair_tip, grain)
                segment = _SEG_HAIR
            elif material == _CLOTH:
                surface = _cloth(x, y, z, nz, look, grain)
                segment = _SEG_CLOTH
            elif material == _EYE:
                cx, cy, cz = light.catch_direction
                shadow = _lid_shadow(row, column, triangle_RR, material_T)
                sky, key = shadow, key * shadow
                surface, is_iris = eye(x, y, z, nx * cx + ny * cy + nz * cz, look.iris, grain)
                segment = _SEG_IRIS if is_iris else _SEG_SCLERA
            elif material == _UPPER_TEETH or material == _LOWER_TEETH:
                sky = teeth_light(_lid_shadow(row, column, triangle_RR, material_T))
                key = sky
                surface = teeth(material == _UPPER_TEETH, x, y, z, half_angle, look.teeth)
                segment = _SEG_TEETH
            elif material == _MOUTH:
                sky, key = mouth_light()
                surface = mouth(z, half_angle)
                segment = _SEG_MOUTH
            elif material == _TONGUE:
                sky = _lid_shadow(row, column, triangle_RR, material_T)
                key = sky
                surface = tongue(x, z, half_angle, grain)
                segment = _SEG_TONGUE
            elif material == _LASH:
                surface = LASH_SURFACE
                segment = _SEG_HAIR
            elif material == _FRAME:
                surface = frame(half_angle, look.frame)
                segment = _SEG_GLASSES
            else:
                surface = cap(x, y, z, look.hair_root, grain)
                segment = _SEG_HAIR
            segmentation_RR[row, column] = segment
            facing_key, facing_rim = nx * lx + ny * ly + nz * lz, nx * qx + ny * qy + nz * qz
            red, green, blue = lit_colour(surface, material, facing_key, ny, nz, facing_rim, sky, key, light)
            image_RR3[row, column, 0] = red
            image_RR3[row, column, 1] = green
            image_RR3[row, column, 2] = blue


@jit
def as_drawn(
    image_RR3: NDArray[np.float32], segmentation_RR: NDArray[np.uint8], curve: NDArray[np.uint8]
) -> tuple[NDArray[np.uint8], NDArray[np.uint8], NDArray[np.uint8]]:
    """Picture, classes and alpha of a raster that is as large as they are."""
    side = len(image_RR3)
    picture = np.empty((side, side, 3), np.uint8)
    alpha = np.empty((side, side), np.uint8)
    for row in range(side):
        for column in range(side):
            alpha[row, column] = 255 if segmentation_RR[row, column] else 0
            for k in range(3):
                picture[row, column, k] = _displayed(image_RR3[row, column, k], curve)
    return picture, segmentation_RR, alpha


@jit
def halved(
    image_RR3: NDArray[np.float32],
    segmentation_RR: NDArray[np.uint8],
    triangle_RR: NDArray[np.int32],
    material_T: NDArray[np.int32],
    curve: NDArray[np.uint8],
) -> tuple[NDArray[np.uint8], NDArray[np.uint8], NDArray[np.uint8]]:
    """Picture, classes and alpha at half the raster's side, by means of four pixels.

    Where these are smooth `shade` has left out two; the class is that of the first.
    """
    side = len(image_RR3) // 2
    picture = np.empty((side, side, 3), np.uint8)
    classes = np.empty((side, side), np.uint8)
    alpha = np.empty((side, side), np.uint8)
    for row in range(side):
        for column in range(side):
            top, left = 2 * row, 2 * column
            classes[row, column] = segmentation_RR[top, left]
            if _is_smooth(top, left, triangle_RR, material_T):
                alpha[row, column] = 255
                for k in range(3):
                    light = _HALF * (image_RR3[top, left, k] + image_RR3[top + 1, left + 1, k])
                    picture[row, column, k] = _displayed(light, curve)
                continue
            covered = 0
            for y in (top, top + 1):
                for x in (left, left + 1):
                    covered += 1 if segmentation_RR[y, x] else 0
            alpha[row, column] = (255 * covered + 2) // 4
            for k in range(3):
                above = image_RR3[top, left, k] + image_RR3[top, left + 1, k]
                below = image_RR3[top + 1, left, k] + image_RR3[top + 1, left + 1, k]
                picture[row, column, k] = _displayed(F(0.25) * (above + below), curve)
    return picture, classes, alpha


@jit
def _displayed(light: Any, curve: NDArray[np.uint8]) -> Any:
    """Linear light to a display level through a table over [0, 4]."""
    scale = F(len(curve) - 1) * F(0.25)
    return curve[int(min(max(light, _ZERO), F(4)) * scale + _HALF)]


def tone_curve(entries: int = 32768) -> NDArray[np.uint8]:
    """The camera's response, for light of 0 to 4: gamma 0.85 with a soft shoulder."""
    light = np.linspace(0, 4, entries) ** 0.85
    return (np.clip(light / (1 + 0.12 * light) * 1.1, 0, 1) * 255).astype(np.uint8)
