"""A GPU that fails: what is lost, and when it is tried again. The backend is real, its failures are made."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from engine.backends.backend import Backend, Tensors, open_backend
from engine.backends.restarting import RestartingBackend
from engine.errors import GpuError, GpuLostError, GpuMemoryError
from tests.bundles import TinyBundles, tiny_config
from trt_build.specs import engine_specs
from trt_build.verify import sample_inputs

SPEC = engine_specs(tiny_config("edit_repose"))["pose_encoder"]


@dataclass
class Failing:
    """A backend on a device that is told when to fail."""

    backend: Backend
    failure: Callable[[], GpuError | None]
    is_closed: bool = False
    is_stuck: bool = False

    def __post_init__(self) -> None:
        self.name, self.provider = self.backend.name, self.backend.provider

    def run(self, network: str, inputs: Tensors) -> dict[str, NDArray[np.float32]]:
        results = self.backend.run(network, inputs)
        if (error := self.failure()) is not None:
            raise error
        return results

    def close(self) -> None:
        self.is_closed = True
        self.backend.close()
        if self.is_stuck:
            raise RuntimeError("it does not close")


@dataclass
class Device:
    """Opens backends, fails as scripted, and has a clock."""

    path: Any
    failures: list[GpuError | None] = field(default_factory=list)
    """One per run; what comes after the last succeeds."""
    opened: list[Failing] = field(default_factory=list)
    is_there: bool = True
    now_s: float = 100.0

    def open(self) -> Backend:
        if not self.is_there:
            raise GpuError("There is no NVIDIA GPU to work with.")
        backend = open_backend("onnxruntime", self.path, threads=1)
        self.opened.append(Failing(backend, lambda: self.failures.pop(0) if self.failures else None))
        return self.opened[-1]


@pytest.fixture
def device(tiny_bundles: TinyBundles) -> Iterator[Device]:
    yield Device(tiny_bundles.path("edit_repose"))


def restarting(device: Device) -> RestartingBackend:
    return RestartingBackend(device.open, lambda: device.now_s)


def code(backend: Backend) -> NDArray[np.float32]:
    return backend.run("pose_encoder", sample_inputs(SPEC, 1))["pose_code"]


@pytest.mark.parametrize("failure", [GpuLostError("The GPU failed."), GpuMemoryError("out of memory")])
def test_a_failing_gpu_costs_one_frame(device: Device, failure: GpuError) -> None:
    device.failures = [None, failure]
    backend = restarting(device)
    expected = code(backend)
    with pytest.raises(type(failure)):
        code(backend)
    assert device.opened[0].is_closed
    np.testing.assert_array_equal(code(backend), expected)
    assert len(device.opened) == 2
    backend.close()
    assert device.opened[1].is_closed


def test_other_errors_leave_the_backend_open(device: Device) -> None:
    backend = restarting(device)
    with pytest.raises(KeyError):
        backend.run("pose_encoder", {})
    assert not device.opened[0].is_closed
    backend.close()


def test_a_gpu_that_fails_again_is_tried_again_after_growing_pauses(device: Device) -> None:
    device.failures = [GpuLostError(f"failure {index}") for index in range(4)]
    backend = restarting(device)
    tried_s = []
    start_s = device.now_s
    for _ in range(200):
        count = len(device.failures)
        try:
            code(backend)
            break
        except GpuLostError:
            if len(device.failures) < count:
                tried_s.append(device.now_s - start_s)
        device.now_s += 0.125
    assert tried_s == [0, 0.125, 1.125, 3.125]
    assert device.failures == []


def test_a_gpu_that_is_gone_is_waited_for(device: Device) -> None:
    device.failures = [GpuLostError("The GPU failed.")]
    backend = restarting(device)
    device.now_s += 60
    with pytest.raises(GpuLostError):
        code(backend)
    device.is_there = False
    with pytest.raises(GpuError, match="no NVIDIA GPU"):
        code(backend)
    device.is_there = True
    with pytest.raises(GpuError, match="no NVIDIA GPU"):  # not asked again so soon
        code(backend)
    device.now_s += 1.1
    code(backend)
    assert len(device.opened) == 2


def test_threads_of_their_own_each_have_a_backend_of_their_own(device: Device) -> None:
    first, second = restarting(device).in_parallel(2)
    device.failures = [GpuLostError("The GPU failed.")]
    with pytest.raises(GpuLostError):
        code(first)
    assert code(second).shape == code(first).shape
    assert [backend.is_closed for backend in device.opened] == [True, False, False]
    for backend in (first, second):
        backend.close()
    assert all(backend.is_closed for backend in device.opened)


def test_a_backend_that_does_not_close_is_given_up_all_the_same(device: Device) -> None:
    backend = restarting(device)
    device.opened[0].is_stuck = True
    device.failures = [GpuLostError("The GPU failed.")]
    with pytest.raises(GpuLostError, match="The GPU failed"):
        code(backend)
    assert code(backend).shape[0] == 1
    backend.close()
