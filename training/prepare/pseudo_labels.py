"""Real driving frames with labels: MediaPipe reads them, renders with known truth calibrate the reading.

`python -m training.prepare.pseudo_labels --data TRIPLES --out FILE.npz VIDEO [VIDEO ...]`

MediaPipe's head rotation, blendshapes and landmarks are mapped to our pose numbers and coefficients by ridge
regression over rendered frames, whose truth is exact. Expression and mouth are counted from the clip's own
resting values, because a heavy brow reads as a frown, and stretched by what regression shrinks.
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import dataclass
from pathlib import Path

import av
import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from engine.assets import face_landmarker_path
from engine.face_tracker import FaceTracker
from gcavt.code_space import COEFFICIENTS
from gcavt.preprocessing import (
    Face,
    StableCrop,
    crop_face,
    face_box,
    head_angles,
    transform_points,
)
from training.datasets.triples import Triples

CALIBRATION_FRAMES = 700
RIDGE = 1e-2
RESTING_PERCENTILE = 20.0
EXPRESSION_GAIN, MOUTH_GAIN = 1.3, 1.5
"""About 1 / r^2 of the fitted maps on rendered frames."""

Floats = NDArray[np.float32]


def pose_features(face: Face, crop_from_image: Floats) -> Floats:
    """What the pose is read from: head angles, and where and how large the mesh lies in the crop."""
    assert face.head_rotation is not None
    points = transform_points(face.landmarks_478[:468], crop_from_image)
    box = face_box(points)
    steady = points[[33, 263, 1, 168, 234, 454, 152, 10]].reshape(-1)
    angles = head_angles(face.head_rotation)
    return np.concatenate([angles, angles**2 / 30, (box - 128) / 64, (steady - 128) / 64, [1]]).astype(
        np.float32
    )


def shape_features(face: Face) -> Floats:
    """MediaPipe's 52 blendshapes in our order (it has no tongue), and 1."""
    assert face.blendshapes is not None
    return np.array([*(face.blendshapes.get(name, 0.0) for name in COEFFICIENTS), 1], np.float32)


@dataclass(frozen=True)
class Calibration:
    """Linear maps from MediaPipe's readings to our parameters."""

    pose: Floats
    expression: Floats
    mouth: Floats


def calibrate(triples: Triples, tracker: FaceTracker, frames: int = CALIBRATION_FRAMES) -> Calibration:
    """Fit the maps on rendered frames; frames where no face is found are left out."""
    index = np.linspace(0, len(triples) - 1, frames).astype(int)
    poses, shapes, rows = [], [], []
    for row in tqdm(index, desc="calibrating", mininterval=5):
        image = np.asarray(triples.triple("target", np.array([row]))[0], np.uint8)
        face = tracker.find_in_photo(image)
        if face is None or face.head_rotation is None or face.blendshapes is None:
            continue
        poses.append(pose_features(face, np.eye(2, 3, dtype=np.float32)))
        shapes.append(shape_features(face))
        rows.append(row)
    found = np.array(rows)
    expression = np.asarray(triples.triple("expression", found), np.float32)
    mouth = np.asarray(triples.triple("mouth", found), np.float32)
    return Calibration(
        pose=_ridge(np.stack(poses), triples.pose(found)),
        expression=_ridge(np.stack(shapes), expression),
        mouth=_ridge(np.stack(shapes), mouth),
    )


def _ridge(features: Floats, targets: Floats) -> Floats:
    gram = features.T @ features + RIDGE * len(features) * np.diag((features**2).mean(0) + 1e-6)
    return np.linalg.solve(gram, features.T @ targets).astype(np.float32)


def label_clip(path: Path, tracker: FaceTracker, calibration: Calibration) -> dict[str, NDArray[np.generic]]:
    """Crops, landmarks and labels of every frame of a clip that shows a face."""
    tracker.reset()
    crop = StableCrop()
    crops, points, poses, shapes = [], [], [], []
    with av.open(str(path)) as container:
        for number, frame in enumerate(container.decode(video=0)):
            image = np.asarray(frame.to_ndarray(format="rgb24"), np.uint8)
            face = tracker.track(image, number * 40)
            if face is None or face.head_rotation is None or face.blendshapes is None:
                continue
            crop_from_image = crop.update(face, image.shape[:2])
            crops.append(crop_face(image, crop_from_image))
            points.append(transform_points(face.landmarks_68, crop_from_image))
            poses.append(pose_features(face, crop_from_image))
            shapes.append(shape_features(face))
    if not crops:
        raise ValueError(f"{path}: no face in any frame")
    shape = np.stack(shapes)
    change = shape - np.percentile(shape, RESTING_PERCENTILE, axis=0).astype(np.float32)
    return {
        "crop": np.stack(crops),
        "landmarks": np.stack(points),
        "pose": np.stack(poses) @ calibration.pose,
        "expression": _weights(EXPRESSION_GAIN * change @ calibration.expression),
        "mouth": _weights(MOUTH_GAIN * change @ calibration.mouth),
    }


def _weights(values: NDArray[np.floating]) -> Floats:
    return np.asarray(np.clip(values, 0, 1), np.float32)


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("videos", nargs="+", type=Path)
    parser.add_argument("--data", type=Path, required=True, help="rendered triples to calibrate on")
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    with FaceTracker(face_landmarker_path()) as tracker:
        calibration = calibrate(Triples(args.data), tracker)
        clips = [label_clip(path, tracker, calibration) for path in tqdm(args.videos, desc="labelling")]
    joined = {key: np.concatenate([clip[key] for clip in clips]) for key in clips[0]}
    joined["clip"] = np.concatenate([np.full(len(c["pose"]), i, np.int32) for i, c in enumerate(clips)])
    np.savez(args.out, **joined)  # type: ignore[arg-type]
    return 0


if __name__ == "__main__":
    sys.exit(main())
