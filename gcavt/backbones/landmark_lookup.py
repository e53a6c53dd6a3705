"""What an image backbone's first stage finds about each tracked landmark.

A tracker errs by a few pixels, and the picture about a landmark tells how (Xiong and De la Torre, "Supervised
Descent Method and its Applications to Face Alignment", CVPR 2013). Pictures are the windows that
`gcavt.preprocessing` cuts about face and mouth; landmarks come as its `pose_landmarks` or `face_landmarks`.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gcavt.config import LANDMARK_NUMBERS
from gcavt.preprocessing import FACE_WINDOW_DROP, MOUTH, MOUTH_SIDE, OUTER_EYE_CORNERS, RIGID_POINTS

_POINTS, _SPACING = 3, 1 / 16
"""Features are looked up on a grid of 3 x 3 points about each landmark, so far apart (of half the window)."""
QUARTERS = 4.0
"""Landmarks are in quarters of the crop's side."""


class InWindow(NamedTuple):
    """Landmarks in the face window, in quarters of the crop's side, and where the window lies in the crop."""

    along: Tensor
    """(B, 68) from the window's middle along its rows."""
    below: Tensor
    """(B, 68) likewise down."""
    middle_x: Tensor
    """(B, 1), as all others, from the crop's centre."""
    middle_y: Tensor
    cosine: Tensor
    """Of the eye line's angle."""
    sine: Tensor
    eye_line: Tensor
    """The angle in radians."""
    between_eyes: Tensor
    """Distance of the outer eye corners."""

    def points(self, zoom: float) -> Tensor:
        """(B, 68, 2) from -1 to 1 in a window cut with `zoom`."""
        return torch.stack([self.along, self.below], 2) * (zoom * 2 / QUARTERS)


def in_window(landmarks: Tensor) -> InWindow:
    """Where `pose_landmarks` (B, 136) lie in `gcavt.preprocessing.face_window`."""
    x, y = landmarks[:, 0::2], landmarks[:, 1::2]
    left, right = (slice(corner, corner + 1) for corner in OUTER_EYE_CORNERS)
    across_x, across_y = x[:, right] - x[:, left], y[:, right] - y[:, left]
    between = (across_x.square() + across_y.square()).sqrt().clamp_min(1e-3)
    cosine, sine = across_x / between, across_y / between
    drop, rigid = FACE_WINDOW_DROP * between, RIGID_POINTS.tolist()
    middle_x = x[:, rigid].mean(1, keepdim=True) - drop * sine
    middle_y = y[:, rigid].mean(1, keepdim=True) + drop * cosine
    x, y = x - middle_x, y - middle_y
    along, below = x * cosine + y * sine, y * cosine - x * sine
    eye_line = torch.atan(across_y / across_x.clamp_min(1e-3))
    return InWindow(along, below, middle_x, middle_y, cosine, sine, eye_line, between)


def points_in_mouth_crop(landmarks: Tensor) -> Tensor:
    """(B, 68, 2) from -1 to 1: where `face_landmarks` (B, 136) lie in `gcavt.preprocessing.mouth_crop`.

    A crop that was moved because it left the picture is not known of.
    """
    window = in_window(landmarks)
    lips = slice(MOUTH.start, MOUTH.stop)
    half = 0.5 * MOUTH_SIDE * window.between_eyes
    along = (window.along - window.along[:, lips].mean(1, keepdim=True)) / half
    below = (window.below - window.below[:, lips].mean(1, keepdim=True)) / half
    return torch.stack([along, below], 2)


def level_landmarks(landmarks: Tensor) -> Tensor:
    """`gcavt.preprocessing.face_landmarks` of the same face: (B, 136) to (B, 136)."""
    x, y = landmarks[:, 0::2], landmarks[:, 1::2]
    left_x, right_x = x[:, 36:42].mean(1, keepdim=True), x[:, 42:48].mean(1, keepdim=True)
    left_y, right_y = y[:, 36:42].mean(1, keepdim=True), y[:, 42:48].mean(1, keepdim=True)
    across_x, across_y = right_x - left_x, right_y - left_y
    square = (across_x.square() + across_y.square()).clamp_min(1e-6)
    x, y = x - 0.5 * (left_x + right_x), y - 0.5 * (left_y + right_y)
    along, below = (x * across_x + y * across_y) / square, (y * across_x - x * across_y) / square
    return torch.stack([along, below], 2).flatten(1)


class LandmarkLookup(nn.Linear):
    """Features of a window, looked up about its landmarks, through one linear layer."""

    offsets: Tensor

    def __init__(self, channels: int, features: int) -> None:
        super().__init__(LANDMARK_NUMBERS // 2 * _POINTS**2 * channels, features)
        steps = (torch.arange(_POINTS) - (_POINTS - 1) / 2) * _SPACING
        y, x = torch.meshgrid(steps, steps, indexing="ij")
        self.register_buffer("offsets", torch.stack([x, y], -1).reshape(1, 1, -1, 2), persistent=False)

    def about(self, early: Tensor, points_B682: Tensor) -> Tensor:
        """(B, features) out of the first stage's maps (B, C, H, W); points reach from -1 to 1."""
        at = points_B682[:, :, None] + self.offsets
        found = F.grid_sample(early, at, padding_mode="border", align_corners=False)
        rows = found.flatten(1)
        features: Tensor = self(rows * (1 / math.sqrt(rows.shape[1])))
        return features
