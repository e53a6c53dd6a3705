"""Which module of the model is which exported network."""

from __future__ import annotations

from torch import nn

from gcavt.model import Gcavt
from trt_build.specs import engine_specs


def network_modules(model: Gcavt) -> dict[str, nn.Module]:
    """Name -> module for every network of `engine_specs`, in its order."""
    modules: dict[str, nn.Module] = {}
    for name in engine_specs(model.config):
        owner = model.generator if name == "reference_encoder" else model
        modules[name] = owner.get_submodule(name)
    return modules
