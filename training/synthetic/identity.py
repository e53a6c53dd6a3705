"""A synthetic person (`Identity`) and what they stand in (`Scene`), each determined by its seed alone."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from training.synthetic.head_pack import TEXTURE_PX, HeadPack, Material, load_head_pack, smoothstep

_RACES = ("african", "asian", "caucasian")
_SKIN_TONES = np.array(
    [
        [0.93, 0.76, 0.67],
        [0.88, 0.69, 0.57],
        [0.80, 0.60, 0.46],
        [0.70, 0.50, 0.37],
        [0.55, 0.37, 0.27],
        [0.42, 0.27, 0.19],
        [0.30, 0.19, 0.14],
    ]
)
_HAIR_COLOURS = np.array(
    [
        [0.06, 0.045, 0.04],
        [0.12, 0.08, 0.06],
        [0.22, 0.14, 0.09],
        [0.35, 0.22, 0.12],
        [0.55, 0.40, 0.22],
        [0.72, 0.58, 0.36],
        [0.38, 0.14, 0.07],
        [0.55, 0.54, 0.53],
    ]
)
_GREY_HAIR = 7
_IRIS_COLOURS = np.array(
    [
        [0.22, 0.12, 0.06],
        [0.32, 0.19, 0.09],
        [0.35, 0.30, 0.16],
        [0.25, 0.38, 0.28],
        [0.30, 0.45, 0.60],
        [0.42, 0.48, 0.52],
    ]
)
_HAIR_LENGTH = {
    "short": 0.10,
    "volume": 0.22,
    "long": 0.17,
    "buzz": 0.03,
    "bald": 0.0,
    "bun": 0.09,
    "afro": 0.5,
}
_SCALP_COVER = {"bald": 0.18, "buzz": 0.75}
_SIDEBURN = 0.4


@dataclass(frozen=True, kw_only=True, eq=False)
class Scene:
    """Light and background. Colours are linear RGB."""

    key_direction: NDArray[np.float64]
    """Unit vector towards the key light."""
    key_colour: NDArray[np.float64]
    ambient: float
    background: NDArray[np.float32]
    """(256, 256, 3) in [0, 1]."""

    @classmethod
    def from_seed(cls, seed: int) -> Scene:
        rng = np.random.default_rng(seed)
        azimuth, elevation = rng.uniform(-1.1, 1.1), rng.uniform(0.1, 0.9)
        direction = np.array(
            [
                math.sin(azimuth) * math.cos(elevation),
                math.sin(elevation),
                math.cos(azimuth) * math.cos(elevation),
            ]
        )
        if rng.random() < 0.6:
            colour = np.array([1, 1 - 0.12 * rng.random(), 1 - 0.25 * rng.random()])
        else:
            colour = np.array([0.88, 0.95, 1.0])
        top, bottom = rng.uniform(0.1, 0.85, 3), rng.uniform(0.1, 0.85, 3)
        down = np.linspace(0, 1, 256)[:, None, None]
        grain = cv2.GaussianBlur(rng.standard_normal((256, 256)).astype(np.float32), (0, 0), 24)
        background = (top * (1 - down) + bottom * down) * (1 + 0.25 * grain[..., None] * 20)
        return cls(
            key_direction=direction,
            key_colour=colour * rng.uniform(0.75, 1.0),
            ambient=rng.uniform(0.30, 0.5),
            background=np.clip(background, 0, 1).astype(np.float32),
        )


class Identity:
    """Shape, skin, hair and clothes of one person; equal seeds give equal people."""

    def __init__(self, seed: int, pack: HeadPack | None = None) -> None:
        self.seed = seed
        self.pack = pack if pack is not None else load_head_pack()
        # The order of draws below is part of what a seed means: change it and every person changes.
        rng = np.random.default_rng(seed)
        self.masculinity = float(np.clip(rng.beta(0.5, 0.5), 0, 1))
        self.age = float(np.clip(rng.beta(1, 2.2), 0, 1)) * 0.8
        """0 young to 0.8 old."""
        self._races = rng.dirichlet([0.55] * 3)
        self.vertices_V3, self.face_unit_scale = self._shape(rng)
        self.fine_vertices_F3: NDArray[np.float32] = (self.pack.subdivision_FV @ self.vertices_V3).astype(
            np.float32
        )
        self._choose_looks(rng)
        self.texture = self._paint_skin(rng)
        """(1024, 1024, 3) float32 albedo in [0, 1]."""
        self.cloth_colour = rng.uniform(0.05, 0.75, 3)
        self.collar_height = float(rng.uniform(5.7, 5.95))
        self._grow_hair(rng)

    def _shape(self, rng: np.random.Generator) -> tuple[NDArray[np.float32], float]:
        """Coarse vertices (V, 3) and the scale that face units need for this head."""
        pack = self.pack
        muscle, weight = rng.uniform(0, 1), rng.uniform(0, 1)
        vertices = pack.vertices_V3.copy()
        for name, amount in self._macro_weights(muscle, weight).items():
            vertices += np.float32(amount) * pack.macro_targets[name]
        for name, target in pack.detail_targets.items():
            if name.startswith("asym"):
                vertices += np.float32(rng.uniform(0, 0.18) * (rng.random() < 0.4)) * target
                continue
            if name.startswith("r-"):  # moves with its left twin
                continue
            amount = abs(rng.normal(0, 0.22)) * (rng.random() < 0.45)
            if "ear-" in name and ("flap" in name or "shape" in name):
                amount *= 0.3
            if name.startswith("head-"):
                amount *= 0.6
            if "trans" in name:
                amount *= 0.6
            vertices += np.float32(amount) * target
            if name.startswith("l-"):
                vertices += np.float32(amount) * pack.detail_targets["r-" + name[2:]]
        return self._placed(vertices)

    def _macro_weights(self, muscle: float, weight: float) -> dict[str, float]:
        def three_way(value: float, noun: str) -> dict[str, float]:
            return {
                f"min{noun}": max(0.0, 1 - 2 * value),
                f"average{noun}": 1 - abs(2 * value - 1),
                f"max{noun}": max(0.0, 2 * value - 1),
            }

        weights: dict[str, float] = {}
        for gender, by_gender in (("male", self.masculinity), ("female", 1 - self.masculinity)):
            for age, by_age in (("old", self.age), ("young", 1 - self.age)):
                for race, by_race in zip(_RACES, self._races, strict=True):
                    weights[f"{race}-{gender}-{age}"] = by_gender * by_age * by_race
                for muscle_name, by_muscle in three_way(muscle, "muscle").items():
                    for weight_name, by_weight in three_way(weight, "weight").items():
                        if by_muscle * by_weight > 0:
                            name = f"universal-{gender}-{age}-{muscle_name}-{weight_name}"
                            weights[name] = by_gender * by_age * by_muscle * by_weight
        return weights

    def _placed(self, vertices: NDArray[np.float32]) -> tuple[NDArray[np.float32], float]:
        """Put the eyes where the base head has them and even out the head's height."""
        pack = self.pack
        eyes, skin = (
            pack.vertex_material_V == Material.EYE,
            pack.vertex_material_V == Material.SKIN,
        )
        base_eyes, eyes_centre = pack.vertices_V3[eyes].mean(0), vertices[eyes].mean(0)
        base_height = pack.vertices_V3[skin, 1].max() - base_eyes[1]
        scale = 0.5 * base_height / (vertices[skin, 1].max() - eyes_centre[1]) + 0.5
        placed = ((vertices - eyes_centre) * scale + base_eyes).astype(np.float32)
        placed[pack.vertex_material_V == Material.UPPER_TEETH] += np.array([0, -0.05, 0.01], np.float32)
        return placed, float(scale)

    def _choose_looks(self, rng: np.random.Generator) -> None:
        african, asian, caucasian = self._races
        tone = float(np.clip(african * 5.2 + asian * 1.6 + caucasian * 0.6 + rng.normal(0, 0.5), 0, 6))
        below = int(min(5, tone))
        skin = _SKIN_TONES[below] * (1 - (tone - below)) + _SKIN_TONES[below + 1] * (tone - below)
        self.skin_colour = skin * (1 + rng.normal(0, 0.02, 3))
        self._darkness = tone / 6
        varied = caucasian >= 0.5
        hair = _HAIR_COLOURS[int(rng.choice(7)) if varied else int(rng.integers(0, 3))]
        grey = smoothstep(0.45, 0.8, self.age)
        hair = hair * (1 - grey) + _HAIR_COLOURS[_GREY_HAIR] * grey
        self.hair_colour = np.clip(hair * (1 + rng.normal(0, 0.08)), 0.02, 1)
        self.iris_colour = _IRIS_COLOURS[int(rng.choice(6 if varied else 2))]
        if self.masculinity > 0.5:
            styles, odds = (
                ["short", "volume", "long", "buzz", "bald", "bun"],
                [0.3, 0.2, 0.22, 0.12, 0.06, 0.1],
            )
        else:
            styles, odds = ["short", "volume", "long", "bun", "afro"], [0.12, 0.2, 0.45, 0.15, 0.08]
        self.hair_style = str(rng.choice(styles, p=odds))
        self._hairline = float(rng.uniform(7.98, 8.12))
        self.specular = float(rng.uniform(0.05, 0.14))

    def _paint_skin(self, rng: np.random.Generator) -> NDArray[np.float32]:
        pack = self.pack
        x, y, z = (pack.canonical_map[..., k] for k in range(3))
        side = np.abs(x)
        skin, dark, hair = self.skin_colour, self._darkness, self.hair_colour
        texture: NDArray[Any] = np.ones((TEXTURE_PX, TEXTURE_PX, 3), np.float32) * skin.astype(np.float32)
        blotches, pores = _noise(rng, 220)[..., None], _noise(rng, 16)[..., None]
        texture *= 1 + 0.035 * blotches + 0.02 * pores
        blush = _spot(side, y, (0.42, 6.98), (0.22, 0.22)) * (z > 0.8)
        blush = blush + 0.8 * _spot(side, y, (0, 6.98), (0.17, 0.14)) * (z > 1.2)
        texture *= 1 + blush[..., None] * np.array([0.04, -0.09, -0.08]) * (1 - 0.5 * dark)
        texture *= 1 - 0.10 * pack.ears[..., None] * np.array([0, 0.8, 0.8])
        eye_shade = _spot(side, y, (0.31, 7.20), (0.17, 0.13)) * (z > 1)
        texture *= 1 - eye_shade[..., None] * np.array([0.12, 0.18, 0.16]) * (0.6 + 0.6 * self.age)

        lipstick = rng.uniform(0, 0.12) * (1 - self.masculinity)
        lip_colour = skin * np.array([0.86, 0.62, 0.62]) * (1 - 0.15 * dark) + np.array([lipstick, 0, 0])
        lips = cv2.GaussianBlur(pack.lips, (0, 0), 2)[..., None] * 0.85
        texture = texture * (1 - lips) + lips * np.clip(lip_colour, 0, 1) * (1 + 0.05 * pores)
        lids = cv2.GaussianBlur(pack.eyelids, (0, 0), 3)[..., None]
        shadow = rng.uniform(0, 0.5) if self.masculinity < 0.5 else 0.12
        texture *= 1 - lids * shadow * np.array([0.5, 0.6, 0.5])

        brows = self._brows(rng, side, y, z)[..., None]
        texture = texture * (1 - 0.25 * cv2.GaussianBlur(brows[..., 0], (0, 0), 5)[..., None])
        texture = texture * (1 - brows) + brows * (hair * 0.8 + 0.02)
        if self.masculinity > 0.6 and rng.random() < 0.6:
            beard = self._beard(rng, side, y, z, lips[..., 0])[..., None]
            texture = texture * (1 - beard) + beard * (hair * 0.7 + 0.05 * skin)
        if rng.random() < 0.3 and dark < 0.5:
            freckles = (_noise(rng, 5) > 1.0) * _spot(side, y, (0, 7.0), (0.5, 0.2))
            freckles = cv2.GaussianBlur(freckles.astype(np.float32), (0, 0), 1.2)[..., None]
            texture *= 1 - 0.18 * freckles * np.array([0.6, 1, 1])
        cover = hair_coverage(pack.canonical_map, self._hairline) * _SCALP_COVER.get(self.hair_style, 0.9)
        scalp = np.clip(cover * (1 + 0.15 * _noise(rng, 4)), 0, 1)[..., None]
        texture = texture * (1 - scalp) + scalp * (hair * 0.75)
        return np.asarray(np.clip(texture, 0, 1), np.float32)

    def _brows(
        self, rng: np.random.Generator, side: NDArray[Any], y: NDArray[Any], z: NDArray[Any]
    ) -> NDArray[Any]:
        """Opacity of the eyebrows over the texture."""
        lift = rng.normal(0, 0.012)
        thickness = rng.uniform(0.034, 0.056) * (1.15 if self.masculinity > 0.5 else 0.85)
        along = (side - 0.10) / 0.50
        inside = np.clip(along, 0, 1)
        arch = 7.505 + lift + rng.uniform(0.03, 0.065) * np.sin(inside * 2.3) - 0.03 * along * along
        grain = cv2.GaussianBlur(rng.standard_normal((512, 512)).astype(np.float32), (0, 0), 1.0)
        hairs = np.asarray(grain / grain.std(), np.float32)
        column = ((side * 330 - (y - arch) * (260 - 500 * inside)) % 511).astype(np.float32)
        row = ((y - arch) * 60 + 256 + side * 20).astype(np.float32)
        strokes = cv2.remap(hairs, column, row, cv2.INTER_LINEAR, borderMode=cv2.BORDER_WRAP)
        across = (y - arch) / (thickness * (1.15 - 0.75 * inside))
        shape = np.exp(-(np.abs(across) ** 2.6)) * smoothstep(-0.06, 0.12, along - 0.05 * across)
        shape = shape * (1 - smoothstep(0.72, 1.05, along)) * (z > 0.9)
        return np.asarray(np.clip(shape * (0.95 + 0.30 * strokes) * 1.05, 0, 1) * rng.uniform(0.7, 0.92))

    def _beard(
        self,
        rng: np.random.Generator,
        side: NDArray[Any],
        y: NDArray[Any],
        z: NDArray[Any],
        lips: NDArray[Any],
    ) -> NDArray[Any]:
        area = smoothstep(6.98, 6.75, y) * smoothstep(0.35, 0.55, z + 0.2 * side) * (1 - lips)
        area = area * smoothstep(6.05, 6.3, y) * (1 - 0.6 * _spot(side, y, (0, 6.45), (0.30, 0.10)))
        density = rng.choice([0.25, 0.45, 0.85], p=[0.5, 0.3, 0.2])
        return np.asarray(np.clip(area * density * (0.8 + 0.5 * _noise(rng, 4)), 0, 1))

    def _grow_hair(self, rng: np.random.Generator) -> None:
        """A shell above the scalp: which triangles it has and how far it stands off."""
        pack = self.pack
        canonical = pack.canonical_F3
        length = _HAIR_LENGTH[self.hair_style] * rng.uniform(0.8, 1.2)
        coverage = hair_coverage(canonical, self._hairline).astype(np.float32)
        skin = pack.triangles_T3[pack.triangle_material_T == Material.SKIN]
        corner = canonical[skin]
        ears = (
            (np.abs(corner[:, :, 0]).min(1) > 0.70)
            & (corner[:, :, 1].max(1) < 7.55)
            & (corner[:, :, 1].max(1) > 6.6)
            & (corner[:, :, 2].min(1) > -0.1)
        )
        kept = (coverage[skin].max(1) > 0.02) & ~ears
        phase = rng.uniform(0, 6, 4)
        around, height = np.arctan2(canonical[:, 0], canonical[:, 2] - 0.2), canonical[:, 1]
        waves = (
            0.25 * np.sin(5 * around + 3 * height + phase[0])
            + 0.2 * np.sin(9 * around - 4 * height + phase[1])
            + 0.15 * np.sin(3 * height + phase[2])
            + 0.1 * np.sin(21 * around + phase[3])
        )
        crown = 0.55 + 0.45 * smoothstep(7.6, 8.4, height)
        self.hair_triangles: NDArray[np.int32] = skin[kept] if length > 0 else np.zeros((0, 3), np.int32)
        self.hair_coverage_F = coverage
        self.hair_offset_F: NDArray[np.float32] = (
            length * coverage**0.7 * (1 + 0.35 * waves) * crown
        ).astype(np.float32)
        self.has_long_hair = self.hair_style == "long"


def hair_coverage(canonical: NDArray[np.float32], hairline: float) -> NDArray[Any]:
    """How much hair grows at canonical coordinates (..., 3), in [0, 1]; `hairline` is its height in front."""
    side, y, z = np.abs(canonical[..., 0]), canonical[..., 1], canonical[..., 2]
    front = smoothstep(0.25, 1.15, np.arctan2(z - 0.25, side + 1e-6))
    line = (1 - front) * 6.95 + front * hairline
    line = np.where(z < 0.25, 6.35 + (6.95 - 6.35) * smoothstep(-0.5, 0.25, z), line)
    temple = 0.35 * smoothstep(0.55, 0.75, side) * (z > 0.3) * (1 - _SIDEBURN) * (y < 7.5)
    return np.asarray(smoothstep(-0.02, 0.10, y - line - temple))


def _spot(
    x: NDArray[Any], y: NDArray[Any], centre: tuple[float, float], radius: tuple[float, float]
) -> NDArray[Any]:
    return np.asarray(np.exp(-(((x - centre[0]) / radius[0]) ** 2 + ((y - centre[1]) / radius[1]) ** 2)))


def _noise(rng: np.random.Generator, cell_px: int) -> NDArray[np.float32]:
    """Five octaves of value noise over the texture, the coarsest with cells of `cell_px`."""
    size, total, amplitude = TEXTURE_PX, np.zeros((TEXTURE_PX, TEXTURE_PX), np.float32), 1.0
    for octave in range(5):
        cells = min(max(2, int(size / cell_px * 2**octave)), size)
        values = rng.standard_normal((cells, cells)).astype(np.float32)
        total += amplitude * cv2.resize(values, (size, size), interpolation=cv2.INTER_CUBIC)
        amplitude *= 0.55
    return np.asarray(total / 2, np.float32)
