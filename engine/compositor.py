"""The generated head over a background."""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from engine.errors import BadMediaError
from engine.patch_bay import is_name

Image = NDArray[np.uint8]

LEAST_ROOM_BLUR = 0.03
"""A room is nobody's to read: softer than that, never sharper."""
_COLOUR = re.compile(r"#([0-9a-fA-F]{6})")
_DATA_URL = re.compile(r"data:image/[\w.+-]+;base64,(.*)", re.DOTALL)


@dataclass(frozen=True)
class Background:
    """What is behind the avatar."""

    image_HWC: Image
    """A picture that fills the frame; one pixel of it is a colour."""
    blur: float = 0.0
    """Standard deviation of the softening, as a share of the frame's height."""
    room: str = ""
    """The source whose room it is, without the person in it; `image_HWC` is what is known of it so far."""

    @property
    def is_black(self) -> bool:
        return not self.image_HWC.any()

    def filling(self, height: int, width: int) -> Image:
        """(height, width, 3): scaled to cover the frame, its middle cut out, softened."""
        if not self.blur:
            return _cover(self.image_HWC, height, width)
        # what the blur removes need not be computed: at this scale its standard deviation is 4 pixels
        shrink = max(1.0, self.blur * height / 4)
        small = _cover(self.image_HWC, round(height / shrink), round(width / shrink))
        soft = cv2.GaussianBlur(small, (0, 0), self.blur * height / shrink, borderType=cv2.BORDER_REFLECT_101)
        return np.asarray(cv2.resize(soft, (width, height), interpolation=cv2.INTER_LINEAR), np.uint8)


BLACK = Background(np.zeros((1, 1, 3), np.uint8))


class Compositor:
    """Puts the avatar in front of one background. Used in one thread."""

    def __init__(self, background: Background) -> None:
        self.background = background
        self._filling_HWC: Image | None = None

    def compose(self, image_HWC: Image, mask_HW: Image) -> Image:
        """The picture with the background where the mask is 0.

        `image_HWC` is already multiplied by the mask, as the generator puts it out.
        """
        if self.background.is_black:
            return image_HWC
        if self._filling_HWC is None or self._filling_HWC.shape != image_HWC.shape:
            self._filling_HWC = self.background.filling(*mask_HW.shape)
        behind = cv2.multiply(self._filling_HWC, cv2.merge([255 - mask_HW] * 3), scale=1 / 255)
        return np.asarray(cv2.add(image_HWC, behind), np.uint8)


def background_from_text(text: str) -> Background:
    """A background from `#rrggbb` or from the path of a picture. Raises BadMediaError for anything else."""
    if _COLOUR.fullmatch(text):
        return Background(_colour(text))
    if not Path(text).is_file():
        raise BadMediaError(f"background {text!r} is neither a colour like #20a060 nor a picture file")
    return Background(read_picture(Path(text)))


def background_description(text: str, blur: float = 0.0) -> dict[str, object]:
    """What `background_from_description` makes the background of `background_from_text` of, and blurs.

    Raises BadMediaError for a text that is neither a colour nor the path of a picture.
    """
    if _COLOUR.fullmatch(text):
        return {"colour": text}
    picture_HWC = background_from_text(text).image_HWC
    _, png = cv2.imencode(".png", cv2.cvtColor(picture_HWC, cv2.COLOR_RGB2BGR))
    url = f"data:image/png;base64,{base64.b64encode(png.tobytes()).decode()}"
    return {"image": url, "blur": blur}


def background_from_description(description: object) -> Background:
    """A background from the JSON of a patch; nothing on this machine's disk can be named in it.

    {} is black, {"colour": "#20a060"} a colour, {"image": "data:image/png;base64,...", "blur": 0.03} a
    picture, softened by that share of the frame's height if so wished, {"room": "camera"} the room that this
    source sees, always softened. Raises BadMediaError for others.
    """
    if not isinstance(description, Mapping) or not set(description) <= {"colour", "image", "room", "blur"}:
        raise BadMediaError(
            'A background is {}, {"colour": "#rrggbb"}, {"image": data URL, "blur": share} or '
            '{"room": "camera", "blur": share}.'
        )
    blur = description.get("blur", LEAST_ROOM_BLUR if "room" in description else 0.0)
    if not isinstance(blur, int | float) or not 0 <= blur <= 0.5:
        raise BadMediaError(f"The blur of a background must be 0 to 0.5 of the frame's height, got {blur!r}.")
    if "room" in description:
        room = description["room"]
        if not isinstance(room, str) or not is_name(room):
            raise BadMediaError(f"The room of a background is a source's, such as camera, not {room!r}.")
        return Background(BLACK.image_HWC, max(float(blur), LEAST_ROOM_BLUR), room)
    if "image" in description:
        return Background(_data_url_picture(description["image"]), float(blur))
    return Background(_colour(description.get("colour", "#000000")))


def _colour(text: object) -> Image:
    match = _COLOUR.fullmatch(text) if isinstance(text, str) else None
    if match is None:
        raise BadMediaError(f"A colour is written like #20a060, not {text!r}.")
    return np.frombuffer(bytes.fromhex(match.group(1)), np.uint8).reshape(1, 1, 3)


def _data_url_picture(url: object) -> Image:
    match = _DATA_URL.fullmatch(url) if isinstance(url, str) else None
    if match is None:
        raise BadMediaError("The image of a background is sent as a data URL: data:image/png;base64,...")
    try:
        picture = decode_picture(base64.b64decode(match.group(1), validate=True))
    except binascii.Error:
        picture = None
    if picture is None:
        raise BadMediaError(
            "The image of the background cannot be decoded; send a PNG, JPEG or WebP picture."
        )
    return picture


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
