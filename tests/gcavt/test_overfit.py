"""The whole objective on pictures drawn here: one step in the default run, an overfit in the slow one."""

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from gcavt.config import AdainGeneratorConfig, GcavtConfig
from gcavt.discriminator import MultiScaleDiscriminator
from gcavt.feature_networks import efficientnet_lite0_features
from gcavt.losses import (
    ContrastiveSyncLoss,
    IdentityClassifier,
    LossWeights,
    PerceptualLoss,
    ReconstructionLoss,
    dice_loss,
    discriminator_loss,
)
from gcavt.model import DrivingSources, Gcavt

SIDE_PX = 64
CONFIG = replace(
    GcavtConfig.tiny(), image_px=SIDE_PX, generator=AdainGeneratorConfig(base_channels=8, max_channels=48)
)


def drawn_face(jaw_px: float, yaw_px: float, gaze_px: float) -> tuple[Tensor, Tensor]:
    """An ellipse with eyes and an open mouth: image (3, 64, 64) on black, and its mask."""
    y, x = torch.meshgrid(torch.arange(SIDE_PX), torch.arange(SIDE_PX), indexing="ij")
    x = x - 32 - yaw_px

    def ellipse(centre_x: float, centre_y: float, radius_x: float, radius_y: float) -> Tensor:
        return (((x - centre_x) / radius_x) ** 2 + ((y - centre_y) / radius_y) ** 2 < 1).float()

    head, mouth = ellipse(0, 32, 18, 24), ellipse(0, 44, 8, 1 + jaw_px)
    eyes = (ellipse(-7, 26 + gaze_px, 3, 3) + ellipse(7, 26 + gaze_px, 3, 3)).clamp(max=1)
    image = torch.stack([0.8 * head, 0.6 * head, 0.5 * head]) * (1 - eyes) * (1 - mouth)
    return image + mouth * torch.tensor([0.5, 0.05, 0.05])[:, None, None], head[None]


def drawn_clip() -> tuple[DrivingSources, Tensor, Tensor]:
    """Four frames of one face with its driving sources, their images and masks."""
    faces = [drawn_face(0, 0, 0), drawn_face(2, -6, 0), drawn_face(4, 6, 1), drawn_face(6, 0, -1)]
    images, masks = (torch.stack(part) for part in zip(*faces, strict=True))
    sources = DrivingSources(
        portrait_images=images[:1].repeat(4, 1, 1, 1)[:, None],
        pose_image=images,
        expression_image=images,
        mouth_image=F.interpolate(images, (96, 96)),
        mel_window=torch.rand(4, 1, 80, 20),
    )
    return sources, images, masks


def test_one_joint_step_gives_every_part_a_finite_gradient() -> None:
    torch.manual_seed(0)
    model, sync = Gcavt(CONFIG), ContrastiveSyncLoss(mode="audio_only")
    discriminator = MultiScaleDiscriminator(CONFIG.discriminator)
    classifier = IdentityClassifier(CONFIG.identity_dim, identities=2)
    network = efficientnet_lite0_features(("stem", "block_2"))
    reconstruction = ReconstructionLoss(
        PerceptualLoss(network), PerceptualLoss(network, centre_fraction=1 / 1.8)
    )
    sources, images, masks = drawn_clip()

    rebuilt = model(sources)
    real = discriminator(images)
    streams = [
        reconstruction(image, mask, images, masks, real=real, fake=discriminator(image))
        for image, mask in (
            (rebuilt.visual_image, rebuilt.visual_mask),
            (rebuilt.audio_image, rebuilt.audio_mask),
        )
    ]
    shared = {
        "sync": sync(rebuilt.visual_content_code, rebuilt.audio_content_code),
        "identity": classifier(rebuilt.identity_code, torch.tensor([0, 0, 1, 1])),
    }
    torch.autograd.backward(LossWeights().total(streams[0], streams[1], shared))
    for module in (model, classifier, sync):
        for name, parameter in module.named_parameters():
            assert parameter.grad is not None and parameter.grad.isfinite().all(), name

    discriminator.zero_grad()
    fakes = torch.cat([rebuilt.visual_image, rebuilt.audio_image]).detach()
    torch.autograd.backward(discriminator_loss(discriminator(images), discriminator(fakes)))
    for name, parameter in discriminator.named_parameters():
        assert parameter.grad is not None and parameter.grad.isfinite().all(), name


@pytest.mark.slow
def test_tiny_model_learns_one_clip_by_heart() -> None:
    torch.manual_seed(0)
    model = Gcavt(CONFIG)
    sources, images, masks = drawn_clip()
    optimizer = torch.optim.Adam(model.parameters(), 2e-3, betas=(0.0, 0.999))
    schedule = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.1, total_iters=160)
    for _ in range(160):
        rebuilt = model(sources)
        visual_l1 = F.l1_loss(rebuilt.visual_image, images)
        audio_l1 = F.l1_loss(rebuilt.audio_image, images)
        dice = dice_loss(rebuilt.visual_mask, masks) + dice_loss(rebuilt.audio_mask, masks)
        optimizer.zero_grad()
        torch.autograd.backward(10 * (visual_l1 + audio_l1) + dice)
        optimizer.step()
        schedule.step()
    assert visual_l1.item() < 0.03
    assert audio_l1.item() < 0.03
