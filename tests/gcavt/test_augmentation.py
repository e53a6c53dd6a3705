"""Augmentations change pixels by seed, and leave black, size and geometry alone."""

from __future__ import annotations

import time
from collections.abc import Callable

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from gcavt import augmentation as aug

Image = NDArray[np.uint8]


def picture(seed: int = 0, size_px: int = 128, tint: tuple[int, int, int] = (150, 110, 90)) -> Image:
    """Soft blobs about a tint."""
    rng = np.random.default_rng(seed)
    blobs = cv2.GaussianBlur(rng.normal(0, 1, (size_px, size_px, 3)).astype(np.float32), (0, 0), 4)
    return np.clip(np.array(tint) + blobs * 300, 1, 255).astype(np.uint8)


@pytest.mark.parametrize("augment", [aug.without_identity, aug.through_webcam])
def test_the_seed_alone_decides(augment: Callable[[Image, np.random.Generator], Image]) -> None:
    image = picture()
    before = image.copy()
    results = [augment(image, np.random.default_rng(seed)) for seed in (1, 1, 2)]
    np.testing.assert_array_equal(results[0], results[1])
    assert not np.array_equal(results[0], results[2])
    np.testing.assert_array_equal(image, before)
    assert all(result.shape == image.shape and result.dtype == np.uint8 for result in results)


def test_masked_pixels_stay_black_under_every_draw() -> None:
    image = picture()
    image[40:90, 30:100] = 0
    for seed in range(40):
        changed = aug.without_identity(image, np.random.default_rng(seed), picture(5, tint=(60, 90, 170)))
        assert not changed[40:90, 30:100].any()


@pytest.mark.parametrize("augment", [aug.without_identity, aug.through_webcam])
def test_edges_stay_where_they_are(augment: Callable[[Image, np.random.Generator], Image]) -> None:
    image = np.full((128, 128, 3), 60, dtype=np.uint8)
    image[:, 64:] = 190
    for seed in range(30):
        rows = augment(image, np.random.default_rng(seed)).astype(float).mean(axis=(0, 2))
        middle = (rows[:32].mean() + rows[-32:].mean()) / 2
        assert abs(int(np.argmax(rows > middle)) - 64) <= 1


def test_colour_transfer_takes_over_the_other_pictures_colours() -> None:
    image, other = picture(0), picture(1, tint=(60, 90, 170))
    moved = aug.colour_transfer(image, other, 1.0)
    np.testing.assert_allclose(moved.mean(axis=(0, 1)), other.mean(axis=(0, 1)), atol=6)
    np.testing.assert_allclose(aug.colour_transfer(image, other, 0.0), image, atol=4)  # Lab rounds


def test_colour_transfer_ignores_the_black_of_masks() -> None:
    image, other = picture(0), picture(1, tint=(60, 90, 170))
    masked = other.copy()
    masked[:64] = 0
    half = aug.colour_transfer(image, masked, 1.0)
    np.testing.assert_allclose(half.mean(axis=(0, 1)), other[64:].mean(axis=(0, 1)), atol=6)
    assert (
        not aug.colour_transfer(np.zeros_like(image), other, 1.0).mean() < 0
    )  # all black: no division by zero


def test_random_colour_keeps_grey_ramps_in_order() -> None:
    ramp = np.repeat(np.linspace(40, 180, 128).astype(np.uint8)[None, :, None], 3, axis=2).repeat(128, axis=0)
    for seed in range(10):
        row = aug.random_colour(ramp, np.random.default_rng(seed))[0].astype(int)
        assert (np.diff(row, axis=0) >= 0).all()


def test_blur_lowers_and_sharpening_raises_local_contrast() -> None:
    image = picture()
    contrast = [np.abs(np.diff(i.astype(float), axis=1)).mean() for i in (aug.blur(image, 1.5), image)]
    assert contrast[0] < contrast[1] < np.abs(np.diff(aug.sharpen(image, 1.0).astype(float), axis=1)).mean()


def test_jpeg_keeps_red_red_and_loses_more_at_lower_quality() -> None:
    image = picture(tint=(200, 60, 40))
    losses = [np.abs(aug.jpeg(image, quality).astype(int) - image).mean() for quality in (95, 30)]
    assert losses[0] < losses[1] < 8


def test_noise_has_the_stated_spread_and_no_bias() -> None:
    image = np.full((256, 256, 3), 128, dtype=np.uint8)
    noisy = aug.sensor_noise(image, np.random.default_rng(0), 0.03, 0.01).astype(float)
    expected = 255 * np.sqrt(0.03**2 * 128 / 255 + 0.01**2)
    assert noisy.std() == pytest.approx(expected, rel=0.03) and noisy.mean() == pytest.approx(128, abs=0.1)


def test_lower_resolution_removes_fine_detail_only() -> None:
    image = np.zeros((128, 128, 3), dtype=np.uint8)
    image[:, ::2] = 200
    np.testing.assert_allclose(aug.lower_resolution(image, 0.5), 100, atol=2)
    np.testing.assert_array_equal(aug.lower_resolution(image, 1.0), image)


def test_a_128_px_image_takes_a_millisecond_or_so() -> None:
    image, other, rng = picture(), picture(1), np.random.default_rng(0)

    def processor_ms(augment: Callable[[], Image]) -> float:
        times = []
        for _ in range(60):
            begin = time.process_time()
            augment()
            times.append(time.process_time() - begin)
        return 1e3 * float(np.median(times))

    assert processor_ms(lambda: aug.without_identity(image, rng, other)) < 8
    assert processor_ms(lambda: aug.through_webcam(image, rng)) < 8
