"""What is made of a source's codes before they are shown: gains, its own neutral, pose relative to a rest.

In the exact code space (`gcavt.code_space`) codes are read back to degrees and blendshape weights, changed
there and written again; in a free one they move along the line through the neutral code.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

import numpy as np
from numpy.typing import NDArray

from engine.codes import Code, Socket
from engine.patch_bay import PoseMode
from engine.socket_fade import between
from gcavt import code_space

MAX_NEUTRAL_WEIGHT: Final = 0.5
"""A neutral face that reads as more than this is an error of the reading, or no neutral face."""
KEPT_BY_EXPRESSION_GAIN: Final = np.array(
    [name.startswith(("eyeBlink", "eyeLook")) for name in code_space.COEFFICIENTS]
)
"""Half a blink is no weaker blink but a sleepy eye, and gaze has a direction: both stay as they are."""


@dataclass(frozen=True, kw_only=True)
class Shaping:
    """How one socket's codes are to be changed."""

    gain: float = 1.0
    neutral: Code | None = None
    """What the source's resting face reads as; None: nobody has said."""
    reach: NDArray[np.float32] | None = field(default=None)
    """(52,) by how much each weight is to be stretched to use its whole range; exact code space only."""
    rest: Code | None = None
    """The avatar's own rest."""
    pose_mode: PoseMode = "absolute"


def shaped(socket: Socket, code: Code, shaping: Shaping, *, is_exact: bool) -> Code:
    """The code as it is to be shown; the very same object where nothing is to be changed."""
    if socket == "pose":
        return _shaped_pose(code, shaping, is_exact)
    if shaping.gain == 1.0 and shaping.neutral is None and shaping.reach is None:
        return code
    if not is_exact:
        neutral = shaping.rest if shaping.neutral is None else shaping.neutral
        return code if neutral is None else between(neutral, code, shaping.gain)
    if socket == "mouth":
        weights = _shaped_weights(code_space.content_weights(code), shaping)
        return code_space.content_code(np.clip(weights * shaping.gain, 0, 1))
    weights = _shaped_weights(code_space.expression_weights(code), shaping)
    gains = np.where(KEPT_BY_EXPRESSION_GAIN, 1.0, shaping.gain)
    return code_space.expression_code(np.clip(weights * gains, 0, 1))


def _shaped_pose(code: Code, shaping: Shaping, is_exact: bool) -> Code:
    """Absolute: about straight ahead (the avatar's rest where nobody knows what that is), else about rest."""
    straight = np.zeros_like(code)
    rest = straight if shaping.rest is None else shaping.rest
    if shaping.pose_mode == "relative":
        centre, neutral = rest, code if shaping.neutral is None else shaping.neutral
    elif is_exact:
        centre, neutral = straight, straight if shaping.neutral is None else shaping.neutral
    else:
        centre = neutral = rest
    if shaping.gain == 1.0 and centre is neutral:
        return code
    return np.asarray(centre + shaping.gain * (code - neutral), np.float32)


def _shaped_weights(weights_52: NDArray[np.float32], shaping: Shaping) -> NDArray[np.float32]:
    """Weights above the neutral face, stretched so that the whole range stays reachable."""
    if shaping.neutral is not None:
        neutral = np.clip(code_space.expression_weights(shaping.neutral), 0, MAX_NEUTRAL_WEIGHT)
        weights_52 = (weights_52 - neutral) / (1 - neutral)
    if shaping.reach is not None:
        weights_52 = weights_52 * shaping.reach
    return np.asarray(weights_52, np.float32)
