"""The generated head over a background."""

from __future__ import annotations

import re
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from engine.errors import BadMediaError

Image = NDArray[np.uint8]

_COLOUR = re.compile(r"#([0-9a-fA-F]{6})")


class Compositor:
    """Puts the avatar in front of one background: a colour, or a picture that fills the frame."""

    def __init__(self, background_HWC: Image) -> None:
        self._background = background_HWC

    def compose(self, image_HWC: Image, mask_HW: Image) -> Image:
        """The picture with the background where the mask is 0.

        `image_HWC` is already multiplied by the mask, as the generator puts it out.
        """
        if not self._background.any():
            return image_HWC
        background = _cover(self._background, image_HWC.shape[0], image_HWC.shape[1])
        behind = cv2.multiply(background, cv2.merge([255 - mask_HW] * 3), scale=1 / 255)
        return np.asarray(cv2.add(image_HWC, behind), np.uint8)


def background_from_text(text: str) -> Image:
    """A background from `#rrggbb` or from the path of a picture. Raises BadMediaError for anything else."""
    colour = _COLOUR.fullmatch(text)
    if colour is not None:
        return np.frombuffer(bytes.fromhex(colour.group(1)), np.uint8).reshape(1, 1, 3)
    if not Path(text).is_file():
        raise BadMediaError(f"background {text!r} is neither a colour like #20a060 nor a picture file")
    return read_picture(Path(text))


def read_picture(path: Path) -> Image:
    """A picture file as RGB, turned as its EXIF says. Raises BadMediaError if it is not one."""
    picture = decode_picture(path.read_bytes())
    if picture is None:
        raise BadMediaError(f"{path} is not a picture that can be decoded")
    return picture


def decode_picture(data: bytes) -> Image | None:
    """RGB of the bytes of a PNG, JPEG, WebP, ... or None if they are not a picture."""
    if not data:
        return None
    picture = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
    return None if picture is None else np.asarray(cv2.cvtColor(picture, cv2.COLOR_BGR2RGB), np.uint8)


def _cover(picture_HWC: Image, height: int, width: int) -> Image:
    """The picture scaled to cover height x width, its middle cut out."""
    if picture_HWC.shape[:2] == (height, width):
        return picture_HWC
    scale = max(height / picture_HWC.shape[0], width / picture_HWC.shape[1])
    size = (max(width, round(picture_HWC.shape[1] * scale)), max(height, round(picture_HWC.shape[0] * scale)))
    scaled = cv2.resize(picture_HWC, size, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR)
    top, left = (scaled.shape[0] - height) // 2, (scaled.shape[1] - width) // 2
    return np.ascontiguousarray(scaled[top : top + height, left : left + width])
