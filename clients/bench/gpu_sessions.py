"""How many live sessions one device carries: as many as get their pictures in time, drawn together.

Every session has a phase of its own, as cameras have. At each tick its driver is encoded, in one of the
threads that all share, and its picture drawn through the batcher, as `gcavt serve` does; the time counts from
the tick to the picture's bytes. Tracking a face in a camera's picture, 6 ms of a core, is not part of it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from typing import Any, Final

import numpy as np

from clients.bench.report import table
from engine.backends.abilities import BATCH_SIZES, in_parallel, preferred_batch
from engine.backends.backend import Backend, Tensors, open_backends
from engine.batching import Batcher, Seat
from engine.bundle import Bundle
from engine.clock import NS_PER_MS, NS_PER_S, MediaClock
from engine.model_worker import sharing
from trt_build.specs import EngineSpec, engine_specs
from trt_build.verify import sample_inputs

PERIOD_NS: Final = NS_PER_S // 25
LIMIT_MS: Final = 40.0
MOST: Final = 256
IN_TIME: Final = 0.98
"""Share of the ticks that must have brought a picture."""
CHANGING: Final = frozenset({"pose_code", "expression_code", "content_code"})
"""Of the generator's inputs; the others are a session's identity."""


@dataclass(frozen=True, kw_only=True)
class Trial:
    """So many sessions for a few seconds."""

    sessions: int
    p50_ms: float
    p95_ms: float
    fps: float
    """Pictures per second of one session."""
    pictures_per_run: float

    @property
    def is_in_time(self) -> bool:
        return self.p95_ms <= LIMIT_MS and self.fps >= IN_TIME * NS_PER_S / PERIOD_NS


class Load:
    """Plays sessions on an encoding and a generating backend of one bundle."""

    def __init__(
        self,
        encoding: Backend,
        generating: Backend,
        specs: dict[str, EngineSpec],
        encoders: Sequence[str],
        *,
        largest: int | None = None,
        readers: int = 1,
    ) -> None:
        """encoders: what reads a driver, such as the audio encoder alone. largest: how many pictures at once.
        readers: how many drivers are encoded at once.

        The backends belong to the load from now on.
        """
        self._clock = MediaClock()
        self._encoding = in_parallel(encoding, readers)
        self._free = list(self._encoding)
        self._generator = specs["generator"]
        self._drivers = {name: sample_inputs(specs[name], 1) for name in encoders}
        self._encoder = ThreadPoolExecutor(len(self._encoding), thread_name_prefix="encode")
        self._batcher = Batcher(generating, largest or max(preferred_batch(generating), 1), self._clock)
        self._batcher.warm_up(self._inputs(0), BATCH_SIZES[-1])

    def play(self, sessions: int, seconds: float) -> Trial:
        """Raises what a backend raises."""
        ticks = max(1, round(seconds * NS_PER_S / PERIOD_NS))
        start_ns = self._clock.now_ns() + 100 * NS_PER_MS
        phases_ns = np.random.default_rng(0).permutation(sessions) * PERIOD_NS // sessions
        before = dict(self._batcher.figures().runs)
        with ThreadPoolExecutor(sessions) as threads:
            playing = [
                threads.submit(self._perform, index, start_ns + int(phase_ns), ticks)
                for index, phase_ns in enumerate(phases_ns)
            ]
            latencies_ms = np.concatenate([session.result() for session in playing])
        runs = {size: count - before.get(size, 0) for size, count in self._batcher.figures().runs.items()}
        pictures = sum(size * count for size, count in runs.items())
        return Trial(
            sessions=sessions,
            p50_ms=round(float(np.percentile(latencies_ms, 50)), 2),
            p95_ms=round(float(np.percentile(latencies_ms, 95)), 2),
            fps=round(len(latencies_ms) / sessions / (ticks * PERIOD_NS / NS_PER_S), 2),
            pictures_per_run=round(pictures / max(1, sum(runs.values())), 2),
        )

    def close(self) -> None:
        self._encoder.shutdown()
        for backend in self._encoding:
            backend.close()
        self._batcher.close()

    def _perform(self, index: int, start_ns: int, ticks: int) -> list[float]:
        """One session; how late each of its pictures was, ticks that went by meanwhile left out."""
        seat = Seat(self._batcher, self._clock)
        inputs = self._inputs(index)

        def picture(tick_ns: int) -> None:
            self._encoder.submit(self._encode).result()
            seat.deadline_ns = tick_ns + PERIOD_NS // 2
            seat.draw_together([inputs])

        found = latencies_ms(self._clock, start_ns, ticks, picture)
        seat.close()
        return found

    def _encode(self) -> None:
        backend = self._free.pop()
        for network, inputs in self._drivers.items():
            backend.run(network, inputs)
        self._free.append(backend)

    def _inputs(self, index: int) -> Tensors:
        inputs = sample_inputs(self._generator, 1, seed=index)
        for name, array in inputs.items():
            array.setflags(write=name in CHANGING)
        return inputs


def latencies_ms(clock: MediaClock, start_ns: int, ticks: int, picture: Callable[[int], None]) -> list[float]:
    """One session; how late each of its pictures was, ticks that went by meanwhile left out.

    picture: makes one, given its tick.
    """
    found = []
    for tick in range(ticks):
        tick_ns = start_ns + tick * PERIOD_NS
        now_ns = clock.now_ns()
        if now_ns > tick_ns + PERIOD_NS:
            continue
        time.sleep(max(0, tick_ns - now_ns) / NS_PER_S)
        picture(tick_ns)
        found.append((clock.now_ns() - tick_ns) / NS_PER_MS)
    return found


def most_in_time(play: Callable[[int], Trial], most: int) -> list[Trial]:
    """Trials with ever more sessions, then with numbers between; the largest in time is the answer."""
    trials = []
    good, bad = 0, most + 1
    count = 1
    while bad - good > 1:
        trials.append(play(count))
        if trials[-1].is_in_time:
            good = count
        else:
            bad = count
        count = min(2 * good, most) if bad > most else (good + bad) // 2
    return trials


def session_rows(
    bundle: Bundle, backends: Sequence[str], paths: Mapping[str, Sequence[str]], seconds: float
) -> list[dict[str, Any]]:
    """How many sessions each backend carries by each path (networks, the generator last), and every trial."""
    specs = engine_specs(bundle.config)
    rows = []
    for name in backends:
        for path, networks in paths.items():
            encoding, generating = open_backends(name, bundle.directory, [None, None])
            readers = sharing(None, MOST).readers
            load = Load(encoding, generating, specs, networks[:-1], readers=readers)
            try:
                trials = most_in_time(lambda count: load.play(count, seconds), MOST)  # noqa: B023
            finally:
                load.close()
            rows.append(
                {
                    "model": bundle.name,
                    "backend": name,
                    "path": path,
                    "sessions": max((trial.sessions for trial in trials if trial.is_in_time), default=0),
                    "trials": [asdict(trial) for trial in trials],
                }
            )
    return rows


def report(rows: Sequence[Mapping[str, Any]]) -> str:
    """A table for people."""
    cells = [
        [
            f"{row['model']} by {row['path']}, {row['backend']}",
            trial["sessions"],
            trial["p50_ms"],
            trial["p95_ms"],
            trial["fps"],
            trial["pictures_per_run"],
            "most in time" if trial["sessions"] == row["sessions"] else "",
        ]
        for row in rows
        for trial in sorted(row["trials"], key=lambda trial: int(trial["sessions"]))
    ]
    return table(["", "sessions", "p50 ms", "p95 ms", "pictures/s", "pictures/run", ""], cells)
