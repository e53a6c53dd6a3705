import numpy as np
import pytest
import torch
from skimage.metrics import structural_similarity

from training.objectives.image_losses import structural_dissimilarity


def test_structural_dissimilarity_is_one_minus_the_reference_implementations_mean() -> None:
    rng = np.random.default_rng(0)
    first, second = rng.uniform(0, 1, (2, 32, 40, 3)).astype(np.float32)
    second = 0.5 * first + 0.5 * second
    expected = structural_similarity(
        first, second, channel_axis=2, data_range=1, use_sample_covariance=False, full=True
    )[1][3:-3, 3:-3].mean()
    ours = structural_dissimilarity(*(torch.from_numpy(x).permute(2, 0, 1)[None] for x in (first, second)))
    assert float(ours) == pytest.approx(1 - expected, abs=1e-5)
