"""Compiled deferred shading: colour and class of every pixel of a z-buffer. Colours are linear RGB.

Each material function returns albedo (red, green, blue), occlusion and specular light, and the pixel's class.
"""

from __future__ import annotations

import math
from enum import IntEnum

import numpy as np
from numpy.typing import NDArray

from training.synthetic.head_pack import TEXTURE_U, TEXTURE_V
from training.synthetic.jit import jit
from training.synthetic.raster import value_noise


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


# Enumerations are slow to compile against; the kernels use the same numbers as plain ints.
_SKIN, _EYE, _UPPER_TEETH, _TONGUE, _MOUTH, _HAIR, _LOWER_TEETH = 0, 1, 2, 3, 4, 5, 6
_SEG_SKIN, _SEG_SCLERA, _SEG_IRIS, _SEG_MOUTH, _SEG_TEETH, _SEG_TONGUE, _SEG_CLOTH, _SEG_HAIR = range(1, 9)
_U0, _U1 = TEXTURE_U
_V0, _V1 = TEXTURE_V

# What a material function returns: red, green, blue, occlusion, specular, class.
Surface = tuple[float, float, float, float, float, int]


@jit
def _deeper(z: float, front: float, span: float) -> float:
    """0 in front to 1 at `span` behind: how far back in the mouth a point lies."""
    return min(1.0, max(0.0, (front - z) / span))


@jit
def _cloth(x: float, y: float, cloth: NDArray[np.float64]) -> Surface:
    weave = 0.9 + 0.2 * value_noise(x * 60, y * 60)
    return cloth[0] * weave, cloth[1] * weave, cloth[2] * weave, 1.0, 0.0, _SEG_CLOTH


@jit
def _skin(
    u: float,
    v: float,
    y: float,
    z: float,
    facing: float,
    half_angle: float,
    specular: float,
    texture: NDArray[np.float32],
) -> Surface:
    size = len(texture)
    u = min(max((u - _U0) / (_U1 - _U0) * size, 0.0), size - 1.001)
    v = min(max((v - _V0) / (_V1 - _V0) * size, 0.0), size - 1.001)
    column, row = int(u), int(v)
    fu, fv = u - column, v - row
    k0, k1, k2, k3 = (1 - fu) * (1 - fv), fu * (1 - fv), (1 - fu) * fv, fu * fv
    p0, p1 = texture[row, column], texture[row, column + 1]
    p2, p3 = texture[row + 1, column], texture[row + 1, column + 1]
    red = k0 * p0[0] + k1 * p1[0] + k2 * p2[0] + k3 * p3[0]
    green = k0 * p0[1] + k1 * p1[1] + k2 * p2[1] + k3 * p3[1]
    blue = k0 * p0[2] + k1 * p1[2] + k2 * p2[2] + k3 * p3[2]
    grazing = 1 - max(0.0, facing)
    shine = specular * half_angle**22 + 0.5 * specular * half_angle**6 + 0.10 * grazing**4
    occlusion = 1.0
    if y < 6.35 and z < 1.0:  # under the jaw
        occlusion = 0.72 + 0.28 * min(1.0, max(0.0, (y - 5.6) / 0.75))
    return red, green, blue, occlusion, shine, _SEG_SKIN


@jit
def _eye(
    x: float, y: float, z: float, normal_y: float, half_angle: float, iris: NDArray[np.float64]
) -> Surface:
    dx = x - (0.3078 if x > 0 else -0.3078)
    dy, dz = y - 7.284, z - 1.235
    length = math.sqrt(dx * dx + dy * dy + dz * dz)
    angle = math.acos(min(1.0, max(-1.0, dz / length)))
    radius = angle / 0.50
    occlusion = 0.62 + 0.38 * min(1.0, max(0.0, (0.55 - normal_y) / 0.5))
    shine = 1.1 * half_angle**220
    if radius < 0.38:
        return 0.015, 0.015, 0.015, occlusion, shine, _SEG_IRIS
    if radius < 1:
        fibre = 0.75 + 0.5 * value_noise(math.atan2(dy, dx) * 9 + 20, radius * 3)
        k = fibre * (1 - 0.6 * max(0.0, (radius - 0.75) / 0.25)) * 1.15
        return iris[0] * k, iris[1] * k, iris[2] * k, occlusion, shine, _SEG_IRIS
    k = 0.86 - 0.25 * min(1.0, (angle - 0.5) / 0.9)
    if radius < 1.08:  # dark ring around the iris
        k *= 0.4 + 0.6 * (radius - 1) / 0.08
    return k, k * 0.96, k * 0.94, occlusion, shine, _SEG_SCLERA


@jit
def _teeth(is_upper: bool, x: float, y: float, z: float, half_angle: float, jaw_open: float) -> Surface:
    k = 1.05 * (1 - 0.6 * _deeper(z, 1.5, 0.45))
    red, green, blue = k, k * 0.95, k * 0.86
    if (is_upper and y > 6.755) or (not is_upper and y < 6.535):  # gums
        red, green, blue = k * 0.72, k * 0.36, k * 0.36
    if abs(math.sin(x * 34)) < 0.16:  # gaps between the teeth
        red, green, blue = red * 0.72, green * 0.70, blue * 0.66
    return red, green, blue, 0.9 + 0.1 * jaw_open, 0.12 * half_angle**40, _SEG_TEETH


@jit
def _mouth(z: float, half_angle: float) -> Surface:
    k = 0.75 - 0.65 * _deeper(z, 1.35, 0.5)
    return 0.55 * k, 0.22 * k, 0.2 * k, 0.5, 0.05 * half_angle**30, _SEG_MOUTH


@jit
def _tongue(z: float, half_angle: float) -> Surface:
    k = 0.8 - 0.6 * _deeper(z, 1.42, 0.5)
    return 0.72 * k, 0.34 * k, 0.33 * k, 0.6, 0.08 * half_angle**25, _SEG_TONGUE


@jit
def _hair(x: float, y: float, z: float, half_angle: float, hair: NDArray[np.float64]) -> Surface:
    around = math.atan2(x, z - 0.2)
    strand = value_noise(around * 38, y * 1.7) * 0.6 + value_noise(around * 90 + 7, y * 3 + 3) * 0.4
    k = 0.55 + 0.8 * strand
    shine = (0.10 + 0.35 * (hair[0] + hair[1]) * 0.5) * half_angle**14 * strand
    return hair[0] * k, hair[1] * k, hair[2] * k, 0.8, shine, _SEG_HAIR


@jit
def _wrap(material: int, segment: int) -> tuple[float, float, float]:
    """How far diffuse light bends around the edge, per colour: light scattered under the surface."""
    if segment == _SEG_CLOTH:
        return 0.05, 0.05, 0.05
    if material == _EYE:
        return 0.3, 0.3, 0.3
    if material == _HAIR:
        return 0.2, 0.2, 0.2
    return 0.30, 0.14, 0.10


@jit
def shade(
    triangles_T3: NDArray[np.int32],
    material_T: NDArray[np.int32],
    uv_T32: NDArray[np.float32],
    normals_N3: NDArray[np.float32],
    canonical_N3: NDArray[np.float32],
    triangle_RR: NDArray[np.int32],
    weight_1_RR: NDArray[np.float32],
    weight_2_RR: NDArray[np.float32],
    texture: NDArray[np.float32],
    hair: NDArray[np.float64],
    iris: NDArray[np.float64],
    cloth: NDArray[np.float64],
    collar_height: float,
    specular: float,
    jaw_open: float,
    key_direction: NDArray[np.float64],
    key_colour: NDArray[np.float64],
    ambient: float,
    image_RR3: NDArray[np.float32],
) -> NDArray[np.uint8]:
    """Light every covered pixel of `image_RR3` in place; returns the segmentation (R, R)."""
    side = len(image_RR3)
    segmentation = np.zeros((side, side), np.uint8)
    lx, ly, lz = key_direction[0], key_direction[1], key_direction[2]
    norm = math.sqrt(lx * lx + ly * ly + (lz + 1) * (lz + 1))
    hx, hy, hz = lx / norm, ly / norm, (lz + 1) / norm
    for row in range(side):
        for column in range(side):
            t = triangle_RR[row, column]
            if t < 0:
                continue
            a, b, c = triangles_T3[t, 0], triangles_T3[t, 1], triangles_T3[t, 2]
            w1, w2 = weight_1_RR[row, column], weight_2_RR[row, column]
            w0 = 1 - w1 - w2
            nx = w0 * normals_N3[a, 0] + w1 * normals_N3[b, 0] + w2 * normals_N3[c, 0]
            ny = w0 * normals_N3[a, 1] + w1 * normals_N3[b, 1] + w2 * normals_N3[c, 1]
            nz = w0 * normals_N3[a, 2] + w1 * normals_N3[b, 2] + w2 * normals_N3[c, 2]
            scale = 1 / math.sqrt(nx * nx + ny * ny + nz * nz + 1e-12)
            material = material_T[t]
            if material == _HAIR and nz < 0:
                scale = -scale
            nx, ny, nz = nx * scale, ny * scale, nz * scale
            x = w0 * canonical_N3[a, 0] + w1 * canonical_N3[b, 0] + w2 * canonical_N3[c, 0]
            y = w0 * canonical_N3[a, 1] + w1 * canonical_N3[b, 1] + w2 * canonical_N3[c, 1]
            z = w0 * canonical_N3[a, 2] + w1 * canonical_N3[b, 2] + w2 * canonical_N3[c, 2]
            facing_key = nx * lx + ny * ly + nz * lz
            half_angle = max(0.0, nx * hx + ny * hy + nz * hz)
            if material == _SKIN:
                if y < collar_height - 0.25 * max(0.0, z - 0.2) + 0.1 * abs(x):
                    surface = _cloth(x, y, cloth)
                else:
                    u = w0 * uv_T32[t, 0, 0] + w1 * uv_T32[t, 1, 0] + w2 * uv_T32[t, 2, 0]
                    v = w0 * uv_T32[t, 0, 1] + w1 * uv_T32[t, 1, 1] + w2 * uv_T32[t, 2, 1]
                    surface = _skin(u, v, y, z, nz, half_angle, specular, texture)
            elif material == _EYE:
                surface = _eye(x, y, z, ny, half_angle, iris)
            elif material == _UPPER_TEETH or material == _LOWER_TEETH:
                surface = _teeth(material == _UPPER_TEETH, x, y, z, half_angle, jaw_open)
            elif material == _MOUTH:
                surface = _mouth(z, half_angle)
            elif material == _TONGUE:
                surface = _tongue(z, half_angle)
            else:
                surface = _hair(x, y, z, half_angle, hair)
            red, green, blue, occlusion, shine, segment = surface
            segmentation[row, column] = segment
            wrap_r, wrap_g, wrap_b = _wrap(material, segment)
            sky = ambient * (0.72 + 0.28 * ny)
            lit_r = sky + key_colour[0] * max(0.0, (facing_key + wrap_r) / (1 + wrap_r))
            lit_g = sky + key_colour[1] * max(0.0, (facing_key + wrap_g) / (1 + wrap_g))
            lit_b = sky + key_colour[2] * max(0.0, (facing_key + wrap_b) / (1 + wrap_b))
            image_RR3[row, column, 0] = occlusion * (red * lit_r + shine * key_colour[0])
            image_RR3[row, column, 1] = occlusion * (green * lit_g + shine * key_colour[1])
            image_RR3[row, column, 2] = occlusion * (blue * lit_b + shine * key_colour[2])
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
