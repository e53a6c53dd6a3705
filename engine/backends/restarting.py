"""A backend that is opened again after its GPU was lost or full, so that the server lives on."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from typing import Final, TypeVar

import numpy as np
from numpy.typing import NDArray

from engine.backends.abilities import (
    FaceLook,
    Picture,
    ReadsFaces,
    Results,
    draw_together,
    preferred_batch,
    run_together,
)
from engine.backends.backend import Backend, Tensors
from engine.errors import GpuError

logger = logging.getLogger(__name__)

Result = TypeVar("Result")

FIRST_PAUSE_S: Final = 1.0
LONGEST_PAUSE_S: Final = 10.0
STEADY_S: Final = 30.0
"""A backend that has worked for this long is opened again at once."""


class RestartingBackend:
    """The frame during which a GPU fails is lost with a GpuError; the next one runs on a fresh backend.

    A GPU that fails again and again is tried again after pauses that grow, and frames fail at once meanwhile.
    """

    def __init__(self, opened: Callable[[], Backend], now_s: Callable[[], float] = time.monotonic) -> None:
        self._opened = opened
        self._now_s = now_s
        self._pause_s = 0.0
        self._failed_s = 0.0
        self._problem: GpuError | None = None
        backend = opened()
        self._backend: Backend | None = backend
        self.name, self.provider = backend.name, backend.provider
        self.preferred_batch = preferred_batch(backend)
        self.reads_faces = isinstance(backend, ReadsFaces) and backend.reads_faces

    def in_parallel(self, count: int) -> list[Backend]:
        """As of RunsInParallel: opened likewise, and given up and opened again each by itself."""
        return [self, *(RestartingBackend(self._opened, self._now_s) for _ in range(count - 1))]

    def run(self, network: str, inputs: Tensors) -> dict[str, NDArray[np.float32]]:
        return self._guarded(lambda backend: backend.run(network, inputs))

    def run_together(self, network: str, requests: Sequence[Tensors]) -> list[Results]:
        return self._guarded(lambda backend: run_together(backend, network, requests))

    def draw_together(self, requests: Sequence[Tensors]) -> list[Picture]:
        return self._guarded(lambda backend: draw_together(backend, requests))

    def read_face(self, look: FaceLook) -> dict[str, NDArray[np.float32]]:
        """Raises TypeError unless `reads_faces`."""

        def read(backend: Backend) -> dict[str, NDArray[np.float32]]:
            if not isinstance(backend, ReadsFaces):
                raise TypeError(f"{self.name} does not read faces")
            return backend.read_face(look)

        return self._guarded(read)

    def close(self) -> None:
        if self._backend is not None:
            self._backend.close()
            self._backend = None

    def _guarded(self, job: Callable[[Backend], Result]) -> Result:
        backend = self._backend or self._open_again()
        try:
            return job(backend)
        except GpuError as error:
            logger.exception("everything on the GPU is given up")
            self._note(error)
            self._backend = None
            try:
                backend.close()
            except Exception:  # whatever it is, it is given up
                logger.exception("what is left on the GPU was not freed")
            raise

    def _open_again(self) -> Backend:
        if self._problem is not None and self._now_s() < self._failed_s + self._pause_s:
            raise self._problem
        try:
            self._backend = self._opened()
        except GpuError as error:
            self._note(error)
            raise
        logger.warning("the GPU is at work again: %s", self._backend.provider)
        return self._backend

    def _note(self, error: GpuError) -> None:
        now_s = self._now_s()
        is_first = self._problem is None or now_s > self._failed_s + self._pause_s + STEADY_S
        self._pause_s = 0.0 if is_first else min(LONGEST_PAUSE_S, max(FIRST_PAUSE_S, 2 * self._pause_s))
        self._problem, self._failed_s = error, now_s
