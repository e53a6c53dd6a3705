"""The paper's reconstruction: every code is read by the encoders from the frame that is to be rebuilt.

Nothing but the frame itself and its mask teaches anything: no edited render, no depth, no exact codes. It is
what a collection of videos allows, and what counterfactual targets are compared with (`training.comparison`).

The encoders see pictures alone, as in the paper. The 68 landmarks that correct `lite`'s codes hold the whole
face: by them each code could tell what its picture has masked out, a lent mouth included. The encoders train
on the batch's own statistics, for unlike those of the other stages they begin as random weights.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import cast

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn

from gcavt.config import FacePoseEncoderConfig, GcavtConfig
from gcavt.model import Gcavt
from training.datasets.triples import Triples
from training.objectives.driving import (
    DRIVERS,
    Driver,
    EncoderReader,
    Frame,
    stored_frames,
    with_mouth_of,
)
from training.objectives.edit_repose import (
    edit_repose_generator,
    editor_modules,
    mean_figures,
    reposer_modules,
)
from training.objectives.image_losses import psnr, region_error, structural_dissimilarity
from training.objectives.objective import Batch
from training.objectives.portraits import PortraitStage, generate
from training.recipes import TrainConfig

MOUTH_CANDIDATES = 4
"""Frames of the same portrait from which the one of the nearest pose lends its mouth."""


class SelfDrivenStage(PortraitStage):
    """All image encoders and the generator at once, for any generator member."""

    def __init__(self, triples: Triples, config: TrainConfig, model_config: GcavtConfig) -> None:
        if isinstance(model_config.pose, FacePoseEncoderConfig):
            raise ValueError(
                "self-driven, a pose encoder that sees the face would let the face through: take lite_masked"
            )
        super().__init__(triples, config, model_config)
        self.reader = EncoderReader(model_config)

    def trained_modules(self, model: nn.Module) -> Iterable[nn.Module]:
        joined = cast(Gcavt, model)
        encoders = (joined.pose_encoder, joined.expression_encoder, joined.content_encoder)
        if self.config.hold_reposer:
            return (*editor_modules(edit_repose_generator(model)), *encoders)
        return (joined.generator, joined.identity_encoder, *encoders)

    def draw(self, rng: np.random.Generator, batch_size: int) -> Batch:
        index = np.sort(rng.choice(self.train_index, batch_size))
        single = rng.random(batch_size) < self.config.single_reference_share
        return self.batch(index, single, rng, augmented=True)

    def batch(
        self,
        index: NDArray[np.integer],
        single: NDArray[np.bool_],
        rng: np.random.Generator,
        *,
        augmented: bool,
    ) -> Batch:
        batch = self.portraits(index, single) | self.targets(index)
        frames = stored_frames(self.triples, index)
        if augmented:
            lenders = stored_frames(self.triples, self._mouth_lenders(index, rng))
            expressions = [with_mouth_of(*pair) for pair in zip(frames, lenders, strict=True)]
        else:
            expressions = frames
        shown: dict[str, list[Frame]] = {"pose": frames, "expression": expressions, "content": frames}
        for driver in DRIVERS:
            batch[driver] = self.reader.inputs(driver, shown[driver], rng, augmented=augmented)[0]
        return batch

    def _mouth_lenders(self, index: NDArray[np.integer], rng: np.random.Generator) -> NDArray[np.integer]:
        """For each triple another one of its portrait, of nearly its pose if there is a choice."""
        lenders = []
        for i in index:
            rows = np.flatnonzero(self.triples.reference_of == self.triples.reference_of[i])
            rows = rows[rows != i]
            if not len(rows):
                lenders.append(i)
                continue
            rows = rng.permutation(rows)[:MOUTH_CANDIDATES]
            angles = self.triples.pose(np.append(rows, i))[:, :3]
            lenders.append(rows[int(np.argmin(np.abs(angles[:-1] - angles[-1]).sum(1)))])
        return np.array(lenders)

    def loss(self, model: nn.Module, batch: Batch) -> tuple[Tensor, dict[str, float]]:
        joined = cast(Gcavt, model)
        if self.config.hold_reposer:
            generator = edit_repose_generator(model)
            light = generator.reference_encoder.light
            for module in (*reposer_modules(generator), light, joined.identity_encoder):
                module.eval().requires_grad_(False)
        image, mask = generate(joined, batch, codes_of_pictures(joined, batch))
        return self.image_loss(image, mask, batch["target"], batch["alpha"], self.face_weight(batch))

    def evaluate(self, model: nn.Module) -> dict[str, float]:
        """Nearness of held-out people driven by their own frames."""
        joined, rng = cast(Gcavt, model), np.random.default_rng(5)
        figures = []
        for index in self.evaluation_indices():
            batch = self.batch(index, np.zeros(len(index), bool), rng, augmented=False)
            image, _ = generate(joined, batch, codes_of_pictures(joined, batch))
            figures.append(picture_figures(image, batch))
        return mean_figures(figures)


def codes_of_pictures(model: Gcavt, batch: Batch) -> dict[Driver, Tensor]:
    """The codes that each encoder reads from its picture (B, 3, S, S) in the batch."""
    return {driver: getattr(model, f"{driver}_encoder")(batch[driver]) for driver in DRIVERS}


def picture_figures(image: Tensor, batch: Batch) -> dict[str, float]:
    """PSNR in dB, SSIM, and L1 by region in 1/255."""
    target = batch["target"]
    return {
        "psnr": psnr(image, target),
        "ssim": 1 - float(structural_dissimilarity(image.clamp(0, 1), target)),
        "mouth": region_error(image, target, batch["target_mouth"]),
        "eyes": region_error(image, target, batch["target_eyes"]),
    }
