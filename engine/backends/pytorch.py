"""The gcavt modules as they are: the reference that the other backends are held against."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from engine.backends.backend import Tensors
from engine.backends.networks import input_arrays
from engine.errors import BundleError
from trt_build.manifest import CHECKPOINT_NAME
from trt_build.specs import engine_specs

if TYPE_CHECKING:
    import torch

logger = logging.getLogger(__name__)


class PyTorchBackend:
    """Runs on the first CUDA device if PyTorch sees one, else on the CPU."""

    name = "pytorch"

    def __init__(self, bundle_dir: Path, threads: int | None = None) -> None:
        import torch  # the engine must start without it

        from gcavt.checkpoint import CheckpointError, load_model
        from trt_build.modules import network_modules

        path = bundle_dir / CHECKPOINT_NAME
        if not path.is_file():
            raise BundleError(f"{path} does not exist; backend pytorch needs it beside the ONNX files")
        if threads is not None:
            torch.set_num_threads(threads)
        self._device = torch.device("cuda:0" if torch.cuda.is_available() else "cpu")
        try:
            model = load_model(path).to(self._device)
        except CheckpointError as error:
            raise BundleError(str(error)) from error
        self._specs = engine_specs(model.config)
        self._modules = network_modules(model)
        self.provider = f"PyTorch {torch.__version__}, {self._device}, f32, {torch.get_num_threads()} threads"
        logger.info("inference by %s", self.provider)

    def run(self, network: str, inputs: Tensors) -> dict[str, NDArray[np.float32]]:
        import torch

        spec = self._specs[network]
        # read-only ones are copied: PyTorch warns of them
        arrays = [np.require(array, requirements="W") for array in input_arrays(spec, inputs).values()]
        arguments = [torch.from_numpy(array).to(self._device) for array in arrays]
        with torch.inference_mode():
            results: torch.Tensor | tuple[torch.Tensor, ...] = self._modules[network](*arguments)
        tensors = (results,) if isinstance(results, torch.Tensor) else results
        return {n: t.cpu().numpy() for n, t in zip(spec.output_names, tensors, strict=True)}

    def close(self) -> None:
        self._modules.clear()
