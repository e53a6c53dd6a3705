"""Where a synthetic person is filmed: lights and background, determined by the seed alone."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import cv2
import numpy as np
from numpy.typing import NDArray

BACKGROUND_PX = 256
_WALLS = np.array(
    [
        [0.62, 0.58, 0.52],
        [0.36, 0.42, 0.46],
        [0.50, 0.54, 0.50],
        [0.22, 0.25, 0.32],
        [0.68, 0.66, 0.64],
        [0.44, 0.34, 0.30],
        [0.30, 0.38, 0.34],
        [0.56, 0.48, 0.54],
    ]
)
_RIM_TINTS = np.array(
    [[0.35, 0.55, 1.0], [1.0, 0.45, 0.30], [0.8, 0.4, 1.0], [1.0, 0.95, 0.9], [0.4, 1.0, 0.85]]
)


def _no_light() -> NDArray[np.float64]:
    return np.zeros(3)


def _from_behind() -> NDArray[np.float64]:
    return np.array([-0.8, 0.3, -0.52])


@dataclass(frozen=True, kw_only=True, eq=False)
class Scene:
    """Light and background. Colours are linear RGB."""

    key_direction: NDArray[np.float64]
    """Unit vector towards the key light, which casts shadows."""
    key_colour: NDArray[np.float64]
    ambient: float
    background: NDArray[np.float32]
    """(256, 256, 3) in [0, 1]."""
    rim_direction: NDArray[np.float64] = field(default_factory=_from_behind)
    rim_colour: NDArray[np.float64] = field(default_factory=_no_light)
    """A second light, which casts no shadow; black is off."""
    sky_tint: NDArray[np.float64] = field(default_factory=lambda: np.ones(3))
    """Colour of the ambient light from above."""
    ground_tint: NDArray[np.float64] = field(default_factory=lambda: np.array([1.0, 0.94, 0.88]))

    @classmethod
    def from_seed(cls, seed: int) -> Scene:
        """A room and its light; what a seed means is pinned by `identity.SEED_VERSION`."""
        rng = np.random.default_rng(seed)
        direction = _direction(rng.uniform(-1.15, 1.15), rng.uniform(0.15, 0.85))
        if rng.random() < 0.65:
            colour = np.array([1, 1 - 0.10 * rng.random(), 1 - 0.24 * rng.random()])
        else:
            colour = np.array([0.90, 0.96, 1.0])  # a window
        rim = _no_light()
        rim_direction = _direction(-np.sign(direction[0]) * rng.uniform(1.7, 2.4), rng.uniform(0.0, 0.7))
        if rng.random() < 0.55:
            tint = _RIM_TINTS[3] if rng.random() < 0.5 else _RIM_TINTS[int(rng.integers(len(_RIM_TINTS)))]
            rim = tint * rng.uniform(0.25, 0.75)
        warm = rng.normal(0, 0.05)
        return cls(
            key_direction=direction,
            key_colour=colour * rng.uniform(0.72, 0.98),
            ambient=float(rng.uniform(0.30, 0.5)),
            background=_background(rng),
            rim_direction=rim_direction,
            rim_colour=rim,
            sky_tint=np.clip(np.array([1 + warm, 1.0, 1 - warm]), 0.85, 1.1),
            ground_tint=np.array([1.0, rng.uniform(0.88, 0.98), rng.uniform(0.8, 0.96)]),
        )


def _direction(azimuth: float, elevation: float) -> NDArray[np.float64]:
    return np.array(
        [
            math.sin(azimuth) * math.cos(elevation),
            math.sin(elevation),
            math.cos(azimuth) * math.cos(elevation),
        ]
    )


def _background(rng: np.random.Generator) -> NDArray[np.float32]:
    """An out-of-focus wall with what may stand before it (256, 256, 3), in [0, 1]."""
    side = BACKGROUND_PX
    y, x = np.mgrid[0:side, 0:side].astype(np.float32) / side
    wall = _WALLS[int(rng.integers(len(_WALLS)))] * rng.uniform(0.6, 1.15) * (1 + rng.normal(0, 0.05, 3))
    fall = 1 - 0.55 * np.hypot(x - rng.uniform(0.2, 0.8), 1.1 * (y - rng.uniform(0.1, 0.5)))
    image = np.ascontiguousarray(wall * fall[..., None], np.float32)
    kind = int(rng.integers(4))
    if kind == 1:
        _furnish(rng, image)
    elif kind == 2:
        _hang_lights(rng, image)
    elif kind == 3:
        _open_window(rng, image)
    blur = cv2.GaussianBlur(image, (0, 0), float(rng.uniform(4, 9)))
    grain = cv2.GaussianBlur(rng.standard_normal((side, side)).astype(np.float32), (0, 0), 20)
    return np.asarray(np.clip(blur * (1 + grain[..., None]), 0, 1), np.float32)


def _box(image: NDArray[np.float32], corners: NDArray[np.float64], colour: NDArray[np.float64]) -> None:
    x0, y0, x1, y1 = (int(value * len(image)) for value in corners)
    cv2.rectangle(image, (x0, y0), (x1, y1), tuple(float(value) for value in colour), -1)


def _furnish(rng: np.random.Generator, image: NDArray[np.float32]) -> None:
    """Shelves with books on one or both sides."""
    for left in (0.0, 0.68):
        for shelf in np.arange(rng.uniform(0.15, 0.3), 0.95, 0.24):
            _box(image, np.array([left, shelf, left + 0.32, shelf + 0.02]), np.array([0.22, 0.15, 0.1]))
            place = left + 0.01
            while place < left + 0.29:
                width, height = rng.uniform(0.015, 0.04), rng.uniform(0.09, 0.18)
                if rng.random() < 0.8:
                    colour = rng.uniform(0.08, 0.5) * (1 + rng.normal(0, 0.16, 3))
                    _box(
                        image,
                        np.array([place, shelf - height, place + width, shelf]),
                        np.clip(colour, 0.03, 0.8),
                    )
                place += width + 0.004


def _hang_lights(rng: np.random.Generator, image: NDArray[np.float32]) -> None:
    """A darker room with small lights out of focus."""
    image *= 0.45
    for _ in range(int(rng.integers(8, 22))):
        centre = (int(rng.integers(BACKGROUND_PX)), int(rng.integers(BACKGROUND_PX * 2 // 3)))
        colour = np.array([1.0, 0.75, 0.45]) if rng.random() < 0.7 else rng.uniform(0.2, 1, 3)
        colour = colour * rng.uniform(0.5, 1.4)
        cv2.circle(image, centre, int(rng.integers(5, 12)), tuple(float(value) for value in colour), -1)


def _open_window(rng: np.random.Generator, image: NDArray[np.float32]) -> None:
    """A bright window on one side, with bars."""
    left = 0.02 if rng.random() < 0.5 else 0.66
    top = rng.uniform(0.03, 0.15)
    _box(image, np.array([left, top, left + 0.32, top + 0.62]), np.array([0.40, 0.38, 0.36]))
    light = np.array([0.80, 0.88, 0.95]) * rng.uniform(0.8, 1.05)
    for column in range(2):
        for row in range(2):
            x, y = left + 0.02 + 0.15 * column, top + 0.02 + 0.30 * row
            _box(image, np.array([x, y, x + 0.13, y + 0.27]), light * (1 - 0.12 * row))
