"""A GPU on paper: CUDA's memory, streams, events and graphs, and TensorRT's engines, played by the CPU.

What is put into a stream runs when somebody waits for it, and then as late, or as early, as CUDA allows: the
other streams run only as far as events make them, or all they have before this one. So whoever reads before
waiting, overwrites what is still to be copied, or forgets an event gets wrong numbers here, every time, and
not now and then as on a real GPU. ONNX Runtime computes.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from engine.backends.backend import Backend, open_backend
from tests.engine.backends.host_kernels import HostKernels
from trt_build.specs import EngineSpec

Work = Callable[[], None]
GARBAGE = 0xFF
"""What fresh memory holds: NaN as float32."""


@dataclass
class PaperStream:
    steps: list[Work] = field(default_factory=list)
    done: int = 0
    recording: list[Work] | None = None

    def put(self, work: Work) -> None:
        (self.steps if self.recording is None else self.recording).append(work)

    def run(self, until: int) -> None:
        while self.done < until:
            step, self.done = self.steps[self.done], self.done + 1
            step()


class PaperCuda:
    """Stands in for cuda.bindings.runtime, whose names of errors and constants it uses."""

    def __init__(self, runtime: Any, *, is_late: bool) -> None:
        """is_late: other streams than the one that is waited for run as late as allowed, else as early."""
        self._runtime = runtime
        self._is_late = is_late
        self._memory: dict[int, Any] = {}
        self._things: dict[int, Any] = {}
        self._next = 1

    def __getattr__(self, name: str) -> Any:
        value = getattr(self._runtime, name)
        assert isinstance(value, int | type), f"{name} is not played"
        return value

    def stream(self, handle: int) -> PaperStream:
        found = self._things[int(handle)]
        assert isinstance(found, PaperStream)
        return found

    @property
    def live(self) -> int:
        """How many allocations, streams, events and graphs have not been given back."""
        return len(self._memory) + len(self._things)

    def _ok(self, *values: Any) -> tuple[Any, ...]:
        return (self._runtime.cudaError_t.cudaSuccess, *values)

    def _keep(self, thing: Any) -> int:
        handle, self._next = self._next, self._next + 1
        self._things[handle] = thing
        return handle

    def _drop(self, handle: int) -> tuple[Any, ...]:
        del self._things[int(handle)]
        return self._ok()

    def _allocate(self, size: int) -> tuple[Any, ...]:
        memory = (ctypes.c_uint8 * size)()
        ctypes.memset(memory, GARBAGE, size)
        self._memory[ctypes.addressof(memory)] = memory
        return self._ok(ctypes.addressof(memory))

    def _run_all(self, but: PaperStream | None = None) -> None:
        for thing in self._things.values():
            if isinstance(thing, PaperStream) and thing is not but:
                thing.run(len(thing.steps))

    def _free(self, address: int) -> tuple[Any, ...]:
        self._run_all()  # freeing waits for the device
        del self._memory[int(address)]
        return self._ok()

    # -- what engine.backends.cuda calls -------------------------------------------------------------------

    def cudaSetDevice(self, device: int) -> tuple[Any, ...]:
        return self._ok()

    def cudaDeviceGetAttribute(self, attribute: Any, device: int) -> tuple[Any, ...]:
        return self._ok(8 if attribute.name.endswith("Major") else 9)

    def cudaGetDeviceProperties(self, device: int) -> tuple[Any, ...]:
        return self._ok(SimpleNamespace(name=b"Paper GPU\0\0"))

    def cudaMalloc(self, size: int) -> tuple[Any, ...]:
        return self._allocate(size)

    def cudaHostAlloc(self, size: int, flags: int) -> tuple[Any, ...]:
        return self._allocate(size)

    def cudaFree(self, address: int) -> tuple[Any, ...]:
        return self._free(address)

    def cudaFreeHost(self, address: int) -> tuple[Any, ...]:
        return self._free(address)

    def cudaMemcpyAsync(self, target: int, source: int, size: int, kind: Any, stream: int) -> tuple[Any, ...]:
        def copy() -> None:
            ctypes.memmove(target, source, size)

        self.stream(stream).put(copy)
        return self._ok()

    def cudaStreamCreateWithFlags(self, flags: int) -> tuple[Any, ...]:
        assert flags == self._runtime.cudaStreamNonBlocking
        return self._ok(self._keep(PaperStream()))

    def cudaStreamSynchronize(self, handle: int) -> tuple[Any, ...]:
        stream = self.stream(handle)
        assert stream.recording is None, "CUDA forbids to wait for a stream that is captured"
        if not self._is_late:
            self._run_all(but=stream)
        stream.run(len(stream.steps))
        return self._ok()

    def cudaStreamDestroy(self, handle: int) -> tuple[Any, ...]:
        return self._drop(handle)

    def cudaEventCreateWithFlags(self, flags: int) -> tuple[Any, ...]:
        return self._ok(self._keep(SimpleNamespace(stream=None, until=0)))

    def cudaEventRecord(self, event: int, handle: int) -> tuple[Any, ...]:
        stream = self.stream(handle)
        self._things[event].stream, self._things[event].until = stream, len(stream.steps)
        return self._ok()

    def cudaStreamWaitEvent(self, handle: int, event: int, flags: int) -> tuple[Any, ...]:
        recorded = self._things[event]
        awaited, until = recorded.stream, recorded.until  # as it is now: it may be recorded again
        if awaited is not None:
            self.stream(handle).put(lambda: awaited.run(until))
        return self._ok()

    def cudaEventDestroy(self, event: int) -> tuple[Any, ...]:
        return self._drop(event)

    def cudaStreamBeginCapture(self, handle: int, mode: Any) -> tuple[Any, ...]:
        self.stream(handle).recording = []
        return self._ok()

    def cudaStreamEndCapture(self, handle: int) -> tuple[Any, ...]:
        stream = self.stream(handle)
        graph, stream.recording = stream.recording, None
        return self._ok(self._keep(graph))

    def cudaGraphInstantiate(self, graph: int, flags: int) -> tuple[Any, ...]:
        return self._ok(self._keep(list(self._things[graph])))

    def cudaGraphDestroy(self, graph: int) -> tuple[Any, ...]:
        return self._drop(graph)

    def cudaGraphLaunch(self, executable: int, handle: int) -> tuple[Any, ...]:
        for work in self._things[executable]:
            self.stream(handle).put(work)
        return self._ok()

    def cudaGraphExecDestroy(self, executable: int) -> tuple[Any, ...]:
        return self._drop(executable)


class PaperKernels:
    """engine.backends.kernels.Kernels, whose work waits in the stream."""

    def __init__(self, cuda: PaperCuda, host: HostKernels) -> None:
        self._cuda = cuda
        self._host = host

    def shrink(self, stream: Any, *args: Any, **options: Any) -> None:
        self._put(stream, lambda: self._host.shrink(None, *args, **options))

    def warp(self, stream: Any, *args: Any, **options: Any) -> None:
        self._put(stream, lambda: self._host.warp(None, *args, **options))

    def finish(self, stream: Any, *args: int) -> None:
        self._put(stream, lambda: self._host.finish(None, *args))

    def _put(self, stream: Any, work: Work) -> None:
        self._cuda.stream(stream.handle).put(work)

    def close(self) -> None: ...


class PaperTensorRt:
    """The names of TensorRT that the backend uses; engines are the names of networks."""

    __version__ = "1.0"
    CudaGraphStrategy = SimpleNamespace(WHOLE_GRAPH_CAPTURE="whole")
    DynamicShapesKernelSpecializationStrategy = SimpleNamespace(EAGER="eager")
    ExecutionContextAllocationStrategy = SimpleNamespace(USER_MANAGED="user")

    def __init__(self, cuda: PaperCuda, directory: Path, specs: dict[str, EngineSpec]) -> None:
        self.cuda = cuda
        self.specs = specs
        self.backend: Backend = open_backend("onnxruntime", directory, threads=1)
        self.executions = 0
        """How often TensorRT itself was asked to run, and not a captured graph."""

    def Runtime(self, receiver: object) -> PaperTensorRt:
        return self

    def deserialize_cuda_engine(self, content: bytes) -> PaperEngine:
        return PaperEngine(self, self.specs[content.decode()])


class PaperEngine:
    def __init__(self, trt: PaperTensorRt, spec: EngineSpec) -> None:
        self.trt = trt
        self.spec = spec
        self._names = (*spec.output_names, *spec.input_names)
        self.num_io_tensors = len(self._names)

    def get_tensor_name(self, index: int) -> str:
        return self._names[index]

    def create_runtime_config(self) -> Any:
        return PaperConfig()

    def create_execution_context(self, chosen: Any) -> PaperContext:
        strategy = chosen.strategy if isinstance(chosen, PaperConfig) else chosen
        assert strategy == "user", "every context would take memory for 32 pictures"
        return PaperContext(self.trt, self.spec)


class PaperConfig:
    strategy = "static"

    def create_runtime_cache(self) -> Any:
        return SimpleNamespace(
            serialize=lambda: b"kernels", deserialize=lambda content: content == b"kernels"
        )

    def set_runtime_cache(self, cache: object) -> None: ...

    def set_execution_context_allocation_strategy(self, strategy: str) -> None:
        self.strategy = strategy


class PaperContext:
    def __init__(self, trt: PaperTensorRt, spec: EngineSpec) -> None:
        self._trt = trt
        self._spec = spec
        self._addresses: dict[str, int] = {}
        self._shapes: dict[str, tuple[int, ...]] = {}
        self._has_memory = False

    def set_input_shape(self, name: str, shape: tuple[int, ...]) -> bool:
        self._shapes[name] = shape
        return 1 <= shape[0] <= self._spec.batch.largest

    def set_tensor_address(self, name: str, address: int) -> bool:
        self._addresses[name] = address
        return True

    def infer_shapes(self) -> list[str]:
        return sorted(set(self._spec.input_names) - set(self._shapes))

    def update_device_memory_size_for_shapes(self) -> int:
        assert not self.infer_shapes(), "the shapes come first"
        return 1000

    def set_device_memory(self, address: int, size: int) -> None:
        self._has_memory = bool(address) and size >= 1000

    def execute_async_v3(self, handle: int) -> bool:
        assert self._has_memory
        self._trt.executions += 1
        self._trt.cuda.stream(handle).put(self._run)
        return True

    def _run(self) -> None:
        batch = next(iter(self._shapes.values()))[0]
        inputs = {
            tensor.name: self._array(tensor.name, tensor.with_batch(batch)) for tensor in self._spec.inputs
        }
        results = self._trt.backend.run(
            self._spec.name, {name: array.copy() for name, array in inputs.items()}
        )
        for tensor in self._spec.outputs:
            self._array(tensor.name, tensor.with_batch(batch))[...] = results[tensor.name]

    def _array(self, name: str, shape: tuple[int, ...]) -> NDArray[np.float32]:
        count = int(np.prod(shape))
        memory = (ctypes.c_float * count).from_address(self._addresses[name])
        array: NDArray[np.float32] = np.ctypeslib.as_array(memory).reshape(shape)
        return array
