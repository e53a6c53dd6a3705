"""A large model teaches a small one: what it draws for mixtures of drivers that nobody ever rendered."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from gcavt import code_space
from gcavt.checkpoint import read_checkpoint
from gcavt.config import GcavtConfig
from gcavt.model import Gcavt
from training.datasets.triples import Triples
from training.objectives.driving import DRIVERS, Driver, EncoderReader, read_code, stored_frames
from training.objectives.edit_repose import mean_figures
from training.objectives.image_losses import psnr, structural_dissimilarity
from training.objectives.objective import Batch
from training.objectives.portraits import Codes, PortraitStage, generate
from training.recipes import TrainConfig


class DistilStage(PortraitStage):
    """Somebody's pose, another one's expression and a third one's mouth, drawn by teacher and student.

    Teacher and student share the codes of expression, pose and content; identity codes are each one's own. A
    teacher whose code space is exact is asked for exact codes, and the student's encoders are left alone. A
    free teacher reads the codes with its encoders, and the student's learn to read the same.
    """

    def __init__(
        self, triples: Triples, config: TrainConfig, model_config: GcavtConfig, teacher: Path
    ) -> None:
        """Raises CheckpointError, and ValueError if the two models' codes differ in size."""
        super().__init__(triples, config, model_config)
        checkpoint = read_checkpoint(teacher)
        sizes = [
            (c.pose_dim, c.expression_dim, c.content_dim, c.image_px)
            for c in (checkpoint.config, model_config)
        ]
        if sizes[0] != sizes[1]:
            raise ValueError(f"teacher and student must share codes and picture size: {sizes[0]}, {sizes[1]}")
        self.teacher = Gcavt(checkpoint.config)
        self.teacher.load_state_dict({k: v.float() for k, v in checkpoint.tensors.items()})
        self.teacher.eval().requires_grad_(False)
        self.is_free = checkpoint.provenance.get("code_space") == "free"
        self.teacher_reader = EncoderReader(checkpoint.config)
        self.student_reader = EncoderReader(model_config)

    def trained_modules(self, model: nn.Module) -> Iterable[nn.Module]:
        joined = cast(Gcavt, model)
        generator = (joined.generator, joined.identity_encoder)
        if not self.is_free:
            return generator
        return (*generator, joined.pose_encoder, joined.expression_encoder, joined.content_encoder)

    def draw(self, rng: np.random.Generator, batch_size: int) -> Batch:
        return self.batch(self.train_index, rng, batch_size, augmented=True)

    def batch(
        self, among: NDArray[np.integer], rng: np.random.Generator, batch_size: int, *, augmented: bool
    ) -> Batch:
        """Portraits of some people, drivers from others, and the teacher's pictures."""
        index = np.sort(rng.choice(among, batch_size))
        single = rng.random(batch_size) < self.config.single_reference_share
        batch = self.portraits(index, single)
        drivers = {name: rng.choice(among, batch_size) for name in DRIVERS}
        batch["codes"] = self.exact_codes(drivers)
        if self.is_free:
            frames = {name: stored_frames(self.triples, rows) for name, rows in drivers.items()}
            seen = {n: self.teacher_reader.inputs(n, frames[n], rng, augmented=False) for n in DRIVERS}
            with torch.no_grad():
                batch["codes"] = {n: read_code(self.teacher, n, seen[n]) for n in DRIVERS}
            batch["frames"] = {
                n: self.student_reader.inputs(n, frames[n], rng, augmented=augmented) for n in DRIVERS
            }
        with torch.no_grad():
            batch["target"], batch["alpha"] = generate(self.teacher, batch, batch["codes"])
        return batch

    def exact_codes(self, drivers: Mapping[Driver, NDArray[np.integer]]) -> Codes:
        """Codes of the triples' exact parameters."""
        expression = np.asarray(self.triples.triple("expression", drivers["expression"]))
        mouth = np.asarray(self.triples.triple("mouth", drivers["content"]))
        return {
            "pose": torch.from_numpy(code_space.pose_code(self.triples.pose(drivers["pose"]))),
            "expression": torch.from_numpy(code_space.expression_code(expression)),
            "content": torch.from_numpy(code_space.content_code(mouth)),
        }

    def loss(self, model: nn.Module, batch: Batch) -> tuple[Tensor, dict[str, float]]:
        student = cast(Gcavt, model)
        image, mask = generate(student, batch, batch["codes"])
        weight = torch.ones_like(mask) + self.config.mouth_weight * batch["alpha"]
        loss, figures = self.image_loss(image, mask, batch["target"], batch["alpha"], weight)
        if self.is_free:
            gaps = [
                ((read_code(student, n, batch["frames"][n]) - batch["codes"][n]) ** 2).mean() for n in DRIVERS
            ]
            loss = loss + torch.stack(gaps).sum()
            figures |= {f"{n}_gap": float(gap.detach()) for n, gap in zip(DRIVERS, gaps, strict=True)}
        return loss, figures

    def evaluate(self, model: nn.Module) -> dict[str, float]:
        """How near the student's pictures of held-out people are to the teacher's."""
        rng, figures = np.random.default_rng(5), []
        for _ in range(3):
            batch = self.batch(self.evaluation_index, rng, 8, augmented=False)
            image, _ = generate(cast(Gcavt, model), batch, batch["codes"])
            structure = structural_dissimilarity(image.clamp(0, 1), batch["target"])
            figures.append({"psnr": psnr(image, batch["target"]), "ssim": 1 - float(structure)})
        return mean_figures(figures)
