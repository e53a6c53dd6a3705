import numpy as np
import pytest
import torch
import torch.nn.functional as F
from skimage.metrics import structural_similarity

from training.objectives.image_losses import contrast_error, structural_dissimilarity


def test_structural_dissimilarity_is_one_minus_the_reference_implementations_mean() -> None:
    rng = np.random.default_rng(0)
    first, second = rng.uniform(0, 1, (2, 32, 40, 3)).astype(np.float32)
    second = 0.5 * first + 0.5 * second
    expected = structural_similarity(
        first, second, channel_axis=2, data_range=1, use_sample_covariance=False, full=True
    )[1][3:-3, 3:-3].mean()
    ours = structural_dissimilarity(*(torch.from_numpy(x).permute(2, 0, 1)[None] for x in (first, second)))
    assert float(ours) == pytest.approx(1 - expected, abs=1e-5)


def test_contrast_is_lost_by_blur_and_not_by_a_shift() -> None:
    torch.manual_seed(0)
    target, weight = torch.rand(1, 3, 64, 64), torch.ones(1, 1, 64, 64)
    blurred = F.avg_pool2d(target, 3, 1, 1)
    shifted = target.roll(1, 3)
    assert float(contrast_error(target, target, weight)) == 0
    assert float(contrast_error(shifted, target, weight)) < 0.2 * float(
        contrast_error(blurred, target, weight)
    )
    assert float(contrast_error(blurred, target, 2 * weight)) == pytest.approx(
        2 * float(contrast_error(blurred, target, weight))
    )


def test_lost_contrast_pulls_at_what_detail_there_is() -> None:
    torch.manual_seed(0)
    target, weight = torch.rand(1, 3, 64, 64), torch.ones(1, 1, 64, 64)
    weak = (0.5 + 0.5 * (target - 0.5)).requires_grad_()
    (pull,) = torch.autograd.grad(contrast_error(weak, target, weight), weak)
    assert float(((weak - 1e-3 * pull.sign() - 0.5).detach() ** 2).mean()) > float(
        ((weak - 0.5) ** 2).detach().mean()
    )
