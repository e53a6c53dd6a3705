"""What every test shares: a seed, so that a failure repeats."""

from __future__ import annotations

import random

import numpy as np
import pytest

pytest_plugins = ["tests.bundles"]


@pytest.fixture(autouse=True)
def seeded() -> None:
    """Same random numbers in every run. Torch is left alone: tests of it seed it themselves."""
    random.seed(0)
    np.random.seed(0)
