"""G: four codes to an image. The AdaIN generator that GC-AVT borrows from Burkov et al. 2020.

What is unusual: the convolutions start from a learned constant, everything about the picture enters as
affine values of instance norms, and spectral norm holds every layer. Values, eps and the bias-first
layout follow "Neural Head Reenactment with Latent Pose Descriptors" (LPD).
"""

import math
from itertools import pairwise
from typing import Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils import parametrize
from torch.nn.utils.parametrizations import spectral_norm

from gcavt.config import AdainGeneratorConfig, GcavtConfig
from gcavt.phase_convolution import PhaseConvolution

EPS = 1e-4
IMAGE_CHANNELS = 3


def adain(x_BCHW: Tensor, affine_BA: Tensor) -> Tensor:
    """Instance norm, then x * weight + bias; affine_BA holds C biases, then C weights.

    The statistics are taken in float32: sums over 256 x 256 pixels overflow half precision.
    """
    bias_BC, weight_BC = affine_BA.chunk(2, dim=1)
    normed = F.instance_norm(x_BCHW.float(), eps=EPS).to(affine_BA.dtype)
    return normed * weight_BC[:, :, None, None] + bias_BC[:, :, None, None]


class AdainBlock(nn.Module):
    """AdaIN, ReLU, [x2,] conv, AdaIN, ReLU, conv; added to the (projected, upsampled) input."""

    def __init__(self, channels_in: int, channels_out: int, *, upsamples: bool) -> None:
        super().__init__()
        self.affine_widths = (2 * channels_in, 2 * channels_out)
        self.upsamples = upsamples
        self.conv1: nn.Module = spectral_norm(
            nn.Conv2d(channels_in, channels_out, 3, padding=1, bias=False), eps=EPS
        )
        self.conv2 = spectral_norm(nn.Conv2d(channels_out, channels_out, 3, padding=1, bias=False), eps=EPS)
        self.skip: nn.Module = nn.Identity()
        if upsamples or channels_in != channels_out:
            self.skip = spectral_norm(nn.Conv2d(channels_in, channels_out, 1), eps=EPS)

    def forward(self, x_BCHW: Tensor, affine1_BA: Tensor, affine2_BA: Tensor) -> Tensor:
        y: Tensor = F.relu(adain(x_BCHW, affine1_BA))
        if self.upsamples and not isinstance(self.conv1, PhaseConvolution):
            y = F.interpolate(y, scale_factor=2.0, mode="nearest")
        y = self.conv2(F.relu(adain(self.conv1(y), affine2_BA)))
        skip: Tensor = self.skip(x_BCHW)  # a 1x1 convolution commutes with nearest upsampling: do it small
        if self.upsamples:
            skip = F.interpolate(skip, scale_factor=2.0, mode="nearest")
        return skip + y


class AdainGenerator(nn.Module):
    """Four codes to (image, mask). Tensors: codes (B, D), image (B, 3, H, W), mask (B, 1, H, W)."""

    def __init__(self, config: GcavtConfig) -> None:
        super().__init__()
        if not isinstance(config.generator, AdainGeneratorConfig):
            raise ValueError(f"AdainGenerator needs generator.kind adain, got {config.generator.kind}")
        part = config.generator
        channels = _channels(part, config.image_px)
        self.constant = nn.Parameter(torch.randn(1, channels[0], part.constant_px, part.constant_px))
        blocks = [AdainBlock(channels[0], channels[0], upsamples=False) for _ in range(part.constant_blocks)]
        blocks += [AdainBlock(a, b, upsamples=True) for a, b in pairwise(channels)]
        self.blocks = nn.ModuleList(blocks)
        self.affine_widths = [width for block in blocks for width in block.affine_widths]
        self.affine_widths.append(2 * channels[-1])
        self.tail = spectral_norm(nn.Conv2d(channels[-1], IMAGE_CHANNELS + 1, 3, padding=1), eps=EPS)
        hidden = max(config.code_dim, 512)
        self.projector = nn.Sequential(
            spectral_norm(nn.Linear(config.code_dim, hidden), eps=EPS),
            nn.ReLU(),
            spectral_norm(nn.Linear(hidden, sum(self.affine_widths)), eps=EPS),
        )

    def forward(
        self, identity_code: Tensor, pose_code: Tensor, expression_code: Tensor, content_code: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Image on black (already multiplied by the mask) and mask.

        The mask lies in [0, 1]. In training the colours may reach -0.25 to 1.25, so that saturated
        colours keep a gradient; in evaluation they are clipped to [0, 1].
        """
        codes = torch.cat([identity_code, pose_code, expression_code, content_code], dim=1)
        affines = list(self.projector(codes).split(self.affine_widths, dim=1))
        x: Tensor = self.constant  # batch 1 until the first affine values spread it over the batch
        for index, block in enumerate(self.blocks):
            x = block(x, affines[2 * index], affines[2 * index + 1])
        out = torch.tanh(self.tail(F.relu(adain(x, affines[-1]))))
        mask = 0.5 * out[:, IMAGE_CHANNELS:] + 0.5
        image = (0.75 * out[:, :IMAGE_CHANNELS] + 0.5) * mask
        return (image if self.training else image.clamp(0.0, 1.0)), mask

    def fold_spectral_norm(self) -> Self:
        """Turn normalised weights into plain ones, for export. In evaluation mode; cannot be undone."""
        self.eval()  # in training mode reading a weight would move its singular vectors once more
        for module in self.modules():
            if parametrize.is_parametrized(module, "weight"):
                parametrize.remove_parametrizations(module, "weight", leave_parametrized=True)
        return self

    def use_phase_convolutions(self) -> Self:
        """Run upsampling convolutions at the low resolution: same image, 4/9 of their cost. For export."""
        self.fold_spectral_norm()
        for block in self.blocks:
            if isinstance(block, AdainBlock) and block.upsamples and isinstance(block.conv1, nn.Conv2d):
                block.conv1 = PhaseConvolution(block.conv1)
        return self


def _channels(part: AdainGeneratorConfig, image_px: int) -> list[int]:
    """Channels at the constant, then after each doubling of the side."""
    doublings = int(math.log2(image_px // part.constant_px))
    return [min(part.base_channels * 2 ** (doublings - k), part.max_channels) for k in range(doublings + 1)]
