"""Nearest upsampling x2 followed by a 3x3 convolution, done at the low resolution.

Each of the four output phases sees only 2x2 distinct input pixels, so four 2x2 convolutions and an
interleave give the same image for 4/9 of the multiplications.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

# For an output pixel of phase 0 the three taps fall on input pixels -1, 0, 0; for phase 1 on 0, 0, +1.
# Rows: the two input pixels that matter; columns: the three taps.
_TAPS_OF_PHASE = torch.tensor([[[1.0, 0.0, 0.0], [0.0, 1.0, 1.0]], [[1.0, 1.0, 0.0], [0.0, 0.0, 1.0]]])


class PhaseConvolution(nn.Module):
    """Replaces `conv(interpolate(x, scale_factor=2, mode="nearest"))`, conv 3x3 without bias, padding 1."""

    def __init__(self, conv: nn.Conv2d) -> None:
        super().__init__()
        if conv.kernel_size != (3, 3) or conv.stride != (1, 1) or conv.padding != (1, 1) or conv.groups != 1:
            raise ValueError(f"needs a dense 3x3 convolution of stride 1 and padding 1, got {conv}")
        if conv.bias is not None:
            raise ValueError("needs a convolution without bias")
        taps = _TAPS_OF_PHASE.to(conv.weight.detach())
        # p q phase of row and column, r s input pixel, u v tap
        weight_pqOIrs = torch.einsum("pru,qsv,oiuv->pqoirs", taps, taps, conv.weight.detach())
        self.weight = nn.Parameter(weight_pqOIrs.flatten(0, 1))

    def forward(self, x_BCHW: Tensor) -> Tensor:
        padded = F.pad(x_BCHW, (1, 1, 1, 1))
        height, width = x_BCHW.shape[2:]
        phases = []
        for phase in range(4):
            row, column = divmod(phase, 2)
            window = padded[:, :, row : row + height + 1, column : column + width + 1]
            phases.append(F.conv2d(window, self.weight[phase]))
        return F.pixel_shuffle(torch.stack(phases, dim=2).flatten(1, 2), 2)
