"""The real MediaPipe models on scikit-image's public-domain portrait of Eileen Collins."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest
import skimage.data
from numpy.typing import NDArray

from engine.assets import AssetError, face_landmarker_path, selfie_segmentation_path
from engine.errors import EngineError
from engine.face_tracker import FaceTracker
from engine.portrait_mask import PortraitMask
from gcavt import preprocessing as pre

Image = NDArray[np.uint8]


@pytest.fixture(scope="module")
def astronaut() -> Image:
    return np.ascontiguousarray(skimage.data.astronaut())


@pytest.fixture(scope="module")
def model_path() -> Path:
    try:
        return face_landmarker_path()
    except AssetError as error:
        pytest.skip(error.message)


@pytest.fixture(scope="module")
def shared_tracker(model_path: Path) -> Iterator[FaceTracker]:
    with FaceTracker(model_path) as tracker:
        yield tracker


@pytest.fixture
def tracker(shared_tracker: FaceTracker) -> FaceTracker:
    shared_tracker.reset()
    return shared_tracker


@pytest.fixture(scope="module")
def portrait_mask() -> Iterator[PortraitMask]:
    try:
        path = selfie_segmentation_path()
    except AssetError as error:
        pytest.skip(error.message)
    with PortraitMask(path) as mask:
        yield mask


def picture_with_faces(astronaut: Image, heights_px: dict[int, int]) -> Image:
    """A grey 640 x 480 picture with the astronaut's head at each x, so many pixels high."""
    head = astronaut[30:230, 120:320]
    picture = np.full((480, 640, 3), 128, dtype=np.uint8)
    for x, height in heights_px.items():
        picture[20 : 20 + height, x : x + height] = cv2.resize(head, (height, height))
    return picture


def test_a_face_is_found_where_it_is(tracker: FaceTracker, astronaut: Image) -> None:
    face = tracker.track(astronaut, 0)
    assert face is not None and face.landmarks_478.shape == (478, 2) and face.landmarks_68.shape == (68, 2)
    np.testing.assert_allclose(face.box_xyxy, [180, 71, 270, 177], atol=6)
    # by eye in the picture: outer eye corners, nose tip, mouth corners, chin
    by_eye = {36: (194, 102), 45: (257, 101), 30: (223, 126), 48: (205, 139), 54: (244, 139), 8: (221, 177)}
    for point, place in by_eye.items():
        assert np.hypot(*(face.landmarks_68[point] - place)) < 6, point


def test_blendshapes_and_a_rotation_come_along(tracker: FaceTracker, astronaut: Image) -> None:
    face = tracker.track(astronaut, 0)
    assert face is not None and face.blendshapes is not None and face.head_rotation is not None
    assert face.blendshapes["mouthSmileLeft"] > 0.5 > face.blendshapes["jawOpen"]
    np.testing.assert_allclose(face.head_rotation @ face.head_rotation.T, np.eye(3), atol=1e-5)
    assert face.head_rotation[2, 2] > 0.9


def test_a_mirrored_picture_gives_mirrored_landmarks(tracker: FaceTracker, astronaut: Image) -> None:
    face = tracker.track(astronaut, 0)
    tracker.reset()
    mirrored = tracker.track(astronaut[:, ::-1], 0)  # a view that is not contiguous
    assert face is not None and mirrored is not None
    chin, nose = face.landmarks_68[8], face.landmarks_68[30]
    np.testing.assert_allclose(mirrored.landmarks_68[8], [511 - chin[0], chin[1]], atol=3)
    np.testing.assert_allclose(mirrored.landmarks_68[30], [511 - nose[0], nose[1]], atol=3)
    assert mirrored.landmarks_68[36, 0] < mirrored.landmarks_68[45, 0]


def test_no_face_gives_none_and_the_face_is_found_again(tracker: FaceTracker, astronaut: Image) -> None:
    assert tracker.track(np.zeros_like(astronaut), 0) is None
    assert tracker.track(astronaut, 40) is not None
    for step in range(4):
        lost = tracker.track(np.zeros_like(astronaut), 80 + 40 * step)
    assert lost is None
    assert tracker.track(astronaut, 400) is not None


def test_of_several_faces_the_largest_is_followed(tracker: FaceTracker, astronaut: Image) -> None:
    larger_on_the_right = picture_with_faces(astronaut, {20: 220, 280: 320})
    for timestamp_ms in (0, 40):
        face = tracker.track(larger_on_the_right, timestamp_ms)
        assert face is not None and face.box_xyxy[0] > 280


def test_the_frame_size_may_change_in_mid_stream(tracker: FaceTracker, astronaut: Image) -> None:
    half = np.asarray(cv2.resize(astronaut, (256, 256)), dtype=np.uint8)
    for step, (frame, middle_x) in enumerate([(astronaut, 225), (astronaut[:400, 30:430], 195), (half, 112)]):
        face = tracker.track(frame, 40 * step)
        assert face is not None and abs(face.box_xyxy[[0, 2]].mean() - middle_x) < 6


def test_timestamps_that_do_not_increase_are_accepted(tracker: FaceTracker, astronaut: Image) -> None:
    for timestamp_ms in (1000, 1000, 960, 0, 1001):
        assert tracker.track(astronaut, timestamp_ms) is not None


def test_tiny_and_narrow_frames_have_no_face(tracker: FaceTracker) -> None:
    for step, shape in enumerate([(1, 1, 3), (8, 8, 3), (700, 2, 3)]):
        assert tracker.track(np.zeros(shape, dtype=np.uint8), step) is None


def test_other_pixel_formats_are_refused(tracker: FaceTracker) -> None:
    with pytest.raises(ValueError, match=r"RGB uint8 \(H, W, 3\), got uint8 \(8, 8, 4\)"):
        tracker.track(np.zeros((8, 8, 4), dtype=np.uint8), 0)


def test_a_file_that_is_no_model_is_refused_by_name(tmp_path: Path) -> None:
    path = tmp_path / "notes.task"
    path.write_text("not a model")
    with pytest.raises(EngineError, match=r"notes\.task is not a face landmarker model"):
        FaceTracker(path)
    with pytest.raises(EngineError, match=r"gone\.task is not a face landmarker model"):
        FaceTracker(tmp_path / "gone.task")
    with pytest.raises(EngineError, match=r"notes\.task is not a segmentation model"):
        PortraitMask(path)


def test_opening_the_tracker_writes_nothing_on_the_terminal(
    model_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    FaceTracker(model_path).close()
    assert capfd.readouterr().err == ""


def test_a_small_face_in_a_large_photo_is_found(tracker: FaceTracker, astronaut: Image) -> None:
    photo = np.full((1600, 2000, 3), 90, dtype=np.uint8)
    photo[900:1412, 1100:1612] = astronaut
    assert tracker.track(photo, 0) is None
    face = tracker.find_in_photo(photo)
    assert face is not None
    np.testing.assert_allclose(face.box_xyxy, [1280, 971, 1370, 1077], atol=8)
    assert tracker.find_in_photo(photo[:800]) is None


def test_portrait_is_the_person_on_black(
    tracker: FaceTracker, portrait_mask: PortraitMask, astronaut: Image
) -> None:
    face = tracker.find_in_photo(astronaut)
    assert face is not None
    portrait = portrait_mask.portrait(astronaut, face)
    assert portrait.image_HWC.shape == (256, 256, 3) and portrait.mask_HW.shape == (256, 256)
    assert not portrait.image_HWC[:40, :20].any() and not portrait.image_HWC[:40, -20:].any()
    for x, y in np.round(portrait.landmarks_68).astype(int):
        assert portrait.mask_HW[y, x] > 0.7
    again = tracker.find_in_photo(portrait.image_HWC)
    assert again is not None
    assert np.abs(again.landmarks_68 - portrait.landmarks_68).mean() < 3


def test_portrait_of_a_face_at_the_top_border_has_nothing_above_the_photo(
    tracker: FaceTracker, portrait_mask: PortraitMask, astronaut: Image
) -> None:
    cut = astronaut[60:]  # the picture begins in the hair
    face = tracker.find_in_photo(cut)
    assert face is not None
    portrait = portrait_mask.portrait(cut, face)
    edge_y = pre.transform_points(np.zeros((1, 2), np.float32), pre.crop_from_box(face.box_xyxy))[0, 1]
    assert edge_y > 20 and not portrait.image_HWC[: int(edge_y)].any()
    assert portrait.image_HWC[int(edge_y) + 5].any()


def test_the_three_driver_inputs_of_a_real_face_show_what_they_should(
    tracker: FaceTracker, astronaut: Image
) -> None:
    face = tracker.track(astronaut, 0)
    assert face is not None
    crop_from_image = pre.StableCrop().update(face, (512, 512))
    crop = pre.crop_face(astronaut, crop_from_image)
    landmarks = pre.transform_points(face.landmarks_68, crop_from_image)
    shown = pre.pose_input(crop, landmarks, 256).max(axis=2) > 0
    points = np.round(landmarks[17:]).astype(int)
    assert not shown[points[:, 1], points[:, 0]].any() and shown.mean() > 0.6
    face_only = pre.expression_input(crop, landmarks, 256).max(axis=2) > 0
    assert 0.1 < face_only.mean() < 0.35
    assert pre.mouth_crop(crop, landmarks)[48, 48].min() > 150  # teeth


def test_driving_needs_no_shapes_and_gets_the_same_landmarks(model_path: Path, astronaut: Image) -> None:
    with FaceTracker(model_path) as full, FaceTracker(model_path, reads_shapes=False) as lean:
        with_shapes, without = full.track(astronaut, 0), lean.track(astronaut, 0)
    assert with_shapes is not None and without is not None
    assert without.blendshapes is None and without.head_rotation is None
    np.testing.assert_allclose(without.landmarks_68, with_shapes.landmarks_68, atol=1e-3)
