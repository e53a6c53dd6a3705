"""Base of the stages that see the generator from outside: portraits and four codes in, image and mask out."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from gcavt.config import GcavtConfig
from gcavt.edit_repose import EditReposeGenerator
from gcavt.model import Gcavt
from training.datasets.triples import Triples
from training.objectives.driving import Driver
from training.objectives.edit_repose import EVALUATION_TRIPLES, HELD_OUT_IDENTITIES, sides_of
from training.objectives.image_losses import (
    box_mask,
    eye_boxes,
    laplacian_l1,
    mouth_boxes,
    structural_dissimilarity,
    to_tensor,
    weighted_l1,
)
from training.objectives.objective import Batch
from training.recipes import TrainConfig

Codes = Mapping[Driver, Tensor]
"""Driving codes by driver: pose, expression, content."""


class PortraitStage:
    """Any generator member, both portraits of a person, and the person's target frame."""

    def __init__(self, triples: Triples, config: TrainConfig, model_config: GcavtConfig) -> None:
        self.triples = triples
        self.config = config
        self.train_index, held_out = triples.split(HELD_OUT_IDENTITIES)
        step = max(1, len(held_out) // EVALUATION_TRIPLES)
        self.evaluation_index = held_out[::step][:EVALUATION_TRIPLES]

    def portraits(self, index: NDArray[np.integer], single: NDArray[np.bool_]) -> Batch:
        """The references of some triples; `single` withholds all but the first."""
        rows = self.triples.reference_of[index]
        primary = self.triples.reference("reference_image", rows)
        second = self.triples.reference("reference_second", rows)
        origin = np.array(self.triples.reference("reference_origin", rows), np.float32)
        origin[single, 2:] = origin[single, :2]
        return {
            "index": index,
            "primary": to_tensor(primary),
            "secondary": to_tensor(np.where(single[:, None, None, None], primary, second)),
            "origin": torch.from_numpy(origin),
            "reference_pose": torch.from_numpy(self.triples.reference_pose(rows)),
            **sides_of(self.triples, rows, single),
        }

    def targets(self, index: NDArray[np.integer]) -> Batch:
        """The target frames, where the person is in them, and where mouth and eyes are."""
        landmarks = np.asarray(self.triples.triple("landmarks", index), np.float32)
        alpha = np.asarray(self.triples.triple("alpha", index), np.float32) / 255
        return {
            "target": to_tensor(self.triples.triple("target", index)),
            "alpha": torch.from_numpy(alpha)[:, None],
            "target_mouth": box_mask(mouth_boxes(landmarks), *alpha.shape[1:]),
            "target_eyes": box_mask(eye_boxes(landmarks), *alpha.shape[1:]),
        }

    def evaluation_indices(self, size: int = 8) -> list[NDArray[Any]]:
        return np.array_split(self.evaluation_index, max(1, len(self.evaluation_index) // size))

    def image_loss(
        self, image: Tensor, mask: Tensor, target: Tensor, alpha: Tensor, weight: Tensor
    ) -> tuple[Tensor, dict[str, float]]:
        """The joint stage's loss on pictures, without what only exact geometry gives."""
        pixel = weighted_l1(image, target, weight)
        structure = structural_dissimilarity(image, target)
        loss = 2 * pixel + laplacian_l1(image, target, weight) + F.l1_loss(mask, alpha)
        loss = loss + self.config.structure_weight * structure
        return loss, {"pixel": float(pixel.detach()), "structure": float(structure.detach())}

    def face_weight(self, batch: Batch) -> Tensor:
        mouth, eyes = batch["target_mouth"], batch["target_eyes"]
        weight: Tensor = 1 + self.config.mouth_weight * mouth + self.config.eye_weight * eyes
        return weight


def generate(model: Gcavt, batch: Batch, codes: Codes) -> tuple[Tensor, Tensor]:
    """Image (B, 3, S, S) and mask (B, 1, S, S), as the engine calls the generator, gradients included."""
    size = (model.config.identity.input_px,) * 2
    identity = model.identity_encoder(F.interpolate(batch["primary"], size=size, mode="area"))
    reference: tuple[Tensor, ...] = ()
    if isinstance(model.generator, EditReposeGenerator):
        portraits = (batch["primary"], batch["secondary"], batch["origin"], batch["side_images"])
        state = model.generator.reference_encoder(*portraits)
        reference = (batch["reference_pose"], batch["origin"], batch["side_poses"], *state)
    image: Tensor
    image, mask = model.generator(identity, codes["pose"], codes["expression"], codes["content"], *reference)
    return image, mask
