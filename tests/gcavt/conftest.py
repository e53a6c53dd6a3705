"""What the tests of the networks share. Torch is imported where it is used: not every test here needs it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from gcavt.model import Gcavt


@pytest.fixture(autouse=True, scope="session")
def one_torch_thread() -> None:
    """On a busy machine, threads that wait for each other cost small tensors more than they save."""
    import torch

    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def paper_model() -> Gcavt:
    """The full model without its weights: shapes and sizes at no memory."""
    import torch

    from gcavt.config import GcavtConfig
    from gcavt.model import Gcavt

    with torch.device("meta"):
        return Gcavt(GcavtConfig.paper())
