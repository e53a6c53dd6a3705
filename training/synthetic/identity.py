"""A synthetic person (`Identity`), determined by its seed alone; `Scene` is where they stand."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from training.synthetic.glasses import glasses_mesh
from training.synthetic.hair import (
    STYLES,
    HairMesh,
    HairStyle,
    Surface,
    grow,
    grows_over_forehead,
    hair_coverage,
)
from training.synthetic.head_pack import HeadPack, Material, head_blend, load_head_pack, smoothstep
from training.synthetic.raster import vertex_normals
from training.synthetic.scene import Scene as Scene
from training.synthetic.skin import Complexion, paint_skin

SEED_VERSION = 2
"""What a seed means: people and scenes of equal seeds are equal while this number stays.

Version 1 had a shell for hair and one light. Change it whenever a change alters people or scenes.
"""
_RACES = ("african", "asian", "caucasian")
_UNLIKED_TARGETS = (
    "eye-bag",
    "chin-cleft",
    "chin-jaw-drop",
    "nose-hump",
    "nose-septumangle",
    "mouth-dimples",
    "mouth-angles-down",
    "mouth-laugh-lines",
    "neck-double",
    "ear-flap",
    "shape-pointed",
    "shape-triangle",
    "head-age",
    "cheek-inner",
    "chin-prognathism",
    "nose-compression",
)
"""Shapes that turn a face into a caricature."""
_BOUNDED = 0.42
"""No shape goes further than this."""
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
_CLOTH_COLOURS = np.array(
    [
        [0.05, 0.06, 0.08],
        [0.10, 0.13, 0.22],
        [0.62, 0.61, 0.58],
        [0.30, 0.31, 0.33],
        [0.36, 0.08, 0.09],
        [0.09, 0.22, 0.18],
        [0.16, 0.28, 0.42],
        [0.52, 0.42, 0.30],
        [0.48, 0.36, 0.12],
        [0.40, 0.24, 0.32],
        [0.22, 0.36, 0.34],
        [0.70, 0.52, 0.48],
    ]
)
_FRAME_COLOURS = np.array([[0.03, 0.03, 0.035], [0.16, 0.08, 0.045], [0.30, 0.28, 0.27], [0.38, 0.28, 0.14]])
_MALE_STYLES = {
    "crop": 0.2,
    "side_part": 0.2,
    "quiff": 0.15,
    "slick": 0.07,
    "messy": 0.1,
    "curly": 0.08,
    "buzz": 0.1,
    "bald": 0.04,
    "wavy": 0.03,
    "bun": 0.03,
}
_FEMALE_STYLES = {
    "long": 0.17,
    "long_fringe": 0.12,
    "wavy": 0.17,
    "bob": 0.12,
    "bob_fringe": 0.09,
    "bun": 0.1,
    "ponytail": 0.1,
    "curly_long": 0.07,
    "crop": 0.03,
    "messy": 0.03,
}
_COILED_STYLES = {"afro": 0.3, "curly": 0.2, "curly_long": 0.15, "buzz": 0.2, "bun": 0.15}
"""Styles of tightly curled hair; which of them a person may wear follows the tables above."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Shell:
    """Layers that lie on the head's surface: cloth, and the hair next to the scalp. S vertices."""

    source_S: NDArray[np.int32]
    """Fine vertex that each one stands on."""
    offset_S: NDArray[np.float32]
    """Height over it along the normal."""
    coverage_S: NDArray[np.float32]
    triangles_K3: NDArray[np.int32]
    material_K: NDArray[np.int32]


@dataclass(frozen=True, kw_only=True, eq=False)
class RigidMesh:
    """Hair cards and glasses, which follow the head's pose alone. H vertices."""

    vertices_H3: NDArray[np.float32]
    normals_H3: NDArray[np.float32]
    tangents_H3: NDArray[np.float32]
    coordinates_H3: NDArray[np.float32]
    head_blend_H: NDArray[np.float32]
    triangles_K3: NDArray[np.int32]
    material_K: NDArray[np.int32]


class Identity:
    """Shape, skin, hair and clothes of one adult; equal seeds give equal people under one `SEED_VERSION`."""

    def __init__(self, seed: int, pack: HeadPack | None = None) -> None:
        self.seed = seed
        self.pack = pack if pack is not None else load_head_pack()
        # The order of draws below is part of what a seed means: change it and every person changes.
        rng = np.random.default_rng([seed, SEED_VERSION])
        self.masculinity = float(np.clip(rng.beta(0.5, 0.5), 0, 1))
        self.age = float(np.clip(rng.beta(1, 2.6), 0, 1)) * 0.7
        """0 young to 0.7 old."""
        self._races = rng.dirichlet([0.55] * 3)
        self.vertices_V3, self.face_unit_scale = self._shape(rng)
        self.fine_vertices_F3: NDArray[np.float32] = (self.pack.subdivision_FV @ self.vertices_V3).astype(
            np.float32
        )
        self._choose_looks(rng)
        self._choose_clothes(rng)
        coverage_map = hair_coverage(self.pack.canonical_map, self._hairline, self._hairline_phase)
        self.skin_TT8 = paint_skin(rng, self.pack, self._complexion(rng, coverage_map))
        """See `skin.paint_skin`."""
        normals = vertex_normals(self.fine_vertices_F3, self.pack.triangles_T3)
        self.shell = self._lay_shell()
        self.rigid = self._wear(rng, normals)

    def _shape(self, rng: np.random.Generator) -> tuple[NDArray[np.float32], float]:
        """Coarse vertices (V, 3) and the scale that face units need for this head."""
        pack = self.pack
        muscle, weight = rng.uniform(0.3, 0.8), rng.uniform(0.15, 0.75)
        vertices = pack.vertices_V3.copy()
        for name, amount in self._macro_weights(muscle, weight).items():
            vertices += np.float32(amount) * pack.macro_targets[name]
        for name, target in pack.detail_targets.items():
            if name.startswith("asym"):
                vertices += np.float32(rng.uniform(0, 0.12) * (rng.random() < 0.3)) * target
                continue
            if name.startswith("r-"):  # moves with its left twin
                continue
            amount = min(abs(rng.normal(0, 0.19)), _BOUNDED) * (rng.random() < 0.4)
            if any(part in name for part in _UNLIKED_TARGETS):
                amount *= 0.15
            if name.startswith(("head-", "ear-", "l-ear")) or "trans" in name:
                amount *= 0.55
            vertices += np.float32(amount) * target
            if name.startswith("l-"):
                vertices += np.float32(amount) * pack.detail_targets["r-" + name[2:]]
        calm = rng.uniform(0.10, 0.22)  # the corners of a friendly mouth at rest
        for side in ("Left", "Right"):
            unit = pack.face_units.index(f"mouthSmile{side}")
            vertices += np.float32(calm) * pack.face_unit_targets[unit]
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
        grey = smoothstep(0.40, 0.7, self.age)
        hair = hair * (1 - grey) + _HAIR_COLOURS[_GREY_HAIR] * grey
        self.hair_colour = np.clip(hair * (1 + rng.normal(0, 0.08)), 0.02, 1)
        self.hair_tip_colour = np.clip(
            self.hair_colour * rng.uniform(1.1, 1.7) * np.array([1.04, 1.0, 0.95]), 0, 0.9
        )
        if rng.random() < 0.04:  # dyed
            self.hair_tip_colour = np.array([[0.5, 0.12, 0.3], [0.12, 0.3, 0.5], [0.35, 0.2, 0.5]])[
                int(rng.integers(3))
            ]
        self.iris_colour = _IRIS_COLOURS[int(rng.choice(6 if varied else 2))]
        self.hair_style = self._choose_style(rng, african)
        self._hairline = float(rng.uniform(7.96, 8.08) - 0.03 * (1 - self.masculinity))
        self._hairline_phase = float(rng.uniform(0, 6.28))
        self.gloss = float(rng.uniform(0.22, 0.42))
        self.teeth_colour = np.array([0.86, 0.82, 0.74]) * rng.uniform(0.92, 1.04)
        self.lash_length = float(rng.uniform(0.055, 0.075) + 0.022 * (1 - self.masculinity))

    def _choose_style(self, rng: np.random.Generator, african: float) -> str:
        odds = _MALE_STYLES if rng.random() < self.masculinity else _FEMALE_STYLES
        if african > 0.6:
            coiled = {name: share for name, share in _COILED_STYLES.items() if name in odds or name == "afro"}
            odds = {name: 0.25 * share for name, share in odds.items()} | coiled
        shares = np.array(list(odds.values()))
        return str(rng.choice(list(odds), p=shares / shares.sum()))

    def _choose_clothes(self, rng: np.random.Generator) -> None:
        first, second = rng.choice(len(_CLOTH_COLOURS), 2, replace=False)
        self.cloth_colours = np.clip(
            _CLOTH_COLOURS[[first, second]] * (1 + rng.normal(0, 0.06, (2, 3))), 0.02, 0.9
        )
        self.cloth_pattern = int(rng.choice(4, p=[0.5, 0.15, 0.1, 0.25]))
        kind = rng.choice(4, p=[0.5, 0.25, 0.15, 0.1])
        height = (rng.uniform(5.72, 5.88), rng.uniform(5.75, 5.88), 6.16, rng.uniform(5.98, 6.06))[kind]
        self.collar = np.array(
            [height, (0.22, 0.22, 0.10, 0.16)[kind], (0.0, 0.55, 0.0, 0.0)[kind]], np.float32
        )
        """See `raster.collar_at`: crew neck, V-neck, turtleneck, high collar."""

    def _complexion(self, rng: np.random.Generator, coverage_map: NDArray[Any]) -> Complexion:
        beard = 0.0
        if self.masculinity > 0.6 and rng.random() < 0.6:
            beard = float(rng.choice([0.15, 0.4, 0.75, 1.0], p=[0.4, 0.25, 0.2, 0.15]))
        return Complexion(
            skin=self.skin_colour,
            hair=self.hair_colour,
            darkness=self._darkness,
            masculinity=self.masculinity,
            age=self.age,
            beard=beard,
            scalp_cover=STYLES[self.hair_style].scalp_cover,
            coverage_map=coverage_map,
        )

    def _lay_shell(self) -> Shell:
        """Cloth on the shoulders and the lowest layer of hair on the scalp."""
        pack, style = self.pack, STYLES[self.hair_style]
        skin = pack.triangles_T3[pack.triangle_material_T == Material.SKIN]
        canonical = pack.canonical_F3
        coverage = hair_coverage(canonical, self._hairline, self._hairline_phase).astype(np.float32)
        cloth = skin[canonical[skin][:, :, 1].min(1) < float(self.collar[0]) + 0.30]
        hair = skin[(coverage[skin].max(1) > 0.02) & ~_is_ear(canonical[skin])]
        if style.cards == 0:
            hair = hair[:0]
        thick = 0.015 + 0.22 * style.volume
        parts, offset = [], 0
        for triangles, height in ((cloth, np.float32(0.035)), (hair, np.float32(thick))):
            used, renumbered = np.unique(triangles, return_inverse=True)
            lift = np.full(len(used), height) * (1 if triangles is cloth else coverage[used] ** 0.7)
            parts.append((used, lift, coverage[used], renumbered.reshape(-1, 3) + offset))
            offset += len(used)
        return Shell(
            source_S=np.concatenate([part[0] for part in parts]).astype(np.int32),
            offset_S=np.concatenate([part[1] for part in parts]).astype(np.float32),
            coverage_S=np.concatenate([part[2] for part in parts]),
            triangles_K3=np.concatenate([part[3] for part in parts]).astype(np.int32),
            material_K=np.repeat([int(Material.CLOTH), int(Material.CAP)], [len(cloth), len(hair)]).astype(
                np.int32
            ),
        )

    def _wear(self, rng: np.random.Generator, normals_F3: NDArray[np.float32]) -> RigidMesh:
        """Grow the hair and put on glasses, if any."""
        style = STYLES[self.hair_style]
        hair = self._grow_hair(rng, style, normals_F3)
        vertices, normals, triangles = hair.vertices_H3, hair.normals_H3, hair.triangles_K3
        material = np.full(len(triangles), int(Material.HAIR), np.int32)
        tangents, coordinates = hair.tangents_H3, hair.coordinates_H3
        self.has_glasses = bool(rng.random() < 0.2)
        self.frame_colour = _FRAME_COLOURS[int(rng.integers(len(_FRAME_COLOURS)))]
        if self.has_glasses:
            skin = np.unique(self.pack.triangles_T3[self.pack.triangle_material_T == Material.SKIN])
            frame, frame_normals, frame_triangles = glasses_mesh(rng, self.fine_vertices_F3[skin])
            triangles = np.concatenate([triangles, frame_triangles + np.int32(len(vertices))])
            material = np.concatenate(
                [material, np.full(len(frame_triangles), int(Material.FRAME), np.int32)]
            )
            vertices, normals = np.concatenate([vertices, frame]), np.concatenate([normals, frame_normals])
            tangents = np.concatenate([tangents, np.zeros_like(frame)])
            coordinates = np.concatenate([coordinates, np.zeros_like(frame)])
        return RigidMesh(
            vertices_H3=vertices,
            normals_H3=normals,
            tangents_H3=tangents,
            coordinates_H3=coordinates,
            head_blend_H=head_blend(vertices),
            triangles_K3=triangles,
            material_K=material,
        )

    def _grow_hair(
        self, rng: np.random.Generator, style: HairStyle, normals_F3: NDArray[np.float32]
    ) -> HairMesh:
        pack, canonical = self.pack, self.pack.canonical_F3
        skin = pack.triangles_T3[pack.triangle_material_T == Material.SKIN]
        coverage = hair_coverage(canonical, self._hairline, self._hairline_phase)[skin].mean(1)
        corners = self.fine_vertices_F3[skin]
        area = np.linalg.norm(np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]), axis=1)
        weight = area * np.clip(coverage * 1.3 - 0.15, 0, 1) * ~_is_ear(canonical[skin])
        weight = weight * np.where(corners[..., 2].mean(1) < -0.05, 0.45, 1.0)  # the back is seldom seen
        if style.fringe is not None:
            weight = weight * (1 + 2.0 * grows_over_forehead(corners.mean(1)))
        spaced = (np.arange(style.cards) + rng.uniform(0, 1, style.cards)) / max(1, style.cards)
        chosen = np.searchsorted(np.cumsum(weight) / weight.sum(), spaced)
        shares = rng.dirichlet([1.0, 1.0, 1.0], style.cards).astype(np.float32)
        roots = (corners[chosen] * shares[..., None]).sum(1)
        normals = (normals_F3[skin[chosen]] * shares[..., None]).sum(1)
        return grow(rng, style, Surface(self.fine_vertices_F3, normals_F3, pack), roots, normals)


def _is_ear(corners_K33: NDArray[np.float32]) -> NDArray[np.bool_]:
    """Whether triangles at canonical corners (K, 3, 3) belong to the ears."""
    return np.asarray(
        (np.abs(corners_K33[:, :, 0]).min(1) > 0.70)
        & (corners_K33[:, :, 1].max(1) < 7.60)
        & (corners_K33[:, :, 1].max(1) > 6.5)
        & (corners_K33[:, :, 2].min(1) > -0.45)
    )
