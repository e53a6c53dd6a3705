"""The little of CUDA that a backend needs: device and pinned memory, streams, events, a captured graph.

It speaks through NVIDIA's own cuda-python (`cuda.bindings`) rather than PyCUDA, in all of it: PyCUDA cannot
capture a CUDA graph, and it is compiled by nvcc where it is installed, which the machine of somebody who owns
an RTX card does not have. The bindings are a wheel, and import where there is no GPU, so that their names and
the first error are checked by the ordinary tests.
"""

from __future__ import annotations

import ctypes
import math
from collections.abc import Callable
from typing import Any, Final

import numpy as np
from cuda.bindings import runtime as cudart
from numpy.typing import DTypeLike, NDArray

from engine.errors import GpuError, GpuLostError, GpuMemoryError

ComputeCapability = tuple[int, int]

_SETUP_ERRORS: Final = frozenset(
    {
        cudart.cudaError_t.cudaErrorInsufficientDriver,
        cudart.cudaError_t.cudaErrorNoDevice,
        cudart.cudaError_t.cudaErrorInitializationError,
        cudart.cudaError_t.cudaErrorSystemDriverMismatch,
        cudart.cudaError_t.cudaErrorStubLibrary,
        cudart.cudaError_t.cudaErrorSystemNotReady,
        cudart.cudaError_t.cudaErrorCompatNotSupportedOnDevice,
    }
)
_FATAL_ERRORS: Final = frozenset(
    {
        cudart.cudaError_t.cudaErrorLaunchFailure,
        cudart.cudaError_t.cudaErrorLaunchTimeout,
        cudart.cudaError_t.cudaErrorIllegalAddress,
        cudart.cudaError_t.cudaErrorIllegalInstruction,
        cudart.cudaError_t.cudaErrorMisalignedAddress,
        cudart.cudaError_t.cudaErrorInvalidAddressSpace,
        cudart.cudaError_t.cudaErrorInvalidPc,
        cudart.cudaError_t.cudaErrorHardwareStackError,
        cudart.cudaError_t.cudaErrorAssert,
        cudart.cudaError_t.cudaErrorECCUncorrectable,
        cudart.cudaError_t.cudaErrorNvlinkUncorrectable,
        cudart.cudaError_t.cudaErrorContained,
        cudart.cudaError_t.cudaErrorTensorMemoryLeak,
        cudart.cudaError_t.cudaErrorMpsClientTerminated,
        cudart.cudaError_t.cudaErrorExternalDevice,
        cudart.cudaError_t.cudaErrorContextIsDestroyed,
        cudart.cudaError_t.cudaErrorDevicesUnavailable,
        cudart.cudaError_t.cudaErrorCudartUnloading,
        cudart.cudaError_t.cudaErrorUnknown,
    }
)
"""After one of these, CUDA's documentation says, this process must end for CUDA to work again."""


def checked(result: tuple[Any, ...]) -> Any:
    """The value of a call of the CUDA run time, which comes behind its error code.

    Raises GpuMemoryError; GpuLostError: nothing can be done with the GPU any more in this process; GpuError:
    there is no GPU to work with, or the call was refused.
    """
    error, *values = result
    if error == cudart.cudaError_t.cudaSuccess:
        return values[0] if len(values) == 1 else tuple(values) or None
    _, text = cudart.cudaGetErrorString(error)
    cudart.cudaGetLastError()  # forgotten, lest TensorRT takes it for its own
    reason = f"{text.decode()} ({error.name})"
    if error == cudart.cudaError_t.cudaErrorMemoryAllocation:
        raise GpuMemoryError(
            f"The GPU is out of memory: {reason}. Close what else uses it, or serve fewer sessions."
        )
    if error in _SETUP_ERRORS:
        raise GpuError(f"There is no NVIDIA GPU to work with: {reason}. `gcavt doctor` says more.")
    if error in _FATAL_ERRORS:
        raise GpuLostError(f"The GPU failed: {reason}.")
    raise GpuError(f"The GPU refused: {reason}.")


def make_current() -> None:
    """Choose GPU 0 for this thread: which device is current is a matter of the thread. Raises GpuError."""
    checked(cudart.cudaSetDevice(0))


def compute_capability() -> ComputeCapability:
    """Of the GPU that is used. Raises GpuError: there is none."""
    attributes = cudart.cudaDeviceAttr
    major = checked(cudart.cudaDeviceGetAttribute(attributes.cudaDevAttrComputeCapabilityMajor, 0))
    minor = checked(cudart.cudaDeviceGetAttribute(attributes.cudaDevAttrComputeCapabilityMinor, 0))
    return int(major), int(minor)


def device_name() -> str:
    """Such as `NVIDIA GeForce RTX 4090`. Raises GpuError: there is none."""
    properties = checked(cudart.cudaGetDeviceProperties(0))
    return str(properties.name.split(b"\0")[0].decode())


class Event:
    """A moment in one stream that others can wait for, without the host."""

    def __init__(self) -> None:
        self.handle = checked(cudart.cudaEventCreateWithFlags(cudart.cudaEventDisableTiming))

    def close(self) -> None:
        cudart.cudaEventDestroy(self.handle)


class Stream:
    """A stream of its own: on the default one TensorRT would wait for the whole device at every step."""

    def __init__(self) -> None:
        self._stream = checked(cudart.cudaStreamCreateWithFlags(cudart.cudaStreamNonBlocking))

    @property
    def handle(self) -> int:
        return int(self._stream)

    def record(self, event: Event) -> None:
        """The event is the moment at which everything put in so far has run."""
        checked(cudart.cudaEventRecord(event.handle, self._stream))

    def wait_for(self, event: Event) -> None:
        """What is put in from now on runs after the event, as it was last recorded."""
        checked(cudart.cudaStreamWaitEvent(self._stream, event.handle, 0))

    def wait(self) -> None:
        """Until everything that was put in has run; an error of any of it is raised here."""
        checked(cudart.cudaStreamSynchronize(self._stream))

    def capture(self, work: Callable[[], None]) -> Graph:
        """Record what `work` puts into this stream, without running it."""
        mode = cudart.cudaStreamCaptureMode.cudaStreamCaptureModeThreadLocal
        checked(cudart.cudaStreamBeginCapture(self._stream, mode))
        try:
            work()
        except BaseException:
            _, graph = cudart.cudaStreamEndCapture(self._stream)  # the stream goes on; the error is `work`'s
            if graph is not None and int(graph):
                cudart.cudaGraphDestroy(graph)
            cudart.cudaGetLastError()  # as in `checked`
            raise
        return Graph(checked(cudart.cudaStreamEndCapture(self._stream)), self._stream)

    def close(self) -> None:
        cudart.cudaStreamDestroy(self._stream)


class Graph:
    """Recorded work that is launched as one."""

    def __init__(self, graph: Any, stream: Any) -> None:
        """Takes the graph over."""
        self._stream = stream
        try:
            self._executable = checked(cudart.cudaGraphInstantiate(graph, 0))
        finally:
            cudart.cudaGraphDestroy(graph)

    def launch(self) -> None:
        checked(cudart.cudaGraphLaunch(self._executable, self._stream))

    def close(self) -> None:
        cudart.cudaGraphExecDestroy(self._executable)


class DeviceMemory:
    """Bytes on the GPU, whatever they were; aligned to 256."""

    def __init__(self, size: int) -> None:
        self.size = size
        self.address = int(checked(cudart.cudaMalloc(max(size, 1))))

    def close(self) -> None:
        cudart.cudaFree(self.address)


class Buffer:
    """An array twice: in pinned host memory, which the GPU copies from by itself, and on the GPU."""

    def __init__(self, shape: tuple[int, ...], dtype: DTypeLike = np.float32) -> None:
        self._device = DeviceMemory(math.prod(shape) * np.dtype(dtype).itemsize)
        try:
            self._host = int(checked(cudart.cudaHostAlloc(self._device.size, cudart.cudaHostAllocDefault)))
        except GpuError:
            self._device.close()
            raise
        memory = (ctypes.c_uint8 * self._device.size).from_address(self._host)
        self.host: NDArray[Any] = np.ctypeslib.as_array(memory).view(dtype).reshape(shape)
        """Zero at first. Not to be touched while a copy is under way, nor after `close`."""
        self.host.fill(0)
        self._bytes_per_row = self.host.strides[0] if shape[0] > 1 else self._device.size

    @property
    def address(self) -> int:
        """On the GPU."""
        return self._device.address

    def upload(self, first: int, last: int, stream: Stream) -> None:
        """Begin to copy rows (of the first axis) from `first` to before `last` to the GPU."""
        kind = cudart.cudaMemcpyKind.cudaMemcpyHostToDevice
        offset, size = first * self._bytes_per_row, (last - first) * self._bytes_per_row
        checked(cudart.cudaMemcpyAsync(self.address + offset, self._host + offset, size, kind, stream.handle))

    def download(self, rows: int, stream: Stream) -> None:
        """Begin to copy the first `rows` rows from the GPU."""
        kind = cudart.cudaMemcpyKind.cudaMemcpyDeviceToHost
        size = rows * self._bytes_per_row
        checked(cudart.cudaMemcpyAsync(self._host, self.address, size, kind, stream.handle))

    def close(self) -> None:
        self._device.close()
        cudart.cudaFreeHost(self._host)
