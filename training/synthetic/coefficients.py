"""Faces written down by the names of ARKit's 52 coefficients."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from gcavt.code_space import COEFFICIENTS

Weights = NDArray[np.float32]
"""(52,), in the order of `COEFFICIENTS`."""


def both(name: str, value: float) -> dict[str, float]:
    """The same weight on the left and on the right."""
    return {f"{name}Left": value, f"{name}Right": value}


def weight_vector(weights: Mapping[str, float]) -> Weights:
    """Named weights as a vector (52,) clipped to [0, 1]. Raises ValueError on an unknown name."""
    vector = np.zeros(len(COEFFICIENTS), np.float32)
    for name, value in weights.items():
        if name not in COEFFICIENTS:
            raise ValueError(f"{name!r} is not one of the 52 coefficients")
        vector[COEFFICIENTS.index(name)] = value
    return np.clip(vector, 0, 1)
