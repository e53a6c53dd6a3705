"""A few frames each of many people's faces: what the pose encoder and the encoders' corrections learn from.

`python -m training.datasets.faces --out DIR [--people N]`

Triples show few people often; how far a face tracker errs belongs to the person, so here are many people
seldom. Every chunk `people_SEED.npz` holds the frames of 50 people as a webcam's crop would show them, what
MediaPipe reads in them, and the truth. About half a second of one core per person.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from mediapipe.tasks.python.vision import FaceLandmarker
from numpy.typing import NDArray
from tqdm import tqdm

from engine.errors import BadMediaError
from gcavt.preprocessing import landmarks_68_from_478
from training.datasets.placement import normal_pose
from training.datasets.render import draw_pose, placement
from training.objectives.encoders import over_background, random_background
from training.prepare.track import open_landmarker, read_landmarks
from training.synthetic import truth
from training.synthetic.camera import through_lens
from training.synthetic.identity import Identity, Scene
from training.synthetic.performance import random_expression, random_mouth
from training.synthetic.renderer import Renderer

FIRST_SEED = 20_000
"""Neither triples nor evaluation render these people."""
PEOPLE_PER_CHUNK = 50
FRAMES_PER_PERSON = 3


@dataclass(frozen=True, kw_only=True)
class FaceChunk:
    """T frames. Landmarks are in pixels whose centres are whole numbers."""

    image: NDArray[np.uint8]
    """(T, 256, 256, 3), RGB, over a background."""
    tracked: NDArray[np.float32]
    """(T, 68, 2) as MediaPipe reads them."""
    exact: NDArray[np.float32]
    """(T, 68, 2)"""
    pose: NDArray[np.float32]
    """(T, 6) normal poses, in degrees and head units."""
    expression: NDArray[np.float32]
    """(T, 52)"""
    mouth: NDArray[np.float32]
    """(T, 52)"""
    identity: NDArray[np.int64]
    """(T,) the person's seed."""


class Faces:
    """The chunks of a folder, read one at a time. Frames in which no face was tracked are left out."""

    def __init__(self, folder: Path) -> None:
        self.paths = sorted(folder.glob("people_*.npz"))
        if not self.paths:
            raise BadMediaError(f"no people in {folder}: render them with python -m training.datasets.faces")

    def chunks(self) -> Iterator[FaceChunk]:
        for path in self.paths:
            yield read_chunk(path)


def read_chunk(path: Path) -> FaceChunk:
    with np.load(path) as arrays:
        found = np.isfinite(arrays["tracked"][:, 0, 0])
        values = {name: arrays[name][found] for name in arrays.files}
    return FaceChunk(**values)


def render_chunk(path: Path, first_seed: int, people: int, frames: int, landmarker: FaceLandmarker) -> None:
    rows: dict[str, list[NDArray[np.generic]]] = {}
    for seed in range(first_seed, first_seed + people):
        for row in _frames(seed, frames, landmarker):
            for name, value in row.items():
                rows.setdefault(name, []).append(value)
    partial = path.with_name(f"{path.name}.partial")
    with partial.open("wb") as file:
        np.savez(file, **{name: np.stack(values) for name, values in rows.items()})  # type: ignore[arg-type]
    os.replace(partial, path)


def _frames(seed: int, frames: int, landmarker: FaceLandmarker) -> Iterator[dict[str, NDArray[np.generic]]]:
    rng = np.random.default_rng(70_000_000 + seed)
    renderer = Renderer(Identity(seed), Scene.from_seed(seed), supersampling=2)
    position = placement(renderer)
    place = np.concatenate([np.zeros(3, np.float32), position])
    for _ in range(frames):
        expression, mouth = random_expression(rng), random_mouth(rng)
        pose = place + draw_pose(rng)
        render = renderer.render(np.clip(expression + mouth, 0, 1), pose)
        behind = random_background(rng)
        image = over_background(through_lens(render.image), through_lens(render.alpha), behind)
        yield {
            "image": image,
            "tracked": read_landmarks(landmarker, image),
            "exact": landmarks_68_from_478(truth.landmarks(render)) - np.float32(0.5),
            "pose": normal_pose(pose, position),
            "expression": expression,
            "mouth": mouth,
            "identity": np.array(seed),
        }


def render_faces(folder: Path, people: int, frames: int, processes: int) -> None:
    """Render chunk after chunk in `processes`; those that are there already are left alone."""
    folder.mkdir(parents=True, exist_ok=True)
    context = multiprocessing.get_context("spawn")
    workers = [
        context.Process(target=_work, args=(folder, people, frames, number, processes))
        for number in range(processes)
    ]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    failed = [worker.exitcode for worker in workers if worker.exitcode]
    if failed:
        raise RuntimeError(f"{len(failed)} of {processes} rendering processes failed (exit code {failed[0]})")


def _work(folder: Path, people: int, frames: int, number: int, processes: int) -> None:
    cv2.setNumThreads(1)
    starts = range(0, people, PEOPLE_PER_CHUNK)[number::processes]
    with open_landmarker() as landmarker:
        for start in tqdm(starts, desc="rendering people", unit="chunk", disable=number > 0):
            path = folder / f"people_{FIRST_SEED + start:06d}.npz"
            if not path.exists():
                count = min(PEOPLE_PER_CHUNK, people - start)
                render_chunk(path, FIRST_SEED + start, count, frames, landmarker)


def main() -> int:
    parser = argparse.ArgumentParser(description="Render frames of many people, each seen a few times.")
    parser.add_argument("--out", type=Path, required=True, help="folder; finished chunks in it are kept")
    parser.add_argument("--people", type=int, default=3000, help="how many (default %(default)s)")
    parser.add_argument(
        "--frames", type=int, default=FRAMES_PER_PERSON, help="of each person (default %(default)s)"
    )
    parser.add_argument("--processes", type=int, default=os.cpu_count() or 1, help="default: cores")
    args = parser.parse_args()
    render_faces(args.out, args.people, args.frames, args.processes)
    return 0


if __name__ == "__main__":
    sys.exit(main())
