"""Driving frames of other people for the stages that train through the encoders."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, cast

import cv2
import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn

from gcavt.config import GcavtConfig
from gcavt.model import Gcavt
from gcavt.preprocessing import eye_distance, landmarks_68_from_478
from training.datasets.placement import rendered_pose
from training.datasets.triples import Triples
from training.objectives.encoders import (
    Image,
    ImageEncoder,
    encoder_inputs,
    over_background,
    random_background,
    stacked,
)
from training.synthetic import truth
from training.synthetic.camera import through_lens
from training.synthetic.identity import Identity, Scene
from training.synthetic.renderer import Renderer

Driver = ImageEncoder
DRIVERS: tuple[Driver, ...] = ("pose", "expression", "content")
Floats = NDArray[np.float32]

STABLE_POINTS = np.array([*range(27, 36), 36, 39, 42, 45])
"""Landmarks that neither speech nor expression moves much: the nose and the eyes' corners."""
JAW_AND_NOSE_BASE = np.array([*range(3, 14), 35, 31])
MOUTH_SHRINK = 0.92
MOUTH_FEATHER_PX = 5.0


class Frame(NamedTuple):
    """A driving frame on black."""

    image: Image
    alpha: NDArray[np.uint8]
    landmarks_68: Floats
    """In pixels, the first pixel's centre at 0.5."""


class EncoderReader:
    """The image encoders' inputs, augmented as their own stages do it, and the codes read from them."""

    def __init__(self, model_config: GcavtConfig) -> None:
        self.model_config = model_config

    def inputs(
        self, driver: Driver, frames: Sequence[Frame], rng: np.random.Generator, *, augmented: bool = True
    ) -> tuple[Tensor, ...]:
        """What one encoder sees of each frame, over a random background."""
        shown = [over_background(frame.image, frame.alpha, random_background(rng)) for frame in frames]
        drawn_by = rng if augmented else None
        return stacked(
            [
                encoder_inputs(
                    driver, self.model_config, image, frame.landmarks_68 - np.float32(0.5), drawn_by
                )
                for image, frame in zip(shown, frames, strict=True)
            ]
        )


def read_code(model: Gcavt, driver: Driver, inputs: tuple[Tensor, ...]) -> Tensor:
    """Codes of an encoder whose batch statistics stay as they are: these batches are too small for them."""
    encoder = cast(nn.Module, getattr(model, f"{driver}_encoder")).eval()
    code: Tensor = encoder(*inputs)
    return code


def stored_frames(triples: Triples, index: NDArray[np.integer]) -> list[Frame]:
    """The target frames of triples."""
    images = cast(Image, triples.triple("target", index))
    alphas = cast(Image, triples.triple("alpha", index))
    landmarks = np.asarray(triples.triple("landmarks", index), np.float32)
    return [Frame(*row) for row in zip(images, alphas, landmarks, strict=True)]


class DriverPeople:
    """Some of the training people, ready to act anything."""

    def __init__(self, triples: Triples, train_index: NDArray[np.integer], count: int, seed: int) -> None:
        """Builds a renderer per person, which takes about a second each."""
        names = np.unique(triples.identity[train_index])
        rng = np.random.default_rng(seed)
        self.triples = triples
        self.names = [int(name) for name in rng.permutation(names)[:count]]
        self._renderers = [
            Renderer(Identity(name), Scene.from_seed(name), supersampling=1) for name in self.names
        ]

    def act(self, person: int, pose_6: Floats, expression_52: Floats, mouth_52: Floats) -> Frame:
        """A frame of person number `person` in a normal pose."""
        (place,) = self.triples.place(np.array([self.names[person]]))
        face = np.clip(expression_52 + mouth_52, 0, 1)
        render = self._renderers[person].render(face, rendered_pose(pose_6, place))
        landmarks = landmarks_68_from_478(truth.landmarks(render))
        return Frame(through_lens(render.image), through_lens(render.alpha), landmarks)

    def drive(
        self,
        driver: Driver,
        index: NDArray[np.integer],
        others: NDArray[np.integer],
        rng: np.random.Generator,
    ) -> list[Frame]:
        """For each triple somebody who shows its value of one factor, and another triple's of the others."""
        sources = {name: others for name in DRIVERS} | {driver: index}
        poses = self.triples.pose(sources["pose"])
        expressions = np.asarray(self.triples.triple("expression", sources["expression"]), np.float32)
        mouths = np.asarray(self.triples.triple("mouth", sources["content"]), np.float32)
        people = rng.integers(0, len(self.names), len(index))
        return [self.act(int(p), *rows) for p, *rows in zip(people, poses, expressions, mouths, strict=True)]


def with_mouth_of(frame: Frame, other: Frame) -> Frame:
    """A frame with the mouth region of another frame of the same person, so that its own says nothing.

    The other frame is aligned by a similarity on points that speech does not move; the seam is feathered.
    Source: GC-AVT (Liang et al. 2022), section 3.2: the expression input shows a time-shifted mouth.
    """
    to_frame, _ = cv2.estimateAffinePartial2D(
        other.landmarks_68[STABLE_POINTS], frame.landmarks_68[STABLE_POINTS], method=cv2.LMEDS
    )
    if to_frame is None:
        return frame
    size = frame.image.shape[1::-1]
    warped = cv2.warpAffine(other.image, to_frame, size, flags=cv2.INTER_LINEAR)
    polygon = frame.landmarks_68[JAW_AND_NOSE_BASE]
    middle = polygon.mean(0)
    polygon = middle + MOUTH_SHRINK * (polygon - middle)
    mask = np.zeros(frame.image.shape[:2], np.float32)
    cv2.fillPoly(mask, [np.round(polygon).astype(np.int32)], 1.0)
    sigma = MOUTH_FEATHER_PX * eye_distance(frame.landmarks_68) / 90
    mask = np.asarray(cv2.GaussianBlur(mask, (0, 0), max(sigma, 0.5)), np.float32)[:, :, None]
    mixed = mask * warped + (1 - mask) * frame.image
    return frame._replace(image=np.round(mixed).astype(np.uint8))
