import numpy as np
import pytest
from skimage.metrics import structural_similarity

from training.metrics.pictures import picture_figures, psnr_db, region_l1, ssim_map


def picture(seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 240, (64, 64, 3), dtype=np.uint8)


def test_equal_pictures_are_perfect() -> None:
    np.testing.assert_allclose(ssim_map(picture(), picture()), 1, atol=1e-6)
    assert psnr_db(picture(), picture()) == float("inf")


def test_an_offset_of_ten_reads_as_ten_and_as_its_decibels() -> None:
    everywhere = np.ones((64, 64), bool)
    assert region_l1(picture() + 10, picture(), everywhere) == pytest.approx(10)
    assert psnr_db(picture() + 10, picture()) == pytest.approx(20 * np.log10(25.5), abs=1e-4)


def test_only_the_mask_counts() -> None:
    mask = np.zeros((64, 64), bool)
    mask[:8] = True
    changed = picture()
    changed[8:] = 0
    assert region_l1(changed, picture(), mask) == 0
    assert psnr_db(changed, picture(), mask) == float("inf")
    assert np.isnan(region_l1(changed, picture(), np.zeros((64, 64), bool)))


def test_ssim_over_the_picture_is_that_of_scikit_image() -> None:
    mask = np.ones((64, 64), bool)
    figures = picture_figures(picture(1), picture(2), mask, mask, mask)
    reference = structural_similarity(
        picture(1),
        picture(2),
        channel_axis=2,
        gaussian_weights=True,
        sigma=1.5,
        use_sample_covariance=False,
    )
    assert figures["ssim"] == pytest.approx(reference, abs=1e-5)
