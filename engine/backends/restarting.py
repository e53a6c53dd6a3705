"""A backend that is opened again after its GPU was lost, so that the server lives on."""

from __future__ import annotations

import logging
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from engine.backends.backend import Backend, Tensors
from engine.errors import GpuLostError

logger = logging.getLogger(__name__)


class RestartingBackend:
    """The frame during which a GPU is lost fails with GpuLostError; the next one runs on a fresh backend."""

    def __init__(self, opened: Callable[[], Backend]) -> None:
        self._opened = opened
        self._backend: Backend | None = opened()
        self.name, self.provider = self._backend.name, self._backend.provider

    def run(self, network: str, inputs: Tensors) -> dict[str, NDArray[np.float32]]:
        if self._backend is None:
            self._backend = self._opened()
            logger.warning("the GPU is at work again: %s", self._backend.provider)
        try:
            return self._backend.run(network, inputs)
        except GpuLostError:
            logger.exception("everything on the GPU is given up")
            lost, self._backend = self._backend, None
            lost.close()
            raise

    def close(self) -> None:
        if self._backend is not None:
            self._backend.close()
            self._backend = None
