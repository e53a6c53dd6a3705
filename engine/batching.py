"""Several sessions, one device: their pictures are drawn together, by one thread that owns the backend."""

from __future__ import annotations

import logging
import threading
from collections import Counter, deque
from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from engine.backends.abilities import BATCH_SIZES, Picture, draw_together, padded
from engine.backends.backend import Backend, Tensors
from engine.batch_policy import BatchPolicy, Waiting
from engine.clock import NS_PER_MS, NS_PER_S, MediaClock
from engine.errors import GpuMemoryError
from engine.metrics import BatchFigures

logger = logging.getLogger(__name__)

RECENT: Final = 500
SPAN_NS: Final = 2 * NS_PER_S
WARM_UP_RUNS: Final = 3


class BatchCounter:
    """Counts what is drawn, in the thread that draws; told from any."""

    def __init__(self) -> None:
        self.errors = 0
        self._runs: Counter[int] = Counter()
        self._waits_ms: deque[float] = deque(maxlen=RECENT)
        self._recent: deque[tuple[int, int, int]] = deque(maxlen=RECENT)
        """Beginning, end and pictures."""

    def count(self, asked_ns: Sequence[int], begin_ns: int, end_ns: int) -> None:
        """A run, and when each of its pictures was asked for."""
        self._runs[len(asked_ns)] += 1
        self._recent.append((begin_ns, end_ns, len(asked_ns)))
        self._waits_ms.extend((begin_ns - asked) / NS_PER_MS for asked in asked_ns)

    def figures(self, now_ns: int) -> BatchFigures:
        since_ns = now_ns - SPAN_NS
        recent = [run for run in list(self._recent) if run[1] > since_ns]
        rows = sum(padded(pictures) for _, _, pictures in recent)
        return BatchFigures(
            runs=dict(self._runs),
            errors=self.errors,
            busy_share=sum(end - max(begin, since_ns) for begin, end, _ in recent) / SPAN_NS,
            occupancy=sum(pictures for _, _, pictures in recent) / rows if rows else 0.0,
            waits_ms=list(self._waits_ms),
        )


@dataclass(frozen=True, kw_only=True)
class _Request(Waiting):
    inputs: Tensors
    asked_ns: int
    answer: Future[Picture]


class Batcher:
    """Draws pictures with one backend, which nobody else uses from then on."""

    def __init__(self, backend: Backend, largest: int, clock: MediaClock) -> None:
        """largest: how many pictures at once, up to 32."""
        if not 1 <= largest <= BATCH_SIZES[-1]:
            raise ValueError(f"batches hold 1 to {BATCH_SIZES[-1]} pictures, got {largest}")
        self.backend = backend
        self._counter = BatchCounter()
        self._policy = BatchPolicy(largest)
        self._clock = clock
        self._waiting: list[_Request] = []
        self._changed = threading.Condition()
        self._is_closed = False
        self._thread = threading.Thread(target=self._work, name="draw", daemon=True)
        self._thread.start()

    def draw(self, session: object, inputs: Tensors, deadline_ns: int) -> Picture:
        """The generator's picture for the tensors, each of batch 1; call it from the session's own thread.

        Raises what the backend raises for these tensors: those of other sessions never fail with them.
        """
        answer: Future[Picture] = Future()
        with self._changed:
            if self._is_closed:
                raise RuntimeError("the batcher is closed")
            now_ns = self._clock.now_ns()
            self._policy.note_request(session, now_ns)
            self._waiting.append(
                _Request(
                    session=session, deadline_ns=deadline_ns, inputs=inputs, asked_ns=now_ns, answer=answer
                )
            )
            self._changed.notify()
        return answer.result()

    def leave(self, session: object) -> None:
        """The session asks no more."""
        with self._changed:
            self._policy.forget(session)
            self._changed.notify()

    def warm_up(self, inputs: Tensors, largest: int) -> None:
        """Draw with every size of batch up to that which holds `largest`, before anybody waits for it."""
        most = padded(min(largest, self._policy.largest))
        for size in [size for size in BATCH_SIZES if size <= most]:
            for _ in range(WARM_UP_RUNS):
                self._call([inputs] * size)
        self._counter = BatchCounter()

    def figures(self) -> BatchFigures:
        return self._counter.figures(self._clock.now_ns())

    def close(self) -> None:
        """Finish what waits, end the thread, free the backend."""
        with self._changed:
            self._is_closed = True
            self._changed.notify()
        self._thread.join()
        self.backend.close()

    def _call(self, inputs: list[Tensors]) -> None:
        """Draw once, all together."""
        answers = [Future[Picture]() for _ in inputs]
        now_ns = self._clock.now_ns()
        with self._changed:
            self._waiting += [
                _Request(session=None, deadline_ns=now_ns, inputs=one, asked_ns=now_ns, answer=answer)
                for one, answer in zip(inputs, answers, strict=True)
            ]
            self._changed.notify()
        for answer in answers:
            answer.result()

    def _work(self) -> None:
        while (batch := self._next_batch()) is not None:
            self._answer(batch)

    def _next_batch(self) -> list[_Request] | None:
        """Wait until a batch is to begin, and take it; None: closed, and nothing is left."""
        with self._changed:
            while True:
                if not self._waiting:
                    if self._is_closed:
                        return None
                    self._changed.wait()
                    continue
                now_ns = self._clock.now_ns()
                start_ns = now_ns if self._is_closed else self._policy.start_ns(self._waiting, now_ns)
                if start_ns <= now_ns:
                    self._waiting.sort(key=lambda request: request.deadline_ns)
                    batch = self._waiting[: self._policy.largest]
                    self._waiting = self._waiting[self._policy.largest :]
                    return batch
                self._changed.wait((start_ns - now_ns) / NS_PER_S)

    def _answer(self, batch: list[_Request]) -> None:
        begin_ns = self._clock.now_ns()
        try:
            pictures = draw_together(self.backend, [request.inputs for request in batch])
        except Exception as error:  # whatever it is, it belongs to one of those who wait
            self._answer_one_by_one(batch, error)
            return
        end_ns = self._clock.now_ns()
        self._policy.note_run(len(batch), end_ns - begin_ns)
        self._counter.count([request.asked_ns for request in batch], begin_ns, end_ns)
        for request, picture in zip(batch, pictures, strict=True):
            request.answer.set_result(picture)

    def _answer_one_by_one(self, batch: list[_Request], error: Exception) -> None:
        """After a batch failed: only who fails alone as well is told so."""
        if len(batch) == 1:
            batch[0].answer.set_exception(error)
            return
        self._counter.errors += 1
        logger.warning("a batch of %d failed and is drawn one by one: %s", len(batch), error)
        if isinstance(error, GpuMemoryError):
            self._policy.largest = max(1, padded(len(batch)) // 2)
            logger.warning("batches hold up to %d pictures from now on", self._policy.largest)
        for request in batch:
            self._answer([request])


class Seat:
    """One session's place at a batcher: a backend that can only draw. Used in the session's thread."""

    def __init__(self, batcher: Batcher, clock: MediaClock) -> None:
        self._batcher = batcher
        self._clock = clock
        self.name, self.provider = batcher.backend.name, batcher.backend.provider
        self.deadline_ns: int | None = None
        """Of the next picture; None: at once."""

    def run(self, network: str, inputs: Tensors) -> dict[str, NDArray[np.float32]]:
        """Raises KeyError: only pictures are drawn together."""
        raise KeyError(f"a session's place at the batcher draws pictures, it does not run {network}")

    def draw_together(self, requests: Sequence[Tensors]) -> list[Picture]:
        """As of DrawsPictures, one after the other: they are all this session's."""
        deadline_ns = self._clock.now_ns() if self.deadline_ns is None else self.deadline_ns
        return [self._batcher.draw(self, inputs, deadline_ns) for inputs in requests]

    def close(self) -> None:
        self._batcher.leave(self)
