"""Which photo of several lends what: teeth from the most open mouth, lids from the most closed eyes, and
what a turned head uncovers from those turned aside.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from gcavt.config import EditReposeGeneratorConfig
from gcavt.preprocessing import eye_distance, portrait_crop_origin

Image = NDArray[np.uint8]
Points = NDArray[np.float32]

_INNER_LIPS = (62, 66)
"""Middle of the upper and of the lower inner lip among the 68 landmarks."""
_LIDS = ((37, 41), (38, 40), (43, 47), (44, 46))
"""Upper and lower lid, one above the other."""
TURNED_DEG = 12.0
"""A photo turned this much further than the primary is one from the side."""
SEAM_BELOW_EYES_PX = 24
SEAM_HALF_WIDTH_PX = 6


@dataclass(frozen=True)
class ReferencePair:
    """What the generator looks at: the face as it rests, and one with open mouth and closed eyes."""

    primary_HWC: Image
    secondary_HWC: Image
    crop_origin: NDArray[np.float32]
    """(4,) x and y of the primary's face crop, then of the secondary's, in whole pixels."""


def pair_references(
    portraits: Sequence[Image], landmarks_68: Sequence[Points], generator: EditReposeGeneratorConfig
) -> ReferencePair:
    """Out of K portraits, 256 px RGB with their landmarks; the first is the primary, K = 1 lends all."""
    origins = [portrait_crop_origin(points, generator) for points in landmarks_68]
    mouth = max(range(len(portraits)), key=lambda i: mouth_opening(landmarks_68[i]))
    lids = min(range(len(portraits)), key=lambda i: eye_opening(landmarks_68[i]))
    secondary = portraits[mouth]
    if lids != mouth:
        right, down = np.subtract(origins[mouth], origins[lids])
        seam_y = origins[mouth][1] + generator.crop_eye_offset_px[1] + SEAM_BELOW_EYES_PX
        secondary = _with_upper_part(secondary, portraits[lids], (int(right), int(down)), seam_y)
    return ReferencePair(portraits[0], secondary, np.array([*origins[0], *origins[mouth]], np.float32))


def turned_portraits(yaw_deg: Sequence[float]) -> tuple[int, int]:
    """The portraits turned furthest to the picture's left and right, 0 where none is turned aside so.

    yaw_deg: of each portrait, the primary first; to the right positive.
    """
    turns = np.subtract(yaw_deg, yaw_deg[0])
    left, right = int(turns.argmin()), int(turns.argmax())
    return left if turns[left] <= -TURNED_DEG else 0, right if turns[right] >= TURNED_DEG else 0


def frontal_portraits(yaw_deg: Sequence[float]) -> list[int]:
    """The portraits that are not turned aside from the primary, it among them."""
    return [i for i, yaw in enumerate(yaw_deg) if abs(yaw - yaw_deg[0]) < TURNED_DEG]


def mouth_opening(landmarks_68: Points) -> float:
    """Gap between the inner lips over d_eye."""
    upper, lower = landmarks_68[list(_INNER_LIPS)]
    return float(np.hypot(*(lower - upper))) / eye_distance(landmarks_68)


def eye_opening(landmarks_68: Points) -> float:
    """Mean gap between the lids over d_eye."""
    gaps = [np.hypot(*(landmarks_68[lower] - landmarks_68[upper])) for upper, lower in _LIDS]
    return float(np.mean(gaps)) / eye_distance(landmarks_68)


def _with_upper_part(lower_HWC: Image, upper_HWC: Image, shift_px: tuple[int, int], seam_y: int) -> Image:
    """`lower` with what lies above the seam out of `upper`, which is first moved (right, down)."""
    height, width = lower_HWC.shape[:2]
    move = np.array([[1, 0, shift_px[0]], [0, 1, shift_px[1]]], np.float32)
    moved = cv2.warpAffine(upper_HWC, move, (width, height), borderMode=cv2.BORDER_REPLICATE)
    ramp = (seam_y + SEAM_HALF_WIDTH_PX - np.arange(height)) / (2 * SEAM_HALF_WIDTH_PX)
    share = np.clip(ramp, 0, 1)[:, None, None]
    return np.asarray(np.round(moved * share + lower_HWC * (1 - share)), np.uint8)
