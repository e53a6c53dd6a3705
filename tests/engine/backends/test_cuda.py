"""What happens on a device that several threads share, by a device of paper; errors by CUDA's own codes."""

from __future__ import annotations

import inspect
import re
import threading
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


# -- the shared device --------------------------------------------------------------------------------------


class Paper:
    """A device whose resets are counted, and whether anybody was at work on it then."""

    def __init__(self) -> None:
        from engine.backends.cuda import Device

        self.device = Device(lambda: None, self._reset)
        self.resets = 0
        self.freed: list[str] = []

    def _reset(self) -> None:
        assert self.device._users == 0
        self.resets += 1

    def open(self, owner: str) -> int:
        return self.device.open(owner, lambda: self.freed.append(owner))


def test_a_lost_device_is_reset_once_and_everything_on_it_freed_before() -> None:
    paper = Paper()
    first, second = paper.open("encode"), paper.open("generate")
    paper.device.reset(first)
    assert (paper.resets, paper.freed) == (1, ["encode", "generate"])
    paper.device.reset(second)  # the other one notices later
    assert paper.resets == 1


def test_who_did_not_lose_the_device_learns_of_it_at_the_next_use() -> None:
    paper = Paper()
    generation = paper.open("generate")
    paper.device.reset(paper.open("encode"))
    with pytest.raises(GpuLostError, match="lost and reset"), paper.device.used(generation):
        pass
    with paper.device.used(paper.open("generate")):
        pass


def test_nobody_is_at_work_while_the_device_is_reset() -> None:
    paper = Paper()
    generation = paper.open("generate")
    is_at_work, may_end = threading.Event(), threading.Event()

    def work() -> None:
        with paper.device.used(generation):
            is_at_work.set()
            may_end.wait(10)

    worker = threading.Thread(target=work)
    worker.start()
    assert is_at_work.wait(10)
    resetting = threading.Thread(target=paper.device.reset, args=(generation,))
    resetting.start()
    resetting.join(0.1)
    assert resetting.is_alive() and paper.resets == 0
    may_end.set()
    worker.join()
    resetting.join(10)
    assert paper.resets == 1


def test_an_error_at_work_is_passed_on_and_ends_the_use() -> None:
    paper = Paper()
    generation = paper.open("generate")
    with pytest.raises(GpuMemoryError), paper.device.used(generation):
        raise GpuMemoryError("no room")
    paper.device.reset(generation)
    assert paper.resets == 1


def test_who_left_is_not_freed_again() -> None:
    paper = Paper()
    generation = paper.open("identify")
    paper.device.leave("identify")
    paper.device.reset(generation)
    assert paper.freed == []
