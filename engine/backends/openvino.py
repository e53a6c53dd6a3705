"""OpenVINO on the CPU: the default backend."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any, Final

import numpy as np
import openvino as ov
from numpy.typing import NDArray

from engine.backends.backend import Tensors
from engine.backends.networks import batch_size, input_arrays
from trt_build.manifest import FILE_NAME, Manifest
from trt_build.specs import engine_specs

logger = logging.getLogger(__name__)

DEVICE: Final = "CPU"
CACHE_DIR: Final = Path.home() / ".cache" / "gcavt" / "openvino"
"""Compiled networks; OpenVINO keys them by model, device and version."""


class OpenVinoBackend:
    """Each network compiled for a fixed batch on first use: fixed shapes run faster than dynamic ones."""

    name = "openvino"

    def __init__(self, bundle_dir: Path, threads: int | None = None, cache_dir: Path = CACHE_DIR) -> None:
        self._bundle_dir = bundle_dir
        self._manifest = Manifest.load(bundle_dir / FILE_NAME)
        self._specs = engine_specs(self._manifest.config)
        self._threads = threads
        self._core = ov.Core()
        self._core.set_property({"CACHE_DIR": str(cache_dir)})
        self._has_bf16 = has_native_bf16(self._core)
        self._requests: dict[tuple[str, int], ov.InferRequest] = {}
        self.provider = self._describe()
        logger.info("inference by %s", self.provider)

    def run(self, network: str, inputs: Tensors) -> dict[str, NDArray[np.float32]]:
        spec = self._specs[network]
        feed = input_arrays(spec, inputs)
        request = self._request(network, batch_size(feed))
        results = request.infer(feed, share_inputs=True)
        return {name: np.asarray(results[name]) for name in spec.output_names}

    def close(self) -> None:
        self._requests.clear()

    def _request(self, network: str, batch: int) -> ov.InferRequest:
        key = (network, batch)
        if key not in self._requests:
            self._requests[key] = self._compile(network, batch).create_infer_request()
        return self._requests[key]

    def _compile(self, network: str, batch: int) -> ov.CompiledModel:
        model = self._core.read_model(self._bundle_dir / self._manifest.networks[network].file)
        model.reshape({tensor.name: tensor.with_batch(batch) for tensor in self._specs[network].inputs})
        config: dict[str, Any] = {
            "PERFORMANCE_HINT": "LATENCY",
            "NUM_STREAMS": 1,
            "ENABLE_CPU_PINNING": False,  # both workers would be pinned to the same core
            "INFERENCE_PRECISION_HINT": "bf16" if self._has_bf16 and not _samples_by_grid(model) else "f32",
        }
        if self._threads is not None:
            config["INFERENCE_NUM_THREADS"] = self._threads
        logger.debug("compiling %s for batch %d: %s", network, batch, config)
        return self._core.compile_model(model, DEVICE, config)

    def _describe(self) -> str:
        version = ov.get_version().partition("-")[0]
        processor = self._core.get_property(DEVICE, "FULL_DEVICE_NAME").strip()
        precision = "bf16" if self._has_bf16 else "f32"
        threads = "all" if self._threads is None else str(self._threads)
        return f"OpenVINO {version}, CPU ({processor}), {precision}, {threads} threads"


def has_native_bf16(core: ov.Core) -> bool:
    """Whether OpenVINO reports that this CPU computes in bf16 (AMX or AVX512-BF16)."""
    return "BF16" in core.get_property(DEVICE, "OPTIMIZATION_CAPABILITIES")


def _samples_by_grid(model: ov.Model) -> bool:
    # bf16 has 8 bits of mantissa: a sampling coordinate would be wrong by half a pixel of 256
    return any(node.get_type_name() == "GridSample" for node in model.get_ops())
