"""`gcavt evaluate`: a checkpoint over rendered people it never saw, through its real encoders."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from skimage.metrics import structural_similarity
from torch import Tensor

from gcavt import code_space
from gcavt.checkpoint import read_checkpoint
from gcavt.model import Gcavt
from training.datasets.triples import Triples
from training.objectives.edit_repose import JointStage
from training.objectives.encoders import ImageEncoderStage
from training.objectives.image_losses import psnr, region_error
from training.objectives.objective import Batch
from training.recipes import joint

MODES = ("exact", "self", "cross")
"""Exact codes; the target drives through the encoders; three other people drive."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument(
        "--data", type=Path, required=True, help="rendered triples; their last identities are the test set"
    )
    parser.add_argument(
        "--out", type=Path, required=True, help="folder for evaluation.json and contact_sheet.png"
    )
    parser.add_argument("--frames", type=int, default=64)


def run(args: argparse.Namespace) -> int:
    args.out.mkdir(parents=True, exist_ok=True)
    model = read_checkpoint(args.checkpoint).build()
    with torch.no_grad():
        figures, sheet = Evaluation(model, args.data, args.frames).run()
    (args.out / "evaluation.json").write_text(json.dumps(figures, indent=1))
    from PIL import Image

    Image.fromarray(sheet).save(args.out / "contact_sheet.png")
    for mode, values in figures.items():
        print(f"{mode:6s} " + "  ".join(f"{key} {value:.3f}" for key, value in values.items()))  # noqa: T201
    return 0


class Evaluation:
    """Held-out identities under exact, self-driven and cross-driven codes."""

    def __init__(self, model: Gcavt, data: Path, frames: int) -> None:
        self.model = model
        self.triples = Triples(data)
        self.stage = JointStage(self.triples, joint(), model.config)
        every = max(1, len(self.stage.evaluation_index) // frames)
        self.index = self.stage.evaluation_index[::every]
        self.inputs = {
            name: ImageEncoderStage(self.triples, joint(), model.config, name)  # type: ignore[arg-type]
            for name in ("pose", "expression", "content")
        }

    def run(self) -> tuple[dict[str, dict[str, float]], NDArray[np.uint8]]:
        """Figures per mode, and a sheet: reference, target, then one column per mode."""
        results: dict[str, list[dict[str, float]]] = {mode: [] for mode in MODES}
        rows = []
        others = np.roll(self.index, 9), np.roll(self.index, 18), np.roll(self.index, 27)
        for start in range(0, len(self.index), 8):
            part = slice(start, start + 8)
            batch = self.stage.batch(self.index[part], np.zeros(len(self.index[part]), bool))
            images = [batch["primary"], batch["target"]]
            for mode in MODES:
                image, target = self._drive(batch, mode, tuple(o[part] for o in others))
                results[mode].append(self._figures(image, target, batch))
                images.append(image)
            rows.append(torch.cat(list(torch.cat(images, 3)[:2]), 1))
        sheet = (torch.cat(rows, 1).permute(1, 2, 0).clamp(0, 1).numpy() * 255).astype(np.uint8)
        means = {
            mode: {key: float(np.nanmean([r[key] for r in values])) for key in values[0]}
            for mode, values in results.items()
        }
        return means, sheet

    def _drive(
        self, batch: Batch, mode: str, others: tuple[NDArray[np.integer], ...]
    ) -> tuple[Tensor, Tensor]:
        drivers = [batch["index"]] * 3 if mode != "cross" else list(others)
        if mode == "exact":
            codes = batch["pose_code"], batch["expression_code"], batch["content_code"]
        else:
            codes = self._encode(drivers)
        edited, _ = self.stage.edited(self.model.generator, batch, codes[1:])  # type: ignore[arg-type]
        result, _, _ = self.stage.repose(self.model, batch | {"pose_code": codes[0]}, edited, codes[1:])
        return result.image.clamp(0, 1), batch["target"]

    def _encode(self, drivers: list[NDArray[np.integer]]) -> tuple[Tensor, Tensor, Tensor]:
        codes = []
        for (name, stage), index in zip(self.inputs.items(), drivers, strict=True):
            images = stage.batch(index, np.random.default_rng(3), augmented=False)["image"]
            codes.append(getattr(self.model, f"{name}_encoder")(images))
        return codes[0], codes[1], codes[2]

    @staticmethod
    def _figures(image: Tensor, target: Tensor, batch: Batch) -> dict[str, float]:
        pairs = zip(image.permute(0, 2, 3, 1).numpy(), target.permute(0, 2, 3, 1).numpy(), strict=True)
        ssim = [
            structural_similarity(
                a,
                b,
                channel_axis=2,
                data_range=1.0,
                gaussian_weights=True,
                sigma=1.5,
                use_sample_covariance=False,
            )
            for a, b in pairs
        ]
        return {
            "psnr_db": psnr(image, target),
            "ssim": float(np.mean(ssim)),
            "mouth_l1": region_error(image, target, batch["target_mouth"]),
            "eyes_l1": region_error(image, target, batch["target_eyes"]),
        }


def code_of_pose(pose_6: NDArray[np.float32]) -> Tensor:
    """Pose codes as a tensor."""
    return torch.from_numpy(code_space.pose_code(pose_6))
