"""CUDA's names and errors, which can be checked without a GPU."""

from __future__ import annotations

import inspect
import re
from types import ModuleType

import pytest

from engine.errors import GpuError, GpuLostError, GpuMemoryError

cuda_runtime = pytest.importorskip("cuda.bindings.runtime", reason="needs the extra rtx or tensorrt")


@pytest.mark.parametrize(
    ("error", "raised"),
    [
        ("cudaErrorMemoryAllocation", GpuMemoryError),
        ("cudaErrorNoDevice", GpuError),
        ("cudaErrorInvalidValue", GpuError),
        ("cudaErrorLaunchFailure", GpuLostError),
        ("cudaErrorIllegalAddress", GpuLostError),
        ("cudaErrorDevicesUnavailable", GpuLostError),
    ],
)
def test_errors_of_cuda_become_errors_that_tell_what_to_do(error: str, raised: type[GpuError]) -> None:
    from engine.backends.cuda import checked

    with pytest.raises(raised, match=error) as caught:
        checked((getattr(cuda_runtime.cudaError_t, error),))
    assert caught.type is raised


def test_every_error_after_which_cuda_asks_for_a_new_process_ends_it() -> None:
    from cuda.bindings import driver

    from engine.backends import cuda, kernels

    ends = re.compile(r"process\s+must\s+be\s+terminated")
    for errors, fatal in (
        (cuda_runtime.cudaError_t, cuda._FATAL_ERRORS),
        (driver.CUresult, kernels._FATAL_ERRORS),
    ):
        documented = {error for error in errors if ends.search(error.__doc__ or "")}
        assert len(documented) > 5
        assert documented - fatal == set()


def test_a_call_of_cuda_gives_what_lies_behind_its_code() -> None:
    from engine.backends.cuda import checked

    success = cuda_runtime.cudaError_t.cudaSuccess
    assert checked((success, 7)) == 7
    assert checked((success, 7, 8)) == (7, 8)
    assert checked((success,)) is None


def used_names(module: ModuleType, prefix: str) -> set[str]:
    return set(
        re.findall(
            rf"\b{prefix}\.((?:\w+_t\.|\w+Kind\.|\w+Mode\.|\w+esult\.)?\w+)", inspect.getsource(module)
        )
    )


def test_every_name_of_cuda_that_is_used_exists() -> None:
    from cuda.bindings import driver, nvrtc

    import engine.backends.cuda
    import engine.backends.kernels

    for module, prefix, owner in (
        (engine.backends.cuda, "cudart", cuda_runtime),
        (engine.backends.kernels, "driver", driver),
        (engine.backends.kernels, "nvrtc", nvrtc),
    ):
        names = used_names(module, prefix)
        assert len(names) > 5
        for name in names:
            target = owner
            for part in name.split("."):
                assert hasattr(target, part), name
                target = getattr(target, part)
