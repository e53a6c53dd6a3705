from dataclasses import replace

import pytest
import torch
from torch import nn

from gcavt.config import AdainGeneratorConfig, GcavtConfig
from gcavt.losses import ContrastiveSyncLoss
from gcavt.model import DrivingSources, Gcavt

SMALL = replace(
    GcavtConfig.tiny(), image_px=64, generator=AdainGeneratorConfig(base_channels=4, max_channels=16)
)


def sources(batch: int = 2, portraits: int = 3) -> DrivingSources:
    return DrivingSources(
        portrait_images=torch.rand(batch, portraits, 3, 64, 64),
        pose_image=torch.rand(batch, 3, 64, 64),
        expression_image=torch.rand(batch, 3, 64, 64),
        mouth_image=torch.rand(batch, 3, 96, 96),
        mel_window=torch.rand(batch, 1, 80, 20),
    )


@pytest.fixture
def model() -> Gcavt:
    torch.manual_seed(0)
    return Gcavt(SMALL)


def is_trained(module: nn.Module) -> bool:
    return any(p.grad is not None and bool(p.grad.abs().max() > 0) for p in module.parameters())


def test_paper_model_has_82_5_million_parameters(paper_model: Gcavt) -> None:
    assert round(sum(p.numel() for p in paper_model.parameters()) / 1e6, 1) == 82.5


def test_forward_rebuilds_the_frame_once_per_stream(model: Gcavt) -> None:
    rebuilt = model.eval()(sources())
    assert rebuilt.visual_image.shape == rebuilt.audio_image.shape == (2, 3, 64, 64)
    assert rebuilt.visual_mask.shape == rebuilt.audio_mask.shape == (2, 1, 64, 64)
    assert not torch.equal(rebuilt.visual_image, rebuilt.audio_image)


def test_streams_differ_only_in_their_content_code(model: Gcavt) -> None:
    given = sources()
    with torch.no_grad():
        rebuilt = model.eval()(given)
        image, _ = model.generator(
            rebuilt.identity_code, rebuilt.pose_code, rebuilt.expression_code, rebuilt.audio_content_code
        )
    torch.testing.assert_close(image, rebuilt.audio_image, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize(
    ("stream", "taught", "untouched"),
    [
        ("visual_image", "content_encoder", "audio_encoder"),
        ("audio_image", "audio_encoder", "content_encoder"),
    ],
)
def test_image_of_a_stream_trains_its_own_content_encoder(
    model: Gcavt, stream: str, taught: str, untouched: str
) -> None:
    getattr(model(sources()), stream).mean().backward()
    for name in (taught, "identity_encoder", "pose_encoder", "expression_encoder", "generator"):
        assert is_trained(model.get_submodule(name)), name
    assert not is_trained(model.get_submodule(untouched))


def test_sync_loss_of_the_joint_stage_leaves_the_content_encoder_alone(model: Gcavt) -> None:
    visual, audio = model.sync_codes(torch.rand(3, 5, 3, 96, 96), torch.rand(3, 5, 1, 80, 20))
    assert visual.shape == audio.shape == (3, 5 * 256)
    ContrastiveSyncLoss(mode="audio_only")(visual, audio).backward()
    assert all(p.grad is None for p in model.content_encoder.parameters())
    assert is_trained(model.audio_encoder)


def test_sync_loss_of_the_first_stage_trains_both(model: Gcavt) -> None:
    visual, audio = model.sync_codes(torch.rand(3, 2, 3, 96, 96), torch.rand(3, 2, 1, 80, 20))
    ContrastiveSyncLoss(mode="symmetric")(visual, audio).backward()
    assert is_trained(model.content_encoder) and is_trained(model.audio_encoder)


def test_assembled_codes_keep_the_frames_in_order(model: Gcavt) -> None:
    mouths, mels = torch.rand(2, 3, 3, 96, 96), torch.rand(2, 3, 1, 80, 20)
    with torch.no_grad():
        visual, audio = model.eval().sync_codes(mouths, mels)
        torch.testing.assert_close(
            visual[1, 256:512], model.content_encoder(mouths[1, 1:2])[0], atol=1e-4, rtol=1e-4
        )
        torch.testing.assert_close(audio[0, 512:], model.audio_encoder(mels[0, 2:])[0], atol=1e-4, rtol=1e-4)
