"""Sharpness, last: where L1 paints the mean of many teeth and lashes, detail of the right strength is wanted.

A patch discriminator each for mouth and eyes wants one of them; `contrast_error` wants detail as strong as
the target's everywhere.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from gcavt.config import DiscriminatorConfig, GcavtConfig
from gcavt.discriminator import MultiScaleDiscriminator
from gcavt.edit_repose import sample
from gcavt.losses import adversarial_loss, discriminator_loss, feature_matching_loss
from gcavt.preprocessing import OUTER_EYE_CORNERS, eye_distance, eye_line_deg
from training.datasets.triples import Triples
from training.objectives.edit_repose import (
    EditorStage,
    EditReposeStage,
    JointStage,
    Reposed,
    ReposerStage,
    crop_weight,
)
from training.objectives.feature_loss import window_positions
from training.objectives.image_losses import MOUTH, contrast_error
from training.objectives.objective import Batch
from training.recipes import TrainConfig

WINDOW_PX = 96
MOUTH_WINDOW, EYES_WINDOW = 1.2, 1.7
"""Sides of the windows in distances between the outer eye corners."""
DISCRIMINATOR = DiscriminatorConfig(scales=1, layers=3, base_channels=24, max_channels=96)


class _Sharpening(EditReposeStage):
    """Adds both to a stage's loss.

    Generator and discriminators step together on one backward pass: the generator's terms are computed while
    the discriminators' weights count as constants, theirs on pictures without a gradient.

    `gan_weight` is a share: of the pull that the other losses have on the picture within the two windows,
    measured anew at every step, so that it needs no tuning to their weights (Esser et al., "Taming
    transformers", CVPR 2021, who measure it at the last layer).
    """

    def __init__(self, triples: Triples, config: TrainConfig, model_config: GcavtConfig) -> None:
        super().__init__(triples, config, model_config)
        regions = ("mouth", "eyes")
        self.discriminators = nn.ModuleDict(
            {name: MultiScaleDiscriminator(DISCRIMINATOR) for name in regions}
        )

    def sharpened(
        self,
        loss: Tensor,
        output: Tensor,
        target: Tensor,
        landmarks_BK2: NDArray[np.float32],
        importance: Tensor,
    ) -> tuple[Tensor, dict[str, float]]:
        """A stage's loss of a picture with what wants it sharp, and the parts of that."""
        contrast = contrast_error(output, target, importance)
        loss = loss + self.config.contrast_weight * contrast
        if not self.config.gan_weight:
            return loss, {"contrast": float(contrast.detach())}
        adversarial, matching, judging = self.gan_losses(output, target, landmarks_BK2)
        generator_loss = adversarial + self.config.feature_matching_weight * matching
        weight = self.config.gan_weight * relative_pull(loss, generator_loss, output)
        return loss + weight * generator_loss + judging, {
            "contrast": float(contrast.detach()),
            "adversarial": float(adversarial.detach()),
            "matching": float(matching.detach()),
            "discriminator": float(judging.detach()),
            "gan_weight": weight,
        }

    def gan_losses(
        self, output: Tensor, target: Tensor, landmarks_BK2: NDArray[np.float32]
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Adversarial and feature-matching loss of the generator, and the discriminators' own loss."""
        adversarial = matching = judging = output.new_zeros(())
        for region, windows in face_windows(landmarks_BK2).items():
            discriminator = self.discriminators[region]
            position = window_positions(windows, WINDOW_PX)
            fake, real = sample(output, position), sample(target, position)
            discriminator.requires_grad_(False)
            seen, wanted = discriminator(fake), discriminator(real)
            adversarial = adversarial + adversarial_loss(seen)
            matching = matching + feature_matching_loss(wanted, seen)
            discriminator.requires_grad_(True)
            judging = judging + discriminator_loss(discriminator(real), discriminator(fake.detach()))
        return adversarial, matching, judging


class ReposerGanStage(_Sharpening, ReposerStage):
    """The re-poser alone, sharpened."""

    def trained_modules(self, model: nn.Module) -> Iterable[nn.Module]:
        return (*super().trained_modules(model), self.discriminators)

    def image_and_geometry_loss(
        self, model: nn.Module, batch: Batch, reposed: Reposed
    ) -> tuple[Tensor, dict[str, float]]:
        loss, figures = super().image_and_geometry_loss(model, batch, reposed)
        loss, more = self.sharpened(
            loss, reposed.result.image, batch["target"], batch["target_landmarks"], self.importance(batch)
        )
        return loss, figures | more


class GanStage(ReposerGanStage, JointStage):
    """The joint stage, sharpened."""


class EditorGanStage(_Sharpening, EditorStage):
    """The editor alone, sharpened: a fifth of the joint stage's time, and mouth and eyes are its work."""

    def trained_modules(self, model: nn.Module) -> Iterable[nn.Module]:
        return (*super().trained_modules(model), self.discriminators)

    def loss(self, model: nn.Module, batch: Batch) -> tuple[Tensor, dict[str, float]]:
        output, loss, figures = self.edit(model, batch)
        loss, more = self.sharpened(
            loss, output, batch["edited"], batch["crop_landmarks"], crop_weight(batch, self.config)
        )
        return loss, figures | more


def relative_pull(loss: Tensor, other: Tensor, image: Tensor) -> float:
    """How much stronger `loss` pulls at the picture than `other`, at the pixels that `other` looks at."""
    pull, others = (torch.autograd.grad(term, image, retain_graph=True)[0] for term in (loss, other))
    seen = others.abs().sum(1, keepdim=True) > 0
    return float((pull * seen).norm() / others.norm().clamp_min(1e-12))


def face_windows(landmarks_BK2: NDArray[np.float32]) -> dict[str, NDArray[np.float32]]:
    """Affine maps (B, 2, 3) from the picture to level windows of WINDOW_PX about the lips and the eyes."""
    centres = {
        "mouth": (landmarks_BK2[:, MOUTH].mean(1), MOUTH_WINDOW),
        "eyes": (landmarks_BK2[:, list(OUTER_EYE_CORNERS)].mean(1), EYES_WINDOW),
    }
    return {
        region: np.stack(
            [
                level_window(centre, points, side * eye_distance(points))
                for centre, points in zip(middle, landmarks_BK2, strict=True)
            ]
        )
        for region, (middle, side) in centres.items()
    }


def level_window(
    centre_xy: NDArray[np.float32], points_K2: NDArray[np.float32], side_px: float
) -> NDArray[np.float32]:
    """Map (2, 3) that turns the eye line level and shows `side_px` about a centre in WINDOW_PX."""
    angle = np.radians(-eye_line_deg(points_K2))
    scale = WINDOW_PX / max(side_px, 1.0)
    turn = scale * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    offset = (WINDOW_PX - 1) / 2 - turn @ centre_xy
    return np.column_stack([turn, offset]).astype(np.float32)
