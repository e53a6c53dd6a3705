"""Renders the counterfactual triples of `training.datasets.triples`, in parallel processes.

`python -m training.datasets.render --out DIR [--identities N]`

Each identity is placed so that its neutral, frontal face fills the frame as the face crop would cut it
(box x 1.8): what the networks see in training is framed like what they get live.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import cv2
import numpy as np
from numpy.typing import ArrayLike, NDArray
from tqdm import tqdm

from gcavt.config import GcavtConfig
from gcavt.preprocessing import crop_from_box, face_box, landmarks_68_from_478, portrait_crop_origin
from training.datasets.placement import FACE_Z
from training.datasets.triples import TriplesPart, create_part, finish_part
from training.synthetic import truth
from training.synthetic.camera import through_lens
from training.synthetic.identity import Identity, Scene
from training.synthetic.performance import (
    EXPRESSIONS,
    VISEMES,
    both,
    expression_vector,
    random_expression,
    random_mouth,
    random_pose,
    weight_vector,
)
from training.synthetic.raster import CAMERA_DISTANCE, FOCAL_RATIO, project
from training.synthetic.renderer import Renderer

FIRST_SEED = 1000
FRONTAL_SHARE = 0.3
"""Poses of references are this much smaller than those of targets."""
DISTANCE_SPREAD = 0.35
CLOSED_EYES_SHARE = 0.7
"""How often the second reference lends its lids too; the engine joins it so out of several photos."""
SMILING_SHARE = 0.6
"""Of the posed portraits."""
SIDE_YAW_DEG = (18.0, 40.0)
"""How far heads are turned in side portraits, at least and at most."""
FACE_BEFORE_PIVOT = 1.1
"""Head units by which a turned face moves aside, over the sine of its yaw."""
OPEN_MOUTHS = (("aa", 0.9), ("E", 1.1), ("SS", 1.1), ("happy", 0.9))


@dataclass(frozen=True, kw_only=True)
class TripleCounts:
    identities: int = 252
    first_seed: int = FIRST_SEED
    references: int = 2
    """References per identity."""
    triples: int = 20
    """Triples per reference."""
    posed_share: float = 0.5
    """How often the first reference smiles or speaks, as in photos; else its face is nearly at rest."""


def placement(renderer: Renderer) -> NDArray[np.float32]:
    """Translation x, y, z in head units that makes the neutral face fill the frame as the face crop does."""
    shift = np.zeros(3, np.float32)
    landmarks = renderer.identity.pack.landmark_vertices_468
    for _ in range(3):
        vertices = renderer.posed_vertices(np.zeros(52, np.float32), np.concatenate([np.zeros(3), shift]))
        points = project(np.asarray(vertices[landmarks], np.float32), 256)[:, :2]
        crop = crop_from_box(face_box(points))
        centre = np.linalg.solve(crop[:, :2], np.array([127.5, 127.5]) - crop[:, 2]) - 127.5
        distance = CAMERA_DISTANCE - FACE_Z - shift[2]
        units_per_px = distance / (FOCAL_RATIO * 256)
        shift += np.array(
            [-centre[0] * units_per_px, centre[1] * units_per_px, distance * (1 - 1 / crop[0, 0])], np.float32
        )
    return shift


class TripleWriter:
    """Fills one part with the triples of some identities."""

    def __init__(self, part: TriplesPart, counts: TripleCounts) -> None:
        self.part, self.counts = part, counts
        self.next_reference = 0
        self.next_triple = 0
        self.places: list[list[float]] = []

    def write_identity(self, seed: int) -> None:
        rng = np.random.default_rng(90_000 + seed)
        renderer = Renderer(Identity(seed), Scene.from_seed(seed), supersampling=2)
        position = placement(renderer)
        self.places.append(position.tolist())
        place = np.concatenate([np.zeros(3, np.float32), position])
        posing = np.random.default_rng(60_000_000 + seed)
        turning = np.random.default_rng(70_000_000 + seed)
        for _ in range(self.counts.references):
            self._write_sides(renderer, place, turning)
            self._write_reference(renderer, seed, place, rng, posing)

    def _write_sides(self, renderer: Renderer, place: NDArray[np.float32], rng: np.random.Generator) -> None:
        """The next reference's portraits of the head turned to the picture's left and right."""
        poses = [place + draw_side_pose(rng, direction) for direction in (-1, 1)]
        faces = [0.3 * (random_expression(rng) + random_mouth(rng)) for _ in poses]
        renders = [renderer.render(face, pose) for face, pose in zip(faces, poses, strict=True)]
        depth, blend = zip(*(truth.depth_and_blend(render, 128) for render in renders), strict=True)
        self._put(
            self.part.references,
            self.next_reference,
            side_images=[through_lens(render.image) for render in renders],
            side_poses=poses,
            side_depth=depth,
            side_blend=np.round(np.stack(blend) * 255),
        )

    def _write_reference(
        self,
        renderer: Renderer,
        seed: int,
        place: NDArray[np.float32],
        rng: np.random.Generator,
        posing: np.random.Generator,
    ) -> None:
        """posing: a generator of its own, so that everything else is the same without posed portraits."""
        pose = place + FRONTAL_SHARE * draw_pose(rng)
        weights = 0.3 * (random_expression(rng) + random_mouth(rng))
        if posing.random() < self.counts.posed_share:
            weights = posed_face(posing)
        render = renderer.render(weights, pose)
        landmarks = landmarks_68_from_478(truth.landmarks(render))
        second, second_landmarks = self._second_reference(renderer, pose, rng)
        origin = (*portrait_origin(landmarks), *portrait_origin(second_landmarks))
        row = self.next_reference
        self._put(
            self.part.references,
            row,
            reference_image=through_lens(render.image),
            reference_second=second,
            reference_pose=pose,
            reference_origin=origin,
            reference_landmarks=landmarks,
            reference_identity=seed,
        )
        x, y = origin[:2]
        half = (slice(y // 2, y // 2 + 88), slice(x // 2, x // 2 + 72))
        whole = (slice(y, y + 176), slice(x, x + 144))
        for _ in range(self.counts.triples):
            expression, mouth = random_expression(rng), random_mouth(rng)
            face = np.clip(expression + mouth, 0, 1)
            target_pose = place + draw_pose(rng)
            edited = renderer.render(face, pose)
            flow, visible = truth.flow(edited, render, 128)
            target = renderer.render(face, target_pose)
            depth, blend = truth.depth_and_blend(target, 128)
            self._put(
                self.part.triples,
                self.next_triple,
                reference=row,
                edited=through_lens(edited.image)[whole],
                flow=2 * flow[half],
                visible=visible[half],
                target=through_lens(target.image),
                alpha=through_lens(target.alpha),
                depth=depth,
                blend=np.round(blend * 255),
                pose=target_pose,
                expression=expression,
                mouth=mouth,
                landmarks=landmarks_68_from_478(truth.landmarks(target)),
            )
            self.next_triple += 1
        self.next_reference += 1

    def _second_reference(
        self, renderer: Renderer, pose: NDArray[np.float32], rng: np.random.Generator
    ) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
        """A second photo: nearly the same pose, mouth open, teeth showing, eyes mostly closed."""
        name, strength = OPEN_MOUTHS[int(rng.integers(len(OPEN_MOUTHS)))]
        face = 0.3 * random_expression(rng) + expression_or_viseme(name, strength)
        if rng.random() < CLOSED_EYES_SHARE:
            face = np.maximum(face, weight_vector(both("eyeBlink", rng.uniform(0.8, 1.0))))
        render = renderer.render(np.clip(face, 0, 1), pose + 0.12 * draw_pose(rng))
        return through_lens(render.image), landmarks_68_from_478(truth.landmarks(render))

    @staticmethod
    def _put(arrays: dict[str, NDArray[Any]], row: int, **values: ArrayLike) -> None:
        for key, value in values.items():
            arrays[key][row] = value


def expression_or_viseme(name: str, strength: float) -> NDArray[np.float32]:
    """Weights (52,) of a named expression or viseme."""
    if name in EXPRESSIONS:
        return expression_vector(name, strength)
    return weight_vector({key: value * strength for key, value in VISEMES[name].items()})


def portrait_origin(landmarks_68: NDArray[np.float32]) -> tuple[int, int]:
    """Where (x, y) the face crop of a portrait begins: even numbers, so that half-size maps line up."""
    x, y = portrait_crop_origin(landmarks_68, GcavtConfig.lite().generator)  # type: ignore[arg-type]
    return x - x % 2, y - y % 2


def posed_face(rng: np.random.Generator) -> NDArray[np.float32]:
    """The face (52,) of a photo that somebody chose: mostly a smile, with or without teeth, else anything."""
    if rng.random() < SMILING_SHARE:
        smile = dict(EXPRESSIONS["happy"])
        lips, upper_lip = rng.uniform(0.4, 1.1), rng.uniform(0.2, 1.3)
        smile |= both("mouthUpperUp", upper_lip * smile["mouthUpperUpLeft"])
        smile["jawOpen"] = rng.uniform(0, 0.25)
        face = 0.3 * random_expression(rng) + weight_vector(
            {key: lips * value for key, value in smile.items()}
        )
    else:
        strength = rng.uniform(0.3, 1.0)
        face = strength * (random_expression(rng) + random_mouth(rng))
    return np.asarray(np.clip(face, 0, 1), np.float32)


def draw_pose(rng: np.random.Generator) -> NDArray[np.float32]:
    """A random target pose (6,), with more distance to the camera than a still tripod shows."""
    pose = random_pose(rng)
    pose[5] = rng.normal(0, DISTANCE_SPREAD)
    return pose


def draw_side_pose(rng: np.random.Generator, direction: Literal[-1, 1]) -> NDArray[np.float32]:
    """A pose (6,) turned to the picture's left (-1) or right, the face more or less amidst the frame."""
    yaw = direction * rng.uniform(*SIDE_YAW_DEG)
    aside = rng.uniform(0, 1) * FACE_BEFORE_PIVOT * np.sin(np.radians(yaw))
    angles = [rng.normal(0, 5), yaw, rng.normal(0, 4)]
    shifts = [rng.normal(0, 0.06) - aside, rng.normal(0, 0.06), rng.normal(0, 0.2)]
    return np.array(angles + shifts, np.float32)


def write_part(folder: Path, seeds: list[int], counts: TripleCounts, *, show_progress: bool) -> None:
    """Render the triples of some identities into `folder`; a finished part is left alone."""
    if (folder / "done.json").exists():
        return
    cv2.setNumThreads(1)
    references = counts.references * len(seeds)
    part = create_part(folder, references, references * counts.triples)
    writer = TripleWriter(part, counts)
    for seed in tqdm(seeds, desc=f"rendering {folder.name}", unit="identity", disable=not show_progress):
        writer.write_identity(seed)
    info = {
        "seeds": seeds,
        "places": writer.places,
        "references": counts.references,
        "triples": counts.triples,
    }
    finish_part(folder, part, info)


def render_triples(folder: Path, counts: TripleCounts, parts: int) -> None:
    """Render a data set in `parts` processes. Interrupted parts start again, finished ones are kept."""
    seeds = list(range(counts.first_seed, counts.first_seed + counts.identities))
    context = multiprocessing.get_context("spawn")
    workers = [
        context.Process(
            target=write_part,
            args=(folder / f"part_{k:02d}", seeds[k::parts], counts),
            kwargs={"show_progress": k == 0},
        )
        for k in range(parts)
    ]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    failed = [w.exitcode for w in workers if w.exitcode]
    if failed:
        raise RuntimeError(f"{len(failed)} of {parts} rendering processes failed (exit code {failed[0]})")


def main() -> int:
    parser = argparse.ArgumentParser(description="Render counterfactual triples of people who do not exist.")
    parser.add_argument("--out", type=Path, required=True, help="folder; finished parts in it are kept")
    parser.add_argument("--identities", type=int, default=252, help="how many people (default %(default)s)")
    parser.add_argument(
        "--first-seed", type=int, default=FIRST_SEED, help="of the first person (default %(default)s)"
    )
    parser.add_argument("--references", type=int, default=2, help="references each (default %(default)s)")
    parser.add_argument("--triples", type=int, default=20, help="triples per reference (default %(default)s)")
    parser.add_argument("--parts", type=int, default=os.cpu_count() or 1, help="processes (default: cores)")
    args = parser.parse_args()
    counts = TripleCounts(
        identities=args.identities,
        first_seed=args.first_seed,
        references=args.references,
        triples=args.triples,
    )
    render_triples(args.out, counts, args.parts)
    return 0


if __name__ == "__main__":
    sys.exit(main())
