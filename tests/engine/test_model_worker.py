"""Several sessions with one model: drawn together, and none of them ended by a GPU that fails."""

from __future__ import annotations

import asyncio
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from aiohttp.test_utils import TestClient, TestServer
from numpy.typing import NDArray

from engine.assets import face_landmarker_path
from engine.backends.abilities import Results, in_parallel, run_together
from engine.backends.backend import Backend, Tensors, open_backend
from engine.backends.process import RemoteBackend, WorkerProcess
from engine.backends.restarting import RestartingBackend
from engine.bundle import Bundle
from engine.clock import MediaClock
from engine.config import EngineConfig
from engine.errors import GpuError, GpuLostError, GpuMemoryError
from engine.http.app import Server
from engine.http.service import SERVICE, Service
from engine.media import AudioChunk
from engine.model_worker import (
    Crew,
    LiveModel,
    ModelWorker,
    SeatedWorker,
    batch_size,
    sharing,
)
from engine.puppeteer import Puppeteer
from engine.sinks.sink import AvatarFrame
from tests.bundles import TinyBundles

PATIENCE_S = 60.0


@dataclass
class Viewer:
    frames: list[AvatarFrame] = field(default_factory=list)

    def show(self, frame: AvatarFrame) -> None:
        self.frames.append(frame)

    def play(self, chunk: AudioChunk) -> None: ...

    async def close(self) -> None: ...


@dataclass
class OnADevice:
    """OpenVINO as if it were a GPU: several sessions at once, and failing when told to."""

    backend: Backend
    failures: list[GpuError]
    preferred_batch: int = 4

    def __post_init__(self) -> None:
        self.name, self.provider = self.backend.name, self.backend.provider

    def run(self, network: str, inputs: Tensors) -> dict[str, NDArray[np.float32]]:
        if network == "generator" and self.failures:
            raise self.failures.pop()
        return self.backend.run(network, inputs)

    def run_together(self, network: str, requests: Sequence[Tensors]) -> list[Results]:
        if network == "generator" and self.failures:
            raise self.failures.pop()
        return run_together(self.backend, network, requests)

    def close(self) -> None:
        self.backend.close()


@pytest.fixture(scope="module")
def path(tiny_bundles: TinyBundles) -> Path:
    return tiny_bundles.path("edit_repose")


def model_on_a_device(path: Path, failures: list[GpuError], *, batch: int) -> LiveModel:
    def open_() -> Backend:
        return OnADevice(open_backend("openvino", path, threads=1), failures)

    encoding, generating, identifying = (RestartingBackend(open_) for _ in range(3))
    bundle = Bundle.open(path)
    return LiveModel(
        bundle, encoding, generating, identifying, face_landmarker_path(), batch=batch, max_sessions=4
    )


async def until(condition: Callable[[], bool]) -> None:
    deadline_s = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline_s, "waited in vain"
        await asyncio.sleep(0.02)


def test_who_draws_together_is_the_backends_choice_unless_told_otherwise(path: Path) -> None:
    cpu = open_backend("openvino", path, threads=1)
    device = OnADevice(cpu, [], preferred_batch=8)
    config = EngineConfig(max_sessions=3)
    assert batch_size(config, cpu) == 1
    assert batch_size(config, device) == 8
    assert batch_size(replace(config, batching="on"), cpu) == 3
    assert batch_size(replace(config, batching="off"), device) == 1
    assert batch_size(replace(config, max_sessions=1), device) == 1
    cpu.close()


@pytest.mark.parametrize(
    ("cores", "wanted", "sessions", "found"),
    [
        (2, None, 4, (1, 2, 1, 1, 1)),
        (2, None, 1, (1, 1, 1, 1, 1)),
        (1, None, 4, (1, 1, 1, 1, 1)),
        (8, None, 4, (4, 4, 1, 1, 1)),
        (16, None, 4, (4, 4, 1, 3, 1)),
        (16, None, 1, (1, 1, 1, 15, 1)),
        (8, 4, 4, (1, 2, 4, 4, 4)),
        (2, 4, 4, (1, 1, 4, 4, 4)),
    ],
)
def test_what_is_done_at_once_shares_the_cores(
    cores: int,
    wanted: int | None,
    sessions: int,
    found: tuple[int, ...],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(os, "cpu_count", lambda: cores)
    assert sharing(wanted, sessions) == found


@pytest.fixture
def crew(path: Path) -> Iterator[Crew]:
    opened = Crew("generate", Bundle.open(path), *in_parallel(open_backend("openvino", path, threads=1), 2))
    yield opened
    opened.close()


async def test_two_sessions_are_drawn_at_once(crew: Crew) -> None:
    both = threading.Barrier(2, timeout=PATIENCE_S)

    def meet(puppeteer: Puppeteer) -> Puppeteer:
        both.wait()
        return puppeteer

    first, second = await asyncio.gather(*[ModelWorker(crew).run(meet) for _ in range(2)])
    assert first is not second
    lone = [await ModelWorker(crew).run(lambda puppeteer: puppeteer) for _ in range(3)]
    assert len(set(lone)) == 1


async def test_one_session_is_never_drawn_twice_at_once(crew: Crew) -> None:
    worker = ModelWorker(crew)
    at_work: list[int] = []

    def draw(_: Puppeteer) -> int:
        at_work.append(1)
        time.sleep(0.02)
        count = len(at_work)
        at_work.pop()
        return count

    assert await asyncio.gather(*[worker.run(draw) for _ in range(4)]) == [1, 1, 1, 1]


@pytest.fixture
def model(path: Path) -> Iterator[LiveModel]:
    opened = LiveModel.open(EngineConfig(model=str(path), threads=1, batching="on", max_sessions=3))
    yield opened
    opened.close()


async def test_sessions_that_draw_together_all_move_and_metrics_tell_how(model: LiveModel) -> None:
    await model.warm_up()
    app = Server(EngineConfig(max_sessions=3), model, MediaClock()).app()
    async with TestClient(TestServer(app)) as client:
        viewers = [Viewer() for _ in range(3)]
        for viewer in viewers:
            session = await app[SERVICE].open_session({})
            session.performance.watch(viewer)
        await until(lambda: all(len(viewer.frames) >= 10 for viewer in viewers))
        text = await (await client.get("/metrics")).text()
        assert all(session.performance.failure is None for session in app[SERVICE].sessions)
    assert 'gcavt_batches_total{pictures="' in text
    assert "gcavt_batch_occupancy " in text
    for viewer in viewers:
        first, last = viewer.frames[0].cut_out, viewer.frames[-1].cut_out
        assert first is not None and last is not None
        assert np.any(first.image_HWC != last.image_HWC)


async def test_a_session_that_ends_gives_its_thread_back(model: LiveModel) -> None:
    worker = model.open_generator()
    assert isinstance(worker, SeatedWorker)
    await worker.run(lambda puppeteer: None)
    await worker.release()
    with pytest.raises(RuntimeError, match="shutdown"):
        await worker.run(lambda puppeteer: None)


@pytest.mark.parametrize(
    ("batch", "failure"), [(1, GpuLostError("The GPU failed.")), (4, GpuMemoryError("No room."))]
)
async def test_a_gpu_that_fails_ends_no_session(path: Path, batch: int, failure: GpuError) -> None:
    failures: list[GpuError] = []
    model = model_on_a_device(path, failures, batch=batch)
    service = Service(EngineConfig(), model, MediaClock())
    viewers = [Viewer(), Viewer()]
    performances = []
    for viewer in viewers:
        session = await service.open_session({})
        session.performance.watch(viewer)
        performances.append(session.performance)
    await until(lambda: all(len(viewer.frames) >= 3 for viewer in viewers))
    failures += [failure] * 3
    await until(lambda: not failures)
    seen = [len(viewer.frames) for viewer in viewers]
    await until(lambda: all(len(v.frames) > n + 3 for v, n in zip(viewers, seen, strict=True)))
    assert all(performance.failure is None for performance in performances)
    assert sum(performance.metrics.dropped.get("gpu", 0) for performance in performances) >= 1
    await service.sessions.end_all()
    model.close()


async def test_a_process_that_is_killed_ends_no_session(path: Path) -> None:
    """As a lost GPU would end it: two sessions draw together in a process beside this one."""
    process = WorkerProcess(partial(open_device, path))
    encoding, generating, identifying = (
        RestartingBackend(partial(RemoteBackend, process, 1)) for _ in range(3)
    )
    model = LiveModel(
        Bundle.open(path),
        encoding,
        generating,
        identifying,
        face_landmarker_path(),
        batch=4,
        readers=2,
        max_sessions=2,
    )
    service = Service(EngineConfig(), model, MediaClock())
    viewers = [Viewer(), Viewer()]
    for viewer in viewers:
        (await service.open_session({})).performance.watch(viewer)
    await until(lambda: all(len(viewer.frames) >= 3 for viewer in viewers))
    killed = process.pid
    assert killed is not None
    os.kill(killed, signal.SIGKILL)
    seen = [len(viewer.frames) for viewer in viewers]
    await until(lambda: all(len(v.frames) > n + 3 for v, n in zip(viewers, seen, strict=True)))
    assert process.pid not in (None, killed)
    assert all(session.performance.failure is None for session in service.sessions)
    await service.sessions.end_all()
    model.close()
    assert process.pid is None


def open_device(path: Path, threads: int | None) -> Backend:
    return OnADevice(open_backend("openvino", path, threads=threads), [])


async def test_while_a_gpu_is_away_a_session_says_so(path: Path) -> None:
    failures: list[GpuError] = []
    model = model_on_a_device(path, failures, batch=1)
    service = Service(EngineConfig(), model, MediaClock())
    session = await service.open_session({})
    session.performance.watch(Viewer())
    failures += [GpuLostError("The GPU failed.")] * 2
    await until(lambda: session.state()["failure"] == "The GPU failed.")
    await until(lambda: session.state()["failure"] is None)
    assert session.state()["dropped_by"]["gpu"] >= 2
    await service.sessions.end_all()
    model.close()
