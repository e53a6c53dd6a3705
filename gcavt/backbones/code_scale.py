"""The scale that makes codes of different encoders interchangeable."""

import math

import torch.nn.functional as F
from torch import Tensor


def to_unit_rms(code_BD: Tensor) -> Tensor:
    """L2-normalise each code and multiply it by the square root of its length: values of RMS 1."""
    return F.normalize(code_BD, dim=1, eps=1e-6) * math.sqrt(code_BD.shape[1])
