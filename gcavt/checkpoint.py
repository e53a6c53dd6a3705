"""Weights, config and provenance in one safetensors file; no pickle anywhere."""

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from gcavt.config import GcavtConfig
from gcavt.model import Gcavt

FORMAT = "gcavt-1"
NAMES_SHOWN = 3


class CheckpointError(ValueError):
    """A checkpoint that cannot be written or read; the message says what is wrong with which file."""


@dataclass(frozen=True, kw_only=True)
class Checkpoint:
    path: Path
    config: GcavtConfig
    provenance: dict[str, Any]
    """How the weights came about: data, recipe, steps, time, code version."""
    tensors: dict[str, Tensor]
    """By `Gcavt.state_dict` name, on the CPU, as stored."""

    def build(self) -> Gcavt:
        """The model with these weights, float32, in evaluation mode. Raises CheckpointError on a misfit."""
        model = Gcavt(self.config)
        expected = {name: tensor.shape for name, tensor in model.state_dict().items()}
        stored = {name: tensor.shape for name, tensor in self.tensors.items()}
        problems = {
            "missing": sorted(set(expected) - set(stored)),
            "unknown": sorted(set(stored) - set(expected)),
            "of another shape": sorted(n for n in set(expected) & set(stored) if expected[n] != stored[n]),
        }
        faults = [f"{_some(names)} {fault}" for fault, names in problems.items() if names]
        if faults:
            raise CheckpointError(
                f"{self.path} does not fit its config {self.config.name!r}: {'; '.join(faults)}"
            )
        model.load_state_dict(self.tensors)
        return model.eval()


def save_checkpoint(
    path: Path,
    model: nn.Module,
    config: GcavtConfig,
    provenance: Mapping[str, Any],
    *,
    dtype: torch.dtype = torch.float32,
) -> None:
    """Write the model's state with its config and provenance; the file appears whole or not at all.

    `dtype` is that of floating-point tensors of two or more axes. Biases and running statistics, which
    are small and whose range is wide, stay in float32.
    """
    stored = {name: _stored(name, tensor, dtype) for name, tensor in model.state_dict().items()}
    metadata = {
        "format": FORMAT,
        "config": json.dumps(config.to_dict()),
        "provenance": json.dumps(dict(provenance)),
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(path.name + ".partial")
    save_file(stored, partial, metadata)
    os.replace(partial, path)


def load_checkpoint(path: Path) -> tuple[Gcavt, dict[str, Any]]:
    """The model of a file of `save_checkpoint` and its provenance. Raises CheckpointError."""
    checkpoint = read_checkpoint(path)
    return checkpoint.build(), checkpoint.provenance


def load_model(path: Path) -> Gcavt:
    """`load_checkpoint` for those who need no provenance."""
    return read_checkpoint(path).build()


def read_checkpoint(path: Path) -> Checkpoint:
    """Read a file of `save_checkpoint`. Raises CheckpointError if it is missing, damaged or another kind."""
    if not path.is_file():
        raise CheckpointError(f"no checkpoint at {path}")
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}
    except SafetensorError as error:
        raise CheckpointError(f"{path} is not a safetensors file, or is cut short: {error}") from error
    if metadata.get("format") != FORMAT:
        found = metadata.get("format")
        raise CheckpointError(f"{path} is not a checkpoint of format {FORMAT} (its format: {found})")
    try:
        config = GcavtConfig.from_dict(json.loads(metadata["config"]))
        provenance = json.loads(metadata["provenance"])
    except (KeyError, ValueError, TypeError) as error:
        raise CheckpointError(f"{path} has unreadable metadata: {error}") from error
    return Checkpoint(path=path, config=config, provenance=provenance, tensors=tensors)


def _stored(name: str, tensor: Tensor, dtype: torch.dtype) -> Tensor:
    tensor = tensor.detach().cpu().contiguous()
    if not tensor.is_floating_point():
        return tensor
    tensor = tensor.to(dtype if tensor.ndim >= 2 else torch.float32)
    if not tensor.isfinite().all():
        raise CheckpointError(f"{name} holds values that {tensor.dtype} cannot hold, or that are not finite")
    return tensor


def _some(names: list[str]) -> str:
    shown = ", ".join(names[:NAMES_SHOWN])
    more = len(names) - NAMES_SHOWN
    return f"{shown} and {more} more" if more > 0 else shown
