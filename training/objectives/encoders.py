"""Stages that regress one encoder to the exact codes of rendered frames."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Literal, cast

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from gcavt import code_space, preprocessing
from gcavt.augmentation import through_webcam, without_identity
from gcavt.config import GcavtConfig
from gcavt.model import Gcavt
from training.datasets.real_frames import RealFrame, RealFrames, varied
from training.datasets.triples import Triples
from training.objectives.edit_repose import HELD_OUT_IDENTITIES
from training.objectives.objective import Batch
from training.recipes import TrainConfig

LANDMARK_JITTER_PX = 1.2
"""Standard deviation of the landmarks' noise at 256 px, like a face tracker's."""
EVALUATION_FRAMES = 192

TRACKED_SHARE = 0.6
"""How often a rendered head's landmarks are the face tracker's reading, where the data set has it."""
TURN_DEG = 8.0
"""How far a rendered head is turned, beyond the pose it was rendered in, for the pose encoder."""

MOUTH_TURN_DEG = 8.0

Image = NDArray[np.uint8]
ImageEncoder = Literal["pose", "expression", "content"]
Inputs = tuple[NDArray[np.float32], ...]
"""What one encoder sees of one frame, in the order of its arguments."""


class ImageEncoderStage:
    """Pose, expression or content encoder: augmented frames of rendered people over random backgrounds."""

    def __init__(
        self,
        triples: Triples,
        config: TrainConfig,
        model_config: GcavtConfig,
        encoder: ImageEncoder,
        real_frames: RealFrames | None = None,
    ) -> None:
        self.triples = triples
        self.real_frames = real_frames
        self.real_share = config.real_share if real_frames else 0.0
        self.encoder = encoder
        self.model_config = model_config
        self.train_index, held_out = triples.split(HELD_OUT_IDENTITIES)
        self.evaluation_index = held_out[:: max(1, len(held_out) // EVALUATION_FRAMES)]
        if encoder != "pose":
            key = "expression" if encoder == "expression" else "mouth"
            every = max(1, len(self.train_index) // 2000)
            weights = np.asarray(triples.triple(key, self.train_index[::every]), np.float32)
            self.spread = torch.from_numpy(np.maximum(weights.std(0), 0.05))
            self.active = weights.std(0) > 0.05

    def trained_modules(self, model: nn.Module) -> Iterable[nn.Module]:
        joined = cast(Gcavt, model)
        return (getattr(joined, f"{self.encoder}_encoder"),)

    def draw(self, rng: np.random.Generator, batch_size: int) -> Batch:
        """Pairs, one after the other: two frames of one person each, so that `loss` can compare them."""
        real = round(batch_size * self.real_share / 2)
        first = rng.choice(self.train_index, batch_size // 2 - real)
        batch = self.batch(np.stack([first, self._partners(first, rng)], 1).reshape(-1), rng, augmented=True)
        if real:
            assert self.real_frames is not None
            frames = [frame for _ in range(real) for frame in self.real_frames.draw_pair(rng)]
            samples, codes = zip(*(self.real_sample(frame, rng) for frame in frames), strict=True)
            batch["inputs"] = tuple(map(torch.cat, zip(batch["inputs"], stacked(samples), strict=True)))
            batch["code"] = torch.cat([batch["code"], torch.from_numpy(np.stack(codes))])
        return batch

    def _partners(self, index: NDArray[np.integer], rng: np.random.Generator) -> NDArray[np.integer]:
        """For each triple another one of the same reference."""
        reference_of = self.triples.reference_of
        rows = [np.flatnonzero(reference_of == reference_of[i]) for i in index]
        return np.array([rng.choice(row) for row in rows])

    def real_sample(self, frame: RealFrame, rng: np.random.Generator) -> tuple[Inputs, NDArray[np.float32]]:
        """Augmented inputs and code of a real frame."""
        inputs = self._inputs(frame, rng, augmented=True)
        if self.encoder == "pose":
            return inputs, code_space.pose_code(frame.pose_6)
        weights = frame.expression_52 if self.encoder == "expression" else frame.mouth_52
        return inputs, code_space.expression_code(weights)

    def batch(self, index: NDArray[np.integer], rng: np.random.Generator, *, augmented: bool) -> Batch:
        frames = self._rendered(index, rng, augmented=augmented)
        samples = [self._inputs(frame, rng, augmented=augmented) for frame in frames]
        batch: Batch = {"inputs": stacked(samples)}
        if self.encoder == "pose":
            batch["code"] = torch.from_numpy(code_space.pose_code(np.stack([f.pose_6 for f in frames])))
        else:
            key = "expression" if self.encoder == "expression" else "mouth"
            batch["weights"] = torch.from_numpy(np.asarray(self.triples.triple(key, index), np.float32))
            batch["code"] = torch.from_numpy(code_space.expression_code(batch["weights"].numpy()))
        return batch

    def _rendered(
        self, index: NDArray[np.integer], rng: np.random.Generator, *, augmented: bool
    ) -> list[RealFrame]:
        """Targets over random backgrounds, as a camera and a face tracker would deliver them."""
        images = cast(Image, self.triples.triple("target", index))
        alphas = cast(Image, self.triples.triple("alpha", index))
        expressions, mouths = (
            np.asarray(self.triples.triple(key, index), np.float32) for key in ("expression", "mouth")
        )
        frames = [
            RealFrame(over_background(image, alpha, random_background(rng)), *labels)
            for image, alpha, *labels in zip(
                images,
                alphas,
                self._landmarks(index, rng, 1.0 if not augmented else TRACKED_SHARE),
                self.triples.pose(index),
                expressions,
                mouths,
                strict=True,
            )
        ]
        if self.encoder != "pose" or not augmented:
            return frames
        return [varied(frame, rng, TURN_DEG) for frame in frames]

    def _inputs(self, frame: RealFrame, rng: np.random.Generator, *, augmented: bool) -> Inputs:
        return encoder_inputs(
            self.encoder, self.model_config, frame.image, frame.landmarks_68, rng if augmented else None
        )

    def _landmarks(
        self, index: NDArray[np.integer], rng: np.random.Generator, tracked_share: float
    ) -> NDArray[np.float32]:
        """(B, 68, 2), pixel centres at whole numbers: the face tracker's reading where there is one,
        as often as asked for; else the truth."""
        true = np.asarray(self.triples.triple("landmarks", index), np.float32) - np.float32(0.5)
        tracked = self.triples.tracked_landmarks(index)
        if tracked is None:
            return true
        use = (rng.random(len(index)) < tracked_share) & np.isfinite(tracked[:, 0, 0])
        return np.where(use[:, None, None], tracked, true)

    def loss(self, model: nn.Module, batch: Batch) -> tuple[Tensor, dict[str, float]]:
        encoder = getattr(cast(Gcavt, model), f"{self.encoder}_encoder")
        return self.code_error(encoder(*batch["inputs"]), batch["code"]), {}

    def code_error(self, code: Tensor, exact: Tensor) -> Tensor:
        """The loss of codes (B, D), pairs of one person one after the other."""
        if self.encoder != "pose":
            return weighted_code_error(code, exact, self.spread)
        gap = (code - exact)[:, :6]
        # what a person's look makes wrong is the same in both frames; their motion must be right
        motion = gap[0::2] - gap[1::2]
        return (gap**2).mean() + (motion**2).mean() + 0.1 * (code[:, 6:] ** 2).mean()

    def evaluate(self, model: nn.Module) -> dict[str, float]:
        encoder = getattr(cast(Gcavt, model), f"{self.encoder}_encoder")
        rng = np.random.default_rng(5)
        codes, truths = [], []
        for index in np.array_split(self.evaluation_index, 8):
            batch = self.batch(index, rng, augmented=False)
            codes.append(encoder(*batch["inputs"]).numpy())
            truths.append(batch["code"].numpy() if self.encoder == "pose" else batch["weights"].numpy())
        code, truth = np.concatenate(codes), np.concatenate(truths)
        if self.encoder == "pose":
            return pose_figures(code, truth)
        return weight_figures(code_space.expression_weights(code), truth, self.active)


def encoder_inputs(
    encoder: ImageEncoder,
    model_config: GcavtConfig,
    image: Image,
    landmarks_68: NDArray[np.float32],
    rng: np.random.Generator | None,
    jitter_px: float = LANDMARK_JITTER_PX,
) -> Inputs:
    """What the engine makes of a webcam's frame (256 px, opaque) for an encoder: image (3, S, S) in [0, 1],
    and for an encoder that reads landmarks those (136,). Augmented where there is an rng.

    Landmarks are in pixels whose centres are whole numbers; jitter_px is their noise's standard deviation.
    """
    turn_deg = 0.0
    if rng is not None:
        image = through_webcam(image, rng)
        landmarks_68 = landmarks_68 + rng.normal(0, jitter_px, landmarks_68.shape).astype(np.float32)
        if not model_config.content.looked_up:  # else landmarks would lie elsewhere in the crop
            turn_deg = float(rng.uniform(-MOUTH_TURN_DEG, MOUTH_TURN_DEG))
    if encoder == "pose":
        pose = model_config.pose
        picture = preprocessing.pose_input(image, landmarks_68, pose.input_px, pose.face_zoom)
    elif encoder == "expression":
        expression = model_config.expression
        picture = preprocessing.expression_input(
            image, landmarks_68, expression.input_px, expression.face_zoom
        )
    else:
        picture = preprocessing.mouth_crop(image, landmarks_68, model_config.mouth_px, rotation_deg=turn_deg)
    if rng is not None:
        picture = without_identity(picture, rng)
    inputs: Inputs = (preprocessing.to_network(picture),)
    if getattr(model_config, encoder).reads_landmarks:
        told = {"pose": "pose_landmarks", "expression": model_config.expression_landmarks}
        describe = getattr(preprocessing, told.get(encoder, "face_landmarks"))
        inputs += (describe(landmarks_68),)
    return inputs


def stacked(samples: Sequence[Inputs]) -> tuple[Tensor, ...]:
    """One batch of each input."""
    return tuple(torch.from_numpy(np.stack(inputs)) for inputs in zip(*samples, strict=True))


def weighted_code_error(code: Tensor, target: Tensor, spread_52: Tensor) -> Tensor:
    """Squared error of the coordinates, each over its coefficient's spread; the null space is kept at 0."""
    basis = torch.from_numpy(code_space.BASIS)
    gap = (code - target) @ basis.T
    outside = (code - target) - gap @ basis
    scale = torch.cat([torch.ones(1), spread_52 * code_space.CODE_NORM * 0.7])
    return ((gap / scale) ** 2).mean() + 0.1 * (outside**2).mean()


def pose_figures(code: NDArray[np.float32], truth: NDArray[np.float32]) -> dict[str, float]:
    """Mean absolute errors in degrees and head units."""
    errors = np.abs(code_space.pose_from_code(code) - code_space.pose_from_code(truth)).mean(0)
    return dict(zip(("pitch", "yaw", "roll", "x", "y", "z"), map(float, errors), strict=True))


def weight_figures(
    weights: NDArray[np.float32], truth: NDArray[np.float32], active: NDArray[np.bool_]
) -> dict[str, float]:
    """Share of variance explained, averaged over coefficients that move, and for a few that matter."""
    unexplained = ((weights - truth) ** 2).mean(0) / np.maximum(truth.var(0), 1e-4)
    r2 = np.clip(1 - unexplained, -1, 1)
    figures = {"r2": float(r2[active].mean())}
    for name in ("jawOpen", "mouthPucker", "mouthSmileLeft", "eyeBlinkLeft", "browInnerUp", "eyeLookInLeft"):
        column = code_space.COEFFICIENTS.index(name)
        if active[column]:
            figures[name] = float(r2[column])
    return figures


def over_background(frame: Image, alpha: Image, background: Image) -> Image:
    """A frame on black, premultiplied, laid over a background."""
    behind = background.astype(np.uint16) * (255 - alpha)[:, :, None]
    return np.minimum(frame + (behind // 255), 255).astype(np.uint8)


def random_background(rng: np.random.Generator, size_px: int = 256) -> Image:
    """A blurred room: a gradient, a few soft rectangles, grain."""
    corners = rng.uniform(0, 255, (2, 2, 3)).astype(np.float32)
    if rng.random() < 0.5:
        corners = corners.mean(2, keepdims=True) * rng.uniform(0.8, 1.2, 3).astype(np.float32)
    picture = cv2.resize(corners, (size_px, size_px), interpolation=cv2.INTER_LINEAR)
    for _ in range(int(rng.integers(0, 9))):
        left, top = rng.integers(-40, size_px, 2)
        width, height = rng.integers(10, 140, 2)
        colour = rng.uniform(0, 255, 3)
        cv2.rectangle(
            picture, (int(left), int(top)), (int(left + width), int(top + height)), colour.tolist(), -1
        )
    picture = cv2.GaussianBlur(picture, (0, 0), float(rng.uniform(0.5, 12)))
    return picture.clip(0, 255).astype(np.uint8)
