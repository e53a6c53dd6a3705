"""TensorRT and TensorRT for RTX on an NVIDIA GPU: engines out of the engine store, tensors by name.

Each network has a stream of its own, and per size of batch a context with its memory, its buffers and its
graph, so that no picture waits for a shape to be set up. What stays the same from picture to picture, such as
an identity's tensors, stays on the GPU. Faces are cut out of the camera's picture there (face_plan.py), the
three visual encoders run beside each other, and pictures leave as bytes (pictures.cu).

Both flavours share every line but two: RTX keeps the kernels it compiles in a run-time cache and captures its
own CUDA graphs; for TensorRT the graph is captured here.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Final, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from engine.backends.abilities import BATCH_SIZES, FaceLook, Picture, Results, padded
from engine.backends.backend import Tensors
from engine.backends.cuda import (
    Buffer,
    DeviceMemory,
    Event,
    Graph,
    Stream,
    compute_capability,
    device_name,
    make_current,
)
from engine.backends.face_plan import (
    Cut,
    FacePlan,
    cut_crop,
    cut_picture,
    encoder_cuts,
    face_plan,
    follows_plans,
)
from engine.backends.kernels import Kernels
from engine.backends.networks import batch_size, input_arrays
from engine.backends.slots import place
from engine.errors import BackendMissingError, BundleError, GpuError, GpuMemoryError
from gcavt.config import GcavtConfig
from gcavt.preprocessing import CROP_PX
from trt_build.flavours import FLAVOURS, Flavour, FlavourMissingError, FlavourName, Precision
from trt_build.manifest import FILE_NAME, Manifest
from trt_build.specs import EngineSpec, engine_specs
from trt_build.store import DEFAULT_ROOT, EngineKey, EngineSet, EngineStore, StoreError

logger = logging.getLogger(__name__)

BUNDLED: Final = "engines"
"""A directory of this name in a bundle is looked into before the machine's own store."""


class _Closes(Protocol):
    def close(self) -> None: ...


Closable = TypeVar("Closable", bound=_Closes)


class TensorRtBackend:
    """Each network an engine, opened on first use."""

    preferred_batch = BATCH_SIZES[-1]

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
        self._config = manifest.config
        self._specs = engine_specs(manifest.config)
        self.reads_faces = follows_plans(manifest.config)
        try:
            version = self._flavour.version()
        except FlavourMissingError as error:
            raise BackendMissingError(str(error)) from error
        self._networks: dict[str, _Network] = {}
        self._faces: _Faces | None = None
        self._memory = ExitStack()
        make_current()
        target, device = compute_capability(), device_name()
        key = EngineKey.of(manifest, flavour, precision, version, (target,))
        self._store, self._engines = _find(bundle_dir, store, key)
        self._runtime = self._flavour.load().Runtime(self._flavour.log().receiver)
        self._kernels = Kernels(target)
        self._memory.callback(self._kernels.close)
        self._cache_name = f"{self._engines.key.id[:12]}-{device.replace(' ', '_')}"
        self.provider = f"{self._flavour.product} {version}, {device} (cuda), {precision}"
        logger.info("inference by %s", self.provider)

    def run(self, network: str, inputs: Tensors) -> Results:
        """As of Backend. Raises GpuMemoryError, and GpuLostError after which this process must end."""
        spec = self._specs[network]
        arrays = input_arrays(spec, inputs)
        count = batch_size(arrays)
        if count == 1:
            return self._run(spec, [arrays])[0]
        rows = [{name: array[i : i + 1] for name, array in arrays.items()} for i in range(count)]
        results = self._run(spec, rows)
        return {name: np.concatenate([row[name] for row in results]) for name in spec.output_names}

    def run_together(self, network: str, requests: Sequence[Tensors]) -> list[Results]:
        """As of TakesBatches."""
        spec = self._specs[network]
        return self._run(spec, [_one(spec, request) for request in requests])

    def draw_together(self, requests: Sequence[Tensors]) -> list[Picture]:
        """As of DrawsPictures."""
        spec = self._specs["generator"]
        rows = [_one(spec, request) for request in requests]
        make_current()
        return self._network(spec).lane(len(rows)).draw(rows, self._kernels)

    def read_face(self, look: FaceLook) -> Results:
        """As of ReadsFaces."""
        make_current()
        lanes = {name: self._network(self._specs[name]).lane(1) for name in look.encoders}
        if self._faces is None:
            self._faces = _Faces(self._kernels, self._config)
            self._memory.callback(self._faces.close)
        return self._faces.read(look, lanes)

    def close(self) -> None:
        """Keep what RTX compiled and free the GPU: networks before the run time that they came from."""
        make_current()
        for name, network in self._networks.items():
            self._keep_cache(name, network)
            network.close()
        self._networks.clear()
        self._memory.close()
        self._faces = None
        self._runtime = None

    def _run(self, spec: EngineSpec, rows: Sequence[Tensors]) -> list[Results]:
        make_current()
        return self._network(spec).lane(len(rows)).run(rows)

    def _network(self, spec: EngineSpec) -> _Network:
        if spec.name not in self._networks:
            content = _read(self._engines, spec.name)
            cache = self._store.read_cache(self._cache_file(spec.name))
            self._networks[spec.name] = _Network(self._flavour, self._runtime, content, spec, cache)
        return self._networks[spec.name]

    def _cache_file(self, network: str) -> str:
        return f"{self._cache_name}-{network}.runtime"

    def _keep_cache(self, name: str, network: _Network) -> None:
        content = network.runtime_cache()
        if content is None:
            return
        try:
            self._store.write_cache(self._cache_file(name), content)
        except OSError as error:  # the GPU is to be freed all the same
            logger.warning("kernels of %s are compiled again at the next start: %s", name, error)


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


def _one(spec: EngineSpec, request: Tensors) -> Tensors:
    """A request's arrays, checked. Raises ValueError unless their batch is 1."""
    arrays = input_arrays(spec, request)
    if batch_size(arrays) != 1:
        raise ValueError(f"{spec.name}: a request among others must have batch 1, got {batch_size(arrays)}")
    return arrays


class _Network:
    """One engine, with a lane per size of batch."""

    def __init__(
        self, flavour: Flavour, runtime: Any, content: bytes, spec: EngineSpec, cache: bytes
    ) -> None:
        self._trt = flavour.load()
        self._spec = spec
        self._captures_itself = flavour.name == "rtx"
        self._lanes: dict[int, _Lane] = {}
        self._engine = runtime.deserialize_cuda_engine(content)
        if self._engine is None:
            raise BundleError(f"{flavour.product} does not take the engine of {spec.name}; its log says why")
        self._check_tensors()
        self._cache: Any = None
        self._config = self._runtime_config(cache) if self._captures_itself else None
        self._stream = Stream()

    def _check_tensors(self) -> None:
        names = {self._engine.get_tensor_name(index) for index in range(self._engine.num_io_tensors)}
        wanted = {*self._spec.input_names, *self._spec.output_names}
        if names != wanted:
            raise BundleError(f"the engine of {self._spec.name} has the tensors {sorted(names)}")

    def _runtime_config(self, cache: bytes) -> Any:
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
        config.set_execution_context_allocation_strategy(self._user_managed)
        return config

    @property
    def _user_managed(self) -> Any:
        """Each lane brings memory for its own batch: TensorRT would take that of 32 for every context."""
        return self._trt.ExecutionContextAllocationStrategy.USER_MANAGED

    def lane(self, batch: int) -> _Lane:
        """The lane for so many rows, or a few more."""
        size = padded(batch)
        if size not in self._lanes:
            chosen = self._user_managed if self._config is None else self._config
            context = self._engine.create_execution_context(chosen)
            if context is None:
                raise GpuMemoryError(f"The GPU has no room to run {self._spec.name}.")
            self._lanes[size] = _Lane(
                context, self._spec, size, self._stream, captures_itself=self._captures_itself
            )
        return self._lanes[size]

    def runtime_cache(self) -> bytes | None:
        """What RTX compiled so far; None for TensorRT, which compiles at build time."""
        content = None if self._cache is None else self._cache.serialize()
        return None if content is None else bytes(content)

    def close(self) -> None:
        """Contexts before the engine that they came from."""
        for lane in self._lanes.values():
            lane.close()
        self._lanes.clear()
        self._config = self._cache = self._engine = None
        self._stream.close()


class _Lane:
    """An engine for one size of batch: a context, its memory and buffers, and its graph."""

    def __init__(
        self, context: Any, spec: EngineSpec, size: int, stream: Stream, *, captures_itself: bool
    ) -> None:
        self.stream = stream
        self._context = context
        self._spec = spec
        self._captures_itself = captures_itself
        self._graph: Graph | None = None
        self._buffers: dict[str, Buffer] = {}
        self._held: list[dict[str, NDArray[np.float32]]] = [{} for _ in range(size)]
        self._bytes: tuple[Buffer, Buffer] | None = None
        """The generator's picture and mask as they leave."""
        with ExitStack() as memory:
            for tensor in (*spec.inputs, *spec.outputs):
                self._buffers[tensor.name] = Buffer(tensor.with_batch(size))
                memory.callback(self._buffers[tensor.name].close)
            for name in spec.input_names:  # rows that nobody fills are computed as well
                self._buffers[name].upload(0, size, stream)
            self._describe(size)
            scratch = DeviceMemory(context.update_device_memory_size_for_shapes())
            memory.callback(scratch.close)
            context.set_device_memory(scratch.address, scratch.size)
            self._memory = memory.pop_all()

    def _describe(self, size: int) -> None:
        for tensor in self._spec.inputs:
            if not self._context.set_input_shape(tensor.name, tensor.with_batch(size)):
                raise GpuError(f"{self._spec.name}: TensorRT refuses a batch of {size}.")
        for name, buffer in self._buffers.items():
            if not self._context.set_tensor_address(name, buffer.address):
                raise GpuError(f"{self._spec.name}: TensorRT refuses the tensor {name}.")
        if unset := self._context.infer_shapes():
            raise GpuError(f"{self._spec.name}: TensorRT does not know the shapes of {', '.join(unset)}.")

    def run(self, requests: Sequence[Tensors]) -> list[Results]:
        """Outputs by name for each of the requests, copies that belong to the caller."""
        rows = self._upload(requests)
        self.enqueue()
        for name in self._spec.output_names:
            self._buffers[name].download(max(rows) + 1, self.stream)
        self.stream.wait()
        return [
            {name: self._buffers[name].host[row : row + 1].copy() for name in self._spec.output_names}
            for row in rows
        ]

    def draw(self, requests: Sequence[Tensors], kernels: Kernels) -> list[Picture]:
        """The generator's pictures as bytes, copies that belong to the caller."""
        image, mask = (self._buffers[name] for name in ("image", "mask"))
        if self._bytes is None:
            size, _, height, width = image.host.shape
            pictures = self._kept_bytes((size, height, width, 3))
            self._bytes = pictures, self._kept_bytes((size, height, width))
        rows = self._upload(requests)
        self.enqueue()
        count = max(rows) + 1
        pixels = mask.host[0].size
        addresses = (buffer.address for buffer in (image, mask, *self._bytes))
        kernels.finish(self.stream, count, pixels, *addresses)
        for buffer in self._bytes:
            buffer.download(count, self.stream)
        self.stream.wait()
        images, masks = self._bytes
        return [Picture(images.host[row].copy(), masks.host[row].copy()) for row in rows]

    def _kept_bytes(self, shape: tuple[int, ...]) -> Buffer:
        buffer = Buffer(shape, np.uint8)
        self._memory.callback(buffer.close)
        return buffer

    def _upload(self, requests: Sequence[Tensors]) -> list[int]:
        """Begin to copy what the device does not have yet; the row that each request takes."""
        rows = place(requests, self._held)
        for name in self._spec.input_names:
            changed = [
                row
                for row, request in zip(rows, requests, strict=True)
                if self._put(name, row, request[name])
            ]
            if changed:  # rows between them are copied once more, which is quicker than one by one
                self._buffers[name].upload(min(changed), max(changed) + 1, self.stream)
        return rows

    def _put(self, name: str, row: int, array: NDArray[np.float32]) -> bool:
        """Lay a row ready for its upload; False if the device has it."""
        if self._held[row].get(name) is array:
            return False
        self._buffers[name].host[row] = array[0]
        if array.flags.writeable:
            self._held[row].pop(name, None)
        else:
            self._held[row][name] = array
        return True

    def overwritten(self, name: str) -> int:
        """Where the first row of an input lies, for somebody who fills it on the device."""
        self._held[0].pop(name, None)
        return self._buffers[name].address

    def upload_row(self, name: str, values: NDArray[np.float32]) -> None:
        """Begin to copy the first row of one input."""
        self._put(name, 0, values[None])
        self._buffers[name].upload(0, 1, self.stream)

    def enqueue(self) -> None:
        """Run the engine: RTX by itself as a graph, else once plainly and from then on as one captured here.

        The plain run is needed: TensorRT sets up what depends on shapes in the first one, outside of capture.
        """
        if self._graph is not None:
            self._graph.launch()
            return
        self._execute()
        if not self._captures_itself:
            self.stream.wait()
            self._graph = self.stream.capture(self._execute)

    def download_row(self, name: str) -> NDArray[np.float32]:
        """Begin to copy the first row of one output to where this is; good once the stream was waited for."""
        self._buffers[name].download(1, self.stream)
        row: NDArray[np.float32] = self._buffers[name].host[0]
        return row

    def _execute(self) -> None:
        if not self._context.execute_async_v3(self.stream.handle):
            raise GpuError(f"{self._spec.name}: TensorRT refused to run; its log says why.")

    def close(self) -> None:
        """Whatever points to memory goes before it."""
        if self._graph is not None:
            self._graph.close()
        self._context = None
        self._memory.close()


class _Faces:
    """Cuts a face out of a camera's picture and has its encoders read it, each in its own stream."""

    def __init__(self, kernels: Kernels, config: GcavtConfig) -> None:
        self._kernels = kernels
        self._config = config
        with ExitStack() as self._memory:
            self._stream = self._kept(Stream())
            self._crop = self._kept(DeviceMemory(CROP_PX * CROP_PX * 3))
            self._is_cut = self._kept(Event())
            self._memory = self._memory.pop_all()
        self._are_read: dict[str, Event] = {}
        self._masks: dict[str, Buffer] = {}
        self._part: Buffer | None = None
        self._shrunk: DeviceMemory | None = None

    def read(self, look: FaceLook, lanes: Mapping[str, _Lane]) -> Results:
        """The code (D,) by encoder."""
        crop = self._cut_crop(face_plan(look))
        self._stream.record(self._is_cut)
        cuts = encoder_cuts(look.encoders, look.landmarks_68, self._config)
        codes = {encoder: self._begin(encoder, lanes[encoder], cut, crop) for encoder, cut in cuts.items()}
        self._stream.wait()  # by its events for the others as well
        return {encoder: code.copy() for encoder, code in codes.items()}

    def _cut_crop(self, plan: FacePlan) -> int:
        part, shrunk = self._room_for(plan.part_HWC.size)
        part.host[: plan.part_HWC.size] = plan.part_HWC.reshape(-1)
        part.upload(0, plan.part_HWC.size, self._stream)
        return cut_crop(self._kernels, self._stream, plan, part.address, shrunk.address, self._crop.address)

    def _begin(self, encoder: str, lane: _Lane, cut: Cut, crop: int) -> NDArray[np.float32]:
        """Put everything that one encoder does into its own stream; where its code will be."""
        if encoder not in self._are_read:
            self._are_read[encoder] = self._kept(Event())
        mask = 0
        if cut.mask_HW is not None:
            if encoder not in self._masks:
                self._masks[encoder] = self._kept(Buffer(cut.mask_HW.shape, np.uint8))
            buffer = self._masks[encoder]
            buffer.host[...] = cut.mask_HW
            buffer.upload(0, len(cut.mask_HW), lane.stream)
            mask = buffer.address
        for name, values in cut.landmarks.items():
            lane.upload_row(name, values)
        lane.stream.wait_for(self._is_cut)
        cut_picture(self._kernels, lane.stream, cut, crop, mask, lane.overwritten(cut.tensor))
        lane.enqueue()
        code = lane.download_row(cut.code)
        lane.stream.record(self._are_read[encoder])
        self._stream.wait_for(self._are_read[encoder])
        return code

    def _room_for(self, size: int) -> tuple[Buffer, DeviceMemory]:
        """Memory for a picture of so many bytes, and for it made smaller; it only grows."""
        if self._part is None or self._shrunk is None or self._part.host.size < size:
            self._give_back()
            self._part = Buffer((size,), np.uint8)
            self._shrunk = DeviceMemory(size // 4)
        return self._part, self._shrunk

    def _give_back(self) -> None:
        for memory in (self._part, self._shrunk):
            if memory is not None:
                memory.close()
        self._part = self._shrunk = None

    def _kept(self, thing: Closable) -> Closable:
        self._memory.callback(thing.close)
        return thing

    def close(self) -> None:
        self._give_back()
        self._memory.close()
