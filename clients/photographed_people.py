"""People in photographs that installed packages bring: what rendered faces may not show."""

from __future__ import annotations

from collections.abc import Iterator
from importlib import resources
from pathlib import Path
from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

from clients.people import Person
from engine.assets import face_landmarker_path
from engine.face_tracker import FaceTracker
from gcavt.preprocessing import CROP_PX, crop_face, crop_from_box, transform_points

PHOTOS: Final = {
    "eileen_collins": ("skimage", "data/astronaut.png"),
    "grace_hopper": ("matplotlib", "mpl-data/sample_data/grace_hopper.jpg"),
}
"""Name -> package and file; both are works of the United States and in the public domain."""
MOST_TURN_DEG: Final = 12.0
MOST_SHIFT_PX: Final = 10.0
SCALES: Final = (0.9, 1.1)
BRIGHTNESS: Final = (0.75, 1.2)


def photographed_people(frames: int) -> list[Person]:
    """`frames` driving frames in all, spread over the people; the same ones every time.

    A photo and its mirror image, turned, moved and lit a little otherwise for every frame.
    """
    each = -(-frames // len(PHOTOS))
    with FaceTracker(face_landmarker_path()) as tracker:
        return [_person(tracker, name, seed, each) for seed, name in enumerate(PHOTOS)]


def _person(tracker: FaceTracker, name: str, seed: int, frames: int) -> Person:
    package, file = PHOTOS[name]
    path = Path(str(resources.files(package).joinpath(file)))
    read = cv2.imread(str(path))
    if read is None:
        raise FileNotFoundError(f"{path} is not there or no picture")
    photo = np.ascontiguousarray(read[:, :, ::-1], np.uint8)
    views = [photo, np.ascontiguousarray(photo[:, ::-1])]
    shown = _frames(tracker, views, np.random.default_rng(seed), frames)
    return Person(name=name, kind="photographed", portraits=(photo,), frames=tuple(shown))


def _frames(
    tracker: FaceTracker, views: list[NDArray[np.uint8]], rng: np.random.Generator, count: int
) -> Iterator[tuple[NDArray[np.uint8], NDArray[np.float32]]]:
    faces = [tracker.find_in_photo(view) for view in views]
    for number in range(count):
        view, face = views[number % 2], faces[number % 2]
        if face is None:
            raise ValueError("no face was found in a photograph of the measurement")
        matrix = _turned(rng) @ np.vstack([crop_from_box(face.box_xyxy), [0, 0, 1]])
        crop = crop_face(view, matrix) * rng.uniform(*BRIGHTNESS)
        yield np.clip(np.round(crop), 0, 255).astype(np.uint8), transform_points(face.landmarks_68, matrix)


def _turned(rng: np.random.Generator) -> NDArray[np.float64]:
    """A map (2, 3) of a crop onto itself, turned, scaled and moved."""
    middle = (CROP_PX / 2, CROP_PX / 2)
    angle, scale = rng.uniform(-MOST_TURN_DEG, MOST_TURN_DEG), rng.uniform(*SCALES)
    turned = np.asarray(cv2.getRotationMatrix2D(middle, angle, scale), np.float64)
    turned[:, 2] += rng.uniform(-MOST_SHIFT_PX, MOST_SHIFT_PX, 2)
    return turned
