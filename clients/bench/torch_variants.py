"""PyTorch on a GPU beyond eager: compiled, and compiled into CUDA graphs. To compare with, not to serve."""

from __future__ import annotations

from pathlib import Path
from typing import Final, Literal

import numpy as np
import torch
from numpy.typing import NDArray

from engine.backends.backend import Tensors
from engine.backends.networks import input_arrays
from gcavt.checkpoint import load_model
from trt_build.manifest import CHECKPOINT_NAME
from trt_build.modules import network_modules
from trt_build.specs import engine_specs

Variant = Literal["pytorch-compile", "pytorch-graphs"]
VARIANTS: Final[tuple[Variant, ...]] = ("pytorch-compile", "pytorch-graphs")
_MODES: Final[dict[Variant, str]] = {
    "pytorch-compile": "default",
    "pytorch-graphs": "reduce-overhead",  # the mode that captures CUDA graphs
}


class CompiledPyTorch:
    """The modules of a bundle through torch.compile, each compiled on first use of a batch size."""

    def __init__(self, bundle_dir: Path, variant: Variant, device: str = "cuda:0") -> None:
        self.name = variant
        self._device = torch.device(device)
        model = load_model(bundle_dir / CHECKPOINT_NAME).to(self._device)
        self._specs = engine_specs(model.config)
        self._modules = {
            name: torch.compile(module, mode=_MODES[variant], dynamic=False)
            for name, module in network_modules(model).items()
        }
        self.provider = f"PyTorch {torch.__version__} compiled, {self._device}, f32"

    def run(self, network: str, inputs: Tensors) -> dict[str, NDArray[np.float32]]:
        spec = self._specs[network]
        arguments = [torch.from_numpy(a).to(self._device) for a in input_arrays(spec, inputs).values()]
        with torch.inference_mode():
            results = self._modules[network](*arguments)
        tensors = (results,) if isinstance(results, torch.Tensor) else results
        # copied at once: the next run of a CUDA graph writes to the same memory
        return {n: t.cpu().numpy() for n, t in zip(spec.output_names, tensors, strict=True)}

    def close(self) -> None:
        self._modules.clear()
