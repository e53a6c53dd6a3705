"""What a backend may do beyond running one network at a time; those that say nothing need nothing of it.

A GPU draws several sessions' pictures in little more time than one, and need not hand floats back where bytes
are wanted, nor be given faces that it can cut out of a camera's picture itself.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple, Protocol, runtime_checkable

import cv2
import numpy as np
from numpy.typing import NDArray

from engine.backends.backend import Backend, Tensors

Results = dict[str, NDArray[np.float32]]
Image = NDArray[np.uint8]

BATCH_SIZES: Final = (1, 2, 4, 8, 16, 32)
"""What batches are filled up to: each size is compiled, captured and warmed up once."""


def padded(batch: int) -> int:
    """The smallest of BATCH_SIZES that holds `batch`. Raises ValueError: none does."""
    for size in BATCH_SIZES:
        if size >= batch:
            return size
    raise ValueError(f"batches hold up to {BATCH_SIZES[-1]}, got {batch}")


class Picture(NamedTuple):
    """What the generator draws, as everything behind it wants it."""

    image_HWC: Image
    """RGB on black, 0 to 255."""
    mask_HW: Image


@dataclass(frozen=True)
class FaceLook:
    """A face in a camera's picture, and what is to be read of it."""

    image_HWC: Image
    """The whole picture, RGB."""
    crop_from_image: NDArray[np.float32]
    """(2, 3), to a crop of 256 px; see gcavt.preprocessing."""
    landmarks_68: NDArray[np.float32]
    """In the crop's pixels."""
    encoders: tuple[str, ...]
    """Names of networks."""


@runtime_checkable
class TakesBatches(Protocol):
    @property
    def preferred_batch(self) -> int:
        """How many pictures at once the device is worth being waited for."""
        ...

    def run_together(self, network: str, requests: Sequence[Tensors]) -> list[Results]:
        """As Backend.run for each of the requests, of different sessions, whose tensors have batch 1.

        An array that cannot be written is taken to be the same whenever it is the same object.
        """
        ...


@runtime_checkable
class RunsInParallel(Protocol):
    def in_parallel(self, count: int) -> list[Backend]:
        """Itself and others, `count` in all, which share what is compiled: one for each of as many threads.

        To be asked for before anything is run; each is closed, once all of them are idle.
        """
        ...


@runtime_checkable
class DrawsPictures(Protocol):
    def draw_together(self, requests: Sequence[Tensors]) -> list[Picture]:
        """The generator's pictures for requests as those of `run_together`."""
        ...


@runtime_checkable
class ReadsFaces(Protocol):
    @property
    def reads_faces(self) -> bool:
        """Whether `read_face` can be used with this bundle."""
        ...

    def read_face(self, look: FaceLook) -> dict[str, NDArray[np.float32]]:
        """The code (D,) that each of the encoders reads."""
        ...


def in_parallel(backend: Backend, count: int) -> list[Backend]:
    """The backend alone, where it cannot run in several threads."""
    return backend.in_parallel(count) if isinstance(backend, RunsInParallel) else [backend]


def preferred_batch(backend: Backend) -> int:
    """1 for a backend that does not gain by batches."""
    return backend.preferred_batch if isinstance(backend, TakesBatches) else 1


def run_together(backend: Backend, network: str, requests: Sequence[Tensors]) -> list[Results]:
    """What `TakesBatches.run_together` gives, by any backend: stacked and filled up to one of BATCH_SIZES."""
    if isinstance(backend, TakesBatches):
        return backend.run_together(network, requests)
    if len(requests) == 1:
        return [backend.run(network, requests[0])]
    rows = [*requests, *[requests[0]] * (padded(len(requests)) - len(requests))]
    stacked = {name: np.concatenate([row[name] for row in rows]) for name in requests[0]}
    results = backend.run(network, stacked)
    return [{name: array[i : i + 1] for name, array in results.items()} for i in range(len(requests))]


def draw_together(backend: Backend, requests: Sequence[Tensors]) -> list[Picture]:
    """The generator's pictures, turned into bytes on the device where it can do that."""
    if isinstance(backend, DrawsPictures):
        return backend.draw_together(requests)
    return [
        Picture(to_bytes(results["image"][0]), to_bytes(results["mask"][0]))
        for results in run_together(backend, "generator", requests)
    ]


def to_bytes(image_CHW: NDArray[np.float32]) -> Image:
    """[0, 1] channels first to 0..255 channels last (of one channel: none), rounded; contiguous."""
    channels = [cv2.convertScaleAbs(channel_HW, alpha=255.0) for channel_HW in image_CHW]
    return np.asarray(cv2.merge(channels), np.uint8)
