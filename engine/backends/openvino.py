"""OpenVINO on the CPU: the default backend."""

from __future__ import annotations

import copy
import io
import logging
import threading
import zipfile
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Final, Literal

import numpy as np
import openvino as ov
from numpy.typing import NDArray

from engine.backends.backend import Backend, Tensors
from engine.backends.networks import batch_size, input_arrays
from engine.errors import BackendMissingError, BundleError
from trt_build.flavours import FLAVOURS
from trt_build.manifest import FILE_NAME, Manifest
from trt_build.openvino_precision import has_native_bf16, has_vnni, with_exact_geometry
from trt_build.openvino_rewrites import rewrite
from trt_build.specs import engine_specs
from trt_build.store import DEFAULT_ROOT, EngineKey, EngineSet, EngineStore, StoreError

logger = logging.getLogger(__name__)

DEVICE: Final = "CPU"
CACHE_DIR: Final = Path.home() / ".cache" / "gcavt" / "openvino"
"""Compiled networks; OpenVINO keys them by model, device and version."""
ENGINES_DIR: Final = "engines"
"""Of a bundle that brings networks in eight bits."""

CpuPrecision = Literal["fp32", "bf16", "int8"]


class OpenVinoBackend:
    """Each network compiled for a fixed batch on first use: fixed shapes run faster than dynamic ones."""

    def __init__(
        self,
        bundle_dir: Path,
        threads: int | None = None,
        cache_dir: Path = CACHE_DIR,
        *,
        precision: CpuPrecision | None = None,
        store: EngineStore | None = None,
        config: Mapping[str, Any] | None = None,
    ) -> None:
        """precision: what most of a picture is computed in. None for what suits this processor: bf16 where it
            computes in that; else int8 where it has VNNI and the networks in int8 are there; else fp32.
        store: where networks in int8 are looked for, in place of the bundle and `gcavt build`'s own store.
        config: properties of OpenVINO in place of those chosen here.

        Raises BundleError: int8 is asked for and was not built for exactly these weights and this version;
        BackendMissingError: bf16 is asked for, which this processor has not.
        """
        self._bundle_dir = bundle_dir
        self._manifest = Manifest.load(bundle_dir / FILE_NAME)
        self._specs = engine_specs(self._manifest.config)
        self._threads = threads
        self._config = config or {}
        self._core = ov.Core()
        self._core.set_property({"CACHE_DIR": str(cache_dir)})
        self._has_bf16 = has_native_bf16(self._core) and precision != "fp32"
        if precision == "bf16" and not self._has_bf16:
            raise BackendMissingError("this processor does not compute in bf16; run it with: openvino")
        shipped = EngineStore(bundle_dir / ENGINES_DIR)
        stores = [shipped, EngineStore(DEFAULT_ROOT)] if store is None else [store]
        self._engines: EngineSet | None = None
        if precision == "int8":
            self._engines = _find(self._manifest, stores)
        elif precision is None and not self._has_bf16 and has_vnni():
            try:
                self._engines = _find(self._manifest, stores)
            except BundleError as error:
                logger.info("int8 would be faster on this processor, but %s", error.message)
        self.name = "openvino" if precision is None else f"openvino-{precision}"
        self._streams = 1
        self._compiled: dict[tuple[str, int], ov.CompiledModel] = {}
        self._compiling = threading.Lock()
        self._requests: dict[tuple[str, int], ov.InferRequest] = {}
        self.provider = self._describe()
        logger.info("inference by %s", self.provider)

    def run(self, network: str, inputs: Tensors) -> dict[str, NDArray[np.float32]]:
        spec = self._specs[network]
        feed = input_arrays(spec, inputs)
        request = self._request(network, batch_size(feed))
        results = request.infer(feed, share_inputs=True)
        return {name: np.asarray(results[name]) for name in spec.output_names}

    def in_parallel(self, count: int) -> list[Backend]:
        """As of `RunsInParallel`: a request each, on streams of the same compiled networks."""
        self._streams = count
        others = [copy.copy(self) for _ in range(count - 1)]
        for other in others:
            other._requests = {}
        return [self, *others]

    def close(self) -> None:
        self._requests.clear()
        self._compiled.clear()

    def _request(self, network: str, batch: int) -> ov.InferRequest:
        key = (network, batch)
        if key not in self._requests:
            with self._compiling:
                if key not in self._compiled:
                    self._compiled[key] = self._compile(network, batch)
                self._requests[key] = self._compiled[key].create_infer_request()
        return self._requests[key]

    def _compile(self, network: str, batch: int) -> ov.CompiledModel:
        model = self._read(network)
        model.reshape({tensor.name: tensor.with_batch(batch) for tensor in self._specs[network].inputs})
        rewrite(model)
        if self._has_bf16:
            model = with_exact_geometry(self._core, model)
        config: dict[str, Any] = {
            "PERFORMANCE_HINT": "LATENCY",
            "NUM_STREAMS": self._streams,
            "ENABLE_CPU_PINNING": False,  # both workers would be pinned to the same core
            "INFERENCE_PRECISION_HINT": "bf16" if self._has_bf16 else "f32",
        }
        if self._threads is not None:
            config["INFERENCE_NUM_THREADS"] = self._threads * self._streams
        config |= self._config
        logger.debug("compiling %s for batch %d: %s", network, batch, config)
        return self._core.compile_model(model, DEVICE, config)

    def _read(self, network: str) -> ov.Model:
        if self._engines is None or network not in self._engines.engines:
            return self._core.read_model(self._bundle_dir / self._manifest.networks[network].file)
        try:
            return read_packed(self._core, self._engines.read(network))
        except StoreError as error:
            raise BundleError(str(error)) from error

    def _describe(self) -> str:
        version = ov.get_version().partition("-")[0]
        processor = self._core.get_property(DEVICE, "FULL_DEVICE_NAME").strip()
        precision = "int8" if self._engines is not None else "bf16" if self._has_bf16 else "f32"
        threads = "all" if self._threads is None else str(self._threads)
        return f"OpenVINO {version}, CPU ({processor}), {precision}, {threads} threads"


def _find(manifest: Manifest, stores: Sequence[EngineStore]) -> EngineSet:
    """The networks in int8, from the first store that has them. Raises BundleError: the last one's reason."""
    key = EngineKey.of(manifest, "openvino", "int8", FLAVOURS["openvino"].version(), ())
    for store in stores[:-1]:
        with suppress(StoreError):
            return store.open(key)
    try:
        return stores[-1].open(key)
    except StoreError as error:
        raise BundleError(str(error)) from error


def read_packed(core: ov.Core, content: bytes) -> ov.Model:
    """A network of `trt_build.openvino_int8`: description and weights in one archive."""
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        weights = np.frombuffer(archive.read("network.bin"), np.uint8)
        return core.read_model(archive.read("network.xml"), ov.Tensor(weights.copy()))
