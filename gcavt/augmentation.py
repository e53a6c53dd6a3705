"""Pixel augmentations for training: they take the identity away and leave geometry alone.

RGB uint8 HWC in and out; every draw comes from the generator passed in. `without_identity` is the paper's
list (colour transfer, blur, sharpening, JPEG): drawn anew for each finished driver input, not for the target.
`through_webcam` is what a cheap camera does to a picture, so that encoders trained on renders meet real ones:
for the whole crop, before the driver inputs are cut from it.

Source: GC-AVT (Liang et al., CVPR 2022), section 3.2; ranges the paper leaves open are the constants below.
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

Image = NDArray[np.uint8]
Floats = NDArray[np.float64]

PROBABILITY = 0.5
"""Of each augmentation by itself."""
TRANSFER_STRENGTH = (0.5, 1.0)
GAIN = (0.7, 1.3)
BIAS = 20.0
HUE_DEG = 18.0
SATURATION = (0.6, 1.4)
BLUR_SIGMA_PX = 1.5
SHARPEN_AMOUNT = 1.0
SHARPEN_SIGMA_PX = 1.0
JPEG_QUALITY = (30, 95)

RESOLUTION = (0.55, 1.0)
"""Share of the crop's resolution that the camera delivers."""
DEFOCUS_SIGMA_PX = 1.0
EXPOSURE_STOPS = 0.6
WHITE_BALANCE = 0.12
"""Largest change of the red and of the blue gain against green."""
GAMMA = (0.8, 1.25)
SHOT_NOISE = 0.035
"""Largest standard deviation at full brightness, of 1; it falls with the root of the brightness."""
READ_NOISE = 0.015
WEBCAM_JPEG_QUALITY = (45, 95)

# NTSC luma and chroma: hue turns and saturation stretches the plane of I and Q
_YIQ_FROM_RGB = np.array([[0.299, 0.587, 0.114], [0.596, -0.274, -0.322], [0.211, -0.523, 0.312]])
_RGB_FROM_YIQ = np.linalg.inv(_YIQ_FROM_RGB)


def without_identity(image: Image, rng: np.random.Generator, colour_of: Image | None = None) -> Image:
    """Colour change, blur, sharpening and JPEG, each with probability one half. Black (masked) stays black.

    `colour_of` is a picture of somebody else whose colours are taken over; without it they change at random.
    """
    changed = image
    if rng.random() < PROBABILITY:
        changed = _other_colours(changed, rng, colour_of)
    if rng.random() < PROBABILITY:
        changed = blur(changed, float(rng.uniform(0.0, BLUR_SIGMA_PX)))
    if rng.random() < PROBABILITY:
        changed = sharpen(changed, float(rng.uniform(0.0, SHARPEN_AMOUNT)))
    if rng.random() < PROBABILITY:
        changed = jpeg(changed, int(rng.integers(*JPEG_QUALITY, endpoint=True)))
    return np.asarray(cv2.bitwise_and(changed, changed, mask=_not_black(image)), dtype=np.uint8)


def through_webcam(image: Image, rng: np.random.Generator) -> Image:
    """Resolution, focus, white balance, exposure, tone curve, sensor noise and JPEG of a cheap camera."""
    image = lower_resolution(image, float(rng.uniform(*RESOLUTION)))
    image = blur(image, float(rng.uniform(0.0, DEFOCUS_SIGMA_PX)))
    image = _through_curves(image, _camera_curves(rng))
    image = sensor_noise(image, rng, float(rng.uniform(0.0, SHOT_NOISE)), float(rng.uniform(0.0, READ_NOISE)))
    return jpeg(image, int(rng.integers(*WEBCAM_JPEG_QUALITY, endpoint=True)))


def colour_transfer(image: Image, colour_of: Image, strength: float) -> Image:
    """Take over mean and spread per Lab channel of another picture; black (masked) pixels count in neither.

    Source: Reinhard et al. 2001, "Color transfer between images".
    """
    mean, spread = _lab_statistics(image)
    other_mean, other_spread = _lab_statistics(colour_of)
    # clipped, because a flat picture would blow up its own noise
    gain = 1.0 + strength * (np.clip(other_spread / np.maximum(spread, 1.0), 0.4, 2.5) - 1.0)
    offset = mean + strength * (other_mean - mean) - gain * mean
    lab = np.asarray(cv2.cvtColor(image, cv2.COLOR_RGB2LAB), dtype=np.uint8)
    moved = _through_curves(lab, np.arange(256.0)[:, None] * gain + offset)
    return np.asarray(cv2.cvtColor(moved, cv2.COLOR_LAB2RGB), dtype=np.uint8)


def random_colour(image: Image, rng: np.random.Generator) -> Image:
    """Hue, saturation, gain and bias drawn at random, as one affine map of the colours."""
    hue = np.radians(rng.uniform(-HUE_DEG, HUE_DEG))
    saturation = rng.uniform(*SATURATION)
    chroma = saturation * np.array([[np.cos(hue), -np.sin(hue)], [np.sin(hue), np.cos(hue)]])
    yiq = np.eye(3)
    yiq[1:, 1:] = chroma
    gains = np.diag(rng.uniform(*GAIN, size=3))
    bias = rng.uniform(-BIAS, BIAS, size=3)
    return _affine_colour(image, gains @ _RGB_FROM_YIQ @ yiq @ _YIQ_FROM_RGB, bias)


def blur(image: Image, sigma_px: float) -> Image:
    if sigma_px < 0.2:  # narrower than a pixel: nothing to see
        return image
    return np.asarray(cv2.GaussianBlur(image, (0, 0), sigma_px), dtype=np.uint8)


def sharpen(image: Image, amount: float) -> Image:
    """Unsharp mask: the image plus `amount` times what a blur takes away."""
    smooth = cv2.GaussianBlur(image, (0, 0), SHARPEN_SIGMA_PX)
    return np.asarray(cv2.addWeighted(image, 1.0 + amount, smooth, -amount, 0.0), dtype=np.uint8)


def jpeg(image: Image, quality: int) -> Image:
    """The image after JPEG compression; quality 1 to 100."""
    bgr = cv2.cvtColor(image, cv2.COLOR_RGB2BGR)
    _, encoded = cv2.imencode(".jpg", bgr, [cv2.IMWRITE_JPEG_QUALITY, quality])
    decoded = np.asarray(cv2.imdecode(encoded, cv2.IMREAD_COLOR), dtype=np.uint8)
    return np.asarray(cv2.cvtColor(decoded, cv2.COLOR_BGR2RGB), dtype=np.uint8)


def lower_resolution(image: Image, share: float) -> Image:
    """The image as if taken with `share` of its width and height in pixels."""
    height, width = image.shape[:2]
    small_wh = (max(1, round(width * share)), max(1, round(height * share)))
    if small_wh == (width, height):
        return image
    small = cv2.resize(image, small_wh, interpolation=cv2.INTER_AREA)
    return np.asarray(cv2.resize(small, (width, height), interpolation=cv2.INTER_LINEAR), dtype=np.uint8)


def sensor_noise(image: Image, rng: np.random.Generator, shot: float, read: float) -> Image:
    """Gaussian noise whose variance grows with brightness: shot noise plus read noise, both of 1."""
    variance = shot**2 * np.arange(256.0) / 255.0 + read**2
    deviation = cv2.LUT(image, (255.0 * np.sqrt(variance)).astype(np.float32))
    noise = _noise(image.shape, rng) * deviation
    return np.asarray(cv2.add(image, noise, dtype=cv2.CV_8U), dtype=np.uint8)


def _noise(shape: tuple[int, ...], rng: np.random.Generator) -> NDArray[np.float32]:
    """Normal noise whose rows are random stretches of one pool: a third of the time of drawing it all."""
    row_values = shape[1] * shape[2]
    pool = rng.standard_normal(max(1 << 15, 4 * row_values), dtype=np.float32)
    stretches = np.lib.stride_tricks.sliding_window_view(pool, row_values)
    return stretches[rng.integers(0, len(stretches), shape[0])].reshape(shape)


def _other_colours(image: Image, rng: np.random.Generator, colour_of: Image | None) -> Image:
    if colour_of is None:
        return random_colour(image, rng)
    return colour_transfer(image, colour_of, float(rng.uniform(*TRANSFER_STRENGTH)))


def _not_black(image: Image) -> Image:
    """(H, W), 255 where any channel is above 0."""
    return np.asarray(cv2.bitwise_not(cv2.inRange(image, (0, 0, 0), (0, 0, 0))), dtype=np.uint8)


def _lab_statistics(image: Image) -> tuple[Floats, Floats]:
    """Mean and standard deviation per Lab channel of what is not black."""
    mean, spread = cv2.meanStdDev(cv2.cvtColor(image, cv2.COLOR_RGB2LAB), mask=_not_black(image))
    return np.asarray(mean[:, 0], dtype=np.float64), np.asarray(spread[:, 0], dtype=np.float64)


def _affine_colour(image: Image, linear_33: Floats, bias_3: Floats) -> Image:
    return np.asarray(cv2.transform(image, np.column_stack([linear_33, bias_3])), dtype=np.uint8)


def _camera_curves(rng: np.random.Generator) -> Floats:
    """(256, 3): what white balance, exposure and tone curve make of each value of each channel."""
    gains = np.array(
        [1.0 + rng.uniform(-1, 1) * WHITE_BALANCE, 1.0, 1.0 + rng.uniform(-1, 1) * WHITE_BALANCE]
    )
    exposure = np.exp2(rng.uniform(-EXPOSURE_STOPS, EXPOSURE_STOPS))
    light = (np.arange(256.0) / 255.0)[:, None] ** 2.2  # gains act on light, not on coded values
    coded = np.minimum(light * exposure * gains, 1.0) ** (1.0 / 2.2)
    return np.asarray(255.0 * coded ** rng.uniform(*GAMMA))


def _through_curves(image: Image, curves: Floats) -> Image:
    """Each channel through its own table; curves (256, 3)."""
    table = np.round(np.clip(curves, 0.0, 255.0)).astype(np.uint8)[None]
    return np.asarray(cv2.LUT(image, table), dtype=np.uint8)
