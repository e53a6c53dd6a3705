"""The perceptual loss looks where the encoders look, and pulls towards the target."""

import cv2
import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from gcavt.config import GcavtConfig
from gcavt.edit_repose import sample
from gcavt.model import Gcavt
from gcavt.preprocessing import mouth_crop
from training.objectives.feature_loss import FeatureLoss, window_positions

LITE = GcavtConfig.lite()


def landmarks() -> NDArray[np.float32]:
    points = np.random.default_rng(3).uniform(90, 170, (68, 2)).astype(np.float32)
    points[36:48] = np.random.default_rng(4).uniform((95, 95), (160, 105), (12, 2))
    points[[36, 45]] = (92, 103), (165, 97)
    points[48:68] = np.random.default_rng(5).uniform((110, 150), (146, 170), (20, 2))
    return points


@pytest.fixture(scope="module")
def loss() -> FeatureLoss:
    torch.manual_seed(0)
    return FeatureLoss(Gcavt(LITE))


def test_the_mouth_window_is_the_content_encoders_crop(loss: FeatureLoss) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    image = np.asarray(cv2.resize(noise, (256, 256), interpolation=cv2.INTER_CUBIC), np.uint8)
    windows = loss._mouth_windows(landmarks()[None], (256, 256))
    tensor = torch.from_numpy(image).permute(2, 0, 1)[None].float()
    seen = sample(tensor, window_positions(windows, 96))[0].permute(1, 2, 0).numpy()
    expected = mouth_crop(image, landmarks(), 96).astype(np.float32)
    assert np.abs(seen - expected)[2:-2, 2:-2].mean() < 1.0  # OpenCV samples at 1/32 px


def test_equal_pictures_cost_nothing_and_the_gradient_leads_towards_the_target(loss: FeatureLoss) -> None:
    torch.manual_seed(1)
    target = torch.rand(2, 3, 256, 256)
    points = np.stack([landmarks(), landmarks() + 3])
    assert float(loss(target, target, points)) == 0
    output = (target + 0.2 * torch.randn_like(target)).requires_grad_()
    before = loss(output, target, points)
    (gradient,) = torch.autograd.grad(before, output)
    nearer = output.detach() - 0.1 * gradient / gradient.abs().max()
    assert float(loss(nearer, target, points)) < float(before.detach())


def test_only_the_face_matters_and_the_copies_stay_as_they_are(loss: FeatureLoss) -> None:
    target = torch.rand(1, 3, 256, 256)
    changed = target.clone()
    changed[:, :, :20] = 0
    assert float(loss(changed, target, landmarks()[None])) == 0
    assert not any(parameter.requires_grad for parameter in loss.train().parameters())
    assert not any(module.training for module in loss.backbones)
