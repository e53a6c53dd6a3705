"""How near a picture is to the one it should be: SSIM, PSNR and L1 by region.

Pictures are RGB uint8 (H, W, 3); a mask is boolean (H, W).
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

Image = NDArray[np.uint8]
Mask = NDArray[np.bool_]

SSIM_BORDER_PX = 5
"""Half of the Gaussian window of 11 px, left out at the picture's border."""


def ssim_map(image: Image, target: Image) -> NDArray[np.float32]:
    """Structural similarity of each pixel (H, W), averaged over R, G and B as gamma-encoded values.

    Gaussian window of 11 px, sigma 1.5, population covariance, K1 = .01, K2 = .03, data range 255.
    Source: Wang et al. 2004, "Image quality assessment: from error visibility to structural similarity".
    """
    x, y = image.astype(np.float64), target.astype(np.float64)
    mean_x, mean_y = _blur(x), _blur(y)
    variance_x, variance_y = _blur(x * x) - mean_x**2, _blur(y * y) - mean_y**2
    covariance = _blur(x * y) - mean_x * mean_y
    c1, c2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
    above = (2 * mean_x * mean_y + c1) * (2 * covariance + c2)
    below = (mean_x**2 + mean_y**2 + c1) * (variance_x + variance_y + c2)
    return np.asarray((above / below).mean(2), np.float32)


def _blur(image: NDArray[np.float64]) -> NDArray[np.float64]:
    size = 2 * SSIM_BORDER_PX + 1
    return np.asarray(cv2.GaussianBlur(image, (size, size), 1.5, borderType=cv2.BORDER_REFLECT))


def psnr_db(image: Image, target: Image, mask: Mask | None = None) -> float:
    """Peak signal-to-noise ratio over all pixels and channels (of a mask); peak 255, infinite if equal."""
    error = (image.astype(np.float32) - target) ** 2
    mean = float((error if mask is None else error[mask]).mean())
    return float("inf") if mean == 0 else float(10 * np.log10(255**2 / mean))


def region_l1(image: Image, target: Image, mask: Mask) -> float:
    """Mean absolute difference inside a mask, in 1/255; NaN for an empty mask."""
    if not mask.any():
        return float("nan")
    return float(np.abs(image.astype(np.float32) - target)[mask].mean())


def picture_figures(image: Image, target: Image, figure: Mask, mouth: Mask, eyes: Mask) -> dict[str, float]:
    """All of the above of one picture. `figure` is where the target shows the person, not the background."""
    similarity = ssim_map(image, target)
    inner = slice(SSIM_BORDER_PX, -SSIM_BORDER_PX)
    return {
        "ssim": float(similarity[inner, inner].mean()),
        "ssim_figure": float(similarity[figure].mean()),
        "psnr_db": psnr_db(image, target),
        "psnr_figure_db": psnr_db(image, target, figure),
        "mouth_l1": region_l1(image, target, mouth),
        "eyes_l1": region_l1(image, target, eyes),
    }
