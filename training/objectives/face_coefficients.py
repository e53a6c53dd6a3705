"""Teaches the expression or the content encoder of `lite`: many people seldom, real frames among them.

What counts is how far the skin and the eyes are moved, so that is the loss beside the coefficients: one that
is taken for another which looks the same costs little.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from gcavt import code_space
from gcavt.config import EditReposeGeneratorConfig, GcavtConfig
from gcavt.model import Gcavt
from training.datasets.placement import FACE_Z
from training.datasets.real_frames import RealFrame
from training.objectives.encoders import encoder_inputs, stacked, weight_figures, weighted_code_error
from training.objectives.face_pairs import FacePairs
from training.objectives.objective import Batch
from training.synthetic.head_pack import Material, load_head_pack

JITTER_PX = 0.5
"""Standard deviation of the noise on tracked landmarks, of 256 px."""
TURN_DEG = 6.0
SHOWN_WEIGHT = 0.5
SMALLEST_SPREAD_PX = 0.4
"""A point counts by how far it usually moves, and this much at least."""
_POINTS = 600
_MOVED = 0.01
_EVALUATION_FRAMES = 200


class FaceCoefficientStage:
    """Both frames of a pair must be right, and the change between them."""

    def __init__(
        self, pairs: FacePairs, model_config: GcavtConfig, encoder: Literal["expression", "content"]
    ) -> None:
        self.pairs = pairs
        self.model_config = model_config
        self.encoder = encoder
        faces = pairs.faces
        weights = faces.expression if encoder == "expression" else faces.mouth
        self.weights = weights
        self.spread = torch.from_numpy(np.maximum(weights.std(0), 0.05))
        self.active = weights.std(0) > 0.05
        moves = displacements_px()
        sample = torch.from_numpy(weights[:: max(1, len(weights) // 2000)])
        self.point_spread = torch.einsum("tk,kpc->tpc", sample, moves).square().mean((0, 2)).sqrt()
        self.moves = moves / self.point_spread.clamp_min(SMALLEST_SPREAD_PX)[:, None]

    def trained_modules(self, model: nn.Module) -> Iterable[nn.Module]:
        return (self._encoder(model),)

    def _encoder(self, model: nn.Module) -> nn.Module:
        encoder: nn.Module = getattr(cast(Gcavt, model), f"{self.encoder}_encoder")
        return encoder

    def draw(self, rng: np.random.Generator, batch_size: int) -> Batch:
        return self._batch(self.pairs.draw(rng, batch_size, TURN_DEG), rng)

    def _batch(self, frames: list[RealFrame], rng: np.random.Generator | None) -> Batch:
        weights = np.stack([f.expression_52 if self.encoder == "expression" else f.mouth_52 for f in frames])
        inputs = [
            encoder_inputs(self.encoder, self.model_config, f.image, f.landmarks_68, rng, JITTER_PX)
            for f in frames
        ]
        return {"inputs": stacked(inputs), "weights": torch.from_numpy(weights)}

    def loss(self, model: nn.Module, batch: Batch) -> tuple[Tensor, dict[str, float]]:
        code = self._encoder(model)(*batch["inputs"])
        exact = torch.from_numpy(code_space.expression_code(batch["weights"].numpy()))
        coefficients = weighted_code_error(code, exact, self.spread)
        gap = self.moved(weights_of(code) - batch["weights"])
        shown, motion = gap.square().mean(), (gap[0::2] - gap[1::2]).square().mean()
        figures = {"coefficients": coefficients, "shown": shown, "motion": motion}
        total = coefficients + SHOWN_WEIGHT * (shown + motion)
        return total, {name: float(value.detach()) for name, value in figures.items()}

    def moved(self, weights_B52: Tensor) -> Tensor:
        """(B, P, 3): how far weights move the face's points, each over how far it usually moves."""
        return torch.einsum("bk,kpc->bpc", weights_B52, self.moves)

    def evaluate(self, model: nn.Module) -> dict[str, float]:
        """Of people held out, seen plainly: share of the variance explained, of coefficients and of where the
        points are; the latter also within a person."""
        rows = self.pairs.held_out_rows()
        rows = rows[:: max(1, len(rows) // _EVALUATION_FRAMES)]
        encoder = self._encoder(model)
        batches = [self._batch([self.pairs.faces.frame(row) for row in part], None) for part in chunks(rows)]
        code = torch.cat([encoder(*batch["inputs"]) for batch in batches])
        truth = torch.cat([batch["weights"] for batch in batches])
        read = weights_of(code)
        return {
            "shown": explained(self.moved(read), self.moved(truth)),
            **weight_figures(read.numpy(), truth.numpy(), self.active),
        }


def chunks(rows: NDArray[np.intp], size: int = 32) -> list[NDArray[np.intp]]:
    return np.array_split(rows, max(1, len(rows) // size))


def explained(read: Tensor, truth: Tensor) -> float:
    """Share of the variance of `truth` (T, ...) that `read` explains."""
    return float(1 - (read - truth).square().sum() / (truth - truth.mean(0)).square().sum().clamp_min(1e-9))


def weights_of(code_BD: Tensor) -> Tensor:
    """(B, 52) weights of expression or content codes, as `code_space.expression_weights`."""
    coordinates = code_BD @ torch.from_numpy(code_space.BASIS).T
    return coordinates[:, 1:] / coordinates[:, :1].clamp_min(1e-3 * code_space.CODE_NORM)


def displacements_px() -> Tensor:
    """(52, P, 3): pixels of 256 by which a coefficient of 1 moves points of skin and eyes."""
    pack = load_head_pack()
    order = [pack.face_units.index(name) for name in code_space.COEFFICIENTS]
    targets = pack.face_unit_targets[order]
    is_moved = np.linalg.norm(targets, axis=2).max(0) > _MOVED
    is_seen = np.isin(pack.vertex_material_V, [Material.SKIN, Material.EYE]) & is_moved
    seen = targets[:, is_seen]
    camera = EditReposeGeneratorConfig()
    px_per_unit = 256 * camera.focal_ratio / (camera.camera_distance - FACE_Z)
    return torch.from_numpy(seen[:, :: max(1, seen.shape[1] // _POINTS)] * np.float32(px_per_unit))
