import pytest
import torch

from gcavt.config import DiscriminatorConfig, GcavtConfig
from gcavt.discriminator import MultiScaleDiscriminator

TINY = GcavtConfig.tiny().discriminator


def parameters(config: DiscriminatorConfig) -> float:
    with torch.device("meta"):
        discriminator = MultiScaleDiscriminator(config)
    return round(sum(p.numel() for p in discriminator.parameters()) / 1e6, 2)


def test_two_scales_have_5_53_million_parameters_and_three_8_29() -> None:
    assert parameters(DiscriminatorConfig()) == 5.53
    assert parameters(DiscriminatorConfig(scales=3)) == 8.29


def test_each_scale_gives_four_feature_maps_and_patch_logits() -> None:
    with torch.device("meta"):
        outputs = MultiScaleDiscriminator(DiscriminatorConfig())(torch.empty(2, 3, 256, 256))
    assert [[f.shape[1] for f in o.features] for o in outputs] == [[64, 128, 256, 512]] * 2
    assert [tuple(o.logits.shape) for o in outputs] == [(2, 1, 35, 35), (2, 1, 19, 19)]


def test_coarse_scale_sees_the_half_sized_image() -> None:
    torch.manual_seed(0)
    discriminator = MultiScaleDiscriminator(TINY).eval()
    image = torch.rand(1, 3, 32, 32).repeat_interleave(2, 2).repeat_interleave(2, 3)
    halved = torch.nn.functional.avg_pool2d(image, 3, 2, padding=1, count_include_pad=False)
    fine, coarse = discriminator(image)
    torch.testing.assert_close(coarse.logits, discriminator.scales[1](halved).logits)
    assert fine.logits.shape[2] > coarse.logits.shape[2]


def test_identity_rows_shift_the_logits_of_their_person() -> None:
    torch.manual_seed(0)
    discriminator = MultiScaleDiscriminator(TINY, identities=3).eval()
    image = torch.rand(1, 3, 64, 64)
    first, other = (discriminator(image, torch.tensor([person]))[0].logits for person in (0, 1))
    difference = first - other
    assert difference.abs().max() > 1e-3
    torch.testing.assert_close(
        difference, difference[:, :, :1, :1].expand_as(difference), atol=1e-5, rtol=1e-4
    )


def test_identities_must_be_given_to_a_projection_discriminator_and_to_no_other() -> None:
    image = torch.rand(1, 3, 64, 64)
    with pytest.raises(ValueError, match="identity_B"):
        MultiScaleDiscriminator(TINY, identities=3)(image)
    with pytest.raises(ValueError, match="identity_B"):
        MultiScaleDiscriminator(TINY)(image, torch.tensor([0]))
