"""ResNeXt (Xie et al. 2017): residual bottlenecks with grouped convolutions.

ResNeXt-50 32x4d is blocks (3, 4, 6, 3), cardinality 32, base width 4, stem 64.
"""

import torch.nn.functional as F
from torch import Tensor, nn

EXPANSION = 4


class Bottleneck(nn.Module):
    """1x1 reduce, 3x3 in `groups`, 1x1 expand, added to the (projected) input."""

    def __init__(self, channels_in: int, width: int, channels_out: int, *, stride: int, groups: int) -> None:
        super().__init__()
        self.reduce = nn.Conv2d(channels_in, width, 1, bias=False)
        self.reduce_norm = nn.BatchNorm2d(width)
        self.grouped = nn.Conv2d(width, width, 3, stride, padding=1, groups=groups, bias=False)
        self.grouped_norm = nn.BatchNorm2d(width)
        self.expand = nn.Conv2d(width, channels_out, 1, bias=False)
        self.expand_norm = nn.BatchNorm2d(channels_out)
        self.skip = nn.Sequential()
        if stride != 1 or channels_in != channels_out:
            self.skip.append(nn.Conv2d(channels_in, channels_out, 1, stride, bias=False))
            self.skip.append(nn.BatchNorm2d(channels_out))

    def forward(self, x_BCHW: Tensor) -> Tensor:
        y = F.relu(self.reduce_norm(self.reduce(x_BCHW)))
        y = F.relu(self.grouped_norm(self.grouped(y)))
        return F.relu(self.expand_norm(self.expand(y)) + self.skip(x_BCHW))


class ResNeXt(nn.Module):
    """Images (B, 3, H, W) to vectors (B, output_dim), H and W at least 32."""

    def __init__(
        self,
        *,
        blocks: tuple[int, ...],
        cardinality: int,
        base_width: int,
        stem_channels: int,
        output_dim: int,
    ) -> None:
        super().__init__()
        self.stem = nn.Sequential(
            nn.Conv2d(3, stem_channels, 7, 2, padding=3, bias=False),
            nn.BatchNorm2d(stem_channels),
            nn.ReLU(),
            nn.MaxPool2d(3, 2, padding=1),
        )
        self.stages = nn.Sequential()
        channels = stem_channels
        for stage, count in enumerate(blocks):
            width = base_width * cardinality * 2**stage
            channels_out = stem_channels * EXPANSION * 2**stage
            for block in range(count):
                stride = 2 if stage > 0 and block == 0 else 1
                self.stages.append(
                    Bottleneck(channels, width, channels_out, stride=stride, groups=cardinality)
                )
                channels = channels_out
        self.head = nn.Linear(channels, output_dim)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, image_BCHW: Tensor) -> Tensor:
        pooled: Tensor = self.stages(self.stem(image_BCHW)).mean((2, 3))
        vector: Tensor = self.head(pooled)
        return vector
