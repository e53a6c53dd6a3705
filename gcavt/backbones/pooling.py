"""From a feature map to a vector."""

from torch import Tensor, nn


class MeanPooling(nn.Module):
    """The mean over all positions: what is there, not where."""

    def forward(self, x_BCHW: Tensor) -> Tensor:
        return x_BCHW.mean((2, 3))


class SpatialPooling(nn.Module):
    """Fewer channels, every position kept: for crops in which eyes and lips always lie at the same place.

    A mean over positions hardly tells by how many pixels an iris or a lid has moved.
    """

    def __init__(self, channels_in: int, channels_out: int) -> None:
        super().__init__()
        self.reduce = nn.Sequential(
            nn.Conv2d(channels_in, channels_out, 1, bias=False), nn.BatchNorm2d(channels_out), nn.ReLU()
        )

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """(B, C, H, W) to (B, channels_out * H * W)."""
        reduced: Tensor = self.reduce(x_BCHW)
        return reduced.flatten(1)
