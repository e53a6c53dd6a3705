"""`gcavt bench model --streams`: how the CPU's cores are shared between networks and sessions, by OpenVINO.

Sessions at 25 pictures a second, each with a phase of its own, as cameras have. At each tick the driver is
encoded and the picture drawn; the time counts from the tick to the picture, processor time is that of the
whole process per picture. All choices take turns, a short trial each.
"""

from __future__ import annotations

import queue
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
from tqdm import tqdm

from clients.bench.gpu_sessions import PERIOD_NS, latencies_ms
from clients.bench.report import table
from engine.backends.backend import Backend
from engine.backends.openvino import OpenVinoBackend
from engine.bundle import Bundle
from engine.clock import NS_PER_MS, NS_PER_S, MediaClock
from trt_build.specs import engine_specs
from trt_build.verify import sample_inputs

TRIAL_TICKS: Final = 20
SESSIONS: Final = (1, 2, 3)


@dataclass(frozen=True, kw_only=True)
class Choice:
    """One way to share the cores."""

    encoding_threads: int = 1
    """Of each network."""
    generating_threads: int = 1
    readers: int = 1
    """Encoders that run at once."""
    painters: int = 1
    """Pictures that are drawn at once."""
    config: Mapping[str, Any] = field(default_factory=dict)
    """OpenVINO's properties, where they are not the engine's own."""


CHOICES: Final = {
    "one thread each": Choice(),
    "two draw": Choice(generating_threads=2),
    "two for everything": Choice(encoding_threads=2, generating_threads=2),
    "two pictures at once": Choice(painters=2),
    "encoders at once": Choice(readers=3),
    "encoders at once and two draw": Choice(readers=3, generating_threads=2),
    "pinned": Choice(config={"ENABLE_CPU_PINNING": True}),
    "throughput": Choice(config={"PERFORMANCE_HINT": "THROUGHPUT"}),
    "accuracy": Choice(config={"EXECUTION_MODE_HINT": "ACCURACY"}),
    "no hyper-threading": Choice(config={"ENABLE_HYPER_THREADING": False}),
    "denormals as zero": Choice(config={"CPU_DENORMALS_OPTIMIZATION": True}),
}


class Studio:
    """The networks of one bundle, compiled and run as one choice says."""

    def __init__(self, bundle: Bundle, choice: Choice, paths: Mapping[str, Sequence[str]]) -> None:
        """paths: networks, the generator last."""
        self._clock = MediaClock()
        specs = engine_specs(bundle.config)
        self._inputs = {name: sample_inputs(specs[name], 1) for path in paths.values() for name in path}
        self._paths = paths
        self._readers = _Pool(bundle, choice.readers, choice.encoding_threads, choice.config)
        self._painters = _Pool(bundle, choice.painters, choice.generating_threads, choice.config)
        for path in paths.values():
            self._readers.warm_up({name: self._inputs[name] for name in path[:-1]})
            self._painters.warm_up({path[-1]: self._inputs[path[-1]]})

    def play(self, path: str, sessions: int, ticks: int = TRIAL_TICKS) -> tuple[list[float], float]:
        """Milliseconds from tick to picture, and processor milliseconds per picture."""
        start_ns = self._clock.now_ns() + 50 * NS_PER_MS
        cpu_s = time.process_time()
        with ThreadPoolExecutor(sessions) as threads:
            playing = [
                threads.submit(
                    latencies_ms,
                    self._clock,
                    start_ns + index * PERIOD_NS // sessions,
                    ticks,
                    lambda _: self._picture(path),
                )
                for index in range(sessions)
            ]
            latencies = [latency for session in playing for latency in session.result()]
        return latencies, 1000 * (time.process_time() - cpu_s) / len(latencies)

    def close(self) -> None:
        self._readers.close()
        self._painters.close()

    def _picture(self, path: str) -> None:
        *encoders, generator = self._paths[path]
        for reading in [self._readers.submit(name, self._inputs[name]) for name in encoders]:
            reading.result()
        self._painters.submit(generator, self._inputs[generator]).result()


class _Pool:
    """So many threads, which share compiled networks."""

    def __init__(self, bundle: Bundle, size: int, threads: int, config: Mapping[str, Any]) -> None:
        opened = OpenVinoBackend(bundle.directory, threads=threads, config=config)
        self._backends = opened.in_parallel(size)
        self._free: queue.SimpleQueue[Backend] = queue.SimpleQueue()
        for backend in self._backends:
            self._free.put(backend)
        self._threads = ThreadPoolExecutor(size)

    def warm_up(self, inputs: Mapping[str, Any]) -> None:
        for backend in self._backends:
            for name, tensors in inputs.items():
                backend.run(name, tensors)

    def submit(self, network: str, inputs: Any) -> Any:
        return self._threads.submit(self._run, network, inputs)

    def close(self) -> None:
        self._threads.shutdown()
        for backend in self._backends:
            backend.close()

    def _run(self, network: str, inputs: Any) -> None:
        backend = self._free.get()
        try:
            backend.run(network, inputs)
        finally:
            self._free.put(backend)


def stream_rows(
    bundle: Bundle, choices: Sequence[str], paths: Mapping[str, Sequence[str]], rounds: int
) -> list[dict[str, Any]]:
    """A row for every choice, path and number of sessions. Raises ValueError: a choice is not known."""
    unknown = [name for name in choices if name not in CHOICES]
    if unknown:
        raise ValueError(f"unknown choice {unknown[0]!r}; there are: {', '.join(CHOICES)}")
    studios = {name: Studio(bundle, CHOICES[name], paths) for name in choices}
    cases = [(name, path, count) for name in choices for path in paths for count in SESSIONS]
    walls: dict[Any, list[float]] = {case: [] for case in cases}
    cpus: dict[Any, list[float]] = {case: [] for case in cases}
    rng = np.random.default_rng(0)
    for _ in tqdm(range(rounds), desc="sharing of cores", unit="round"):
        for index in rng.permutation(len(cases)):
            name, path, count = case = cases[index]
            latencies, cpu_ms = studios[name].play(path, count)
            walls[case] += latencies
            cpus[case].append(cpu_ms)
    for studio in studios.values():
        studio.close()
    return [_row(bundle.name, *case, walls[case], cpus[case], rounds) for case in cases]


def _row(
    model: str, choice: str, path: str, sessions: int, walls: list[float], cpus: list[float], rounds: int
) -> dict[str, Any]:
    seconds = rounds * TRIAL_TICKS * PERIOD_NS / NS_PER_S
    row: dict[str, Any] = {"model": model, "choice": choice, "path": path, "sessions": sessions}
    for quantile in (50, 95, 99):
        row[f"wall_p{quantile}_ms"] = round(float(np.percentile(walls, quantile)), 2)
    row["cpu_ms"] = round(float(np.median(cpus)), 2)
    row["fps"] = round(len(walls) / sessions / seconds, 2)
    return row


def report(rows: Sequence[Mapping[str, Any]]) -> str:
    """A table for people."""
    cells = [
        [
            f"{row['model']} by {row['path']}, {row['choice']}",
            *(row[k] for k in ("sessions", "wall_p50_ms", "wall_p95_ms", "wall_p99_ms", "cpu_ms", "fps")),
        ]
        for row in rows
    ]
    return table(["", "sessions", "wall p50", "p95", "p99", "CPU ms", "pictures/s"], cells)
