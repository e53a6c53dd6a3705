"""MobileNetV2 of width 1.0 (Sandler et al. 2018) with a linear head."""

import math
from typing import Literal

from torch import Tensor, nn

from gcavt.backbones.pooling import MeanPooling, SpatialPooling

# expansion, channels, blocks, stride of the first block (the paper's Table 2)
STAGES = (
    (1, 16, 1, 1),
    (6, 24, 2, 2),
    (6, 32, 3, 2),
    (6, 64, 4, 2),
    (6, 96, 3, 1),
    (6, 160, 3, 2),
    (6, 320, 1, 1),
)
STEM_CHANNELS = 32
LAST_CHANNELS = 1280
TOTAL_STRIDE = 32
SPATIAL_CHANNELS = 48


def _conv_norm_relu6(
    channels_in: int, channels_out: int, kernel: int, *, stride: int = 1, groups: int = 1
) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(channels_in, channels_out, kernel, stride, kernel // 2, groups=groups, bias=False),
        nn.BatchNorm2d(channels_out),
        nn.ReLU6(),
    )


class InvertedResidual(nn.Module):
    """1x1 expand, 3x3 depthwise, linear 1x1; added to the input where the shapes allow."""

    def __init__(self, channels_in: int, channels_out: int, *, stride: int, expansion: int) -> None:
        super().__init__()
        hidden = channels_in * expansion
        self.layers = nn.Sequential()
        if expansion != 1:
            self.layers.append(_conv_norm_relu6(channels_in, hidden, 1))
        self.layers.append(_conv_norm_relu6(hidden, hidden, 3, stride=stride, groups=hidden))
        self.layers.append(nn.Conv2d(hidden, channels_out, 1, bias=False))
        self.layers.append(nn.BatchNorm2d(channels_out))
        self.is_residual = stride == 1 and channels_in == channels_out

    def forward(self, x_BCHW: Tensor) -> Tensor:
        y: Tensor = self.layers(x_BCHW)
        return x_BCHW + y if self.is_residual else y


class MobileNetV2(nn.Module):
    """Images (B, 3, H, W) to vectors (B, output_dim); with spatial pooling squares of `input_px` only."""

    def __init__(
        self,
        *,
        output_dim: int,
        dropout: float,
        input_px: int,
        pooling: Literal["average", "spatial"] = "average",
    ) -> None:
        super().__init__()
        self.features = nn.Sequential(_conv_norm_relu6(3, STEM_CHANNELS, 3, stride=2))
        channels = STEM_CHANNELS
        for expansion, channels_out, blocks, first_stride in STAGES:
            for block in range(blocks):
                stride = first_stride if block == 0 else 1
                self.features.append(
                    InvertedResidual(channels, channels_out, stride=stride, expansion=expansion)
                )
                channels = channels_out
        self.features.append(_conv_norm_relu6(channels, LAST_CHANNELS, 1))
        self.pooling: nn.Module = MeanPooling()
        width = LAST_CHANNELS
        if pooling == "spatial":
            self.pooling = SpatialPooling(LAST_CHANNELS, SPATIAL_CHANNELS)
            width = SPATIAL_CHANNELS * math.ceil(input_px / TOTAL_STRIDE) ** 2
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Linear(width, output_dim)
        self._initialise()

    def _initialise(self) -> None:
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out")
        nn.init.normal_(self.head.weight, std=0.01)
        nn.init.zeros_(self.head.bias)

    def forward(self, image_BCHW: Tensor) -> Tensor:
        vector: Tensor = self.head(self.dropout(self.pooling(self.features(image_BCHW))))
        return vector
