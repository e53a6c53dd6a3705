"""What is left of a person in front of a room: nothing."""

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from engine.performance import open_cutter
from engine.room import ROOM_PX, Room
from tests.bundles import astronaut

Image = NDArray[np.uint8]


@pytest.fixture(scope="module")
def portrait() -> Image:
    """The astronaut before a green wall: all that is green is room."""
    photo = astronaut()
    with open_cutter() as cutter:
        small = np.asarray(cv2.resize(photo, (256, 256), interpolation=cv2.INTER_AREA), np.uint8)
        mask = cutter.person_mask(small)[:, :, None]
    wall = np.full_like(small, (20, 160, 60))
    return np.asarray(np.round(mask * small + (1 - mask) * wall), np.uint8)


def test_a_wall_is_the_same_wall_behind_the_person(portrait: Image) -> None:
    room = Room(open_cutter)
    seen = room.look(portrait)
    room.close()
    assert seen.shape == (ROOM_PX, ROOM_PX, 3)
    assert np.abs(seen.astype(int) - (20, 160, 60)).max() < 25


def test_what_the_person_gives_free_is_remembered(portrait: Image) -> None:
    room = Room(open_cutter)
    empty = np.full_like(portrait, (20, 160, 60))
    empty[96:160, 96:160] = (200, 40, 40)  # on the wall behind the head
    room.look(empty)
    for _ in range(3):
        seen = room.look(portrait)
    room.close()
    red, green = seen[32, 32, 0], seen[4, 4, 0]
    assert red > green + 60


def test_a_room_of_another_shape_is_learned_anew(portrait: Image) -> None:
    room = Room(open_cutter)
    room.look(portrait)
    assert room.look(np.full((90, 160, 3), 90, np.uint8)).shape == (ROOM_PX, 114, 3)
    room.close()


def test_a_person_who_fills_the_picture_leaves_black() -> None:
    class Everywhere:
        def person_mask(self, image_HWC: Image) -> NDArray[np.float32]:
            return np.ones(image_HWC.shape[:2], np.float32)

        def close(self) -> None: ...

    room = Room(Everywhere)  # type: ignore[arg-type]
    assert room.look(np.full((64, 64, 3), 200, np.uint8)).max() == 0
