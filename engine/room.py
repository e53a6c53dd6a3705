"""The room behind a live camera, soft, and without the person who sits in it.

Blurring alone would leave the person's shape behind the avatar. Here what the person covers is filled from
what was seen there before, or from about it, so that nothing of them is left.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Final

import cv2
import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from engine.portrait_mask import PortraitMask

Image = NDArray[np.uint8]
Floats = NDArray[np.float32]

LOOKED_AT_PX: Final = 256
"""Side of the square that the segmentation sees."""
ROOM_PX: Final = 64
"""Height of the room's picture: more than the least blur leaves of it."""
PERSON: Final = 0.1
"""What is a person with more than this certainty is left out, and what is beside it."""
BESIDE_PX: Final = 15
KEPT: Final = 0.8
"""Share of what was seen before at each look: a room is forgotten within ten looks, a passing hand is not."""
LEAST_SEEN: Final = 0.02
SOFT_PX: Final = 2.0


class Room:
    """Learns a room look by look; one per camera, used by one thread at a time."""

    def __init__(self, open_cutter: Callable[[], PortraitMask]) -> None:
        self._open_cutter = open_cutter
        self._cutter: PortraitMask | None = None
        self._seen: Floats | None = None
        self._weight: Floats | None = None

    def look(self, image_HWC: Image) -> Image:
        """The room, RGB, ROOM_PX high, after another picture of it. About 8 ms."""
        if self._cutter is None:
            self._cutter = self._open_cutter()
        square = cv2.resize(image_HWC, (LOOKED_AT_PX, LOOKED_AT_PX), interpolation=cv2.INTER_AREA)
        person = (self._cutter.person_mask(np.asarray(square, np.uint8)) > PERSON).astype(np.uint8)
        beside = cv2.dilate(person, np.ones((BESIDE_PX, BESIDE_PX), np.uint8))
        return self._learn(image_HWC, 1 - beside.astype(np.float32))

    def close(self) -> None:
        if self._cutter is not None:
            self._cutter.close()
            self._cutter = None

    def _learn(self, image_HWC: Image, is_room_HW: Floats) -> Image:
        size = (max(1, round(ROOM_PX * image_HWC.shape[1] / image_HWC.shape[0])), ROOM_PX)
        small = cv2.resize(image_HWC, size, interpolation=cv2.INTER_AREA).astype(np.float32)
        weight = (cv2.resize(is_room_HW, size, interpolation=cv2.INTER_AREA) > 0.999).astype(np.float32)
        seen = small * weight[:, :, None]
        if self._seen is not None and self._weight is not None and self._seen.shape == seen.shape:
            seen, weight = seen + KEPT * self._seen, weight + KEPT * self._weight
        self._seen, self._weight = seen, weight
        return _filled(seen, weight)


def _filled(seen_HWC: Floats, weight_HW: Floats) -> Image:
    """Weighted means over wider and wider surroundings until all places have one; black if none does."""
    filled = np.zeros_like(seen_HWC)
    missing = np.ones_like(weight_HW)
    for soft_px in (SOFT_PX, 4 * SOFT_PX, 16 * SOFT_PX, 64 * SOFT_PX):
        around = cv2.GaussianBlur(weight_HW, (0, 0), soft_px)
        colours = cv2.GaussianBlur(seen_HWC, (0, 0), soft_px) / np.maximum(around, 1e-6)[:, :, None]
        share = missing * np.clip(around / LEAST_SEEN - 1, 0, 1)
        filled += share[:, :, None] * colours
        missing = missing - share
    known = np.maximum(1 - missing, 1e-6)[:, :, None]
    return np.asarray(np.clip(cv2.GaussianBlur(filled / known, (0, 0), SOFT_PX), 0, 255), np.uint8)
