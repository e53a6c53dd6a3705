"""Teaches the pose encoder what the landmarks add to its image, once the image part is trained.

The correction is a small network that wants large batches and many steps, which the image part would make
slow. So the image codes of augmented frames are computed once, in some rounds over the data, and kept.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from tqdm import tqdm

from gcavt import code_space
from gcavt.config import GcavtConfig
from gcavt.model import Gcavt
from gcavt.pose_encoder import PoseEncoder
from training.datasets.real_frames import RealFrames
from training.datasets.triples import Triples
from training.objectives.encoders import ImageEncoderStage, pose_figures, stacked
from training.objectives.objective import Batch
from training.recipes import TrainConfig

ROUNDS = 2
"""Augmentations of every frame."""
LANDMARK_NOISE = 0.01
"""Standard deviation, in quarters of the crop's side: 0.6 px."""
PAIR_WEIGHT = 1.0
_BATCH = 32

Floats = NDArray[np.float32]


class PoseCorrectionStage:
    """Image code and landmarks to the exact pose; pairs of frames of one person, as `ImageEncoderStage`."""

    def __init__(
        self,
        triples: Triples,
        config: TrainConfig,
        model_config: GcavtConfig,
        real_frames: RealFrames | None = None,
    ) -> None:
        if not model_config.pose.reads_landmarks:
            raise ValueError(f"the pose encoder of {model_config.name} reads no landmarks")
        self.config = config
        self.real_frames = real_frames
        self.images = ImageEncoderStage(triples, config, model_config, "pose")
        self._codes: Tensor | None = None
        self._landmarks = self._poses = torch.empty(0)
        self._people: list[NDArray[np.intp]] = []

    def trained_modules(self, model: nn.Module) -> Iterable[nn.Module]:
        correction = _pose_encoder(model).correction
        assert correction is not None
        return (correction,)

    def draw(self, rng: np.random.Generator, batch_size: int) -> Batch:
        return {"rng": rng, "size": batch_size}

    def loss(self, model: nn.Module, batch: Batch) -> tuple[Tensor, dict[str, float]]:
        encoder = _pose_encoder(model)
        if self._codes is None:
            self._read_frames(encoder, batch["rng"])
        rows = torch.from_numpy(self._pairs(batch["rng"], batch["size"]))
        assert self._codes is not None and encoder.correction is not None
        code, landmarks = self._codes[rows], self._landmarks[rows]
        landmarks = landmarks + LANDMARK_NOISE * torch.randn_like(landmarks)
        gap = (code + encoder.correction(torch.cat([code, landmarks], 1)) - self._poses[rows])[:, :6]
        motion = gap[0::2] - gap[1::2]
        return (gap**2).mean() + PAIR_WEIGHT * (motion**2).mean(), {}

    def evaluate(self, model: nn.Module) -> dict[str, float]:
        """Errors on held-out people as `pose_figures`, and those that are left when each person's mean error
        is taken off: what shows when a portrait's own pose was read by the same encoder."""
        stage = self.images
        rng = np.random.default_rng(5)
        code, truth = [], []
        for index in np.array_split(stage.evaluation_index, 8):
            batch = stage.batch(index, rng, augmented=False)
            code.append(_pose_encoder(model)(*batch["inputs"]).numpy())
            truth.append(batch["code"].numpy())
        codes, truths = np.concatenate(code), np.concatenate(truth)
        figures = pose_figures(codes, truths)
        names = stage.triples.identity[stage.evaluation_index]
        steady = codes.copy()
        for name in np.unique(names):
            steady[names == name] -= (codes - truths)[names == name].mean(0)
        return figures | {f"{k}_within": v for k, v in pose_figures(steady, truths).items()}

    def _pairs(self, rng: np.random.Generator, size: int) -> NDArray[np.intp]:
        people = rng.choice(len(self._people), size // 2, p=self._share)
        return np.concatenate([rng.choice(self._people[p], 2) for p in people])

    @torch.no_grad()
    def _read_frames(self, encoder: PoseEncoder, rng: np.random.Generator) -> None:
        """Codes, landmarks and poses of augmented frames, and which of them show one person."""
        was_training = encoder.training
        encoder.eval()
        samples, poses, people = [], [], []
        for batch, names in tqdm(self._frames(rng), desc="reading frames", unit="batch", mininterval=5):
            image, landmarks = batch["inputs"]
            samples.append((encoder.backbone(image), landmarks))
            poses.append(batch["code"])
            people.append(names)
        encoder.train(was_training)
        codes, landmarks = zip(*samples, strict=True)
        self._codes, self._landmarks, self._poses = torch.cat(codes), torch.cat(landmarks), torch.cat(poses)
        owner = np.concatenate(people)
        self._people = [np.flatnonzero(owner == name) for name in np.unique(owner)]
        count = np.array([len(rows) for rows in self._people], np.float64)
        real = np.unique(owner) < 0
        if real.any():
            count[real] *= self.config.real_share / (1 - self.config.real_share) * count[~real].sum()
            count[real] /= max(
                sum(len(r) for r, is_real in zip(self._people, real, strict=True) if is_real), 1
            )
        self._share = count / count.sum()

    def _frames(self, rng: np.random.Generator) -> Iterable[tuple[Batch, NDArray[np.int64]]]:
        """Batches with the person of each frame: rendered people from 0, clips of real ones below."""
        stage = self.images
        for _ in range(ROUNDS):
            for start in range(0, len(stage.train_index), _BATCH):
                index = stage.train_index[start : start + _BATCH]
                names = stage.triples.identity[index].astype(np.int64)
                yield stage.batch(index, rng, augmented=True), names
            if self.real_frames is not None:
                for start in range(0, len(self.real_frames), _BATCH):
                    yield self._real_batch(range(start, min(start + _BATCH, len(self.real_frames))), rng)

    def _real_batch(self, rows: Iterable[int], rng: np.random.Generator) -> tuple[Batch, NDArray[np.int64]]:
        assert self.real_frames is not None
        frames = [self.real_frames.frame(row, rng) for row in rows]
        samples = [self.images.network_inputs(f.image, f.landmarks_68, rng, augmented=True) for f in frames]
        poses = torch.from_numpy(code_space.pose_code(np.stack([f.pose_6 for f in frames])))
        names = -1 - np.array([self.real_frames.clip_of(row) for row in rows], np.int64)
        return {"inputs": stacked(samples), "code": poses}, names


def _pose_encoder(model: nn.Module) -> PoseEncoder:
    return cast(Gcavt, model).pose_encoder
