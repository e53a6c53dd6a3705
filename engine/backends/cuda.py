"""The little of CUDA that a backend needs: device and pinned memory, one stream, a captured graph.

It speaks through NVIDIA's own cuda-python (`cuda.bindings`) rather than PyCUDA, in all of it: PyCUDA cannot
capture a CUDA graph, and it is compiled by nvcc where it is installed, which the machine of somebody who owns
an RTX card does not have. The bindings are a wheel, and import where there is no GPU, so that their names and
the first error are checked by the ordinary tests.
"""

from __future__ import annotations

import ctypes
import threading
from collections.abc import Callable
from typing import Any, Final

import numpy as np
from cuda.bindings import runtime as cudart
from numpy.typing import NDArray

from engine.errors import GpuError, GpuLostError, GpuMemoryError

ComputeCapability = tuple[int, int]

_SETUP_ERRORS: Final = frozenset(
    {
        cudart.cudaError_t.cudaErrorInsufficientDriver,
        cudart.cudaError_t.cudaErrorNoDevice,
        cudart.cudaError_t.cudaErrorInitializationError,
        cudart.cudaError_t.cudaErrorSystemDriverMismatch,
        cudart.cudaError_t.cudaErrorStubLibrary,
    }
)


def checked(result: tuple[Any, ...]) -> Any:
    """The value of a CUDA call, which comes behind its error code.

    Raises GpuMemoryError; GpuError: there is no GPU to work with; GpuLostError: anything else, for after a
    failed kernel CUDA refuses all further work in this process until the device is reset.
    """
    error, *values = result
    if error == cudart.cudaError_t.cudaSuccess:
        return values[0] if len(values) == 1 else tuple(values) or None
    _, text = cudart.cudaGetErrorString(error)
    reason = f"{text.decode()} ({error.name})"
    if error == cudart.cudaError_t.cudaErrorMemoryAllocation:
        raise GpuMemoryError(
            f"The GPU is out of memory: {reason}. Close what else uses it, or serve fewer sessions."
        )
    if error in _SETUP_ERRORS:
        raise GpuError(f"There is no NVIDIA GPU to work with: {reason}. `gcavt doctor` says more.")
    raise GpuLostError(f"The GPU failed: {reason}.")


class Device:
    """GPU 0 of this process, and which of its resets everything on it belongs to."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.generation = 0

    def open(self) -> int:
        """Make the GPU current in this thread; the generation of what is made on it. Raises GpuError."""
        if checked(cudart.cudaGetDeviceCount()) < 1:
            raise GpuError("There is no NVIDIA GPU to work with. `gcavt doctor` says more.")
        checked(cudart.cudaSetDevice(0))
        return self.generation

    def reset(self, generation: int) -> None:
        """Give up everything on the GPU after it was lost; only the first of those who lost it does."""
        with self._lock:
            if generation == self.generation:
                cudart.cudaDeviceReset()  # its own result is that of the failure before it
                self.generation += 1


DEVICE: Final = Device()


def compute_capability() -> ComputeCapability:
    """Of the GPU that is used. Raises GpuError: there is none."""
    DEVICE.open()
    attributes = cudart.cudaDeviceAttr
    major = checked(cudart.cudaDeviceGetAttribute(attributes.cudaDevAttrComputeCapabilityMajor, 0))
    minor = checked(cudart.cudaDeviceGetAttribute(attributes.cudaDevAttrComputeCapabilityMinor, 0))
    return int(major), int(minor)


def device_name() -> str:
    """Such as `NVIDIA GeForce RTX 4090`. Raises GpuError: there is none."""
    DEVICE.open()
    properties = checked(cudart.cudaGetDeviceProperties(0))
    return str(properties.name.split(b"\0")[0].decode())


class Stream:
    """A stream of its own: on the default one TensorRT would wait for the whole device at every step."""

    def __init__(self) -> None:
        self._stream = checked(cudart.cudaStreamCreateWithFlags(cudart.cudaStreamNonBlocking))

    @property
    def handle(self) -> int:
        return int(self._stream)

    def wait(self) -> None:
        """Until everything that was put in has run; an error of any of it is raised here."""
        checked(cudart.cudaStreamSynchronize(self._stream))

    def capture(self, work: Callable[[], None]) -> Graph:
        """Record what `work` puts into this stream, without running it."""
        mode = cudart.cudaStreamCaptureMode.cudaStreamCaptureModeThreadLocal
        checked(cudart.cudaStreamBeginCapture(self._stream, mode))
        try:
            work()
        finally:
            graph = checked(
                cudart.cudaStreamEndCapture(self._stream)
            )  # also after an error: the stream goes on
        return Graph(graph, self._stream)

    def close(self) -> None:
        cudart.cudaStreamDestroy(self._stream)


class Graph:
    """Recorded work that is launched as one."""

    def __init__(self, graph: Any, stream: Any) -> None:
        self._stream = stream
        self._executable = checked(cudart.cudaGraphInstantiate(graph, 0))
        checked(cudart.cudaGraphDestroy(graph))

    def launch(self) -> None:
        checked(cudart.cudaGraphLaunch(self._executable, self._stream))

    def close(self) -> None:
        cudart.cudaGraphExecDestroy(self._executable)


class Buffer:
    """A float32 tensor twice: in pinned host memory, which the GPU copies from by itself, and on the GPU."""

    def __init__(self, values: int) -> None:
        self.values = values
        bytes_ = values * np.dtype(np.float32).itemsize
        self._host = checked(cudart.cudaHostAlloc(bytes_, cudart.cudaHostAllocDefault))
        try:
            self._device = checked(cudart.cudaMalloc(bytes_))
        except GpuError:
            cudart.cudaFreeHost(self._host)
            raise
        memory = (ctypes.c_float * values).from_address(int(self._host))
        self.host: NDArray[np.float32] = np.ctypeslib.as_array(memory)

    @property
    def address(self) -> int:
        """On the GPU."""
        return int(self._device)

    def upload(self, values: int, stream: Stream) -> None:
        """Begin to copy the first `values` numbers to the GPU."""
        kind = cudart.cudaMemcpyKind.cudaMemcpyHostToDevice
        checked(cudart.cudaMemcpyAsync(self._device, self._host, 4 * values, kind, stream.handle))

    def download(self, values: int, stream: Stream) -> None:
        """Begin to copy the first `values` numbers from the GPU."""
        kind = cudart.cudaMemcpyKind.cudaMemcpyDeviceToHost
        checked(cudart.cudaMemcpyAsync(self._host, self._device, 4 * values, kind, stream.handle))

    def close(self) -> None:
        cudart.cudaFree(self._device)
        cudart.cudaFreeHost(self._host)
