from __future__ import annotations

import base64
from pathlib import Path

import cv2
import numpy as np
import pytest

from engine.compositor import (
    LEAST_ROOM_BLUR,
    Compositor,
    Image,
    background_from_description,
    background_from_text,
    decode_picture,
    read_picture,
)
from engine.errors import BadMediaError
from engine.sinks.sink import CutOut


def _avatar() -> tuple[np.typing.NDArray[np.uint8], np.typing.NDArray[np.uint8]]:
    """Left half white and opaque, right half empty."""
    mask = np.zeros((8, 8), np.uint8)
    mask[:, :4] = 255
    return np.repeat(mask[..., None], 3, axis=2), mask


def test_a_colour_fills_what_the_mask_leaves() -> None:
    image, mask = _avatar()
    out = Compositor(background_from_text("#204060")).compose(image, mask)
    assert out[0, 0].tolist() == [255, 255, 255]
    assert out[0, 7].tolist() == [0x20, 0x40, 0x60]


def test_a_half_transparent_pixel_is_half_background() -> None:
    image, mask = np.full((8, 8, 3), 50, np.uint8), np.full((8, 8), 128, np.uint8)
    out = Compositor(background_from_text("#646464")).compose(image, mask)
    assert out[0, 0].tolist() == [100, 100, 100]


def test_black_gives_the_picture_itself() -> None:
    image, mask = _avatar()
    assert Compositor(background_from_text("#000000")).compose(image, mask) is image


def test_a_picture_covers_the_frame_and_is_cut_at_its_middle(tmp_path: Path) -> None:
    wide = np.zeros((10, 40, 3), np.uint8)
    wide[:, 15:25] = (255, 0, 0)  # BGR blue in the middle quarter
    path = tmp_path / "wide.png"
    cv2.imwrite(str(path), wide)
    out = Compositor(background_from_text(str(path))).compose(
        np.zeros((8, 8, 3), np.uint8), np.zeros((8, 8), np.uint8)
    )
    assert out.shape == (8, 8, 3)
    assert out[4, 4].tolist() == [0, 0, 255]


@pytest.mark.parametrize("text", ["#12345", "blue", "#gggggg", "/no/such.png"])
def test_neither_colour_nor_file_is_refused(text: str) -> None:
    with pytest.raises(BadMediaError, match="neither a colour"):
        background_from_text(text)


def test_text_in_a_picture_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "photo.png"
    path.write_text("not a picture")
    with pytest.raises(BadMediaError, match="not a picture"):
        read_picture(path)


def test_no_bytes_are_no_picture() -> None:
    assert decode_picture(b"") is None


def _data_url(picture_HWC: Image) -> str:
    encoded, data = cv2.imencode(".png", picture_HWC)
    assert encoded
    return f"data:image/png;base64,{base64.b64encode(data.tobytes()).decode()}"


def test_a_picture_comes_as_a_data_url_and_is_softened_on_request() -> None:
    halves = np.zeros((64, 64, 3), np.uint8)
    halves[:, 32:] = 255
    empty = np.zeros((64, 64, 3), np.uint8), np.zeros((64, 64), np.uint8)
    sharp, soft = (
        Compositor(background_from_description({"image": _data_url(halves), "blur": blur})).compose(*empty)
        for blur in (0, 0.1)
    )
    assert sharp.tolist() == halves.tolist()
    steps = np.abs(np.diff(soft[32, :, 0].astype(int)))
    assert steps.max() < 30 and soft[32, 0, 0] < 20 and soft[32, 63, 0] > 235


def test_a_room_is_black_until_it_is_seen_and_never_sharp() -> None:
    for blur in ({}, {"blur": 0.0}):
        background = background_from_description({"room": "camera", **blur})
        assert background.is_black and background.room == "camera" and background.blur == LEAST_ROOM_BLUR
    assert background_from_description({"room": "camera", "blur": 0.1}).blur == 0.1


def test_an_empty_description_is_black() -> None:
    assert background_from_description({}).is_black


@pytest.mark.parametrize(
    "description",
    [
        "#204060",
        {"colour": "blue"},
        {"colour": 5},
        {"image": "/etc/hostname"},
        {"image": "data:image/png;base64,AAAA"},
        {"image": "data:image/png;base64,!"},
        {"image": "data:image/png;base64,AAAA", "blur": 3},
        {"path": "x.png"},
        {"room": 5},
        {"room": "no name"},
    ],
)
def test_a_description_that_is_no_background_is_refused(description: object) -> None:
    with pytest.raises(BadMediaError):
        background_from_description(description)


def test_straight_colours_are_those_from_before_the_mask() -> None:
    mask = np.array([[0, 128, 255]], np.uint8)
    image = np.array([[[0, 0, 0], [100, 50, 25], [200, 100, 50]]], np.uint8)
    rgba = CutOut(image, mask).straight_rgba()
    assert rgba[0, 0].tolist() == [0, 0, 0, 0]
    assert np.abs(rgba[0, 1].astype(int) - [199, 100, 50, 128]).max() <= 1
    assert rgba[0, 2].tolist() == [200, 100, 50, 255]


def test_beside_its_mask_the_picture_is_twice_as_wide() -> None:
    image, mask = _avatar()
    wide = CutOut(image, mask).beside_its_mask()
    assert wide[:, :8].tolist() == image.tolist()
    assert wide[:, 8:, 1].tolist() == mask.tolist()
