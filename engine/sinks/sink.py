"""What a sink takes: finished avatar pictures, and the sound that belongs to them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import cv2
import numpy as np
from numpy.typing import NDArray

from engine.media import AudioChunk

Image = NDArray[np.uint8]


@dataclass(frozen=True)
class CutOut:
    """The avatar without a background, as the generator puts it out."""

    image_HWC: Image
    """RGB, multiplied by the mask already: black where nobody is."""
    mask_HW: Image
    """255 where the avatar is opaque."""

    def straight_rgba(self) -> Image:
        """(H, W, 4) with colours that the mask is not multiplied into, as PNG, WebM and ProRes hold them."""
        opaque_HWC = cv2.divide(self.image_HWC, cv2.merge([self.mask_HW] * 3), scale=255)
        return np.asarray(cv2.merge([*cv2.split(opaque_HWC), self.mask_HW]), np.uint8)

    def beside_its_mask(self) -> Image:
        """(H, 2 W, 3): the colours left, the mask right, for codecs that know no transparency."""
        return np.asarray(cv2.hconcat([self.image_HWC, cv2.merge([self.mask_HW] * 3)]), np.uint8)


@dataclass(frozen=True)
class AvatarFrame:
    """One generated picture, ready to be encoded. All sinks share it: nobody writes into it."""

    yuv420p: Image
    """(height * 3 / 2, width): the planes Y, U, V one below the other (I420), over the chosen background."""
    capture_time_ns: int
    """When what is seen here happened before the camera or the microphone."""
    tick_ns: int
    """Its place in the output, evenly spaced."""
    cut_out: CutOut | None = None
    """For sinks that keep the transparency; None from a maker that has none."""


class Sink(Protocol):
    def show(self, frame: AvatarFrame) -> None: ...

    def play(self, chunk: AudioChunk) -> None: ...

    async def close(self) -> None: ...
