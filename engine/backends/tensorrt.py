"""TensorRT and TensorRT for RTX on an NVIDIA GPU: engines out of the engine store, tensors by name.

Both flavours share every line but two: RTX keeps the kernels it compiles in a run-time cache and captures its
own CUDA graphs; for TensorRT the graph is captured here.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from engine.backends.backend import Tensors
from engine.backends.cuda import DEVICE, Buffer, Graph, Stream, compute_capability, device_name
from engine.backends.networks import batch_size, input_arrays
from engine.errors import BackendMissingError, BundleError, GpuError, GpuLostError, GpuMemoryError
from trt_build.flavours import FLAVOURS, Flavour, FlavourMissingError, FlavourName, Precision
from trt_build.manifest import FILE_NAME, Manifest
from trt_build.specs import EngineSpec, engine_specs
from trt_build.store import DEFAULT_ROOT, EngineKey, EngineSet, EngineStore, StoreError

logger = logging.getLogger(__name__)

BUNDLED: Final = "engines"
"""A directory of this name in a bundle is looked into before the machine's own store."""


class TensorRtBackend:
    """Each network an engine with buffers of its own on one stream; opened on first use."""

    def __init__(
        self,
        bundle_dir: Path,
        threads: int | None = None,
        *,
        flavour: FlavourName,
        precision: Precision,
        store: EngineStore | None = None,
    ) -> None:
        """threads is for the others: a GPU has its own.

        Raises BackendMissingError (not installed), GpuError (no GPU) and BundleError: no engines of exactly
        these weights, this version and this GPU, with the command that builds them.
        """
        self.name = flavour if precision == "fp16" else f"{flavour}-{precision}"
        self._flavour = FLAVOURS[flavour]
        manifest = Manifest.load(bundle_dir / FILE_NAME)
        self._specs = engine_specs(manifest.config)
        try:
            version = self._flavour.version()
        except FlavourMissingError as error:
            raise BackendMissingError(str(error)) from error
        self._generation = DEVICE.open()
        target = compute_capability()
        key = EngineKey.of(manifest, flavour, precision, version, (target,))
        self._store, self._engines = _find(bundle_dir, store, key)
        self._cache_name = f"{self._engines.key.id[:12]}-{device_name().replace(' ', '_')}"
        self._runtime = self._flavour.load().Runtime(self._flavour.log().receiver)
        self._stream = Stream()
        self._networks: dict[str, _Network] = {}
        self._is_lost = False
        self.provider = f"{self._flavour.product} {version}, {device_name()} (cuda), {precision}"
        logger.info("inference by %s", self.provider)

    def run(self, network: str, inputs: Tensors) -> dict[str, NDArray[np.float32]]:
        """As of Backend. Raises GpuMemoryError, and GpuLostError after which the backend must be closed."""
        spec = self._specs[network]
        arrays = input_arrays(spec, inputs)
        try:
            DEVICE.open()  # which device is current is a matter of the thread
            return self._network(spec).run(arrays)
        except GpuLostError:
            self._is_lost = True
            raise

    def close(self) -> None:
        """Free the GPU and keep what RTX compiled. After a lost device: reset it."""
        for name, network in self._networks.items():
            if not self._is_lost:
                self._keep_cache(name, network)
            network.close()
        self._networks.clear()
        self._stream.close()
        self._runtime = None
        if self._is_lost:
            DEVICE.reset(self._generation)

    def _network(self, spec: EngineSpec) -> _Network:
        if spec.name not in self._networks:
            content = _read(self._engines, spec.name)
            cache = self._store.read_cache(self._cache_file(spec.name))
            self._networks[spec.name] = _Network(
                self._flavour, self._runtime, content, spec, self._stream, cache
            )
        return self._networks[spec.name]

    def _cache_file(self, network: str) -> str:
        return f"{self._cache_name}-{network}.runtime"

    def _keep_cache(self, name: str, network: _Network) -> None:
        content = network.runtime_cache()
        if content is not None:
            self._store.write_cache(self._cache_file(name), content)


def _find(bundle_dir: Path, store: EngineStore | None, key: EngineKey) -> tuple[EngineStore, EngineSet]:
    """The set of `key` in the bundle itself or in the machine's store; caches are kept in the latter."""
    machine = store or EngineStore(DEFAULT_ROOT)
    bundled = EngineStore(bundle_dir / BUNDLED)
    try:
        if bundled.root.is_dir():
            return machine, bundled.find(key, key.targets[0])
        return machine, machine.find(key, key.targets[0])
    except StoreError as error:
        raise BundleError(str(error)) from error


def _read(engines: EngineSet, network: str) -> bytes:
    try:
        return engines.read(network)
    except StoreError as error:
        raise BundleError(str(error)) from error


class _Network:
    """One engine with its context, its buffers and its graph."""

    def __init__(
        self, flavour: Flavour, runtime: Any, content: bytes, spec: EngineSpec, stream: Stream, cache: bytes
    ) -> None:
        self._trt = flavour.load()
        self._spec = spec
        self._stream = stream
        self._cache: Any = None
        self._buffers: dict[str, Buffer] = {}
        self._uploaded: dict[str, NDArray[np.float32]] = {}
        self._graph: Graph | None = None
        self._batch = 0
        self._engine = runtime.deserialize_cuda_engine(content)
        if self._engine is None:
            raise BundleError(f"{flavour.product} does not take the engine of {spec.name}; its log says why")
        self._check_tensors()
        self._captures_itself = flavour.name == "rtx"
        self._context = self._new_context(cache)
        if self._context is None:  # what it needs is allocated here
            raise GpuMemoryError(f"The GPU has no room to run {spec.name}.")

    def _check_tensors(self) -> None:
        names = {self._engine.get_tensor_name(index) for index in range(self._engine.num_io_tensors)}
        wanted = {*self._spec.input_names, *self._spec.output_names}
        if names != wanted:
            raise BundleError(f"the engine of {self._spec.name} has the tensors {sorted(names)}")

    def _new_context(self, cache: bytes) -> Any:
        if not self._captures_itself:
            return self._engine.create_execution_context()
        config = self._engine.create_runtime_config()
        self._cache = config.create_runtime_cache()
        if cache and not self._cache.deserialize(cache):
            logger.info(
                "%s: kernels are compiled anew, the cache is of another GPU or driver", self._spec.name
            )
        config.set_runtime_cache(self._cache)
        config.cuda_graph_strategy = self._trt.CudaGraphStrategy.WHOLE_GRAPH_CAPTURE
        # compiled for the shapes that are used, before the first of them is run: no frame waits for it later
        config.dynamic_shapes_kernel_specialization_strategy = (
            self._trt.DynamicShapesKernelSpecializationStrategy.EAGER
        )
        return self._engine.create_execution_context(config)

    def run(self, arrays: Mapping[str, NDArray[np.float32]]) -> dict[str, NDArray[np.float32]]:
        """Outputs by name, copies that belong to the caller."""
        batch = batch_size(arrays)
        self._set_batch(batch)
        for name, array in arrays.items():
            self._upload(name, array)
        self._enqueue()
        for tensor in self._spec.outputs:
            self._buffers[tensor.name].download(math.prod(tensor.with_batch(batch)), self._stream)
        self._stream.wait()
        return {
            tensor.name: self._host(tensor.name, tensor.with_batch(batch)).copy()
            for tensor in self._spec.outputs
        }

    def _host(self, name: str, shape: tuple[int, ...]) -> NDArray[np.float32]:
        return self._buffers[name].host[: math.prod(shape)].reshape(shape)

    def _set_batch(self, batch: int) -> None:
        if batch == self._batch:
            return
        self._batch = 0  # until all of it is done
        self._uploaded.clear()
        if self._graph is not None:
            self._graph.close()
            self._graph = None
        for tensor in (*self._spec.inputs, *self._spec.outputs):
            self._reserve(tensor.name, math.prod(tensor.with_batch(batch)))
            if not self._context.set_tensor_address(tensor.name, self._buffers[tensor.name].address):
                raise GpuError(f"{self._spec.name}: TensorRT refuses the tensor {tensor.name}.")
        for tensor in self._spec.inputs:
            if not self._context.set_input_shape(tensor.name, tensor.with_batch(batch)):
                raise GpuError(f"{self._spec.name}: TensorRT refuses a batch of {batch}.")
        if unset := self._context.infer_shapes():
            raise GpuError(f"{self._spec.name}: TensorRT does not know the shapes of {', '.join(unset)}.")
        self._batch = batch

    def _reserve(self, name: str, values: int) -> None:
        """Buffers only grow: a smaller batch uses the front of a larger one's."""
        present = self._buffers.get(name)
        if present is not None and present.values >= values:
            return
        if present is not None:
            del self._buffers[name]
            present.close()
        self._buffers[name] = Buffer(values)

    def _upload(self, name: str, array: NDArray[np.float32]) -> None:
        """An array that cannot be written, such as an identity's, is not copied twice in a row."""
        if self._uploaded.get(name) is array:
            return
        self._uploaded.pop(name, None)
        self._host(name, array.shape)[...] = array
        self._buffers[name].upload(array.size, self._stream)
        if not array.flags.writeable:
            self._uploaded[name] = array

    def _enqueue(self) -> None:
        """Run the engine: RTX by itself as a graph, else once plainly and from then on as one captured here.

        The plain run is needed: TensorRT sets up what depends on shapes in the first one, outside of capture.
        """
        if self._graph is not None:
            self._graph.launch()
            return
        self._execute()
        if not self._captures_itself:
            self._stream.wait()
            self._graph = self._stream.capture(self._execute)

    def _execute(self) -> None:
        if not self._context.execute_async_v3(self._stream.handle):
            self._stream.wait()  # raises what the GPU says, if it was the GPU
            raise GpuError(f"{self._spec.name}: TensorRT refused to run; its log says why.")

    def runtime_cache(self) -> bytes | None:
        """What RTX compiled so far; None for TensorRT, which compiles at build time."""
        return None if self._cache is None else bytes(self._cache.serialize())

    def close(self) -> None:
        """Free everything. Order matters: contexts before engines, both before the memory they point to."""
        if self._graph is not None:
            self._graph.close()
        self._context = self._engine = self._cache = None
        for buffer in self._buffers.values():
            buffer.close()
        self._buffers.clear()
