"""`python -m training.comparison`: what counterfactual targets buy over reconstruction, at equal compute.

Two arms begin with the same weights, see the same people and frames and end after the same seconds of
processor time:

- `counterfactual`, as `lite` is made: encoders regressed to exact codes, the editor against renders of the
  same person at the same pose with the new face;
- `self_driven`, the paper's reconstruction: portrait and driver are two frames of one person, and encoders
  and editor learn together from the driver's frame alone.

The re-poser, which knows how a head looks from elsewhere, is the same in both and stays as it is.

`start` makes those weights, `train` runs one arm, `measure` writes its control and leakage, `report` puts
both side by side. Results and their limits are in docs/counterfactual.md.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from torch import nn

from gcavt import code_space
from gcavt.checkpoint import read_checkpoint, save_checkpoint
from gcavt.config import GcavtConfig
from gcavt.model import Gcavt
from training.metrics.actor import Image, opened
from training.metrics.held_out import DRIVERS, HeldOut
from training.metrics.reader import FaceReader
from training.metrics.rendered import WAYS, Way, evaluate_control, evaluate_modes
from training.metrics.report import table
from training.metrics.sheets import CONTROL_COLUMNS, control_sheet
from training.objectives.build import build_objective
from training.objectives.objective import Objective
from training.recipes import RECIPES, TrainConfig
from training.trainer import Trainer, model_from

KEPT = (
    "identity_encoder.",
    "generator.reposer.",
    "generator.reference_encoder.map_",
    "generator.reference_encoder.depth.",
    "generator.reference_encoder.light.",
)
"""What the start takes over from a trained model: who somebody is, how a head is seen from elsewhere."""


@dataclass(frozen=True, kw_only=True)
class Stage:
    """One recipe of an arm."""

    recipe: str
    share: float
    """Of the arm's processor time."""


ARMS: Mapping[str, tuple[Stage, ...]] = {
    "counterfactual": (
        Stage(recipe="pose_encoder", share=0.19),
        Stage(recipe="expression_encoder", share=0.25),
        Stage(recipe="content_encoder", share=0.19),
        Stage(recipe="editor", share=0.37),
    ),
    "self_driven": (Stage(recipe="self_driven_face", share=1.0),),
}
"""Both train the editor and the three image encoders, over a re-poser that stays as the start has it."""
SHIPPED = "last.safetensors"
WAYS_OF: Mapping[str, tuple[Way, ...]] = {"counterfactual": WAYS, "self_driven": ("encoders",)}
"""Exact codes mean something only to a model that was taught them."""
NEARNESS = {"ssim": "SSIM", "psnr_db": "PSNR", "mouth_l1": "mouth L1", "eyes_l1": "eyes L1"}
LEAST_RESPONSE = 0.1
"""Of a driver that moves less of its own factor, leakage relative to that says nothing."""
MODES_OF: Mapping[str, tuple[str, ...]] = {
    "counterfactual": ("exact", "self", "cross"),
    "self_driven": ("self", "cross"),
}


def short(config: TrainConfig) -> TrainConfig:
    """A recipe for minutes: half of the time at the full rate, and an average over the last 50 steps."""
    return replace(config, warmup_steps=50, hold_share=0.5, ema_decay=0.98, steps=1_000_000)


class BudgetedTrainer(Trainer):
    """Ends after some processor seconds instead of steps; the learning rate follows the seconds too.

    What is counted: drawing, augmenting and rendering batches, forward, backward, optimiser. What is not:
    opening the data and evaluating.
    """

    def __init__(
        self, model: Gcavt, objective: Objective, config: TrainConfig, folder: Path, *, budget_s: float
    ) -> None:
        super().__init__(model, objective, config, folder, provenance={"budget_cpu_s": budget_s})
        self.budget_s = budget_s

    def has_spent(self) -> bool:
        """Whether the seconds are used up."""
        return self.cpu_s >= self.budget_s

    def _end_if_spent(self, step: int) -> None:
        self.stopping = self.has_spent()

    def finish(self) -> bool:
        """Train, or resume, to the end of the budget; False if Ctrl-C came before it."""
        self.run(evaluate_every=500, before=self._end_if_spent)
        return self.has_spent()

    def _train_step(self, rng: np.random.Generator) -> dict[str, float]:
        progress = min(self.cpu_s / self.budget_s, 1.0)
        steps = max(self.step + 1, round(self.step / progress)) if progress > 0 else 1_000_000
        self.config = replace(self.config, steps=steps)
        figures = super()._train_step(rng)
        self.stopping = self.stopping or self.has_spent()
        return figures


def start(shipped: Path, out: Path, seed: int = 0) -> None:
    """Write the weights that both arms begin with.

    Editor and encoders are random, and the re-poser is deaf to expression and mouth. Its geometry and its
    light, which were taught exactly, stay. Both arms' pose encoders see masked heads: where nobody teaches
    exact poses, whatever else they saw would get into the pose code.
    """
    checkpoint = read_checkpoint(shipped)
    config = replace(checkpoint.config, pose=GcavtConfig.lite_masked().pose)
    torch.manual_seed(seed)
    model = Gcavt(config)
    kept = {key: value.float() for key, value in checkpoint.tensors.items() if key.startswith(KEPT)}
    model.load_state_dict(kept, strict=False)
    deafen(model)
    provenance = {"kept": KEPT, "of": shipped.parent.name, "seed": seed, "trained": []}
    save_checkpoint(out, model, config, provenance)


def deafen(model: Gcavt) -> None:
    """Take every influence of expression and content codes out of a re-poser: it takes both for neutral."""
    faces = model.config.expression_dim + model.config.content_dim
    layer = model.get_submodule("generator.reposer.affine.0")
    assert isinstance(layer, nn.Linear)
    neutral = torch.from_numpy(code_space.expression_code(np.zeros(len(code_space.COEFFICIENTS))))
    with torch.no_grad():
        layer.bias.add_(layer.weight[:, -faces:] @ torch.cat([neutral, neutral]))
        layer.weight[:, -faces:] = 0


def train(arm: str, data: Path, out: Path, seconds: float, precision: str = "auto") -> None:
    """Run or resume the stages of an arm, each from the start."""
    first = out / "start.safetensors"
    for stage in ARMS[arm]:
        torch.set_num_threads(1)
        config = replace(short(RECIPES[stage.recipe]()), precision=precision)  # type: ignore[arg-type]
        torch.manual_seed(config.seed)
        model_config: GcavtConfig = read_checkpoint(first).config
        model = model_from(model_config, [first])
        model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        objective = build_objective(config, model_config, data)
        folder = out / arm / stage.recipe
        trainer = BudgetedTrainer(model, objective, config, folder, budget_s=stage.share * seconds)
        if not trainer.finish():
            return
    assemble(arm, out)


def assemble(arm: str, out: Path) -> Path:
    """One checkpoint of an arm: the start with what each stage has trained."""
    runs = [out / arm / stage.recipe / SHIPPED for stage in ARMS[arm]]
    first = out / "start.safetensors"
    config = read_checkpoint(first).config
    provenance = {"arm": arm, "runs": [read_checkpoint(path).provenance for path in runs]}
    path = out / f"{arm}.safetensors"
    save_checkpoint(path, model_from(config, [first, *runs]), config, provenance)
    return path


def measure(arm: str, data: Path, people: int, out: Path, *, frames: int = 24, control: int = 36) -> None:
    """Nearness, control and leakage of one arm on the last `people` of a data set.

    Writes OUT/ARM.json and the arm's control sheet, OUT/ARM.png. Drivers are the same for every arm.
    """
    held_out = HeldOut(data, people)
    figures: dict[str, Any] = {
        "people": held_out.identities,
        "frames": frames,
        "control_samples": control,
        "stages": _spent(arm, out),
    }
    with FaceReader() as reader, opened(str(out / f"{arm}.safetensors")) as actor:
        modes, _ = evaluate_modes(actor, held_out, reader, frames)
        figures["nearness"] = {mode: modes[mode] for mode in MODES_OF[arm]}
        figures["control"] = evaluate_control(actor, held_out, reader, control, WAYS_OF[arm])
        (out / f"{arm}.json").write_text(json.dumps(figures, indent=1) + "\n")
        sheet = control_sheet(actor, held_out, reader)
    cv2.imwrite(str(out / f"{arm}.png"), sheet[:, :, ::-1])


def report(out: Path) -> str:
    """Join what `measure` wrote to OUT/comparison.json, .md and .png; returns the tables."""
    figures = {arm: json.loads((out / f"{arm}.json").read_text()) for arm in ARMS}
    (out / "comparison.json").write_text(json.dumps({"arms": figures}, indent=1) + "\n")
    text = tables(figures)
    (out / "comparison.md").write_text(text + "\n")
    sheets = [np.asarray(cv2.imread(str(out / f"{arm}.png")), np.uint8) for arm in ARMS]
    cv2.imwrite(str(out / "comparison.png"), beside_each_other(sheets, list(ARMS)))
    return text


def _spent(arm: str, out: Path) -> list[dict[str, Any]]:
    """Recipe, steps, batch size and processor seconds of each stage."""
    spent = []
    for stage in ARMS[arm]:
        run = read_checkpoint(out / arm / stage.recipe / SHIPPED).provenance
        spent.append(
            {
                "recipe": stage.recipe,
                "steps": run["step"],
                "batch_size": run["recipe"]["batch_size"],
                "cpu_s": run["cpu_s_per_process"],
            }
        )
    return spent


def tables(figures: Mapping[str, Any]) -> str:
    """What each arm has spent, how near it comes, and its control and leakage, in Markdown."""
    spent, near, controlled = [], [], []
    for arm, measured in figures.items():
        spent += [[arm, *stage.values()] for stage in measured["stages"]]
        for mode, values in measured["nearness"].items():
            near.append([f"{arm}, {mode}", *(values[key] for key in NEARNESS)])
        for way, values in measured["control"].items():
            for driver in DRIVERS:
                response, leaks = values["response"][driver], values["leakage_pictures"][driver]
                own = response["response"]
                shares = [None if f == driver else own * leaks[f] for f in DRIVERS]
                over = [leaks.get(f) if own >= LEAST_RESPONSE else None for f in DRIVERS]
                cells = (own, response["cosine"], response["response_read"], *shares, *over)
                controlled.append([f"{arm}, {way}: {driver} driven", *cells])
    moved = [f"moves {factor} by" for factor in DRIVERS]
    relative = [f"{factor} over response" for factor in DRIVERS]
    return "\n\n".join(
        (
            table(["arm", "recipe", "steps", "batch", "CPU s"], spent),
            table(["codes", *NEARNESS.values()], near),
            table(["driver", "response", "cosine", "response, read", *moved, *relative], controlled),
        )
    )


def beside_each_other(sheets: Sequence[Image], names: Sequence[str]) -> Image:
    """Control sheets of several models over the same drivers as one: drivers above, then a row per model."""
    rows = 2 * len(DRIVERS)
    cell, side = sheets[0].shape[0] // rows, sheets[0].shape[1] // CONTROL_COLUMNS
    strips = []
    for number in range(len(DRIVERS)):
        strips.append(sheets[0][2 * number * cell : (2 * number + 1) * cell])
        for sheet, name in zip(sheets, names, strict=True):
            strip = sheet[(2 * number + 1) * cell : (2 * number + 2) * cell].copy()
            strip[side:, :side] = 24
            cv2.putText(
                strip, name, (4, cell - 5), cv2.FONT_HERSHEY_SIMPLEX, 0.42, (220, 220, 220), 1, cv2.LINE_AA
            )
            strips.append(strip)
    return np.concatenate(strips)


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(dest="command", required=True)
    starting = commands.add_parser("start", help="write OUT/start.safetensors")
    starting.add_argument("--shipped", type=Path, required=True, help="checkpoint whose re-poser is kept")
    training = commands.add_parser("train", help="run or resume one arm, to OUT/ARM.safetensors")
    training.add_argument("arm", choices=sorted(ARMS))
    training.add_argument("--data", type=Path, required=True, help="folder of rendered triples")
    training.add_argument("--seconds", type=float, required=True, help="processor time of the arm")
    training.add_argument("--precision", choices=("auto", "fp32", "bf16"), default="auto")
    measuring = commands.add_parser("measure", help="write figures and sheet of one arm, OUT/ARM.json, .png")
    measuring.add_argument("arm", choices=sorted(ARMS))
    measuring.add_argument("--data", type=Path, required=True, help="people whom neither arm has seen")
    measuring.add_argument("--people", type=int, default=12, help="how many of its last identities")
    measuring.add_argument("--frames", type=int, default=24, help="for nearness")
    measuring.add_argument("--control", type=int, default=36, help="samples for control and leakage")
    joining = commands.add_parser("report", help="join both arms in OUT/comparison.json, .md, .png")
    for command in (starting, training, measuring, joining):
        command.add_argument("--out", type=Path, required=True, metavar="DIR")
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    if args.command == "start":
        start(args.shipped, args.out / "start.safetensors")
    elif args.command == "train":
        train(args.arm, args.data, args.out, args.seconds, args.precision)
    elif args.command == "measure":
        cv2.setNumThreads(1)
        torch.set_num_threads(1)
        measure(args.arm, args.data, args.people, args.out, frames=args.frames, control=args.control)
    else:
        sys.stdout.write(report(args.out) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
