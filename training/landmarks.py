"""Fits the landmark refiner in closed form.

`python -m training.landmarks --faces DIR --run RUN`

Every linear map is a ridge regression. It is fitted three times, each time without a third of the people, so
that for everybody there are landmarks as refined for a stranger: the next stage learns from these, and so do
the encoders' corrections (written beside the chunks). What is kept is the mean of the three.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from tqdm import tqdm

from engine.errors import BadMediaError
from gcavt.augmentation import through_webcam
from gcavt.checkpoint import save_checkpoint
from gcavt.config import GcavtConfig, LandmarkRefinerConfig
from gcavt.landmark_refiner import LandmarkRefiner
from gcavt.model import Gcavt
from gcavt.preprocessing import (
    face_landmarks,
    landmark_input,
    landmark_window,
    landmarks_in_crop,
    transform_points,
)
from training.datasets.faces import FaceChunk, Faces, refined_path

FOLDS = 3
RIDGE = 0.1
"""Per frame, on values of unit variance."""
PRIOR_RIDGE = 0.001
HELD_OUT = 100
"""People at the end of the folder, for the figures only."""
TURN_DEG, SCALE, SHIFT_PX, TREMBLE_PX = 1.0, 0.012, 0.8, 0.35
"""Standard deviations of how a second look at every frame moves the tracked landmarks."""
_BATCH = 64

Floats = NDArray[np.float32]


@dataclass(frozen=True, kw_only=True)
class Looks:
    """What the refiner sees: T frames, each as it is and through a webcam."""

    image: NDArray[np.uint8]
    """(T, S, S, 3)"""
    tracked: Floats
    """(T, 136) as the refiner is given them."""
    exact: Floats
    """(T, 136) in the same frame."""
    tracked_in_crop: Floats
    """(T, 68, 2)"""
    scale: Floats
    """(T,) pixels of the crop per unit."""
    identity: NDArray[np.int64]
    is_augmented: NDArray[np.bool_]


def look_at(faces: Faces, refiner: LandmarkRefinerConfig, rng: np.random.Generator) -> Looks:
    rows: dict[str, list[object]] = {name: [] for name in Looks.__dataclass_fields__}
    for chunk in tqdm(faces.chunks(), desc="reading faces", unit="chunk", total=len(faces.paths)):
        for row in range(len(chunk.image)):
            for is_augmented in (False, True):
                look = _look(chunk, row, refiner, rng, is_augmented=is_augmented)
                for name, value in look.items():
                    rows[name].append(value)
    return Looks(**{name: np.array(values) for name, values in rows.items()})


def _look(
    chunk: FaceChunk,
    row: int,
    refiner: LandmarkRefinerConfig,
    rng: np.random.Generator,
    *,
    is_augmented: bool,
) -> dict[str, object]:
    image, tracked = chunk.image[row], chunk.tracked[row]
    if is_augmented:
        image, tracked = through_webcam(image, rng), _tracked_otherwise(tracked, rng)
    window = landmark_window(tracked, refiner)
    origin = np.array([0.5, refiner.eye_height]) * refiner.input_px - 0.5
    exact = (transform_points(chunk.exact[row], window) - origin) / refiner.eye_distance_px
    return {
        "image": landmark_input(image, tracked, refiner),
        "tracked": face_landmarks(tracked),
        "exact": exact.astype(np.float32).reshape(-1),
        "tracked_in_crop": tracked,
        "scale": np.float32(refiner.eye_distance_px / np.sqrt(np.linalg.det(window[:, :2]))),
        "identity": int(chunk.identity[row]),
        "is_augmented": is_augmented,
    }


def _tracked_otherwise(tracked_68: Floats, rng: np.random.Generator) -> Floats:
    """The landmarks as the tracker might read them in the next picture."""
    centre = tracked_68.mean(axis=0)
    turn, scale = rng.normal(0, TURN_DEG), float(np.exp(rng.normal(0, SCALE)))
    matrix = np.asarray(cv2.getRotationMatrix2D(centre.tolist(), turn, scale), np.float32)
    tremble = rng.normal(0, TREMBLE_PX, tracked_68.shape) + rng.normal(0, SHIFT_PX, 2)
    return np.asarray(transform_points(tracked_68, matrix) + tremble, np.float32)


class Ridge:
    """Normal equations of some folds of the data, and the linear map that leaves one of them out."""

    def __init__(
        self, values_TD: NDArray[np.floating], targets_TK: Floats, fold_T: NDArray[np.integer]
    ) -> None:
        self.mean = values_TD.mean(0, dtype=np.float64).astype(np.float32)
        self.spread = np.sqrt(values_TD.astype(np.float32).var(0, dtype=np.float64)).astype(np.float32) + 1e-3
        self.counts = np.bincount(fold_T, minlength=FOLDS)
        self.squares, self.products = [], []
        columns = values_TD.shape[1] + 1  # the last one is 1, for the bias of the folds that are looked at
        for fold in range(FOLDS):
            rows = np.flatnonzero(fold_T == fold)
            square = torch.zeros(columns, columns)
            product = torch.zeros(columns, targets_TK.shape[1])
            for part in np.array_split(rows, max(1, len(rows) // 2048)):
                z = np.ones((len(part), columns), np.float32)
                z[:, :-1] = (values_TD[part].astype(np.float32) - self.mean) / self.spread
                square.addmm_(torch.from_numpy(z.T), torch.from_numpy(z))
                product.addmm_(torch.from_numpy(z.T), torch.from_numpy(targets_TK[part]))
            self.squares.append(square)
            self.products.append(product)

    def without(self, fold: int, ridge: float) -> tuple[Floats, Floats]:
        """Weight (K, D) and bias (K,) from all but one fold; `ridge` is per frame."""
        square = torch.stack([s for f, s in enumerate(self.squares) if f != fold]).sum(0)
        product = torch.stack([p for f, p in enumerate(self.products) if f != fold]).sum(0)
        count = float(self.counts.sum() - self.counts[fold])
        square.diagonal()[:-1].add_(ridge * count)
        solution = torch.linalg.solve(square, product).numpy().T
        weight = solution[:, :-1] / self.spread
        return weight, solution[:, -1] - weight @ self.mean


def fit(refiner: LandmarkRefiner, looks: Looks, report: Callable[[str, Floats], None]) -> Floats:
    """Fit every map in turn; returns the landmarks (T, 136) as refined for strangers.

    report is called with the name of each step and the landmarks after it.
    """
    people = np.unique(looks.identity)
    held_out = np.isin(looks.identity, people[len(people) - min(HELD_OUT, len(people) // 4) :])
    order = np.random.default_rng(1).permutation(people)
    fold = np.searchsorted(people, looks.identity)
    fold = np.argsort(order)[fold] % FOLDS
    landmarks = looks.tracked
    report("tracked", landmarks)
    landmarks = _fit_map(refiner.prior, looks.tracked, looks.exact, landmarks, fold, held_out, PRIOR_RIDGE)
    report("linear map", landmarks)
    for number in range(len(refiner.stages)):
        values = _described(refiner, looks.image, landmarks)
        landmarks = _fit_map(refiner.stage(number), values, looks.exact, landmarks, fold, held_out, RIDGE)
        report(f"histograms, stage {number + 1}", landmarks)
    return landmarks


def _fit_map(
    linear: nn.Linear,
    values_TD: NDArray[np.floating],
    exact: Floats,
    landmarks: Floats,
    fold: NDArray[np.integer],
    held_out: NDArray[np.bool_],
    ridge: float,
) -> Floats:
    """The mean of the folds' maps goes into `linear`; each serves its own fold, their mean the held out."""
    taught = ~held_out
    equations = Ridge(values_TD[taught], (exact - landmarks)[taught], fold[taught])
    better = landmarks.copy()
    weights, biases = [], []
    for number in tqdm(range(FOLDS), desc="fitting", unit="fold"):
        weight, bias = equations.without(number, ridge)
        rows = np.flatnonzero((fold == number) & taught)
        better[rows] += _applied(weight, bias, values_TD, rows)
        weights.append(weight)
        biases.append(bias)
    weight, bias = np.mean(weights, axis=0), np.mean(biases, axis=0)
    rows = np.flatnonzero(held_out)
    better[rows] += _applied(weight, bias, values_TD, rows)
    with torch.no_grad():
        linear.weight.copy_(torch.from_numpy(weight))
        assert linear.bias is not None
        linear.bias.copy_(torch.from_numpy(bias))
    return better


def _applied(
    weight: Floats, bias: Floats, values_TD: NDArray[np.floating], rows: NDArray[np.integer]
) -> Floats:
    parts = np.array_split(rows, max(1, len(rows) // 2048))
    return np.concatenate([values_TD[part].astype(np.float32) @ weight.T + bias for part in parts])


@torch.no_grad()
def _described(refiner: LandmarkRefiner, images: NDArray[np.uint8], landmarks: Floats) -> NDArray[np.float16]:
    found = []
    for start in tqdm(range(0, len(images), _BATCH), desc="describing", unit="batch", mininterval=5):
        picture = torch.from_numpy(images[start : start + _BATCH]).permute(0, 3, 1, 2).float() / 255
        rows = refiner.described(
            refiner.histograms(picture), torch.from_numpy(landmarks[start : start + _BATCH])
        )
        found.append(rows.numpy().astype(np.float16))
    return np.concatenate(found)


def errors_px(looks: Looks, landmarks: Floats) -> Floats:
    """(T,) mean distance from the truth, in pixels of the crop."""
    gap = (landmarks - looks.exact).reshape(len(landmarks), -1, 2)
    return np.asarray(np.linalg.norm(gap, axis=2).mean(1) * looks.scale, np.float32)


def write_refined(faces: Faces, looks: Looks, landmarks: Floats) -> None:
    """Beside each chunk, of its frames as they are: (T, 68, 2) in the crop's pixels."""
    rows = np.flatnonzero(~looks.is_augmented)
    points = np.stack([landmarks_in_crop(landmarks[row], looks.tracked_in_crop[row]) for row in rows])
    start = 0
    for path, chunk in zip(faces.paths, faces.chunks(), strict=True):
        end = start + len(chunk.image)
        np.save(refined_path(path), points[start:end])
        start = end


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--faces", type=Path, required=True, help="folder of training.datasets.faces")
    parser.add_argument(
        "--run", type=Path, required=True, help="last.safetensors is written into this folder"
    )
    parser.add_argument("--model", default="lite_refined", help="whose refiner (default %(default)s)")
    args = parser.parse_args()
    config: GcavtConfig = getattr(GcavtConfig, args.model)()
    if config.refiner is None:
        raise BadMediaError(f"model {args.model} has no landmark refiner")
    torch.manual_seed(0)
    faces = Faces(args.faces)
    looks = look_at(faces, config.refiner, np.random.default_rng(0))
    people = np.unique(looks.identity)
    held_out = np.isin(looks.identity, people[len(people) - min(HELD_OUT, len(people) // 4) :])
    figures: dict[str, list[float]] = {}

    def report(step: str, landmarks: Floats) -> None:
        errors = errors_px(looks, landmarks)
        shares = [errors[held_out & (looks.is_augmented == augmented)] for augmented in (False, True)]
        figures[step] = [round(float(share.mean()), 3) for share in shares]
        plain, webcam = figures[step]
        sys.stdout.write(f"{step}: {plain:.2f} px of 256, through a webcam {webcam:.2f}\n")
        sys.stdout.flush()

    model = Gcavt(config)
    landmarks = fit(model.landmark_refiner, looks, report)
    write_refined(faces, looks, landmarks)
    provenance = {
        "recipe": "landmarks",
        "trained": ["landmark_refiner"],
        "people": len(people),
        "frames": int((~looks.is_augmented).sum()),
        "held_out_px": figures,
    }
    save_checkpoint(args.run / "last.safetensors", model, config, provenance)
    return 0


if __name__ == "__main__":
    sys.exit(main())
