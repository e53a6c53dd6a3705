"""`gcavt evaluate`: a checkpoint over rendered people it never saw, through its real encoders."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import cast

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from skimage.metrics import structural_similarity
from torch import Tensor
from tqdm import tqdm

from gcavt.checkpoint import read_checkpoint
from gcavt.edit_repose import EditReposeGenerator
from gcavt.model import Gcavt
from training.datasets.placement import rendered_pose
from training.datasets.triples import Triples
from training.objectives.edit_repose import JointStage
from training.objectives.encoders import ImageEncoderStage
from training.objectives.image_losses import box_mask, eye_boxes, mouth_boxes, psnr, region_error, to_tensor
from training.objectives.objective import Batch
from training.recipes import joint
from training.synthetic import truth
from training.synthetic.identity import Identity, Scene
from training.synthetic.renderer import Renderer

MODES = {
    "exact": "codes of the exact parameters",
    "self": "the target frame drives through the encoders",
    "cross": "three other people drive pose, expression and mouth, against an exact render of the mixture",
}
BATCH = 8


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.epilog = "modes:\n" + "\n".join(f"  {mode:6s} {meaning}" for mode, meaning in MODES.items())
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument(
        "--data", type=Path, required=True, help="rendered triples; the last 12 identities are held out"
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
    Image.fromarray(sheet).save(args.out / "contact_sheet.png")
    for mode, values in figures.items():
        tqdm.write(f"{mode:6s} " + "  ".join(f"{key} {value:.3f}" for key, value in values.items()))
    return 0


class Evaluation:
    """Held-out identities under exact, self-driven and cross-driven codes."""

    def __init__(self, model: Gcavt, data: Path, frames: int) -> None:
        self.model = model
        self.generator = cast(EditReposeGenerator, model.generator)
        self.triples = Triples(data)
        self.stage = JointStage(self.triples, joint(), model.config)
        self.index = self.stage.evaluation_index[:: max(1, len(self.stage.evaluation_index) // frames)]
        self.pose = ImageEncoderStage(self.triples, joint(), model.config, "pose")
        self.expression = ImageEncoderStage(self.triples, joint(), model.config, "expression")
        self.content = ImageEncoderStage(self.triples, joint(), model.config, "content")
        self._renderers: dict[int, Renderer] = {}

    def run(self) -> tuple[dict[str, dict[str, float]], NDArray[np.uint8]]:
        """Figures per mode; and a sheet of reference, (target, picture) per mode."""
        results: dict[str, list[dict[str, float]]] = {mode: [] for mode in MODES}
        rows = []
        for start in tqdm(range(0, len(self.index), BATCH), desc="evaluating"):
            chosen = np.arange(start, min(start + BATCH, len(self.index)))
            batch = self.stage.batch(self.index[chosen], np.zeros(len(chosen), bool))
            others = [self.index[(chosen + shift) % len(self.index)] for shift in (9, 18, 27)]
            columns = [batch["primary"]]
            for mode in MODES:
                drivers = others if mode == "cross" else [batch["index"]] * 3
                compared = batch | self._mixture(batch, drivers) if mode == "cross" else batch
                image = self._drive(batch, drivers, exact=mode == "exact")
                results[mode].append(self._figures(image, compared))
                columns += [compared["target"], image]
            rows.append(torch.cat(list(torch.cat(columns, 3)[:2]), 1))
        sheet = (torch.cat(rows, 1).permute(1, 2, 0).clamp(0, 1).numpy() * 255).astype(np.uint8)
        means = {
            mode: {key: float(np.nanmean([r[key] for r in values])) for key in values[0]}
            for mode, values in results.items()
        }
        return means, sheet

    def _drive(self, batch: Batch, drivers: list[NDArray[np.integer]], *, exact: bool) -> Tensor:
        if exact:
            pose, expression, content = batch["pose_code"], batch["expression_code"], batch["content_code"]
        else:
            rng = np.random.default_rng(3)
            pictures = [
                stage.batch(index, rng, augmented=False)["image"]
                for stage, index in zip((self.pose, self.expression, self.content), drivers, strict=True)
            ]
            pose = self.model.pose_encoder(pictures[0])
            expression = self.model.expression_encoder(pictures[1])
            content = self.model.content_encoder(pictures[2])
        edited, _ = self.stage.edited(self.generator, batch, (expression, content))
        driven = batch | {"pose_code": pose}
        return self.stage.repose(self.model, driven, edited, (expression, content))[0].image.clamp(0, 1)

    def _mixture(self, batch: Batch, drivers: list[NDArray[np.integer]]) -> Batch:
        """Exact renders of each identity with the pose, expression and mouth of three other frames."""
        poses = rendered_pose(
            self.triples.pose(drivers[0]), self.triples.place(self.triples.identity[batch["index"]])
        )
        faces = np.asarray(self.triples.triple("expression", drivers[1]), np.float32)
        faces = np.clip(faces + np.asarray(self.triples.triple("mouth", drivers[2]), np.float32), 0, 1)
        images, points = [], []
        for index, pose, face in zip(batch["index"], poses, faces, strict=True):
            render = self._renderer(int(self.triples.identity[index])).render(face, pose)
            images.append(render.image)
            points.append(truth.landmarks(render))
        landmarks = self._landmarks_68(np.stack(points))
        return {
            "target": to_tensor(np.stack(images)),
            "target_mouth": box_mask(mouth_boxes(landmarks), 256, 256),
            "target_eyes": box_mask(eye_boxes(landmarks), 256, 256),
        }

    @staticmethod
    def _landmarks_68(points_BK2: NDArray[np.float32]) -> NDArray[np.float32]:
        from gcavt.preprocessing import landmarks_68_from_478

        return np.stack([landmarks_68_from_478(points) for points in points_BK2])

    def _renderer(self, seed: int) -> Renderer:
        if seed not in self._renderers:
            self._renderers[seed] = Renderer(Identity(seed), Scene.from_seed(seed), supersampling=2)
        return self._renderers[seed]

    @staticmethod
    def _figures(image: Tensor, batch: Batch) -> dict[str, float]:
        target = batch["target"]
        pairs = zip(image.permute(0, 2, 3, 1).numpy(), target.permute(0, 2, 3, 1).numpy(), strict=True)
        return {
            "psnr_db": psnr(image, target),
            "ssim": float(np.mean([ssim(a, b) for a, b in pairs])),
            "mouth_l1": region_error(image, target, batch["target_mouth"]),
            "eyes_l1": region_error(image, target, batch["target_eyes"]),
        }


def ssim(image_HWC: NDArray[np.float32], target_HWC: NDArray[np.float32]) -> float:
    """Structural similarity of RGB pictures in [0, 1]: Gaussian window, sigma 1.5, population covariance.

    Source: Wang et al. 2004, "Image quality assessment: from error visibility to structural similarity".
    """
    return float(
        structural_similarity(
            image_HWC,
            target_HWC,
            channel_axis=2,
            data_range=1.0,
            gaussian_weights=True,
            sigma=1.5,
            use_sample_covariance=False,
        )
    )
