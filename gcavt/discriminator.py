"""D: patch discriminators at several scales (pix2pixHD, as PC-AVS uses them), on RGB alone."""

from typing import NamedTuple

import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm

from gcavt.config import DiscriminatorConfig

LEAK = 0.2


class ScaleOutput(NamedTuple):
    """What one patch discriminator says about a batch of images."""

    features: list[Tensor]
    """After each inner layer, for feature matching."""
    logits: Tensor
    """(B, 1, h, w): above 0 for real."""


class PatchDiscriminator(nn.Module):
    """4x4 convolutions, all but the last inner one of stride 2; instance and spectral norm within."""

    def __init__(self, config: DiscriminatorConfig) -> None:
        super().__init__()
        channels = config.base_channels
        first = nn.Conv2d(3, channels, 4, 2, padding=2)
        self.layers = nn.ModuleList([nn.Sequential(first, nn.LeakyReLU(LEAK))])
        for layer in range(1, config.layers):
            channels_out = min(channels * 2, config.max_channels)
            stride = 1 if layer == config.layers - 1 else 2
            conv = nn.Conv2d(channels, channels_out, 4, stride, padding=2, bias=False)
            norm = nn.InstanceNorm2d(channels_out)
            self.layers.append(nn.Sequential(spectral_norm(conv), norm, nn.LeakyReLU(LEAK)))
            channels = channels_out
        self.last = nn.Conv2d(channels, 1, 4, padding=2)
        self.channels = channels

    def forward(self, image_BCHW: Tensor) -> ScaleOutput:
        features = []
        x = image_BCHW
        for layer in self.layers:
            x = layer(x)
            features.append(x)
        return ScaleOutput(features, self.last(x))


class MultiScaleDiscriminator(nn.Module):
    """One patch discriminator per scale, each scale half the size of the one before.

    With `identities` it also learns a row per training person and adds <row, mean feature> to the
    logits (a projection discriminator), which makes the embedding-matching identity loss possible.
    """

    def __init__(self, config: DiscriminatorConfig, *, identities: int | None = None) -> None:
        super().__init__()
        self.scales = nn.ModuleList(PatchDiscriminator(config) for _ in range(config.scales))
        self.identity_rows: nn.Embedding | None = None
        if identities is not None:
            width = min(config.base_channels * 2 ** (config.layers - 1), config.max_channels)
            self.identity_rows = nn.Embedding(identities, width)

    def forward(self, image_BCHW: Tensor, identity_B: Tensor | None = None) -> list[ScaleOutput]:
        """Outputs from the finest scale to the coarsest.

        `identity_B` (int64) is needed exactly when the discriminator was built with `identities`.
        """
        if (identity_B is None) != (self.identity_rows is None):
            raise ValueError(
                "pass identity_B to a discriminator built with identities, and only to such a one"
            )
        outputs = []
        x = image_BCHW
        for index, scale in enumerate(self.scales):
            if index > 0:
                x = F.avg_pool2d(x, 3, 2, padding=1, count_include_pad=False)
            output: ScaleOutput = scale(x)
            if self.identity_rows is not None:
                match_B = (self.identity_rows(identity_B) * output.features[-1].mean((2, 3))).sum(1)
                output = output._replace(logits=output.logits + match_B[:, None, None, None])
            outputs.append(output)
        return outputs
