"""How much of a face may move at once while something is switched: what everything together looks like.

A head that turns while it speaks and passes into another face moves each landmark, and changes each pixel, by
the sum of all that. About a switch no such sum exceeds what 1 % of natural steps exceed.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import numpy as np

from engine.codes import Socket

VISIBLE: Final[Mapping[Socket, tuple[float, float, float, float]]] = {
    "pose": (1.1, 1.25, 0.4, 1.6),
    "expression": (0.25, 1.4, 0.15, 0.1),
    "mouth": (0.5, 0.55, 1.0, 0.3),
}
"""What a natural step of each socket does at most to head, eyes and brows, lips and pixels, each in shares of
its natural p99: the 99.5 % quantile regression of both on 6600 steps of `gcavt bench switch --simulated`, and
up to two fifths more for eyes and pixels, which some faces show more strongly."""
MOST: Final = 0.88
"""Of the natural p99: what is seen of the same codes differs from face to face."""
OF_IDENTITY: Final = (0.2, 0.35, 0.2, 0.5)
"""The same of a step from one face into another (`identity_fade.NATURAL_CHANGE`)."""


def pace(strides: Mapping[Socket, float], *, changes_identity: bool) -> float:
    """The share of their steps that all may go together, at most 1.

    strides: how far each socket wants to go, in natural steps.
    """
    visible = np.array(OF_IDENTITY) if changes_identity else np.zeros(len(OF_IDENTITY))
    for socket, stride in strides.items():
        visible += stride * np.array(VISIBLE[socket])
    return float(MOST / max(MOST, visible.max()))
