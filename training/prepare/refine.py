"""What the landmark refiner makes of the tracked landmarks of a data set, for the encoders to learn from.

`python -m training.prepare.refine --refiner RUN/last.safetensors --data TRIPLES [--real REAL.npz]`

The engine mends landmarks before any encoder sees them; the encoders are taught on the same. Writes
`refined.npy` (T, 68, 2) into every part that has been tracked, and `refined` into the file of real frames.
The refiner must not have been fitted on these people: it knows its own too well.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from tqdm import tqdm

from engine.errors import BadMediaError
from gcavt.checkpoint import read_checkpoint
from gcavt.landmark_refiner import LandmarkRefiner
from gcavt.preprocessing import face_landmarks, landmark_input, landmarks_in_crop, to_network
from training.datasets.triples import REFINED, TRACKED
from training.objectives.encoders import over_background, random_background

Image = NDArray[np.uint8]
Points = NDArray[np.float32]


@torch.no_grad()
def refined(refiner: LandmarkRefiner, image_HWC: Image, tracked_68: Points) -> Points:
    """(68, 2) in the crop's pixels; NaN stays NaN."""
    if not np.isfinite(tracked_68).all():
        return tracked_68
    picture = to_network(landmark_input(image_HWC, tracked_68, refiner.config))
    values = refiner(torch.from_numpy(picture)[None], torch.from_numpy(face_landmarks(tracked_68))[None])
    return landmarks_in_crop(values[0].numpy(), tracked_68)


def refine_part(folder: Path, refiner: LandmarkRefiner) -> None:
    """The targets of one part, over the backgrounds in which they were tracked."""
    names = ("target", "alpha", TRACKED.removesuffix(".npy"))
    targets, alphas, tracked = (np.load(folder / f"{name}.npy", mmap_mode="r") for name in names)
    rng = np.random.default_rng(11)
    shown = tqdm(targets, desc=f"refining {folder.name}", unit="frame", mininterval=5)
    points = _refine_all(
        refiner,
        (over_background(t, a, random_background(rng)) for t, a in zip(shown, alphas, strict=True)),
        tracked,
    )
    partial = folder / f"{REFINED}.partial"
    with partial.open("wb") as file:
        np.save(file, points)
    os.replace(partial, folder / REFINED)


def refine_real(path: Path, refiner: LandmarkRefiner) -> None:
    with np.load(path) as arrays:
        values = {name: arrays[name] for name in arrays.files}
    values["refined"] = _refine_all(refiner, values["crop"], values["landmarks"])
    partial = path.with_name(f"{path.name}.partial")
    with partial.open("wb") as file:
        np.savez(file, **values)
    os.replace(partial, path)


def _refine_all(refiner: LandmarkRefiner, images: Iterable[Image], tracked: NDArray[np.floating]) -> Points:
    return np.stack([refined(refiner, image, t) for image, t in zip(images, tracked, strict=True)])


def read_refiner(path: Path) -> LandmarkRefiner:
    """Raises BadMediaError if the checkpoint holds none."""
    model = read_checkpoint(path).build()
    if model.config.refiner is None:
        raise BadMediaError(f"{path} is of a model without a landmark refiner")
    return model.landmark_refiner.eval()


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--refiner", type=Path, required=True, help="checkpoint of training.landmarks")
    parser.add_argument("--data", type=Path, help="rendered triples, tracked (training.prepare.track)")
    parser.add_argument("--real", type=Path, help="pseudo-labelled real frames (.npz)")
    args = parser.parse_args()
    torch.set_num_threads(1)
    refiner = read_refiner(args.refiner)
    for tracked in sorted(args.data.glob(f"part_*/{TRACKED}")) if args.data else []:
        refine_part(tracked.parent, refiner)
    if args.real:
        refine_real(args.real, refiner)
    return 0


if __name__ == "__main__":
    sys.exit(main())
