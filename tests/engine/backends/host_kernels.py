"""The GPU's kernels compiled for the CPU, to be called as `engine.backends.kernels.Kernels` is."""

from __future__ import annotations

import ctypes
import shutil
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from engine.backends.face_plan import Border

SOURCE = Path(__file__).parents[3] / "engine" / "backends" / "pictures.cu"
HOST = """
#include <math.h>
#define __device__
#define __global__
struct Index { int x; };
static Index blockIdx, threadIdx;
static const Index blockDim = {1};
#include "pictures.cu"
#define EACH(call) for (blockIdx.x = 0; blockIdx.x < count; ++blockIdx.x) call
typedef const unsigned char* Bytes;
extern "C" void host_shrink(int count, Bytes s, int w, int t, int f, Bytes m, unsigned char* b, float* o) {
    EACH(shrink(count, s, w, t, f, m, b, o));
}
extern "C" void host_warp(int count, Bytes s, int w, int h, int t, const float* a, int e, Bytes m,
                          unsigned char* b, float* o) {
    EACH(warp(count, s, w, h, t, a[0], a[1], a[2], a[3], a[4], a[5], e, m, b, o));
}
extern "C" void host_finish(int count, int p, const float* i, const float* m, unsigned char* a,
                            unsigned char* b) {
    EACH(finish(count, p, i, m, a, b));
}
"""


class HostKernels:
    """`engine.backends.kernels.Kernels` with addresses in this process."""

    def __init__(self, library: ctypes.CDLL) -> None:
        self._library = library

    def shrink(
        self,
        stream: Any,
        source: int,
        source_width: int,
        size: tuple[int, int],
        factor: int,
        *,
        mask: int = 0,
        to_bytes: int = 0,
        to_floats: int = 0,
    ) -> None:
        ends = [ctypes.c_void_p(address) for address in (mask, to_bytes, to_floats)]
        count = size[0] * size[1]
        self._library.host_shrink(count, ctypes.c_void_p(source), source_width, size[0], factor, *ends)

    def warp(
        self,
        stream: Any,
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
        ends = [ctypes.c_void_p(address) for address in (mask, to_bytes, to_floats)]
        matrix = np.ascontiguousarray(source_from_target, np.float32)
        self._library.host_warp(
            side * side,
            ctypes.c_void_p(source),
            *source_size,
            side,
            ctypes.c_void_p(address_of(matrix)),
            int(border),
            *ends,
        )

    def finish(self, stream: Any, pictures: int, pixels: int, *addresses: int) -> None:
        self._library.host_finish(pictures * pixels, pixels, *map(ctypes.c_void_p, addresses))


def host_kernels(tmp_path_factory: pytest.TempPathFactory) -> HostKernels:
    """Skips the test where there is no C++ compiler."""
    compiler = shutil.which("g++") or shutil.which("clang++")
    if compiler is None:
        pytest.skip("needs a C++ compiler")
    folder = tmp_path_factory.mktemp("kernels")
    (folder / "host.cpp").write_text(HOST)
    options = ["-O2", "-ffp-contract=off", "-shared", "-fPIC", f"-I{SOURCE.parent}"]
    subprocess.run([compiler, *options, "-o", folder / "host.so", folder / "host.cpp"], check=True)
    return HostKernels(ctypes.CDLL(str(folder / "host.so")))


def address_of(array: NDArray[Any]) -> int:
    return array.ctypes.data
