"""What one stage of the training optimises: the trainer's only view of it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Protocol

import numpy as np
from torch import Tensor, nn

Batch = dict[str, Any]


class Objective(Protocol):
    """Batches in, a loss out. `model` is a gcavt.model.Gcavt."""

    def trained_modules(self, model: nn.Module) -> Iterable[nn.Module]:
        """The parts whose weights this stage moves."""
        ...

    def draw(self, rng: np.random.Generator, batch_size: int) -> Batch:
        """A random training batch."""
        ...

    def loss(self, model: nn.Module, batch: Batch) -> tuple[Tensor, dict[str, float]]:
        """The loss to minimise and figures to log."""
        ...

    def evaluate(self, model: nn.Module) -> dict[str, float]:
        """Figures over held-out identities; no gradient is needed."""
        ...
