"""The three codes that drive an identity for one frame."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Code = NDArray[np.float32]


class DrivingCodes(NamedTuple):
    """What a frame shows apart from who it is."""

    pose_code: Code
    """(12,)"""
    expression_code: Code
    """(256,)"""
    content_code: Code
    """(256,) what the mouth says"""
