import pytest
import torch
from torch import nn

from training.precision import bf16_convolutions


def network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Conv2d(8, 2, 3, bias=False))


def gradient(model: nn.Sequential, x: torch.Tensor) -> torch.Tensor:
    model.zero_grad()
    model(x).square().mean().backward()
    first = model[0]
    assert isinstance(first, nn.Conv2d) and first.weight.grad is not None
    return first.weight.grad.clone()


def test_products_lose_bits_but_results_and_weights_stay_fp32() -> None:
    model, x = network(), torch.randn(2, 3, 9, 9)
    exact, exact_gradient = model(x).detach(), gradient(model, x)
    with bf16_convolutions(model):
        coarse, coarse_gradient = model(x).detach(), gradient(model, x)
    assert coarse.dtype == coarse_gradient.dtype == torch.float32
    assert 0 < float((coarse - exact).abs().max()) < 0.05
    assert float(torch.cosine_similarity(exact_gradient.flatten(), coarse_gradient.flatten(), dim=0)) > 0.99
    assert torch.equal(model(x), exact)


def test_they_are_exact_again_after_an_error() -> None:
    model, x = network(), torch.randn(1, 3, 9, 9)
    exact = model(x)
    with pytest.raises(RuntimeError), bf16_convolutions(model):
        model(torch.zeros(1, 5, 9, 9))
    assert torch.equal(model(x), exact)
