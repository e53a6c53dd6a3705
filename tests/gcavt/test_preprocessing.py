"""Crop geometry and the three driver inputs, on an analytic face."""

from __future__ import annotations

import time
from typing import get_args

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from gcavt import preprocessing as pre
from gcavt.config import EditReposeGeneratorConfig
from gcavt.preprocessing import Face, StableCrop

Points = NDArray[np.float32]


def face_68(
    centre: tuple[float, float] = (128.0, 125.0), d_eye: float = 76.0, roll_deg: float = 0.0
) -> Points:
    """Plain iBUG landmarks: a parabola for the jaw, arcs for the rest. Units of d_eye, eyes at the origin."""
    jaw_x = np.linspace(-0.62, 0.62, 17)
    brow_x = np.array([-0.58, -0.47, -0.36, -0.25, -0.14])
    parts = [
        np.stack([jaw_x, 1.22 - 3.2 * jaw_x**2], 1),
        np.stack([brow_x, np.full(5, -0.22)], 1),
        np.stack([-brow_x[::-1], np.full(5, -0.22)], 1),
        np.stack([np.zeros(4), np.linspace(0.0, 0.42, 4)], 1),
        np.stack([np.linspace(-0.16, 0.16, 5), np.full(5, 0.55)], 1),
    ]
    for side in (-1, 1):
        eye = np.array(
            [[-0.17, 0.0], [-0.07, -0.06], [0.07, -0.06], [0.17, 0.0], [0.07, 0.05], [-0.07, 0.05]]
        )
        parts.append(eye + [side * 0.33, 0.0])
    for count, half in ((12, 0.32), (8, 0.26)):
        angle = np.pi + np.arange(count) * 2 * np.pi / count
        parts.append(np.stack([half * np.cos(angle), 0.82 + 0.35 * half * np.sin(angle)], 1))
    points = np.concatenate(parts) * d_eye
    turn = np.radians(roll_deg)
    points = points @ np.array([[np.cos(turn), np.sin(turn)], [-np.sin(turn), np.cos(turn)]])
    return np.asarray(points + np.array(centre), dtype=np.float32)


def face_with_box(x0: float, y0: float, x1: float, y1: float) -> Face:
    landmarks = face_68()
    return Face(
        landmarks_478=landmarks, landmarks_68=landmarks, box_xyxy=np.array([x0, y0, x1, y1], np.float32)
    )


def noise_image(height: int, width: int, seed: int = 0) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(1, 256, (height, width, 3), dtype=np.uint8)


def test_the_68_landmarks_are_distinct_mesh_points_and_accept_468_or_478() -> None:
    assert len(set(pre.MESH_OF_IBUG_68.tolist())) == 68
    mesh = np.arange(478 * 3, dtype=np.float32).reshape(478, 3)
    of_478 = pre.landmarks_68_from_478(mesh)
    assert of_478.shape == (68, 2)
    np.testing.assert_array_equal(of_478, pre.landmarks_68_from_478(mesh[:468, :2]))


def test_too_few_landmarks_are_refused() -> None:
    with pytest.raises(ValueError, match=r"\(478, 2\) or \(468, 2\), got \(68, 2\)"):
        pre.landmarks_68_from_478(np.zeros((68, 2), dtype=np.float32))


def test_crop_is_the_box_enlarged_by_1_8_about_its_centre() -> None:
    crop_from_image = pre.crop_from_box(np.array([100.0, 50.0, 180.0, 150.0]))
    corners = np.array([[140 - 90, 100 - 90], [140 + 90, 100 + 90]], dtype=np.float32)
    np.testing.assert_allclose(
        pre.transform_points(corners, crop_from_image), [[-0.5, -0.5], [255.5, 255.5]], atol=1e-3
    )


def test_crop_without_scaling_copies_pixels() -> None:
    image = noise_image(400, 400)
    side = pre.CROP_PX / pre.BOX_SCALE
    crop_from_image = pre.crop_from_box(
        np.array([199.5 - side / 2, 149.5 - side / 2, 199.5 + side / 2, 149.5 + side / 2])
    )
    np.testing.assert_array_equal(pre.crop_face(image, crop_from_image), image[22:278, 72:328])


@pytest.mark.parametrize("scale", [0.12, 0.27, 0.7, 1.6])
@pytest.mark.parametrize("size_px", [256, 128])
def test_a_disc_lands_where_transform_points_says(scale: float, size_px: int) -> None:
    image = np.zeros((1500, 1500, 3), dtype=np.uint8)
    centre = np.array([[770.0, 730.0]], dtype=np.float32)
    cv2.circle(image, (770, 730), round(10 / scale), (255, 255, 255), -1)
    side = pre.CROP_PX / scale / pre.BOX_SCALE
    crop_from_image = pre.crop_from_box(
        np.array([750 - side / 2, 740 - side / 2, 750 + side / 2, 740 + side / 2])
    )
    crop = pre.crop_face(image, crop_from_image, size_px)
    y, x = (axis.mean() for axis in np.nonzero(crop[:, :, 0] > 127))
    expected = (pre.transform_points(centre, crop_from_image)[0] + 0.5) * size_px / 256 - 0.5
    np.testing.assert_allclose([x, y], expected, atol=0.3)


def test_outside_the_picture_the_crop_is_reflected_faded_or_continued() -> None:
    image = noise_image(300, 300)
    crop_from_image = pre.crop_from_box(np.array([-80.0, 100.0, 80.0, 240.0]))
    assert pre.crop_face(image, crop_from_image).min(axis=2).max() > 0
    faded = pre.crop_face(image, crop_from_image, outside="fade")
    assert faded[:, :10].astype(float).std() < 0.2 * faded[:, -60:].astype(float).std()
    continued = pre.crop_face(image, crop_from_image, outside="replicate")
    assert continued[:, :20].std(axis=1).max() == 0
    inside = pre.crop_from_box(np.array([120.0, 120.0, 180.0, 180.0]))
    np.testing.assert_array_equal(pre.crop_face(image, inside), pre.crop_face(image, inside, outside="fade"))


def test_shrinking_a_checkerboard_gives_its_mean_and_not_an_alias() -> None:
    image = np.zeros((1080, 1920, 3), dtype=np.uint8)
    image[::2, ::2] = image[1::2, 1::2] = 255
    crop = pre.crop_face(image, pre.crop_from_box(np.array([700.0, 300.0, 1200.0, 800.0])))
    np.testing.assert_allclose(crop, 127.5, atol=1)


@pytest.mark.parametrize(
    "box", [(-300, -300, 0, 0), (600, 440, 700, 600), (-900, -900, 2000, 2000), (5, 5, 5, 5)]
)
def test_a_box_at_or_beyond_the_border_still_gives_a_crop(box: tuple[int, int, int, int]) -> None:
    image = noise_image(480, 640)
    for outside in get_args(pre.Outside):
        crop = pre.crop_face(image, pre.crop_from_box(np.array(box, float)), outside=outside)
        assert crop.shape == (256, 256, 3) and crop.max() > 0


def test_stable_crop_damps_jitter() -> None:
    rng = np.random.default_rng(0)
    stable, raw_x, smooth_x = StableCrop(), [], []
    for _ in range(100):
        x, y = 300 + rng.normal(0, 2, 2)
        face = face_with_box(x - 80, y - 100, x + 80, y + 100)
        raw_x.append(pre.crop_from_box(face.box_xyxy)[0, 2])
        smooth_x.append(stable.update(face, (480, 640))[0, 2])
    assert np.std(np.diff(smooth_x)) < 0.15 * np.std(np.diff(raw_x))


def test_stable_crop_never_lags_a_walking_face_by_more_than_its_leash() -> None:
    stable = StableCrop()
    for step in range(40):
        x = 100.0 + 6 * step
        face = face_with_box(x - 50, 150, x + 50, 250)
        crop_from_image = stable.update(face, (480, 640))
        centre = pre.transform_points(np.array([[x, 200.0]], np.float32), crop_from_image)[0]
        assert np.hypot(*(centre - 127.5)) <= pre.CROP_CENTRE_LEASH * 256 + 0.1


def test_stable_crop_starts_afresh_on_a_jump_and_on_another_frame_size() -> None:
    stable = StableCrop()
    stable.update(face_with_box(50, 50, 150, 150), (480, 640))
    jumped = face_with_box(400, 200, 520, 330)
    np.testing.assert_array_equal(stable.update(jumped, (480, 640)), pre.crop_from_box(jumped.box_xyxy))
    nearby = face_with_box(410, 205, 528, 336)
    assert not np.array_equal(stable.update(nearby, (480, 640)), pre.crop_from_box(nearby.box_xyxy))
    np.testing.assert_array_equal(stable.update(nearby, (720, 1280)), pre.crop_from_box(nearby.box_xyxy))


def test_pose_input_hides_the_organs_and_keeps_the_rest() -> None:
    crop, landmarks = noise_image(256, 256), face_68()
    pose = pre.pose_input(crop, landmarks, 256)
    for x, y in np.round(landmarks[17:]).astype(int):
        assert not pose[y, x].any()
    kept = pose.max(axis=2) > 0
    assert kept[:60].all() and kept[:, :60].all() and kept[:, -60:].all() and 0.7 < kept.mean() < 0.95
    np.testing.assert_array_equal(pose[kept], crop[kept])


def test_pose_input_of_an_encoder_that_sees_the_face_shows_it_all_with_level_eyes() -> None:
    crop = np.asarray(cv2.GaussianBlur(noise_image(256, 256), (0, 0), 5), np.uint8)
    upright = face_68()
    expected = pre.pose_input(crop, upright, 128, 1.5)
    assert (expected.max(axis=2) > 0).all()
    turn = cv2.getRotationMatrix2D((127.5, 127.5), 20, 1.0).astype(np.float32)
    turned = cv2.warpAffine(crop, turn, (256, 256), borderMode=cv2.BORDER_REFLECT_101)
    seen = pre.pose_input(np.asarray(turned, np.uint8), pre.transform_points(upright, turn), 128, 1.5)
    assert np.abs(seen[20:-20, 20:-20].astype(int) - expected[20:-20, 20:-20]).max() < 20


def test_pose_landmarks_count_from_the_crops_centre_in_quarters_of_its_side() -> None:
    landmarks = np.full((68, 2), 127.5, np.float32)
    landmarks[3] = (127.5 + 64, 127.5 - 32)
    numbers = pre.pose_landmarks(landmarks)
    assert numbers.shape == (136,) and numbers.dtype == np.float32
    assert numbers[6:8].tolist() == [1.0, -0.5]
    assert not np.delete(numbers, [6, 7]).any()


def test_face_landmarks_do_not_change_with_place_size_and_roll() -> None:
    upright = face_68()
    angle = np.radians(25)
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    moved = (0.6 * (upright - 100) @ turn.T + [140, 90]).astype(np.float32)
    np.testing.assert_allclose(pre.face_landmarks(moved), pre.face_landmarks(upright), atol=1e-4)
    eyes = pre.face_landmarks(moved).reshape(68, 2)[36:48].reshape(2, 6, 2).mean(1)
    np.testing.assert_allclose(eyes, [[-0.5, 0], [0.5, 0]], atol=1e-5)


def test_pose_mask_does_not_tell_how_far_the_mouth_is_open() -> None:
    crop, closed = noise_image(256, 256), face_68()
    open_mouth = closed.copy()
    open_mouth[48:] += (open_mouth[48:] - open_mouth[48:].mean(axis=0)) * [0.2, 1.5]
    open_mouth[3:14, 1] += 12
    np.testing.assert_array_equal(pre.pose_input(crop, closed, 128), pre.pose_input(crop, open_mouth, 128))


def test_expression_input_keeps_the_face_only() -> None:
    crop, landmarks = noise_image(256, 256), face_68()
    face = pre.expression_input(crop, landmarks, 256)
    kept = face.max(axis=2) > 0
    for x, y in np.round(landmarks[27:]).astype(int):
        assert kept[y, x]
    assert not kept[:80].any() and not kept[:, :70].any() and not kept[230:].any()
    np.testing.assert_array_equal(face[kept], crop[kept])


@pytest.mark.parametrize("driver_input", [pre.pose_input, pre.expression_input])
def test_inputs_at_half_size_agree_with_those_at_full_size(driver_input) -> None:  # type: ignore[no-untyped-def]
    crop = cv2.GaussianBlur(noise_image(256, 256), (0, 0), 4)
    small = driver_input(crop, face_68(), 128)
    full = cv2.resize(driver_input(crop, face_68(), 256), (128, 128), interpolation=cv2.INTER_AREA)
    differing = np.abs(small.astype(int) - full).max(axis=2) > 8
    assert small.shape == (128, 128, 3) and differing.mean() < 0.03


def test_inputs_leave_the_crop_untouched() -> None:
    crop = noise_image(256, 256)
    before = crop.copy()
    pre.pose_input(crop, face_68(), 256)
    pre.expression_input(crop, face_68(), 256)
    pre.mouth_crop(crop, face_68())
    np.testing.assert_array_equal(crop, before)


def test_mouth_crop_is_centred_on_the_lips_and_1_2_eye_distances_wide() -> None:
    landmarks = face_68()
    crop = np.zeros((256, 256, 3), dtype=np.uint8)
    x, y = landmarks[48:].mean(axis=0)
    cv2.circle(crop, (round(float(x)), round(float(y))), 19, (255, 255, 255), -1)  # diameter 39 px
    rows, columns = np.nonzero(pre.mouth_crop(crop, landmarks)[:, :, 0] > 127)
    np.testing.assert_allclose([columns.mean(), rows.mean()], [47.5, 47.5], atol=0.6)
    assert np.ptp(columns) + 1 == pytest.approx(39 * 96 / (1.2 * 76), abs=1.1)


@pytest.mark.parametrize("roll_deg", [-25.0, 15.0])
def test_derotated_mouth_of_a_rolled_head_equals_that_of_the_upright_one(roll_deg: float) -> None:
    upright = np.asarray(cv2.GaussianBlur(noise_image(256, 256, seed=1), (0, 0), 3), np.uint8)
    about = cv2.getRotationMatrix2D((128.0, 125.0), -roll_deg, 1.0)
    rolled = np.asarray(
        cv2.warpAffine(upright, about, (256, 256), borderMode=cv2.BORDER_REFLECT_101), np.uint8
    )
    expected = pre.mouth_crop(upright, face_68()).astype(int)
    assert np.abs(pre.mouth_crop(rolled, face_68(roll_deg=roll_deg)) - expected).mean() < 1.5
    assert np.abs(pre.mouth_crop(rolled, face_68(roll_deg=roll_deg), derotate=False) - expected).mean() > 5


def test_mouth_crop_stays_inside_the_image() -> None:
    crop = noise_image(256, 256)
    at_border = face_68(centre=(20.0, 230.0))
    mouth = pre.mouth_crop(crop, at_border, 91, eye_distance_px=91 / 1.2)
    np.testing.assert_array_equal(mouth, crop[256 - 91 :, :91])


def test_running_eye_distance_ignores_a_single_outlier() -> None:
    running = pre.RunningEyeDistance()
    for d_eye in (76.0, 76.5, 75.5, 120.0, 76.0):
        latest = running.update(face_68(d_eye=d_eye))
    assert latest == pytest.approx(76.0)


def test_to_network_gives_planes_in_0_to_1() -> None:
    image = noise_image(4, 6)
    planes = pre.to_network(image)
    assert planes.dtype == np.float32 and planes.shape == (3, 4, 6) and planes.flags.c_contiguous
    np.testing.assert_allclose(planes[2, 1, 5], image[1, 5, 2] / 255)


def test_portrait_crop_origin_puts_the_eyes_in_place_and_stays_inside() -> None:
    config = EditReposeGeneratorConfig()
    landmarks = face_68(centre=(127.6, 98.2))
    eyes_x, eyes_y = landmarks[[36, 45]].mean(axis=0)
    assert pre.portrait_crop_origin(landmarks, config) == (
        round(float(eyes_x)) - 72,
        round(float(eyes_y)) - 44,
    )
    assert pre.portrait_crop_origin(face_68(centre=(0.0, 255.0)), config) == (0, 256 - 176)


def test_mouth_shift_is_5_to_15_frames_in_the_shot() -> None:
    rng = np.random.default_rng(0)
    shifts = {pre.draw_mouth_shift(rng, 20, 0, 40) for _ in range(500)}
    assert shifts == {*range(-15, -4), *range(5, 16)}
    late = [pre.draw_mouth_shift(rng, 30, 18, 36) for _ in range(200)]
    assert all(i is not None and -12 <= i <= 6 and abs(i) >= 5 for i in late)
    assert pre.draw_mouth_shift(rng, 4, 0, 5) == -4
    assert pre.draw_mouth_shift(rng, 1, 0, 3) is None


def test_similarity_recovers_a_known_map() -> None:
    rng = np.random.default_rng(0)
    angle, scale = 0.3, 1.07
    true = np.array(
        [
            [scale * np.cos(angle), -scale * np.sin(angle), 5],
            [scale * np.sin(angle), scale * np.cos(angle), -3],
        ]
    ).astype(np.float32)
    points = rng.normal(0, 30, (13, 2))
    np.testing.assert_allclose(pre.similarity(points, pre.transform_points(points, true)), true, atol=1e-4)


def test_misfitting_moments_are_rejected() -> None:
    face = face_68()
    assert pre.mouth_alignment(face_68(centre=(120.0, 130.0), roll_deg=8), face) is not None
    assert pre.mouth_alignment(face_68(d_eye=88), face) is None
    turned = face.copy()
    turned[27:31, 0] += 14
    assert pre.mouth_alignment(turned, face) is None


def test_composite_takes_the_mouth_from_the_other_moment_and_all_else_from_this_one() -> None:
    landmarks, here = face_68(), np.full((256, 256, 3), 200, dtype=np.uint8)
    other_landmarks, there = face_68(centre=(120.0, 130.0)), np.full((256, 256, 3), 50, dtype=np.uint8)
    matrix = pre.mouth_alignment(other_landmarks, landmarks)
    assert matrix is not None
    joined = pre.with_mouth_of(here, landmarks, there, matrix)
    mouth_x, mouth_y = np.round(landmarks[48:].mean(axis=0)).astype(int)
    assert (joined[mouth_y, mouth_x] == 50).all() and (joined[:130] == 200).all()
    matched = pre.with_mouth_of(here, landmarks, there, matrix, match_colour=True)
    assert np.abs(matched.astype(int) - 200).max() <= 1
    assert (pre.without_mouth(here, landmarks)[mouth_y, mouth_x] == 0).all()


def test_training_inputs_vary_by_seed_only() -> None:
    crop, landmarks = noise_image(256, 256), face_68()

    def inputs(seed: int) -> NDArray[np.uint8]:
        rng = np.random.default_rng(seed)
        face = pre.expression_training_input(crop, landmarks, 128, rng)
        mouth = pre.mouth_training_crop(crop, landmarks, rng, 128)
        return np.concatenate([face, mouth])

    np.testing.assert_array_equal(inputs(0), inputs(0))
    assert not np.array_equal(inputs(0), inputs(1))


def test_driver_inputs_of_one_frame_take_milliseconds_at_most() -> None:
    image, landmarks = noise_image(480, 640), face_68()
    stable, face = StableCrop(), face_with_box(250, 150, 400, 350)

    def once() -> float:
        begin = time.process_time()
        crop = pre.crop_face(image, stable.update(face, (480, 640)))
        pre.pose_input(crop, landmarks, 128)
        pre.expression_input(crop, landmarks, 128)
        pre.mouth_crop(crop, landmarks)
        return time.process_time() - begin

    assert min(once() for _ in range(20)) < 0.02
