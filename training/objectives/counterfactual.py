"""Identity i with the pose of A, the expression of B and the mouth of C, against the exact render of it.

No video holds such a target. For a share of the samples (`encoder_code_share`) the three codes are read by
the encoders from frames in which A, B and C show them and everything else differs; the other samples have
exact codes, as in the joint stage. So the generator learns to live with what encoders get wrong, and the
encoders what the generator needs.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from gcavt import code_space
from gcavt.config import GcavtConfig
from gcavt.model import Gcavt
from training.datasets.triples import Triples
from training.objectives.driving import DRIVERS, Driver, DriverPeople, EncoderReader, read_code
from training.objectives.edit_repose import JointStage, mean_figures
from training.objectives.objective import Batch
from training.recipes import TrainConfig

CODE_KEYS: dict[Driver, str] = {
    "pose": "pose_code",
    "expression": "expression_code",
    "content": "content_code",
}
EVALUATION_SAMPLES = 24


class CounterfactualStage(JointStage):
    """The joint stage, driven by other people's frames."""

    def __init__(self, triples: Triples, config: TrainConfig, model_config: GcavtConfig) -> None:
        super().__init__(triples, config, model_config)
        self.reader = EncoderReader(model_config)
        self.people = DriverPeople(triples, self.train_index, config.driver_people, config.seed)

    def trained_modules(self, model: nn.Module) -> Iterable[nn.Module]:
        joined = cast(Gcavt, model)
        encoders = (joined.pose_encoder, joined.expression_encoder, joined.content_encoder)
        return (*super().trained_modules(model), *encoders)

    def draw(self, rng: np.random.Generator, batch_size: int) -> Batch:
        batch = super().draw(rng, batch_size)
        rows = np.flatnonzero(rng.random(batch_size) < self.config.encoder_code_share)
        return batch | self.driven(batch, rows, rng, augmented=True)

    def driven(
        self, batch: Batch, rows: NDArray[np.integer], rng: np.random.Generator, *, augmented: bool
    ) -> Batch:
        """The frames of A, B and C for some rows of a batch, as the encoders see them."""
        inputs: Batch = {"driven": torch.from_numpy(rows)}
        if len(rows):
            for driver in DRIVERS:
                others = rng.choice(self.train_index, len(rows))
                frames = self.people.drive(driver, batch["index"][rows], others, rng)
                inputs[driver] = self.reader.inputs(driver, frames, rng, augmented=augmented)
        return inputs

    def loss(self, model: nn.Module, batch: Batch) -> tuple[Tensor, dict[str, float]]:
        batch, anchor = self.read(cast(Gcavt, model), batch)
        loss, figures = super().loss(model, batch)
        return loss + self.config.code_anchor_weight * anchor, figures | {"anchor": float(anchor.detach())}

    def read(self, model: Gcavt, batch: Batch) -> tuple[Batch, Tensor]:
        """The batch with the driven rows' codes as the encoders read them, and how far these are from exact.

        The distance is the mean square over the spread of each kind of code; it keeps the encoders in the
        code space that the audio encoder and the re-poser's geometry share.
        """
        batch, rows = dict(batch), batch["driven"]
        anchor = torch.zeros(())
        if not len(rows):
            return batch, anchor
        for driver, key in CODE_KEYS.items():
            code, exact = read_code(model, driver, batch[driver]), batch[key]
            gap = (code - exact[rows]) / (1.0 if driver == "pose" else CODE_SPREAD)
            anchor = anchor + (gap**2).mean()
            batch[key] = exact.index_copy(0, rows, code)
        return batch, anchor

    def noisy_codes(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Noise for exact codes alone; the encoders bring their own."""
        noisy = super().noisy_codes(batch)
        rows = batch["driven"]
        if not len(rows):
            return noisy
        expression, content = (
            code.index_copy(0, rows, batch[key][rows])
            for code, key in zip(noisy, ("expression_code", "content_code"), strict=True)
        )
        return expression, content

    def evaluate(self, model: nn.Module) -> dict[str, float]:
        """The joint stage's figures with exact codes, then `driven_` ones: three other people's frames."""
        figures = super().evaluate(model)
        rng, generator = np.random.default_rng(5), cast(Gcavt, model).generator
        driven = []
        for index in np.array_split(self.evaluation_index[:EVALUATION_SAMPLES], 3):
            batch = self.batch(index, np.zeros(len(index), bool))
            batch |= self.driven(batch, np.arange(len(index)), rng, augmented=False)
            batch, _ = self.read(cast(Gcavt, model), batch)
            codes = batch["expression_code"], batch["content_code"]
            edited, _ = self.edited(generator, batch, codes)  # type: ignore[arg-type]
            driven.append(self._figures(model, batch, edited))
        return figures | {f"driven_{key}": value for key, value in mean_figures(driven).items()}


CODE_SPREAD = code_space.CODE_NORM / code_space.CODE_DIM**0.5
"""Root mean square of a coordinate of an expression or content code."""
