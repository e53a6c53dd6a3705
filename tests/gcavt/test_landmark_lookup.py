import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from gcavt import preprocessing as pre
from gcavt.backbones.landmark_lookup import LandmarkLookup, in_window, level_landmarks, points_in_mouth_crop
from gcavt.config import GcavtConfig
from gcavt.expression_encoder import ExpressionEncoder

ZOOM, SIDE = 1.8, 64


@pytest.fixture
def landmarks_68() -> NDArray[np.float32]:
    """A face at any place, its eye line 15 degrees off the level."""
    rng = np.random.default_rng(0)
    face = rng.uniform(-40, 40, (68, 2))
    face[36:42] = rng.normal((-25, 0), 2, (6, 2))
    face[42:48] = rng.normal((25, 0), 2, (6, 2))
    face[36], face[45] = (-38, 0), (38, 0)
    angle = np.radians(15)
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    return np.asarray(face @ turn.T + (120, 134), np.float32)


def told(landmarks_68: NDArray[np.float32]) -> torch.Tensor:
    return torch.from_numpy(pre.pose_landmarks(landmarks_68))[None]


def test_level_landmarks_are_those_of_preprocessing(landmarks_68: NDArray[np.float32]) -> None:
    level = level_landmarks(told(landmarks_68))[0].numpy()
    np.testing.assert_allclose(level, pre.face_landmarks(landmarks_68), atol=1e-5)


def test_landmarks_lie_in_the_window_that_preprocessing_cuts(landmarks_68: NDArray[np.float32]) -> None:
    window = in_window(told(landmarks_68))
    matrix = pre.face_window(landmarks_68, SIDE, ZOOM * SIDE / pre.CROP_PX)
    expected = pre.transform_points(landmarks_68, matrix) - (SIDE - 1) / 2
    found = window.points(ZOOM)[0].numpy() * SIDE / 2
    np.testing.assert_allclose(found, expected, atol=1e-3)


def test_landmarks_lie_in_the_mouth_crop_that_preprocessing_cuts(landmarks_68: NDArray[np.float32]) -> None:
    half_px = 0.5 * pre.MOUTH_SIDE * pre.eye_distance(landmarks_68)
    turn_deg = -pre.eye_line_deg(landmarks_68)
    matrix = pre.mouth_window(landmarks_68, (256, 256), SIDE, half_px, turn_deg)
    expected = (pre.transform_points(landmarks_68, matrix) - (SIDE - 1) / 2) * 2 / SIDE
    found = points_in_mouth_crop(torch.from_numpy(pre.face_landmarks(landmarks_68))[None])[0].numpy()
    np.testing.assert_allclose(found, expected, atol=1e-4)


def test_what_is_looked_up_is_what_lies_about_the_landmark(landmarks_68: NDArray[np.float32]) -> None:
    matrix = pre.face_window(landmarks_68, SIDE, ZOOM * SIDE / pre.CROP_PX)
    at = pre.transform_points(landmarks_68, matrix)
    y, x = torch.meshgrid(torch.arange(SIDE), torch.arange(SIDE), indexing="ij")
    places = torch.stack([x, y])[None].float()
    lookup = LandmarkLookup(2, 1)
    rows = lookup.in_features
    seen = []
    for point in (0, 30, 67):
        for channel in (0, 1):
            torch.nn.init.zeros_(lookup.weight)
            torch.nn.init.zeros_(lookup.bias)
            middle = (channel * 68 + point) * 9 + 4
            lookup.weight.data[0, middle] = rows**0.5
            seen.append(
                float(lookup.about(places, in_window(told(landmarks_68)).points(ZOOM))[0, 0].detach())
            )
    np.testing.assert_allclose(np.reshape(seen, (3, 2)), at[[0, 30, 67]].clip(0, SIDE - 1), atol=0.02)


def test_an_expression_encoder_that_looks_up_sees_where_the_landmarks_are(
    landmarks_68: NDArray[np.float32],
) -> None:
    torch.manual_seed(0)
    encoder = ExpressionEncoder(GcavtConfig.lite()).eval()
    image = torch.rand(1, 3, 128, 128)
    torch.testing.assert_close(encoder(image, told(landmarks_68)), encoder(image))
    assert encoder.correction is not None
    torch.nn.init.normal_(encoder.correction[-1].get_parameter("weight"))
    moved = landmarks_68.copy()
    moved[20] += 3
    code, other = encoder(image, told(landmarks_68)), encoder(image, told(moved))
    assert not torch.allclose(code, other, atol=1e-3)
    torch.testing.assert_close(code.norm(dim=1), torch.full((1,), 16.0))
