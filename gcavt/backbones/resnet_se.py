"""ResNetSE34: the speaker-recognition network that GC-AVT borrows for speech content.

The widths, the block order (convolution, ReLU, norm) and the attentive pooling follow the "V2" member
of the voxceleb_trainer family (Heo et al. 2020); `conv7x7_stride2` is the cheaper stem of its "L" sibling.
"""

from typing import Literal

import torch.nn.functional as F
from torch import Tensor, nn

from gcavt.backbones.pooling import MeanPooling, SpatialPooling

BLOCKS = (3, 4, 6, 3)
SQUEEZE = 8
ATTENTION_CHANNELS = 128
SPATIAL_CHANNELS = 32


class SqueezeExcite(nn.Module):
    """Scale each channel by a gate read from the mean of all channels."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        squeezed = max(channels // SQUEEZE, 1)
        self.gate = nn.Sequential(
            nn.Linear(channels, squeezed), nn.ReLU(), nn.Linear(squeezed, channels), nn.Sigmoid()
        )

    def forward(self, x_BCHW: Tensor) -> Tensor:
        gate_BC: Tensor = self.gate(x_BCHW.mean((2, 3)))
        return x_BCHW * gate_BC[:, :, None, None]


class SEBlock(nn.Module):
    def __init__(self, channels_in: int, channels_out: int, *, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels_in, channels_out, 3, stride, padding=1, bias=False)
        self.norm1 = nn.BatchNorm2d(channels_out)
        self.conv2 = nn.Conv2d(channels_out, channels_out, 3, padding=1, bias=False)
        self.norm2 = nn.BatchNorm2d(channels_out)
        self.squeeze_excite = SqueezeExcite(channels_out)
        self.skip = nn.Sequential()
        if stride != 1 or channels_in != channels_out:
            self.skip.append(nn.Conv2d(channels_in, channels_out, 1, stride, bias=False))
            self.skip.append(nn.BatchNorm2d(channels_out))

    def forward(self, x_BCHW: Tensor) -> Tensor:
        y = self.norm1(F.relu(self.conv1(x_BCHW)))
        y = self.squeeze_excite(self.norm2(self.conv2(y)))
        return F.relu(y + self.skip(x_BCHW))


class AttentivePooling(nn.Module):
    """Self-attentive pooling: a weighted mean over the last axis, rows folded into channels."""

    def __init__(self, features: int) -> None:
        super().__init__()
        self.attention = nn.Sequential(
            nn.Conv1d(features, ATTENTION_CHANNELS, 1),
            nn.ReLU(),
            nn.BatchNorm1d(ATTENTION_CHANNELS),
            nn.Conv1d(ATTENTION_CHANNELS, features, 1),
            nn.Softmax(dim=2),
        )

    def forward(self, x_BCHW: Tensor) -> Tensor:
        x_BFW = x_BCHW.flatten(1, 2)
        weights_BFW: Tensor = self.attention(x_BFW)
        return (x_BFW * weights_BFW).sum(2)


class ResNetSE34(nn.Module):
    """Maps (B, input_channels, input_rows, any width) to vectors (B, output_dim).

    With attentive pooling the number of rows (mel bands) is fixed by `input_rows`, with spatial pooling the
    input is a square of `input_rows`; with average pooling any size will do.
    """

    def __init__(
        self,
        *,
        input_channels: int,
        input_rows: int,
        output_dim: int,
        widths: tuple[int, int, int, int],
        stem: Literal["conv3x3", "conv7x7_stride2"],
        pooling: Literal["attention", "average", "spatial"],
    ) -> None:
        super().__init__()
        self.stem = _stem(stem, input_channels, widths[0])
        self.stages = nn.Sequential()
        channels = widths[0]
        for stage, (count, channels_out) in enumerate(zip(BLOCKS, widths, strict=True)):
            for block in range(count):
                stride = 2 if stage > 0 and block == 0 else 1
                self.stages.append(SEBlock(channels, channels_out, stride=stride))
                channels = channels_out
        self.pooling: nn.Module = MeanPooling()
        rows = _rows_after_strides(input_rows, halvings=4 if stem == "conv7x7_stride2" else 3)
        if pooling == "attention":
            channels *= rows
            self.pooling = AttentivePooling(channels)
        elif pooling == "spatial":
            self.pooling = SpatialPooling(channels, SPATIAL_CHANNELS)
            channels = SPATIAL_CHANNELS * rows**2
        self.head = nn.Linear(channels, output_dim)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, x_BCHW: Tensor) -> Tensor:
        return self.rest(self.first_stage(x_BCHW))

    def first_stage(self, x_BCHW: Tensor) -> Tensor:
        """(B, widths[0], H', W') features that are still fine in place."""
        x_BCHW = self.stem(x_BCHW)
        for block in list(self.stages)[: BLOCKS[0]]:
            x_BCHW = block(x_BCHW)
        return x_BCHW

    def rest(self, x_BCHW: Tensor) -> Tensor:
        """(B, output_dim) out of what `first_stage` gives."""
        for block in list(self.stages)[BLOCKS[0] :]:
            x_BCHW = block(x_BCHW)
        vector: Tensor = self.head(self.pooling(x_BCHW))
        return vector


def _stem(kind: str, channels_in: int, channels_out: int) -> nn.Sequential:
    if kind == "conv7x7_stride2":
        conv = nn.Conv2d(channels_in, channels_out, 7, 2, padding=3, bias=False)
        return nn.Sequential(conv, nn.BatchNorm2d(channels_out), nn.ReLU())
    if kind == "conv3x3":
        return nn.Sequential(
            nn.Conv2d(channels_in, channels_out, 3, padding=1), nn.ReLU(), nn.BatchNorm2d(channels_out)
        )
    raise ValueError(f"stem must be conv3x3 or conv7x7_stride2, got {kind!r}")


def _rows_after_strides(rows: int, *, halvings: int) -> int:
    for _ in range(halvings):
        rows = (rows + 1) // 2
    return rows
