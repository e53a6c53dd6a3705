"""The way from a window about the face to the crop's camera, which is computed: no training is needed."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import nn

from gcavt import code_space
from gcavt.config import EditReposeGeneratorConfig, FacePoseEncoderConfig, GcavtConfig, MobileNetEncoderConfig
from gcavt.edit_repose import rotation_matrix
from gcavt.face_pose_encoder import FacePoseEncoder
from gcavt.pose_encoder import PoseEncoder
from gcavt.preprocessing import MESH_OF_IBUG_68, pose_landmarks
from training.synthetic.head_pack import load_head_pack

SMALL = replace(GcavtConfig.lite(), pose=FacePoseEncoderConfig(widths=(4, 4, 4, 4), input_px=32, features=8))


def average_head_68() -> NDArray[np.float32]:
    """(68, 3) landmarks of an average head at rest, about the pivot, in head units."""
    pack = load_head_pack()
    fine = pack.subdivision_FV @ pack.vertices_V3
    at = fine[pack.landmark_vertices_468[MESH_OF_IBUG_68]]
    return np.asarray(at - np.array(EditReposeGeneratorConfig.pivot), np.float32)


def landmarks_in(pose_6: NDArray[np.float32]) -> NDArray[np.float32]:
    """(68, 2) where they lie in a crop of 256 px."""
    camera = EditReposeGeneratorConfig
    rotation = rotation_matrix(torch.from_numpy(pose_6[None, :3]))[0].numpy()
    at = average_head_68() @ rotation.T + pose_6[3:] + np.array(camera.pivot)
    depth = camera.camera_distance - at[:, 2]
    flat = np.stack([at[:, 0], camera.camera_height - at[:, 1]], 1) / depth[:, None]
    return np.asarray(256 * camera.focal_ratio * flat + 127.5, np.float32)


@pytest.fixture(scope="module")
def blind() -> FacePoseEncoder:
    """It says "as an average head whose face is in the window's middle and looks at the camera"."""
    encoder = FacePoseEncoder(SMALL).eval()
    nn.init.zeros_(encoder.pose.weight)
    return encoder


def read(encoder: FacePoseEncoder, landmarks_68: NDArray[np.float32]) -> NDArray[np.float32]:
    landmarks = torch.from_numpy(pose_landmarks(landmarks_68))[None]
    with torch.no_grad():
        code = encoder(torch.zeros(1, 3, 32, 32), landmarks)
    assert code.shape == (1, 12) and not code[0, 6:].any()
    pose: NDArray[np.float32] = code_space.pose_from_code(code.numpy())[0]
    return pose


@pytest.mark.parametrize("roll", [-18.0, 0.0, 12.0])
@pytest.mark.parametrize("shift", [(0.0, 0.0), (0.25, -0.1), (-0.2, 0.2)])
def test_roll_and_place_follow_from_where_the_landmarks_lie(
    blind: FacePoseEncoder, roll: float, shift: tuple[float, float]
) -> None:
    straight = read(blind, landmarks_in(np.zeros(6, np.float32)))
    moved = np.array([0, 0, roll, *shift, 0], np.float32)
    # a head aside has to look at the camera to be seen as straight on as this encoder believes
    for _ in range(4):
        moved[:2] = read(blind, landmarks_in(moved))[:2]
    pose = read(blind, landmarks_in(moved)) - straight
    assert pose[2] == pytest.approx(roll, abs=0.5)
    np.testing.assert_allclose(pose[3:5], shift, atol=0.03)
    assert abs(pose[0]) < 4 and abs(pose[1]) < 4


def test_a_head_right_and_above_turns_left_and_down_to_look_at_the_camera(blind: FacePoseEncoder) -> None:
    straight = read(blind, landmarks_in(np.zeros(6, np.float32)))
    aside = read(blind, landmarks_in(np.array([0, 0, 0, 0.3, 0.3, 0], np.float32))) - straight
    assert aside[0] > 1 and aside[1] < -1


def test_the_picture_moves_the_code() -> None:
    torch.manual_seed(0)
    encoder = FacePoseEncoder(SMALL).eval()
    landmarks = torch.from_numpy(pose_landmarks(landmarks_in(np.zeros(6, np.float32))))[None].repeat(2, 1)
    pictures = torch.rand(2, 3, 32, 32)
    code = encoder(pictures, landmarks)
    assert not torch.allclose(code[0], code[1])


def test_the_model_takes_the_encoder_that_its_config_describes() -> None:
    with pytest.raises(ValueError, match="does not see the face"):
        FacePoseEncoder(replace(SMALL, pose=MobileNetEncoderConfig()))
    with pytest.raises(ValueError, match="sees the face"):
        PoseEncoder(SMALL)
    for config in (SMALL, GcavtConfig.paper()):
        assert GcavtConfig.from_dict(config.to_dict()) == config
