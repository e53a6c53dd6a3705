"""`python -m training.assemble`: one shipped checkpoint out of the runs that trained its parts."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from gcavt.checkpoint import read_checkpoint, save_checkpoint
from gcavt.config import GcavtConfig
from training.trainer import model_from


def assemble(checkpoints: list[Path], out: Path, halfway: Sequence[Path] = ()) -> None:
    """Join the parts that each run trained (later runs win) and write them in half precision.

    The last run's config holds. Parts of the runs in `halfway` become the mean of what the others bring and
    of what these made of it: fine-tuned on rendered people an encoder forgets real ones, the mean is better
    on both (Wortsman et al. 2022, "Robust fine-tuning of zero-shot models").
    Raises RuntimeError if a part trained elsewhere has another size in it.
    """
    sources = [read_checkpoint(path) for path in checkpoints]
    config = sources[-1].config
    model = model_from(config, checkpoints)
    runs = [run for source in sources for run in _runs(source.provenance)]
    base = model_from(config, checkpoints).state_dict()
    for path in halfway:
        _go_halfway(model, base, model_from(config, [*checkpoints, path]).state_dict())
        runs += [{**run, "halfway": True} for run in _runs(read_checkpoint(path).provenance)]
    missing = _untrained(config, [run.get("trained", []) for run in runs])
    provenance = {
        "code_space": "exact",
        "runs": runs,
        "untrained": missing,
    }
    save_checkpoint(out, model, config, provenance, dtype=torch.float16)


def _go_halfway(model: nn.Module, base: Mapping[str, Tensor], tuned: Mapping[str, Tensor]) -> None:
    """Half of every change from base to tuned; weights that are the same there stay as they are."""
    with torch.no_grad():
        for name, value in model.state_dict().items():
            if value.is_floating_point():
                value += (tuned[name] - base[name]) / 2


def _runs(provenance: Mapping[str, Any]) -> list[Any]:
    """Of a run: itself; of what was assembled before: its runs."""
    return list(provenance.get("runs", [provenance]))


def _untrained(config: GcavtConfig, trained: list[list[str]]) -> list[str]:
    """Top-level parts that no run has touched."""
    parts = ("identity", "pose", "expression", "content", "audio")
    names = [name for run in trained for name in run]
    return [f"{part}_encoder" for part in parts if f"{part}_encoder" not in names]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "checkpoints", nargs="+", type=Path, help="last.safetensors of each run, later ones win"
    )
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument(
        "--halfway",
        nargs="+",
        type=Path,
        default=[],
        metavar="CHECKPOINT",
        help="runs that went on from the others: the mean of their weights and the others'",
    )
    args = parser.parse_args()
    assemble(args.checkpoints, args.out, args.halfway)
    return 0


if __name__ == "__main__":
    sys.exit(main())
