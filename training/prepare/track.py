"""What the face tracker reads in rendered frames, beside the truth.

`python -m training.prepare.track --data TRIPLES`

The engine never knows where landmarks really are, only where MediaPipe sees them: the pose encoder is taught
on the same. Writes `tracked.npy` (T, 68, 2) into every part of the data set, about 15 ms a frame; parts that
have it are left alone.
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

import numpy as np
from mediapipe import Image, ImageFormat
from mediapipe.tasks.python import BaseOptions
from mediapipe.tasks.python.vision import FaceLandmarker, FaceLandmarkerOptions, RunningMode
from numpy.typing import NDArray
from tqdm import tqdm

from engine.assets import face_landmarker_path
from gcavt.preprocessing import landmarks_68_from_478
from training.datasets.triples import TRACKED
from training.objectives.encoders import over_background, random_background


def open_landmarker() -> FaceLandmarker:
    """MediaPipe's, for pictures that do not follow one on another."""
    options = FaceLandmarkerOptions(
        base_options=BaseOptions(model_asset_path=str(face_landmarker_path())),
        running_mode=RunningMode.IMAGE,
    )
    return FaceLandmarker.create_from_options(options)


def read_landmarks(landmarker: FaceLandmarker, image_HWC: NDArray[np.uint8]) -> NDArray[np.float32]:
    """(68, 2) in pixels whose centres are whole numbers; NaN where no face is found."""
    height, width = image_HWC.shape[:2]
    found = landmarker.detect(Image(image_format=ImageFormat.SRGB, data=np.ascontiguousarray(image_HWC)))
    if not found.face_landmarks:
        return np.full((68, 2), np.nan, np.float32)
    points = [(p.x * width - 0.5, p.y * height - 0.5) for p in found.face_landmarks[0]]
    return landmarks_68_from_478(np.array(points, np.float32))


def track_part(folder: Path, landmarker: FaceLandmarker) -> None:
    """Read the targets of one part, each over a background of its own."""
    targets = np.load(folder / "target.npy", mmap_mode="r")
    alphas = np.load(folder / "alpha.npy", mmap_mode="r")
    rng = np.random.default_rng(11)
    tracked = [
        read_landmarks(landmarker, over_background(target, alpha, random_background(rng)))
        for target, alpha in zip(
            tqdm(targets, desc=f"tracking {folder.name}", unit="frame", mininterval=5), alphas, strict=True
        )
    ]
    partial = folder / f"{TRACKED}.partial"
    with partial.open("wb") as file:
        np.save(file, np.stack(tracked))
    os.replace(partial, folder / TRACKED)


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True, help="rendered triples")
    args = parser.parse_args()
    with open_landmarker() as landmarker:
        for done in sorted(args.data.glob("part_*/done.json")):
            if not (done.parent / TRACKED).exists():
                track_part(done.parent, landmarker)
    return 0


if __name__ == "__main__":
    sys.exit(main())
