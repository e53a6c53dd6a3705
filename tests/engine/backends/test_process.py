"""Backends in a process of their own, which is killed in the middle of its work."""

from __future__ import annotations

import gc
import os
import signal
import threading
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np
import psutil
import pytest
from numpy.typing import NDArray

from engine.backends.abilities import FaceLook, Results, draw_together
from engine.backends.backend import Backend, Tensors, open_backend
from engine.backends.process import RemoteBackend, WorkerProcess
from engine.backends.restarting import RestartingBackend
from engine.errors import BundleError, GpuError, GpuLostError, GpuMemoryError
from tests.bundles import TinyBundles, tiny_config
from trt_build.specs import engine_specs
from trt_build.verify import sample_inputs

SPECS = engine_specs(tiny_config("edit_repose"))
POSE, GENERATOR = SPECS["pose_encoder"], SPECS["generator"]


class Portable:
    """ONNX Runtime; some networks of its own fail as a GPU does, or tell what came through the socket."""

    def __init__(self, directory: Path, threads: int | None) -> None:
        self._backend = open_backend("onnxruntime", directory, threads=threads)
        self.name, self.provider, self.preferred_batch = "portable", self._backend.provider, 8
        self.reads_faces = True
        self._seen: set[int] = set()

    def run(self, network: str, inputs: Tensors) -> Results:
        if network == "full":
            raise GpuMemoryError("The GPU is out of memory.")
        if network == "lost":
            raise GpuLostError("The GPU failed.")
        if network == "odd":
            raise ZeroDivisionError("by zero")
        if network == "identities":
            (array,) = inputs.values()
            is_known = id(array) in self._seen
            self._seen.add(id(array))
            return {"is_known": np.array([is_known], np.float32), "kept": array}
        return self._backend.run(network, inputs)

    def run_together(self, network: str, requests: list[Tensors]) -> list[Results]:
        return [self.run(network, request) for request in requests]

    def read_face(self, look: FaceLook) -> Results:
        return {encoder: look.image_HWC.mean(axis=(0, 1)).astype(np.float32) for encoder in look.encoders}

    def close(self) -> None:
        self._backend.close()


class Unclosable(Portable):
    def close(self) -> None:
        raise OSError("no space left")


@pytest.fixture(scope="module")
def path(tiny_bundles: TinyBundles) -> Path:
    return tiny_bundles.path("edit_repose")


@pytest.fixture(scope="module")
def process(path: Path) -> WorkerProcess:
    return WorkerProcess(partial(Portable, path))


@pytest.fixture(scope="module")
def remote(process: WorkerProcess) -> Iterator[RemoteBackend]:
    opened = RemoteBackend(process, 1)
    yield opened
    opened.close()
    assert process.pid is None


def frozen(array: NDArray[np.float32]) -> NDArray[np.float32]:
    array.setflags(write=False)
    return array


def test_what_a_backend_says_and_computes_is_the_same_from_there(remote: RemoteBackend, path: Path) -> None:
    here = open_backend("onnxruntime", path, threads=1)
    inputs = sample_inputs(POSE, 2)
    code = remote.run("pose_encoder", inputs)["pose_code"]
    np.testing.assert_array_equal(code, here.run("pose_encoder", inputs)["pose_code"])
    assert (remote.name, remote.preferred_batch, remote.reads_faces) == ("portable", 8, True)
    assert remote.provider == here.provider
    here.close()


def test_several_sessions_are_drawn_there_together(remote: RemoteBackend, path: Path) -> None:
    here = open_backend("onnxruntime", path, threads=1)
    requests = [sample_inputs(GENERATOR, 1, seed=seed) for seed in range(3)]
    drawn = remote.draw_together(requests)
    for picture, inputs in zip(drawn, requests, strict=True):
        np.testing.assert_array_equal(picture.image_HWC, draw_together(here, [inputs])[0].image_HWC)
    together = remote.run_together("generator", requests)
    np.testing.assert_array_equal(together[2]["mask"], here.run("generator", requests[2])["mask"])
    here.close()


def test_faces_are_read_there(remote: RemoteBackend) -> None:
    image = np.full((4, 4, 3), 7, np.uint8)
    look = FaceLook(image, np.eye(2, 3, dtype=np.float32), np.zeros((68, 2), np.float32), ("pose_encoder",))
    np.testing.assert_array_equal(remote.read_face(look)["pose_encoder"], [7, 7, 7])


def test_an_array_that_cannot_be_written_goes_there_once(remote: RemoteBackend) -> None:
    def is_known(array: NDArray[np.float32]) -> bool:
        results = remote.run("identities", {"identity_code": array})
        np.testing.assert_array_equal(results["kept"], array)
        return bool(results["is_known"][0])

    first, second = (frozen(np.full((1, 4), value, np.float32)) for value in (1, 2))
    assert [is_known(array) for array in (first, second, first, second)] == [False, False, True, True]


def test_what_is_gone_here_is_let_go_there(remote: RemoteBackend) -> None:
    array = frozen(np.ones((1, 4), np.float32))
    remote.run("identities", {"identity_code": array})
    numbers = set(remote._lasting._numbers)
    del array
    gc.collect()
    assert len(remote._lasting._numbers) < len(numbers)
    assert remote._lasting._gone


@pytest.mark.parametrize(
    ("network", "error", "text"),
    [
        ("full", GpuMemoryError, "out of memory"),
        ("odd", RuntimeError, "ZeroDivisionError: by zero"),
        ("no_network", KeyError, "no_network"),
    ],
)
def test_errors_come_back_and_the_backend_goes_on(
    remote: RemoteBackend, network: str, error: type[Exception], text: str
) -> None:
    with pytest.raises(error, match=text):
        remote.run(network, {})
    assert remote.run("pose_encoder", sample_inputs(POSE, 1))


def test_what_cannot_be_opened_says_why_and_leaves_no_process(tmp_path: Path) -> None:
    process = WorkerProcess(partial(Portable, tmp_path))
    with pytest.raises(Exception, match="manifest"):
        RemoteBackend(process, 1)
    assert process.pid is None


def test_without_a_gpu_the_process_ends_and_the_error_is_the_gpus(path: Path) -> None:
    pytest.importorskip("tensorrt_rtx_bindings", reason="needs the extra rtx")
    with pytest.raises((GpuError, BundleError)):
        open_backend("rtx", path)


def test_a_killed_process_costs_each_backend_one_run(path: Path) -> None:
    process = WorkerProcess(partial(Portable, path))
    backends = [RestartingBackend(partial(RemoteBackend, process, 1)) for _ in range(2)]
    inputs = sample_inputs(POSE, 1)
    expected = backends[0].run("pose_encoder", inputs)["pose_code"]
    first = process.pid
    assert first is not None
    os.kill(first, signal.SIGKILL)
    psutil.wait_procs([psutil.Process(first)] if psutil.pid_exists(first) else [], timeout=10)
    for backend in backends:
        with pytest.raises(GpuLostError, match="process that works with the GPU ended"):
            backend.run("pose_encoder", inputs)
    for backend in backends:
        np.testing.assert_array_equal(backend.run("pose_encoder", inputs)["pose_code"], expected)
    assert process.pid not in (None, first)
    for backend in backends:
        backend.close()
    assert process.pid is None


def test_a_lost_gpu_ends_the_process_and_the_next_run_has_a_new_one(path: Path) -> None:
    process = WorkerProcess(partial(Portable, path))
    backend: Backend = RestartingBackend(partial(RemoteBackend, process, 1))
    first = process.pid
    with pytest.raises(GpuLostError, match="The GPU failed"):
        backend.run("lost", {})
    assert backend.run("pose_encoder", sample_inputs(POSE, 1))
    assert process.pid not in (None, first)
    backend.close()


def test_a_process_killed_while_it_computes_is_noticed_at_once(path: Path) -> None:
    process = WorkerProcess(partial(Portable, path))
    backend = RemoteBackend(process, 1)
    errors: list[Exception] = []

    def run_on() -> None:
        try:
            while True:
                backend.run_together("generator", [sample_inputs(GENERATOR, 1)] * 8)
        except GpuLostError as error:
            errors.append(error)

    running = threading.Thread(target=run_on)
    running.start()
    time.sleep(0.5)
    assert process.pid is not None
    os.kill(process.pid, signal.SIGKILL)
    running.join(10)
    assert len(errors) == 1
    backend.close()


@pytest.mark.parametrize("is_killed", [False, True])
def test_a_process_that_ended_leaves_no_socket(path: Path, is_killed: bool) -> None:
    process = WorkerProcess(partial(Portable, path))
    backend = RemoteBackend(process, 1)
    socket = Path(process._address)
    assert socket.exists()
    if is_killed:
        assert process.pid is not None
        os.kill(process.pid, signal.SIGKILL)
    backend.close()
    assert not socket.parent.exists()


def test_a_backend_that_cannot_be_closed_does_not_keep_the_process(path: Path) -> None:
    process = WorkerProcess(partial(Unclosable, path))
    backend = RemoteBackend(process, 1)
    with pytest.raises(RuntimeError, match="no space left"):
        backend.close()
    assert process.pid is None
