"""The three codes that drive an identity for one frame, and the sockets that they come in through."""

from __future__ import annotations

from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

Code = NDArray[np.float32]
Socket = Literal["pose", "expression", "mouth"]

SOCKETS: tuple[Socket, ...] = ("pose", "expression", "mouth")


class DrivingCodes(NamedTuple):
    """What a frame shows apart from who it is."""

    pose_code: Code
    """(12,)"""
    expression_code: Code
    """(256,)"""
    content_code: Code
    """(256,) what the mouth says"""

    def of(self, socket: Socket) -> Code:
        return {"pose": self.pose_code, "expression": self.expression_code, "mouth": self.content_code}[
            socket
        ]
