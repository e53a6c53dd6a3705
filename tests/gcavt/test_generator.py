from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils import parametrize

from gcavt.config import AdainGeneratorConfig, GcavtConfig
from gcavt.generator import AdainGenerator, adain
from gcavt.model import Gcavt
from gcavt.phase_convolution import PhaseConvolution

SMALL = replace(
    GcavtConfig.tiny(), image_px=64, generator=AdainGeneratorConfig(base_channels=4, max_channels=16)
)


def codes(batch: int = 2, scale: float = 1.0) -> list[Tensor]:
    return [scale * torch.randn(batch, width) for width in (512, 12, 256, 256)]


@pytest.fixture
def generator() -> AdainGenerator:
    torch.manual_seed(0)
    return AdainGenerator(SMALL).eval()


def test_paper_generator_has_41_5_million_parameters_and_13056_affine_values(paper_model: Gcavt) -> None:
    generator = paper_model.generator
    assert isinstance(generator, AdainGenerator)
    assert round(sum(p.numel() for p in generator.parameters()) / 1e6, 2) == 41.50
    assert len(generator.affine_widths) == 17
    assert sum(generator.affine_widths) == 13_056
    first, _, second = generator.projector
    assert isinstance(first, nn.Linear) and isinstance(second, nn.Linear)
    assert (first.in_features, first.out_features, second.out_features) == (1036, 1036, 13_056)


def test_paper_generator_puts_out_256_px(paper_model: Gcavt) -> None:
    image, mask = paper_model.generator(*(code.to("meta") for code in codes()))
    assert image.shape == (2, 3, 256, 256)
    assert mask.shape == (2, 1, 256, 256)


def test_every_convolution_and_linear_layer_is_spectrally_normalised(generator: AdainGenerator) -> None:
    layers = [m for m in generator.modules() if isinstance(m, nn.Conv2d | nn.Linear)]
    assert all(parametrize.is_parametrized(layer, "weight") for layer in layers)
    for layer in generator.blocks.modules():  # fifteen power iterations at the start: close to 1, not exact
        if not isinstance(layer, nn.Conv2d):
            continue
        assert torch.linalg.matrix_norm(layer.weight.flatten(1), ord=2).item() == pytest.approx(1, abs=0.2)


def test_adain_sets_mean_and_spread_with_the_bias_first() -> None:
    torch.manual_seed(0)
    bias, weight = torch.tensor([[1.0, -2.0]]), torch.tensor([[3.0, 0.5]])
    out = adain(torch.randn(1, 2, 16, 16) * 7 + 3, torch.cat([bias, weight], dim=1))
    torch.testing.assert_close(out.mean((2, 3)), bias, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(out.std((2, 3), correction=0), weight, atol=1e-3, rtol=1e-3)


def test_image_and_mask_stay_in_range_however_large_the_codes(generator: AdainGenerator) -> None:
    image, mask = generator(*codes(scale=1e4))
    assert 0 <= mask.min() and mask.max() <= 1
    assert 0 <= image.min() and image.max() <= 1
    image, _ = generator.train()(*codes(scale=1e4))
    assert -0.25 <= image.min() and image.max() <= 1.25


def test_image_is_multiplied_by_the_mask(generator: AdainGenerator) -> None:
    with torch.no_grad():
        tail = generator.get_submodule("tail")
        assert isinstance(tail, nn.Conv2d) and tail.bias is not None
        tail.bias[3] = -1e3
        image, mask = generator(*codes())
    assert torch.equal(mask, torch.zeros_like(mask))
    assert torch.equal(image, torch.zeros_like(image))


def test_samples_of_a_batch_do_not_see_each_other(generator: AdainGenerator) -> None:
    with torch.no_grad():
        both = codes()
        together, _ = generator(*both)
        alone, _ = generator(*(code[1:] for code in both))
    torch.testing.assert_close(together[1:], alone, atol=1e-5, rtol=1e-5)


def test_folding_spectral_norm_keeps_image_and_mask(generator: AdainGenerator) -> None:
    given = codes()
    with torch.no_grad():
        before = generator(*given)
        after = generator.fold_spectral_norm()(*given)
    assert not any(parametrize.is_parametrized(m) for m in generator.modules())
    assert not any("parametrizations" in name for name in generator.state_dict())
    for a, b in zip(before, after, strict=True):
        assert (a - b).abs().max() < 1e-5


def test_folding_out_of_training_mode_keeps_the_weights_of_evaluation(generator: AdainGenerator) -> None:
    given = codes()
    with torch.no_grad():
        before, _ = generator(*given)
        after, _ = generator.train().fold_spectral_norm()(*given)
    assert (before - after).abs().max() < 1e-5


def test_phase_convolutions_keep_image_and_mask(generator: AdainGenerator) -> None:
    given = codes()
    with torch.no_grad():
        before = generator(*given)
        after = generator.use_phase_convolutions()(*given)
    assert sum(isinstance(m, PhaseConvolution) for m in generator.modules()) == 4
    for a, b in zip(before, after, strict=True):
        assert (a - b).abs().max() < 1e-5


def test_phase_convolution_equals_upsampling_then_convolving() -> None:
    torch.manual_seed(0)
    conv = nn.Conv2d(6, 5, 3, padding=1, bias=False)
    x = torch.randn(2, 6, 7, 9)
    with torch.no_grad():
        expected = conv(F.interpolate(x, scale_factor=2.0, mode="nearest"))
        assert (PhaseConvolution(conv)(x) - expected).abs().max() < 1e-5


def test_phase_convolution_refuses_other_convolutions() -> None:
    with pytest.raises(ValueError, match="3x3"):
        PhaseConvolution(nn.Conv2d(4, 4, 1, bias=False))
    with pytest.raises(ValueError, match="bias"):
        PhaseConvolution(nn.Conv2d(4, 4, 3, padding=1))


def test_generator_of_another_kind_is_refused() -> None:
    with pytest.raises(ValueError, match="edit_repose"):
        AdainGenerator(GcavtConfig.lite())
