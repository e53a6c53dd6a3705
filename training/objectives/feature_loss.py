"""A perceptual loss by networks of our own: what the mouth and the expression encoder see in a picture.

Other perceptual losses use networks trained on photographs under licences of their own. Ours were trained to
read lips and faces, which is just what the generator's picture has to show.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from gcavt.backbones.resnet_se import ResNetSE34
from gcavt.config import FaceEncoderConfig
from gcavt.edit_repose import pixel_grid, sample
from gcavt.model import Gcavt
from gcavt.preprocessing import MOUTH_SIDE, eye_distance, eye_line_deg, face_window, mouth_window

_TAPS = (2, 6)
"""Blocks of ResNetSE34 whose output is compared: the last of the first and of the second stage."""


class FeatureLoss(nn.Module):
    """Relative L1 between the features of two pictures, in the mouth and in the face window."""

    def __init__(self, model: Gcavt) -> None:
        """Keeps copies of the encoders as they are now. Raises TypeError if E_e is a MobileNet."""
        super().__init__()
        config = model.config
        if not isinstance(config.expression, FaceEncoderConfig):
            raise TypeError("the feature loss needs an expression encoder of ResNetSE blocks")
        self.mouth_px, self.face_px = config.mouth_px, config.expression.input_px
        self.face_zoom = config.expression.face_zoom
        backbones = (model.content_encoder.backbone, model.expression_encoder.backbone)
        self.backbones = nn.ModuleList(copy.deepcopy(backbone).eval() for backbone in backbones)
        self.requires_grad_(False)

    def train(self, mode: bool = True) -> FeatureLoss:
        """The copies stay in evaluation mode."""
        return super().train(False)

    def forward(self, output_B3HW: Tensor, target_B3HW: Tensor, landmarks_BK2: NDArray[np.float32]) -> Tensor:
        """Landmarks are the target's 68, in pixels whose centres are whole numbers."""
        loss = output_B3HW.new_zeros(())
        height, width = output_B3HW.shape[2:]
        for backbone, matrices, size_px in zip(
            self.backbones,
            (self._mouth_windows(landmarks_BK2, (height, width)), self._face_windows(landmarks_BK2, width)),
            (self.mouth_px, self.face_px),
            strict=True,
        ):
            position = window_positions(matrices, size_px).to(output_B3HW)
            with torch.no_grad():
                wanted = list(_features(backbone, sample(target_B3HW, position)))
            for seen, truth in zip(_features(backbone, sample(output_B3HW, position)), wanted, strict=True):
                loss = loss + F.l1_loss(seen, truth) / truth.abs().mean().clamp_min(1e-3)
        return loss

    def _mouth_windows(
        self, landmarks_BK2: NDArray[np.float32], image_hw: tuple[int, int]
    ) -> NDArray[np.float32]:
        return np.stack(
            [
                mouth_window(
                    points,
                    image_hw,
                    self.mouth_px,
                    0.5 * MOUTH_SIDE * eye_distance(points),
                    -eye_line_deg(points),
                )
                for points in landmarks_BK2
            ]
        )

    def _face_windows(self, landmarks_BK2: NDArray[np.float32], image_px: int) -> NDArray[np.float32]:
        scale = self.face_zoom * self.face_px / image_px
        return np.stack([face_window(points, self.face_px, scale) for points in landmarks_BK2])


def window_positions(window_from_image_B23: NDArray[np.float32], size_px: int) -> Tensor:
    """Where (B, 2, size, size) the window's pixels lie in the image, as `gcavt.edit_repose.sample` counts."""
    matrix = torch.from_numpy(window_from_image_B23).double()
    inverse = torch.linalg.inv(matrix[:, :, :2])
    inside = pixel_grid(size_px, size_px).double().reshape(1, 2, -1) - 0.5
    position: Tensor = inverse @ (inside - matrix[:, :, 2:]) + 0.5
    return position.reshape(-1, 2, size_px, size_px).float()


def _features(backbone: nn.Module, image: Tensor) -> Iterable[Tensor]:
    assert isinstance(backbone, ResNetSE34)
    x = backbone.stem(image)
    for number, block in enumerate(backbone.stages.children()):
        x = block(x)
        if number in _TAPS:
            yield x
        if number == _TAPS[-1]:
            return
