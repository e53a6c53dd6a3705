"""Landmarks as they are, from landmarks as a face tracker sees them and the picture about each of them.

On rendered people, whose truth is known, MediaPipe's landmarks are 3.3 px of 256 off, by amounts that belong
to the person. What is wrong is written in the picture right there, so a linear map of gradient histograms
around the landmarks mends most of it, twice in a row.

Source: Xiong and De la Torre, "Supervised Descent Method and its Applications to Face Alignment", CVPR 2013;
Dalal and Triggs, "Histograms of Oriented Gradients for Human Detection", CVPR 2005.
"""

from __future__ import annotations

import math
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gcavt.config import LANDMARK_NUMBERS, LandmarkRefinerConfig

DIRECTIONS = 8
_LUMA = (0.299, 0.587, 0.114)
_LEAST_NORM = 0.02
"""Descriptors of flat skin are mostly noise: they are not blown up to the length of the others."""


class LandmarkRefiner(nn.Module):
    """Fixed histograms, and linear maps that `training.landmarks` fits in closed form."""

    derivatives: Tensor
    window: Tensor
    offsets: Tensor

    def __init__(self, config: LandmarkRefinerConfig) -> None:
        super().__init__()
        self.config = config
        unit_px = config.eye_distance_px
        kernels = _derivatives(config.derivative_sigma * unit_px)
        luma = torch.tensor(_LUMA).reshape(1, 3, 1, 1)
        self.register_buffer("derivatives", kernels * luma, persistent=False)
        window = _gaussian(config.window_sigma * unit_px / 2)  # at half of the picture's size
        self.register_buffer("window", window.expand(DIRECTIONS, 1, -1, -1).contiguous(), persistent=False)
        steps = (torch.arange(config.points) - (config.points - 1) / 2) * config.spacing
        y, x = torch.meshgrid(steps, steps, indexing="ij")
        self.register_buffer("offsets", torch.stack([x, y], -1).reshape(1, 1, -1, 2), persistent=False)
        self.prior = nn.Linear(LANDMARK_NUMBERS, LANDMARK_NUMBERS)
        descriptors = LANDMARK_NUMBERS // 2 * config.points**2 * DIRECTIONS
        self.stages = nn.ModuleList(
            nn.Linear(descriptors + LANDMARK_NUMBERS, LANDMARK_NUMBERS) for _ in range(config.stages)
        )
        for linear in (self.prior, *self.stages):
            nn.init.zeros_(linear.weight)
            nn.init.zeros_(linear.bias)

    def forward(self, landmark_image: Tensor, tracked_landmarks: Tensor) -> Tensor:
        """Landmarks (B, 136) in the frame and the units of those that were tracked.

        landmark_image (B, 3, S, S), RGB in [0, 1], is cut by `gcavt.preprocessing.landmark_input`;
        tracked_landmarks (B, 136) come from `face_landmarks`.
        """
        histograms = self.histograms(landmark_image)
        landmarks: Tensor = tracked_landmarks + self.prior(tracked_landmarks)
        for stage in self.stages:
            landmarks = landmarks + stage(self.described(histograms, landmarks))
        return landmarks

    def histograms(self, image_B3SS: Tensor) -> Tensor:
        """(B, 8, S / 2, S / 2): how strongly brightness rises in each direction, about each pixel."""
        rise = F.conv2d(image_B3SS, self.derivatives, padding=self.derivatives.shape[-1] // 2)
        pooled = F.avg_pool2d(F.relu(torch.cat([rise, -rise], 1)), 2)
        return F.conv2d(pooled, self.window, padding=self.window.shape[-1] // 2, groups=DIRECTIONS)

    def described(self, histograms: Tensor, landmarks: Tensor) -> Tensor:
        """(B, D): histograms at points about each landmark, of length 1 together; then the landmarks."""
        config = self.config
        points = landmarks.reshape(-1, LANDMARK_NUMBERS // 2, 1, 2) + self.offsets
        # grid_sample counts from -1 to 1 between the outer edges of the outermost pixels
        scale = 2 * config.eye_distance_px / config.input_px
        centre = torch.tensor([0.0, 2 * config.eye_height - 1.0], device=points.device)
        found = F.grid_sample(
            histograms, points * scale + centre, padding_mode="border", align_corners=False
        )  # (B, 8, 68, points)
        rows = found.permute(0, 2, 3, 1).flatten(2)
        norm = rows.square().sum(2, keepdim=True).sqrt()
        return torch.cat([(rows / (norm + _LEAST_NORM)).flatten(1), landmarks], 1)

    def stage(self, number: int) -> nn.Linear:
        return cast(nn.Linear, self.stages[number])


def _derivatives(sigma_px: float) -> Tensor:
    """(4, 1, K, K) derivatives of a Gaussian along 0, 45, 90 and 135 degrees."""
    reach = max(2, math.ceil(2.2 * sigma_px))
    line = torch.arange(-reach, reach + 1, dtype=torch.float32)
    y, x = torch.meshgrid(line, line, indexing="ij")
    bell = torch.exp(-(x * x + y * y) / (2 * sigma_px**2))
    bell = bell / bell.sum()
    angles = [index * math.pi / 4 for index in range(DIRECTIONS // 2)]
    return torch.stack([bell * (x * math.cos(a) + y * math.sin(a)) / sigma_px**2 for a in angles])[:, None]


def _gaussian(sigma_px: float) -> Tensor:
    """(1, 1, K, K), sum 1."""
    reach = max(1, math.ceil(2.5 * sigma_px))
    line = torch.exp(-(torch.arange(-reach, reach + 1, dtype=torch.float32) ** 2) / (2 * sigma_px**2))
    line = line / line.sum()
    return (line[:, None] * line)[None, None]
