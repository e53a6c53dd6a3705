import math
from dataclasses import replace

import pytest
import torch
from torch import nn

from gcavt.audio_encoder import AudioEncoder
from gcavt.backbones.code_scale import to_unit_rms
from gcavt.backbones.resnet_se import AttentivePooling, SqueezeExcite
from gcavt.backbones.resnext import ResNeXt
from gcavt.config import GcavtConfig, ResNetSEEncoderConfig
from gcavt.content_encoder import ContentEncoder
from gcavt.identity_encoder import IdentityEncoder
from gcavt.model import Gcavt
from gcavt.pose_encoder import PoseEncoder

PAPER = GcavtConfig.paper()
TINY = GcavtConfig.tiny()


def millions(module: nn.Module) -> float:
    return round(sum(p.numel() for p in module.parameters()) / 1e6, 2)


@pytest.mark.parametrize(
    ("encoder", "expected"),
    [
        ("identity_encoder", 24.03),
        ("pose_encoder", 2.24),
        ("expression_encoder", 2.55),
        ("content_encoder", 5.47),
        ("audio_encoder", 6.72),
    ],
)
def test_encoder_has_the_parameters_of_the_paper(paper_model: Gcavt, encoder: str, expected: float) -> None:
    assert millions(paper_model.get_submodule(encoder)) == expected


def test_content_encoder_with_the_papers_literal_pooling_has_6_98_million() -> None:
    with torch.device("meta"):
        encoder = ContentEncoder(replace(PAPER, content=ResNetSEEncoderConfig(pooling="attention")))
        assert encoder(torch.empty(1, 3, 96, 96)).shape == (1, 256)
    assert millions(encoder) == 6.98


def test_encoders_of_the_paper_return_codes_of_its_widths(paper_model: Gcavt) -> None:
    shapes = {
        "identity_encoder": ((3, 256, 256), 512),
        "pose_encoder": ((3, 256, 256), 12),
        "expression_encoder": ((3, 256, 256), 256),
        "content_encoder": ((3, 96, 96), 256),
        "audio_encoder": ((1, 80, 20), 256),
    }
    for encoder, (shape, width) in shapes.items():
        assert paper_model.get_submodule(encoder)(torch.empty(2, *shape, device="meta")).shape == (2, width)


@pytest.mark.parametrize("encoder", ["pose_encoder", "expression_encoder", "content_encoder"])
def test_a_fresh_correction_leaves_the_images_code_and_a_taught_one_keeps_its_length(encoder: str) -> None:
    torch.manual_seed(0)
    module = getattr(Gcavt(GcavtConfig.lite_masked()).eval(), encoder)
    side = 96 if encoder == "content_encoder" else 128
    image, landmarks = torch.rand(2, 3, side, side), torch.rand(2, 136)
    alone = module(image)
    torch.testing.assert_close(module(image, landmarks), alone)
    nn.init.normal_(module.correction[-1].weight)
    corrected = module(image, landmarks)
    assert not torch.allclose(corrected, alone, atol=0.1)
    if encoder != "pose_encoder":
        torch.testing.assert_close(corrected.norm(dim=1), torch.full((2,), 16.0))


def test_an_encoder_that_reads_no_landmarks_refuses_them() -> None:
    encoder = PoseEncoder(GcavtConfig.tiny()).eval()
    with pytest.raises(ValueError, match="reads no landmarks"):
        encoder(torch.rand(1, 3, 64, 64), torch.rand(1, 136))


def test_lite_encoders_take_smaller_pictures_and_have_a_tenth_of_the_size() -> None:
    lite = GcavtConfig.lite()
    torch.manual_seed(0)
    identity, content, audio = (
        IdentityEncoder(lite).eval(),
        ContentEncoder(lite).eval(),
        AudioEncoder(lite).eval(),
    )
    assert identity(torch.rand(1, 3, 128, 128)).shape == (1, 512)
    assert content(torch.rand(1, 3, 96, 96)).shape == audio(torch.rand(1, 1, 80, 20)).shape == (1, 256)
    assert millions(identity) < 2.4 and millions(content) < 3.2 and millions(audio) < 2.1


@pytest.mark.parametrize("side_px", [64, 96, 128])
def test_identity_encoder_accepts_any_size(side_px: int) -> None:
    assert IdentityEncoder(TINY).eval()(torch.rand(1, 3, side_px, side_px)).shape == (1, 512)


def test_identity_code_is_the_mean_over_portraits() -> None:
    torch.manual_seed(0)
    encoder = IdentityEncoder(TINY).eval()
    portraits = torch.rand(2, 3, 3, 64, 64)
    expected = torch.stack([encoder(person).mean(0) for person in portraits])
    torch.testing.assert_close(encoder.average(portraits), expected)


def test_seen_and_heard_content_codes_have_the_same_length() -> None:
    torch.manual_seed(0)
    seen = ContentEncoder(TINY).eval()(torch.rand(3, 3, 96, 96))
    heard = AudioEncoder(TINY).eval()(torch.rand(3, 1, 80, 20))
    torch.testing.assert_close(seen.norm(dim=1), torch.full((3,), 16.0))
    torch.testing.assert_close(heard.norm(dim=1), torch.full((3,), 16.0))


def test_unit_rms_keeps_the_direction_and_survives_a_zero_code() -> None:
    code = torch.tensor([[3.0, 4.0], [0.0, 0.0]])
    scaled = to_unit_rms(code)
    torch.testing.assert_close(scaled[0], torch.tensor([0.6, 0.8]) * math.sqrt(2))
    assert torch.equal(scaled[1], torch.zeros(2))


def test_attentive_pooling_of_a_constant_map_is_that_constant() -> None:
    pooling = AttentivePooling(12).eval()
    column = torch.rand(2, 4, 3, 1)
    torch.testing.assert_close(pooling(column.expand(2, 4, 3, 5)), column.flatten(1))


def test_squeeze_excite_scales_whole_channels() -> None:
    x = torch.rand(1, 16, 4, 4) + 0.5
    ratio = SqueezeExcite(16)(x) / x
    torch.testing.assert_close(ratio, ratio[:, :, :1, :1].expand_as(ratio))


def test_resnext_50_has_the_published_trunk() -> None:
    with torch.device("meta"):
        network = ResNeXt(
            blocks=(3, 4, 6, 3), cardinality=32, base_width=4, stem_channels=64, output_dim=1000
        )
    assert sum(p.numel() for p in network.parameters()) == 25_028_904  # as torchvision's resnext50_32x4d
