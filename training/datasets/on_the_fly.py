"""Fresh triples for the trainer: processes render new people ahead of the optimiser into shared memory.

The ring has a slot per person. Job k renders person `first seed + k` into slot k modulo the slots, with the
code that writes data sets. The trainer draws from the oldest `live` people; whenever it has used one enough
it lets go of the oldest and takes the next, in order, waiting for it if need be. What a step sees therefore
follows from the seeds and the step alone, however fast the processes are.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import time
from collections.abc import Iterable
from dataclasses import dataclass
from multiprocessing.process import BaseProcess
from multiprocessing.shared_memory import SharedMemory
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn

from training.datasets.render import TripleCounts, TripleWriter
from training.datasets.triples import REFERENCE_ARRAYS, TRIPLE_ARRAYS, Triples, TriplesPart
from training.objectives.objective import Batch, Objective

FIRST_FRESH_SEED = 1_000_000
"""Far from the seeds of data sets, so that no fresh person is a held-out one."""
_POLL_S = 0.01
_SHARED_FOLDER = Path("/dev/shm")
_ALIGNED_BYTES = 64


@dataclass(frozen=True, kw_only=True)
class FreshConfig:
    """How fresh people are rendered and used."""

    processes: int = 1
    live: int = 32
    """People that the trainer draws from at any time."""
    ahead: int = 4
    """Finished people that may wait for the trainer, and those being rendered."""
    references: int = 2
    """References per person."""
    triples: int = 8
    """Triples per reference."""
    uses: float = 6.0
    """How often each triple is drawn, on average, before its person is replaced."""
    first_seed: int = FIRST_FRESH_SEED

    def __post_init__(self) -> None:
        for name in ("processes", "live", "ahead", "references", "triples"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        if self.uses <= 0:
            raise ValueError(f"uses must be positive, got {self.uses}")

    @property
    def slots(self) -> int:
        return self.live + self.ahead

    @property
    def triples_per_person(self) -> int:
        return self.references * self.triples


def _layout(config: FreshConfig) -> dict[str, tuple[int, tuple[int, ...], str]]:
    """Byte offset, shape and type of each array of the ring; `places` is (slots, 3)."""
    shapes: dict[str, tuple[tuple[int, ...], str]] = {"places": ((config.slots, 3), "float32")}
    for arrays, count in (
        (REFERENCE_ARRAYS, config.slots * config.references),
        (TRIPLE_ARRAYS, config.slots * config.triples_per_person),
    ):
        shapes |= {name: ((count, *shape), dtype) for name, (shape, dtype) in arrays.items()}
    layout, offset = {}, 0
    for name, (shape, dtype) in shapes.items():
        layout[name] = (offset, shape, dtype)
        size = int(np.prod(shape)) * np.dtype(dtype).itemsize
        offset += -(-size // _ALIGNED_BYTES) * _ALIGNED_BYTES
    layout["end"] = (offset, (), "uint8")
    return layout


def _views(memory: SharedMemory, config: FreshConfig) -> dict[str, NDArray[Any]]:
    return {
        name: np.ndarray(shape, dtype, memory.buf, offset)
        for name, (offset, shape, dtype) in _layout(config).items()
        if name != "end"
    }


def _part(views: dict[str, NDArray[Any]], config: FreshConfig, slot: int | None = None) -> TriplesPart:
    """The whole ring as a part of a data set, or one slot of it."""

    def chosen(names: Iterable[str], per_slot: int) -> dict[str, NDArray[Any]]:
        rows = slice(None) if slot is None else slice(slot * per_slot, (slot + 1) * per_slot)
        return {name: views[name][rows] for name in names}

    return TriplesPart(
        references=chosen(REFERENCE_ARRAYS, config.references),
        triples=chosen(TRIPLE_ARRAYS, config.triples_per_person),
    )


def _render_jobs(
    name: str, config: FreshConfig, jobs: tuple[int, int], step: int, retired: Any, finished: Any
) -> None:
    """Render every `step`-th job from the first on (jobs: the first and the ring's first), for ever.

    retired counts the people whom the trainer has let go of; finished holds the newest job in each slot.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the trainer's own Ctrl-C handling ends us
    cv2.setNumThreads(1)
    parent = os.getppid()
    memory = SharedMemory(name)
    views = _views(memory, config)
    job, ring_first = jobs
    while True:
        while job - ring_first >= retired.value + config.slots:
            if os.getppid() != parent:
                return
            time.sleep(_POLL_S)
        slot = (job - ring_first) % config.slots
        counts = TripleCounts(identities=1, references=config.references, triples=config.triples)
        writer = TripleWriter(_part(views, config, slot), counts)
        writer.write_identity(config.first_seed + job)
        views["places"][slot] = writer.places[0]
        finished[slot] = job
        job += step


class FreshRing:
    """The ring of people: start it, `advance` it before each draw, close it."""

    def __init__(self, config: FreshConfig) -> None:
        size = _layout(config)["end"][0]
        if _SHARED_FOLDER.is_dir():
            room = os.statvfs(_SHARED_FOLDER)
            if room.f_bavail * room.f_frsize < size:
                raise MemoryError(
                    f"the ring needs {size / 2**20:.0f} MiB in {_SHARED_FOLDER}, which has "
                    f"{room.f_bavail * room.f_frsize / 2**20:.0f}: keep fewer people"
                )
        self.config = config
        self._memory = SharedMemory(create=True, size=size)
        self._views = _views(self._memory, config)
        self.part = _part(self._views, config)
        self._workers: list[BaseProcess] = []
        self._drawn = 0
        self.draws, self.waits, self.waited_s = 0, 0, 0.0

    def start(self, drawn_before: int = 0) -> None:
        """Start rendering, as if so many triples had been drawn before; returns when the first are there."""
        if self._workers:
            raise RuntimeError("the ring is already running")
        self._first_job = self._people_used(drawn_before)
        self._drawn = drawn_before
        context = multiprocessing.get_context("spawn")
        self._retired = context.Value("q", 0)
        self._finished = context.Array("q", [-1] * self.config.slots)
        for k in range(self.config.processes):
            jobs = (self._first_job + k, self._first_job)
            shared = (self._retired, self._finished)
            worker = context.Process(
                target=_render_jobs,
                args=(self._memory.name, self.config, jobs, self.config.processes, *shared),
                daemon=True,
                name=f"render-ahead-{k}",
            )
            worker.start()
            self._workers.append(worker)
        for k in range(self.config.live):
            self._await(self._first_job + k)

    def advance(self, count: int) -> list[int]:
        """Note that `count` triples are about to be drawn; returns the slots that hold somebody new.

        Waits, and counts it, where the next person is not finished.
        """
        wanted = self._people_used(self._drawn) - self._first_job - self._retired.value
        self._drawn += count
        self.draws += 1
        renewed = []
        started = time.monotonic()
        waited = False
        for _ in range(wanted):
            newest = self._first_job + self._retired.value + self.config.live
            waited |= self._await(newest)
            renewed.append((newest - self._first_job) % self.config.slots)
            self._retired.value += 1
        if waited:
            self.waits += 1
            self.waited_s += time.monotonic() - started
        return renewed

    def live_slots(self) -> NDArray[np.intp]:
        """Slots that the trainer may draw from, the oldest person first."""
        oldest = int(self._retired.value)
        return (oldest + np.arange(self.config.live)) % self.config.slots

    def places(self) -> NDArray[np.float32]:
        """(slots, 3), see `training.datasets.placement`."""
        return self._views["places"]

    def close(self) -> None:
        """End the processes and free the memory.

        Raises BufferError where arrays of the ring are still held: close the `FreshTriples` on it instead.
        """
        for worker in self._workers:
            worker.terminate()
        for worker in self._workers:
            worker.join()
        self._workers = []
        del self.part
        self._views = {}
        self._memory.close()
        self._memory.unlink()

    def _people_used(self, drawn: int) -> int:
        return int(drawn / (self.config.uses * self.config.triples_per_person))

    def _await(self, job: int) -> bool:
        """Whether the job had to be waited for. Raises RuntimeError if a process died."""
        slot, waited = (job - self._first_job) % self.config.slots, False
        while self._finished[slot] != job:
            for worker in self._workers:
                if worker.exitcode is not None:
                    raise RuntimeError(f"{worker.name} ended with exit code {worker.exitcode}")
            time.sleep(_POLL_S)
            waited = True
        return waited


class FreshTriples(Triples):
    """A data set whose first rows are the ring's; the rows of a folder follow, for evaluation."""

    def __init__(self, folder: Path, ring: FreshRing) -> None:
        super().__init__(folder)
        self.ring = ring
        config = ring.config
        self._rows = config.slots * config.triples_per_person
        self._reference_rows = config.slots * config.references
        self._kept_identities = np.unique(self.identity_of_reference)
        self._parts = [ring.part, *self._parts]
        self._starts = np.concatenate([[0], self._starts + self._rows])
        self._reference_starts = np.concatenate([[0], self._reference_starts + self._reference_rows])
        fresh = np.arange(self._rows) // config.triples
        self.reference_of = np.concatenate([fresh, self.reference_of + self._reference_rows])
        self.identity_of_reference = np.concatenate(
            [np.full(self._reference_rows, -1, np.int32), self.identity_of_reference]
        )
        self.identity = self.identity_of_reference[self.reference_of]

    def renew(self, slots: Iterable[int]) -> None:
        """Read who is in these slots now."""
        config = self.ring.config
        for slot in slots:
            rows = slice(slot * config.references, (slot + 1) * config.references)
            seeds = np.asarray(self.ring.part.references["reference_identity"][rows])
            before = int(self.identity_of_reference[rows][0])
            self._place_of.pop(before, None)
            self._place_of[int(seeds[0])] = self.ring.places()[slot].copy()
            self.identity_of_reference[rows] = seeds
            per_person = config.triples_per_person
            self.identity[slot * per_person : (slot + 1) * per_person] = seeds[0]

    def close(self) -> None:
        """Close the ring; only the folder's rows are left."""
        self._parts = self._parts[1:]
        self.ring.close()

    def live_rows(self) -> NDArray[np.intp]:
        """Triples that may be drawn now."""
        per_person = self.ring.config.triples_per_person
        return (self.ring.live_slots()[:, None] * per_person + np.arange(per_person)).reshape(-1)

    def tracked_landmarks(self, index: NDArray[np.integer]) -> NDArray[np.float32] | None:
        """None: the face tracker has not seen fresh people."""
        return None

    def split(self, held_out_identities: int) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
        """The ring's rows for training, the folder's last people for evaluation."""
        names = self._kept_identities[max(0, len(self._kept_identities) - held_out_identities) :]
        kept = np.arange(len(self)) >= self._rows
        return np.arange(self._rows), np.nonzero(kept & np.isin(self.identity, names))[0]


class OnTheFly:
    """An objective of the generator whose batches are drawn from people that are rendered meanwhile."""

    def __init__(self, stage: Any, triples: FreshTriples) -> None:
        self.stage: Objective = stage
        self.triples = triples

    def start(self, step: int, batch_size: int) -> None:
        """Render as if `step` batches had been drawn before."""
        self.triples.ring.start(step * batch_size)
        self.triples.renew(self.triples.ring.live_slots())

    def trained_modules(self, model: nn.Module) -> Iterable[nn.Module]:
        return self.stage.trained_modules(model)

    def draw(self, rng: np.random.Generator, batch_size: int) -> Batch:
        self.triples.renew(self.triples.ring.advance(batch_size))
        self.stage.train_index = self.triples.live_rows()  # type: ignore[attr-defined]
        return self.stage.draw(rng, batch_size)

    def loss(self, model: nn.Module, batch: Batch) -> tuple[Tensor, dict[str, float]]:
        """The stage's, with the share of draws that had to wait and the seconds that they waited in all."""
        loss, figures = self.stage.loss(model, batch)
        ring = self.triples.ring
        waiting = {"waited_share": ring.waits / max(1, ring.draws), "waited_s": ring.waited_s}
        return loss, figures | waiting

    def evaluate(self, model: nn.Module) -> dict[str, float]:
        return self.stage.evaluate(model)
