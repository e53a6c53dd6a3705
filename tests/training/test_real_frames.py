from pathlib import Path
from typing import Any

import numpy as np

from gcavt.code_space import COEFFICIENTS
from gcavt.config import EditReposeGeneratorConfig as Camera
from training.datasets.real_frames import MIRRORED_LANDMARK, RealFrame, RealFrames, mirrored, moved
from training.synthetic.renderer import rotation_matrix

FACE = np.random.default_rng(0).normal([0, 7.1, 1.4], [0.4, 0.5, 0.05], (68, 3)).astype(np.float32)


def projected(pose: np.ndarray) -> np.ndarray:
    """Where the camera of the pose code shows the points of a rigid face, pixel centres at whole numbers."""
    pivot = np.array(Camera.pivot)
    points = (FACE - pivot) @ rotation_matrix(*pose[:3]).T + pivot + pose[3:]
    per_unit = Camera.focal_ratio * 256 / (Camera.camera_distance - points[:, 2])
    x = 127.5 + points[:, 0] * per_unit
    y = 127.5 - (points[:, 1] - Camera.camera_height) * per_unit
    return np.stack([x, y], 1).astype(np.float32)


def frame(pose: np.ndarray) -> RealFrame:
    image = np.zeros((256, 256, 3), np.uint8)
    expression = np.random.default_rng(1).uniform(0, 1, 52).astype(np.float32)
    return RealFrame(image, projected(pose), pose, expression, expression[::-1].copy())


POSE = np.array([5.0, 14.0, -4.0, 0.05, -0.03, 0.2], np.float32)


def test_a_moved_picture_shows_the_moved_pose() -> None:
    changed = moved(frame(POSE), turn_deg=11.0, scale=1.05, shift_px=np.array([4.0, -3.0]))
    np.testing.assert_allclose(projected(changed.pose_6), changed.landmarks_68, atol=0.8)


def test_mirroring_twice_changes_nothing() -> None:
    twice = mirrored(mirrored(frame(POSE)))
    np.testing.assert_allclose(twice.landmarks_68, frame(POSE).landmarks_68, atol=1e-4)
    np.testing.assert_array_equal(twice.expression_52, frame(POSE).expression_52)
    np.testing.assert_allclose(twice.pose_6, POSE)


def test_a_mirror_swaps_left_and_right() -> None:
    left, right = COEFFICIENTS.index("eyeBlinkLeft"), COEFFICIENTS.index("eyeBlinkRight")
    original, mirror = frame(POSE), mirrored(frame(POSE))
    assert mirror.expression_52[left] == original.expression_52[right]
    jaw = COEFFICIENTS.index("jawOpen")
    assert mirror.mouth_52[jaw] == original.mouth_52[jaw]
    assert sorted(MIRRORED_LANDMARK) == list(range(68))


def test_a_pair_shows_one_clip(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    clips = np.repeat([0, 1, 2], 4)
    arrays: dict[str, Any] = {
        "crop": np.zeros((12, 256, 256, 3), np.uint8),
        "landmarks": rng.uniform(60, 190, (12, 68, 2)).astype(np.float32),
        "pose": np.zeros((12, 6), np.float32),
        "expression": np.tile(clips[:, None] / 4, (1, 52)).astype(np.float32),
        "mouth": np.zeros((12, 52), np.float32),
    }
    np.savez(tmp_path / "labels.npz", clip=clips, **arrays)
    frames = RealFrames(tmp_path / "labels.npz")
    pairs = [frames.draw_pair(rng) for _ in range(12)]
    assert all(np.array_equal(a.expression_52, b.expression_52) for a, b in pairs)
    assert len({float(a.expression_52[0]) for a, _ in pairs}) == 3
