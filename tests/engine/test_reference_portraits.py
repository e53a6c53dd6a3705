"""Which of several photos lends its mouth and which its lids."""

import numpy as np
from numpy.typing import NDArray

from engine.reference_portraits import (
    eye_opening,
    frontal_portraits,
    mouth_opening,
    pair_references,
    turned_portraits,
)
from gcavt.config import EditReposeGeneratorConfig

GENERATOR = EditReposeGeneratorConfig()
EYE_Y = 100.0


def face(*, lip_gap: float = 0.0, lid_gap: float = 8.0, right: float = 0.0) -> NDArray[np.float32]:
    """68 landmarks of a schematic face: eyes 60 px apart on row 100, mouth on row 160."""
    points = np.full((68, 2), (128.0, 130.0), np.float32)
    for start, x in ((36, 98.0), (42, 158.0)):
        ring = [(-15, 0), (-5, -0.5), (5, -0.5), (15, 0), (5, 0.5), (-5, 0.5)]
        points[start : start + 6] = [(x + dx, EYE_Y + dy * lid_gap) for dx, dy in ring]
    points[62], points[66] = (128, 160 - lip_gap / 2), (128, 160 + lip_gap / 2)
    return points + np.array([right, 0], np.float32)


def flat(level: int) -> NDArray[np.uint8]:
    return np.full((256, 256, 3), level, np.uint8)


def test_openings_are_measured_over_the_eye_distance() -> None:
    points = face(lip_gap=30, lid_gap=6)
    assert mouth_opening(points) / eye_opening(points) == np.float32(5)
    assert mouth_opening(2 * points) == mouth_opening(points)


def test_one_photo_lends_everything() -> None:
    pair = pair_references([flat(50)], [face()], GENERATOR)
    assert np.array_equal(pair.primary_HWC, pair.secondary_HWC)
    assert np.array_equal(pair.crop_origin[:2], pair.crop_origin[2:])


def test_the_mouth_and_the_lids_come_from_different_photos_and_meet_below_the_eyes() -> None:
    landmarks = [face(), face(lid_gap=0.5), face(lip_gap=30)]
    pair = pair_references([flat(10), flat(100), flat(200)], landmarks, GENERATOR)
    assert np.all(pair.primary_HWC == 10)
    assert np.all(pair.secondary_HWC[round(EYE_Y) + 5] == 100)
    assert np.all(pair.secondary_HWC[160] == 200)


def test_the_lids_are_moved_to_where_the_other_photo_has_its_eyes() -> None:
    lids = flat(100)
    lids[:, 98] = 255  # a mark at the left eye
    pair = pair_references(
        [flat(10), lids, flat(200)], [face(), face(lid_gap=0.5), face(lip_gap=30, right=9)], GENERATOR
    )
    assert np.all(pair.secondary_HWC[round(EYE_Y), 107] == 255)
    assert pair.crop_origin[2] - pair.crop_origin[0] == 9


def test_a_photo_with_open_mouth_and_closed_eyes_is_taken_as_it_is() -> None:
    both = np.random.default_rng(0).integers(0, 256, (256, 256, 3), dtype=np.uint8)
    pair = pair_references([flat(10), both], [face(), face(lip_gap=30, lid_gap=0)], GENERATOR)
    assert np.array_equal(pair.secondary_HWC, both)


def test_the_portraits_turned_furthest_aside_are_the_sides() -> None:
    assert turned_portraits([2.0, -20.0, 25.0, -35.0, 4.0]) == (3, 2)
    assert frontal_portraits([2.0, -20.0, 25.0, -35.0, 4.0]) == [0, 4]


def test_a_portrait_hardly_turned_is_no_side() -> None:
    assert turned_portraits([0.0, 11.0, -11.0]) == (0, 0)
    assert turned_portraits([-10.0, 11.0]) == (0, 1)
    assert turned_portraits([5.0]) == (0, 0)
