"""`python -m training.assemble`: one shipped checkpoint out of the runs that trained its parts."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from gcavt.checkpoint import read_checkpoint, save_checkpoint
from gcavt.config import GcavtConfig
from training.trainer import model_from


def assemble(checkpoints: list[Path], out: Path) -> None:
    """Join the parts that each run trained (later runs win) and write them in half precision.

    The last run's config holds. Raises RuntimeError if a part trained elsewhere has another size in it.
    """
    sources = [read_checkpoint(path) for path in checkpoints]
    config = sources[-1].config
    model = model_from(config, checkpoints)
    runs = [run for source in sources for run in _runs(source.provenance)]
    missing = _untrained(config, [run.get("trained", []) for run in runs])
    provenance = {
        "code_space": "exact",
        "runs": runs,
        "untrained": missing,
    }
    save_checkpoint(out, model, config, provenance, dtype=torch.float16)


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
    args = parser.parse_args()
    assemble(args.checkpoints, args.out)
    return 0


if __name__ == "__main__":
    sys.exit(main())
