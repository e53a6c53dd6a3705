"""Teaches an image encoder what the landmarks add, once its image part is trained.

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

from gcavt.backbones.landmark_correction import CorrectedEncoder
from gcavt.model import Gcavt
from training.datasets.faces import Faces
from training.datasets.real_frames import RealFrame
from training.objectives.encoders import ImageEncoderStage, stacked
from training.objectives.objective import Batch

ROUNDS = 2
"""Augmentations of every frame."""
LANDMARK_NOISE = 0.01
"""Standard deviation: about 0.6 px of 256."""
_BATCH = 32

Floats = NDArray[np.float32]


class CorrectionStage:
    """Image code and landmarks to the exact code; pairs of frames of one person, as `ImageEncoderStage`."""

    def __init__(self, images: ImageEncoderStage, faces: Faces | None = None) -> None:
        """images: the encoder's own stage, whose frames, loss and figures serve here too; faces: frames of
        many more people."""
        self.images = images
        self.faces = faces
        self._codes: Tensor | None = None
        self._landmarks = self._truths = torch.empty(0)
        self._people: list[NDArray[np.intp]] = []
        self._share = np.empty(0)

    def trained_modules(self, model: nn.Module) -> Iterable[nn.Module]:
        correction = getattr(self._encoder(model), "correction", None)
        if correction is None:
            raise ValueError(f"the {self.images.encoder} encoder of this model reads no landmarks")
        return (correction,)

    def _encoder(self, model: nn.Module) -> CorrectedEncoder:
        encoder: CorrectedEncoder = getattr(cast(Gcavt, model), f"{self.images.encoder}_encoder")
        return encoder

    def draw(self, rng: np.random.Generator, batch_size: int) -> Batch:
        return {"rng": rng, "size": batch_size}

    def loss(self, model: nn.Module, batch: Batch) -> tuple[Tensor, dict[str, float]]:
        encoder = self._encoder(model)
        if self._codes is None:
            self._read_frames(encoder, batch["rng"])
        assert self._codes is not None
        rows = torch.from_numpy(self._pairs(batch["rng"], batch["size"]))
        landmarks = self._landmarks[rows]
        landmarks = landmarks + LANDMARK_NOISE * torch.randn_like(landmarks)
        code = encoder.corrected(self._codes[rows], landmarks)
        return self.images.code_error(code, self._truths[rows]), {}

    def evaluate(self, model: nn.Module) -> dict[str, float]:
        """The encoder's figures on held-out people, with tracked landmarks."""
        return self.images.evaluate(model)

    def _pairs(self, rng: np.random.Generator, size: int) -> NDArray[np.intp]:
        people = rng.choice(len(self._people), size // 2, p=self._share)
        return np.concatenate([rng.choice(self._people[p], 2) for p in people])

    @torch.no_grad()
    def _read_frames(self, encoder: CorrectedEncoder, rng: np.random.Generator) -> None:
        """Codes, landmarks and exact codes of augmented frames, and which of them show one person."""
        was_training = encoder.training
        encoder.eval()
        samples, truths, people = [], [], []
        for batch, names in tqdm(self._frames(rng), desc="reading frames", unit="batch", mininterval=5):
            image, landmarks = batch["inputs"]
            samples.append((encoder(image), landmarks))
            truths.append(batch["code"])
            people.append(names)
        encoder.train(was_training)
        codes, landmarks = zip(*samples, strict=True)
        self._codes, self._landmarks, self._truths = torch.cat(codes), torch.cat(landmarks), torch.cat(truths)
        owner = np.concatenate(people)
        self._people = [np.flatnonzero(owner == name) for name in np.unique(owner)]
        count = np.array([len(rows) for rows in self._people], np.float64)
        real = np.unique(owner) < 0
        if real.any():
            count[real] *= self.images.real_share / (1 - self.images.real_share) * count[~real].sum()
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
            yield from self._many_people(rng)
            if self.images.real_frames is not None:
                for start in range(0, len(self.images.real_frames), _BATCH):
                    yield self._real_batch(
                        range(start, min(start + _BATCH, len(self.images.real_frames))), rng
                    )

    def _many_people(self, rng: np.random.Generator) -> Iterable[tuple[Batch, NDArray[np.int64]]]:
        for chunk in self.faces.chunks() if self.faces is not None else ():
            samples, codes = [], []
            for row in range(len(chunk.image)):
                labels = chunk.pose[row], chunk.expression[row], chunk.mouth[row]
                frame = RealFrame(chunk.image[row], chunk.tracked[row], *labels)
                inputs, code = self.images.real_sample(frame, rng)
                samples.append(inputs)
                codes.append(code)
            yield {"inputs": stacked(samples), "code": torch.from_numpy(np.stack(codes))}, chunk.identity

    def _real_batch(self, rows: Iterable[int], rng: np.random.Generator) -> tuple[Batch, NDArray[np.int64]]:
        assert self.images.real_frames is not None
        frames = [self.images.real_frames.frame(row, rng) for row in rows]
        inputs, codes = zip(*(self.images.real_sample(frame, rng) for frame in frames), strict=True)
        names = -1 - np.array([self.images.real_frames.clip_of(row) for row in rows], np.int64)
        return {"inputs": stacked(inputs), "code": torch.from_numpy(np.stack(codes))}, names
