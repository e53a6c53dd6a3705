"""The kernels of pictures.cu: compiled when a GPU is opened, by NVRTC, which needs no compiler installed."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
from cuda.bindings import driver, nvrtc
from numpy.typing import NDArray

from engine.backends.cuda import ComputeCapability, Stream
from engine.backends.face_plan import Border
from engine.errors import BackendMissingError, GpuError, GpuLostError, GpuMemoryError

SOURCE: Final = Path(__file__).with_name("pictures.cu")
THREADS: Final = 256
INSTALL: Final = "pip install nvidia-cuda-nvrtc"

_FATAL_ERRORS: Final = frozenset(  # a launch may also return what an earlier one left behind
    {
        driver.CUresult.CUDA_ERROR_LAUNCH_FAILED,
        driver.CUresult.CUDA_ERROR_LAUNCH_TIMEOUT,
        driver.CUresult.CUDA_ERROR_ILLEGAL_ADDRESS,
        driver.CUresult.CUDA_ERROR_ILLEGAL_INSTRUCTION,
        driver.CUresult.CUDA_ERROR_MISALIGNED_ADDRESS,
        driver.CUresult.CUDA_ERROR_INVALID_ADDRESS_SPACE,
        driver.CUresult.CUDA_ERROR_INVALID_PC,
        driver.CUresult.CUDA_ERROR_HARDWARE_STACK_ERROR,
        driver.CUresult.CUDA_ERROR_ASSERT,
        driver.CUresult.CUDA_ERROR_ECC_UNCORRECTABLE,
        driver.CUresult.CUDA_ERROR_NVLINK_UNCORRECTABLE,
        driver.CUresult.CUDA_ERROR_CONTAINED,
        driver.CUresult.CUDA_ERROR_TENSOR_MEMORY_LEAK,
        driver.CUresult.CUDA_ERROR_MPS_CLIENT_TERMINATED,
        driver.CUresult.CUDA_ERROR_EXTERNAL_DEVICE,
        driver.CUresult.CUDA_ERROR_CONTEXT_IS_DESTROYED,
        driver.CUresult.CUDA_ERROR_UNKNOWN,
    }
)


def compiled(source: str, target: ComputeCapability) -> bytes:
    """Machine code for GPUs of this compute capability. Raises BackendMissingError: NVRTC is not installed.

    Multiplications are not fused with additions, so that the GPU rounds as the CPU does.
    """
    options = [f"--gpu-architecture=sm_{target[0]}{target[1]}".encode(), b"--fmad=false"]
    try:
        program = _compiled(nvrtc.nvrtcCreateProgram(source.encode(), b"pictures.cu", 0, [], []))
    except RuntimeError as error:
        raise BackendMissingError(
            f"the GPU backends need NVIDIA's NVRTC ({error}); install it with: {INSTALL}"
        ) from error
    try:
        (result,) = nvrtc.nvrtcCompileProgram(program, len(options), options)
        if result != nvrtc.nvrtcResult.NVRTC_SUCCESS:
            log = b" " * int(_compiled(nvrtc.nvrtcGetProgramLogSize(program)))
            nvrtc.nvrtcGetProgramLog(program, log)
            raise GpuError(
                f"NVRTC does not compile for compute capability {target[0]}.{target[1]}: {log.decode()}"
            )
        code = b" " * int(_compiled(nvrtc.nvrtcGetCUBINSize(program)))
        _compiled(nvrtc.nvrtcGetCUBIN(program, code))
        return code
    finally:
        nvrtc.nvrtcDestroyProgram(program)


def _compiled(result: tuple[Any, ...]) -> Any:
    error, *values = result
    if error != nvrtc.nvrtcResult.NVRTC_SUCCESS:
        raise GpuError(f"NVRTC failed: {error.name}.")
    return values[0] if values else None


def _checked(result: tuple[Any, ...]) -> Any:
    """The value of a call of the CUDA driver. Raises as `engine.backends.cuda.checked`."""
    error, *values = result
    if error == driver.CUresult.CUDA_SUCCESS:
        return values[0] if values else None
    if error == driver.CUresult.CUDA_ERROR_OUT_OF_MEMORY:
        raise GpuMemoryError(f"The GPU is out of memory ({error.name}).")
    raise (GpuLostError if error in _FATAL_ERRORS else GpuError)(f"The GPU failed: {error.name}.")


class Kernels:
    """The kernels, loaded into this thread's current context. Addresses are on the GPU, 0 is none."""

    def __init__(self, target: ComputeCapability) -> None:
        code = np.frombuffer(compiled(SOURCE.read_text(encoding="utf-8"), target), np.uint8)
        self._module = _checked(driver.cuModuleLoadData(code.ctypes.data))
        self._shrink, self._warp, self._finish = (
            _checked(driver.cuModuleGetFunction(self._module, name))
            for name in (b"shrink", b"warp", b"finish")
        )

    def shrink(
        self,
        stream: Stream,
        source: int,
        source_width: int,
        size: tuple[int, int],
        factor: int,
        *,
        mask: int = 0,
        to_bytes: int = 0,
        to_floats: int = 0,
    ) -> None:
        """size: width and height of what is made."""
        width, height = size
        _launch(
            self._shrink,
            stream,
            width * height,
            [_pointer(source), _int(source_width), _int(width), _int(factor)]
            + [_pointer(mask), _pointer(to_bytes), _pointer(to_floats)],
        )

    def warp(
        self,
        stream: Stream,
        source: int,
        source_size: tuple[int, int],
        side: int,
        source_from_target: NDArray[np.float32],
        border: Border,
        *,
        mask: int = 0,
        to_bytes: int = 0,
        to_floats: int = 0,
    ) -> None:
        """source_size: width and height; side: of the square that is made."""
        matrix = [ctypes.c_float(float(value)) for value in source_from_target.ravel()]
        _launch(
            self._warp,
            stream,
            side * side,
            [_pointer(source), _int(source_size[0]), _int(source_size[1]), _int(side), *matrix]
            + [_int(border), _pointer(mask), _pointer(to_bytes), _pointer(to_floats)],
        )

    def finish(
        self,
        stream: Stream,
        pictures: int,
        pixels: int,
        image: int,
        mask: int,
        image_bytes: int,
        mask_bytes: int,
    ) -> None:
        """pixels: of one picture."""
        addresses = [_pointer(address) for address in (image, mask, image_bytes, mask_bytes)]
        _launch(self._finish, stream, pictures * pixels, [_int(pixels), *addresses])

    def close(self) -> None:
        driver.cuModuleUnload(self._module)


_int = ctypes.c_int


def _pointer(address: int) -> ctypes.c_void_p:
    return ctypes.c_void_p(address)


def _launch(function: Any, stream: Stream, count: int, arguments: Sequence[Any]) -> None:
    """One thread for each of `count`, the kernel's first argument. The arguments are copied at once."""
    values = [_int(count), *arguments]
    addresses = (ctypes.c_void_p * len(values))(*map(ctypes.addressof, values))
    blocks = -(-count // THREADS)
    _checked(
        driver.cuLaunchKernel(
            function, blocks, 1, 1, THREADS, 1, 1, 0, stream.handle, ctypes.addressof(addresses), 0
        )
    )
