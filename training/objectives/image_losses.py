"""Pixel losses that weigh mouth and eyes, which are small and carry the expression."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

BROWS_AND_EYES = np.array([*range(17, 27), *range(36, 48)])
MOUTH = np.arange(48, 68)
CONTRAST_FLOOR = 1 / 255
"""Detail weaker than this does not count: it would be noise."""


def to_tensor(images_BHWC: NDArray[np.generic]) -> Tensor:
    """RGB uint8 (B, H, W, C) to float32 (B, C, H, W) in [0, 1], channels last in memory."""
    return torch.from_numpy(np.ascontiguousarray(images_BHWC)).permute(0, 3, 1, 2).float().div_(255)


def box_mask(boxes_B4: NDArray[np.floating], height: int, width: int) -> Tensor:
    """(B, 1, H, W): 1 inside the boxes (left, top, right, bottom)."""
    box = torch.from_numpy(np.asarray(boxes_B4, np.float32))[:, :, None, None]
    y, x = torch.meshgrid(torch.arange(height) + 0.5, torch.arange(width) + 0.5, indexing="ij")
    inside = (x > box[:, 0]) & (x < box[:, 2]) & (y > box[:, 1]) & (y < box[:, 3])
    return inside.float()[:, None]


def mouth_boxes(landmarks_BK2: NDArray[np.floating], below_px: float = 6.0) -> NDArray[np.floating]:
    """Boxes about the lips with a margin of 6 px; `below_px` makes room for an opening jaw."""
    return _boxes(landmarks_BK2[:, MOUTH], 6.0, below_px)


def eye_boxes(landmarks_BK2: NDArray[np.floating]) -> NDArray[np.floating]:
    """Boxes about brows and eyes with a margin of 4 px."""
    return _boxes(landmarks_BK2[:, BROWS_AND_EYES], 4.0, 4.0)


def _boxes(points_BK2: NDArray[np.floating], margin_px: float, below_px: float) -> NDArray[np.floating]:
    low, high = points_BK2.min(1) - margin_px, points_BK2.max(1) + margin_px
    high[:, 1] += below_px - margin_px
    return np.concatenate([low, high], 1)


def weighted_l1(output: Tensor, target: Tensor, weight: Tensor) -> Tensor:
    return ((output - target).abs() * weight).mean()


def laplacian_l1(output: Tensor, target: Tensor, weight: Tensor, levels: int = 4) -> Tensor:
    """L1 between Laplacian pyramids: sharp detail counts as much as broad shading."""
    loss = output.new_zeros(())
    difference = output - target
    for gain in (1.5, 1.5, 1.0, 0.7)[:levels]:
        detail, small = _detail_and_rest(difference)
        loss = loss + gain * (detail.abs() * weight).mean()
        difference, weight = small, F.avg_pool2d(weight, 2)
        if difference.shape[2] % 2 or difference.shape[3] % 2:
            break
    return loss + (difference.abs() * weight).mean()


def structural_dissimilarity(output: Tensor, target: Tensor) -> Tensor:
    """1 - SSIM (Wang et al. 2004) of pictures in [0, 1]: means over 7 x 7 windows, all channels."""
    both = torch.cat([output, target, output * output, target * target, output * target], 1)
    mean_x, mean_y, xx, yy, xy = F.avg_pool2d(both, 7, 1).chunk(5, 1)
    variances = xx - mean_x**2 + yy - mean_y**2
    covariance = xy - mean_x * mean_y
    similarity = (2 * mean_x * mean_y + 0.01**2) * (2 * covariance + 0.03**2)
    similarity = similarity / ((mean_x**2 + mean_y**2 + 0.01**2) * (variances + 0.03**2))
    return 1 - similarity.mean()


def contrast_error(output: Tensor, target: Tensor, weight: Tensor, levels: int = 2) -> Tensor:
    """By how much the strength of fine detail differs: blur counts, a slight shift hardly does.

    For the finest levels of a Laplacian pyramid: L1 between the root mean squares of 8 x 8 windows, 4 apart.
    weight: (B, 1, H, W).
    """
    loss = output.new_zeros(())
    for _ in range(levels):
        detail, output = _detail_and_rest(output)
        wanted, target = _detail_and_rest(target)
        loss = loss + weighted_l1(_strength(detail), _strength(wanted), F.avg_pool2d(weight, 8, 4))
        weight = F.avg_pool2d(weight, 2)
    return loss


def _strength(detail: Tensor) -> Tensor:
    return (F.avg_pool2d(detail**2, 8, 4) + CONTRAST_FLOOR**2).sqrt()


def _detail_and_rest(image: Tensor) -> tuple[Tensor, Tensor]:
    """One level of a Laplacian pyramid: what halving the picture loses, and the halved picture."""
    small = F.avg_pool2d(image, 2)
    return image - F.interpolate(small, size=image.shape[2:], mode="bilinear", align_corners=False), small


def psnr(output: Tensor, target: Tensor) -> float:
    """Mean over the batch of the peak signal-to-noise ratio in dB, for pictures in [0, 1]."""
    error = ((output.clamp(0, 1) - target) ** 2).mean((1, 2, 3))
    return float((-10 * torch.log10(error)).mean())


def region_error(output: Tensor, target: Tensor, mask: Tensor) -> float:
    """Mean absolute error inside a mask, in 1/255."""
    difference = (output.clamp(0, 1) - target).abs() * mask
    return float(difference.sum() / mask.sum().clamp_min(1) / output.shape[1] * 255)
