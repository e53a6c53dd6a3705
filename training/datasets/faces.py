"""A few frames each of many people's faces: what the image encoders learn from.

`python -m training.datasets.faces --out DIR [--people N]`

Triples show few people often; how far a face tracker errs belongs to the person, so here are many people
seldom. A chunk is the frames of 50 people in which a face was tracked, as a webcam's crop would show them
(`people_SEED.npy`, which is mapped and not read, so that processes share it), what MediaPipe reads in them
and the truth (`people_SEED.npz`). About a tenth of a second of one core per frame.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

import cv2
import numpy as np
from mediapipe.tasks.python.vision import FaceLandmarker
from numpy.typing import NDArray
from tqdm import tqdm

from engine.errors import BadMediaError
from gcavt.preprocessing import landmarks_68_from_478
from training.datasets.placement import normal_pose
from training.datasets.real_frames import RealFrame
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


LABELS = ("tracked", "exact", "pose", "expression", "mouth", "identity")


class Faces:
    """The frames of a folder. Landmarks are in pixels whose centres are whole numbers."""

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

    def __init__(self, folder: Path) -> None:
        paths = sorted(folder.glob("people_*.npz"))
        if not paths:
            raise BadMediaError(f"no people in {folder}: render them with python -m training.datasets.faces")
        labels: dict[str, list[NDArray[np.generic]]] = {name: [] for name in LABELS}
        self.image: list[NDArray[np.uint8]] = []
        """T pictures (256, 256, 3), RGB, over a background."""
        for path in paths:
            self.image += list(np.load(path.with_suffix(".npy"), mmap_mode="r"))
            with np.load(path) as arrays:
                for name in LABELS:
                    labels[name].append(arrays[name])
        for name, values in labels.items():
            setattr(self, name, np.concatenate(values))
        order = np.argsort(self.identity, kind="stable")
        starts = np.flatnonzero(np.diff(self.identity[order], prepend=-1))
        self.people = np.split(order, starts[1:])
        """The rows of each person's frames."""

    def __len__(self) -> int:
        return len(self.image)

    def frame(self, row: int | np.integer) -> RealFrame:
        labels = self.tracked[row], self.pose[row], self.expression[row], self.mouth[row]
        return RealFrame(np.asarray(self.image[row]), *labels, exact_68=self.exact[row])


def render_chunk(path: Path, first_seed: int, people: int, frames: int, landmarker: FaceLandmarker) -> None:
    """Render so many people from a seed on; the labels go to `path`, last, the pictures beside them."""
    rows: dict[str, list[NDArray[np.generic]]] = {}
    for seed in range(first_seed, first_seed + people):
        for row in _frames(seed, frames, landmarker):
            for name, value in row.items():
                rows.setdefault(name, []).append(value)
    arrays = {name: np.stack(values) for name, values in rows.items()}
    with _written_whole(path.with_suffix(".npy")) as file:
        np.save(file, arrays.pop("image"))
    with _written_whole(path) as file:
        np.savez(file, **arrays)  # type: ignore[arg-type]


@contextmanager
def _written_whole(path: Path) -> Iterator[BinaryIO]:
    partial = path.with_name(f"{path.name}.partial")
    with partial.open("wb") as file:
        yield file
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
        tracked = read_landmarks(landmarker, image)
        if not np.isfinite(tracked).all():
            continue
        yield {
            "image": image,
            "tracked": tracked,
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
