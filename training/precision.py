"""Convolutions in bf16 while training, where the processor multiplies bf16 faster.

Everything else stays fp32: poses, depth and flow, whose last bits are fractions of a pixel, statistics,
losses and the weights themselves. `torch.autocast` would take the geometry's matrix products along.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

import torch
from torch import Tensor, nn


def is_bf16_fast() -> bool:
    """Whether this CPU has instructions for bf16 products (AVX512-BF16 or AMX)."""
    return bool(torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported())


@contextmanager
def bf16_convolutions(model: nn.Module) -> Iterator[None]:
    """Within it the model's 2-D convolutions multiply in bf16; what they put out is fp32 again."""
    convolutions = [module for module in model.modules() if type(module) is nn.Conv2d]
    for convolution in convolutions:
        setattr(convolution, "forward", partial(_in_bf16, convolution))  # noqa: B010 - for a while
    try:
        yield
    finally:
        for convolution in convolutions:
            delattr(convolution, "forward")


def _in_bf16(convolution: nn.Conv2d, x: Tensor) -> Tensor:
    bias = None if convolution.bias is None else convolution.bias.bfloat16()
    y: Tensor = convolution._conv_forward(x.bfloat16(), convolution.weight.bfloat16(), bias)
    return y.float()
