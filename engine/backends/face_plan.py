"""How a tracked face becomes the inputs of its encoders, as numbers that a device can follow.

The pixels are the device's; what is cheap and intricate, matrices and masks drawn about landmarks, is made
here by `gcavt.preprocessing` itself. What comes out equals `pose_input`, `expression_input`, `mouth_crop`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from enum import IntEnum
from typing import Any, Final, Protocol

import cv2
import numpy as np
from numpy.typing import NDArray

from engine.backends.abilities import FaceLook
from gcavt.config import GcavtConfig
from gcavt.preprocessing import (
    CROP_PX,
    MOUTH_SIDE,
    Affine,
    Image,
    Points,
    crop_face,
    enlarges,
    expression_mask,
    eye_distance,
    eye_line_deg,
    face_landmarks,
    face_window,
    mouth_window,
    pose_landmarks,
    pose_mask,
    shrinking_for,
)


class Border(IntEnum):
    """What a warp sees outside of its source, as pictures.cu numbers it."""

    REFLECT_101 = 0
    REPLICATE = 1
    BLACK = 2


class PictureKernels(Protocol):
    """The kernels of pictures.cu on some device. Addresses are the device's, 0 is none."""

    def shrink(
        self,
        stream: Any,
        source: int,
        source_width: int,
        size: tuple[int, int],
        factor: int,
        *,
        mask: int = 0,
        to_bytes: int = 0,
        to_floats: int = 0,
    ) -> None:
        """size: width and height of what is made."""
        ...

    def warp(
        self,
        stream: Any,
        source: int,
        source_size: tuple[int, int],
        side: int,
        source_from_target: Affine,
        border: Border,
        *,
        mask: int = 0,
        to_bytes: int = 0,
        to_floats: int = 0,
    ) -> None:
        """source_size: width and height; side: of the square that is made."""
        ...


@dataclass(frozen=True, kw_only=True)
class Cut:
    """One network's picture out of the crop: the crop made smaller, or a window that is moved into place."""

    tensor: str
    """The network's input."""
    code: str
    """Its output."""
    side_px: int
    crop_from_picture: Affine | None = None
    """None: the crop, CROP_PX / side_px times smaller."""
    border: Border = Border.BLACK
    mask_HW: Image | None = None
    """0 where the picture is black."""
    landmarks: Mapping[str, NDArray[np.float32]]
    """(136,) by the name of the encoder's further input, if it has one."""


@dataclass(frozen=True, kw_only=True)
class FacePlan:
    """From a camera's picture to the crop that everything else is cut from."""

    part_HWC: Image
    """What has to be uploaded; contiguous."""
    factor: int
    """So many times smaller it is made first."""
    shrunk_from_crop: Affine | None
    """None: the part is the crop already."""


def follows_plans(config: GcavtConfig) -> bool:
    """Whether every encoder's picture can be cut as plans are made."""
    sides = [face.input_px for face in (config.pose, config.expression) if face.face_zoom == 1.0]
    return all(CROP_PX % side == 0 for side in sides)


def encoder_cuts(encoders: Iterable[str], landmarks_68: Points, config: GcavtConfig) -> dict[str, Cut]:
    """By encoder; landmarks in the crop's pixels."""
    return {encoder: _CUTS[encoder](landmarks_68, config) for encoder in encoders}


def face_plan(look: FaceLook) -> FacePlan:
    if enlarges(look.crop_from_image):
        # a small face is cut by cubic interpolation; the crop is then no more to upload than the face is
        crop_HWC = np.ascontiguousarray(crop_face(look.image_HWC, look.crop_from_image))
        return FacePlan(part_HWC=crop_HWC, factor=1, shrunk_from_crop=None)
    shrinking = shrinking_for(look.image_HWC.shape[:2], look.crop_from_image)
    return FacePlan(
        part_HWC=np.ascontiguousarray(look.image_HWC[shrinking.rows, shrinking.columns]),
        factor=shrinking.factor,
        shrunk_from_crop=_inverse(shrinking.crop_from_shrunk),
    )


def cut_crop(kernels: PictureKernels, stream: Any, plan: FacePlan, part: int, shrunk: int, crop: int) -> int:
    """Where the crop of 256 px will be: made at `crop` out of what lies at `part`, through `shrunk`."""
    if plan.shrunk_from_crop is None:
        return part
    height, width = plan.part_HWC.shape[:2]
    if plan.factor == 1:
        kernels.warp(
            stream, part, (width, height), CROP_PX, plan.shrunk_from_crop, Border.REFLECT_101, to_bytes=crop
        )
        return crop
    size = (width // plan.factor, height // plan.factor)
    kernels.shrink(stream, part, width, size, plan.factor, to_bytes=shrunk)
    kernels.warp(stream, shrunk, size, CROP_PX, plan.shrunk_from_crop, Border.REFLECT_101, to_bytes=crop)
    return crop


def cut_picture(kernels: PictureKernels, stream: Any, cut: Cut, crop: int, mask: int, to_floats: int) -> None:
    """Make an encoder's picture at `to_floats` out of the crop; `mask` holds the cut's, 0 if it has none."""
    if cut.crop_from_picture is None:
        size, factor = (cut.side_px, cut.side_px), CROP_PX // cut.side_px
        kernels.shrink(stream, crop, CROP_PX, size, factor, mask=mask, to_floats=to_floats)
    else:
        kernels.warp(
            stream,
            crop,
            (CROP_PX, CROP_PX),
            cut.side_px,
            cut.crop_from_picture,
            cut.border,
            mask=mask,
            to_floats=to_floats,
        )


def _pose_cut(landmarks_68: Points, config: GcavtConfig) -> Cut:
    side_px, face_zoom = config.pose.input_px, config.pose.face_zoom
    sees_face = face_zoom != 1.0
    return Cut(
        tensor="pose_image",
        code="pose_code",
        side_px=side_px,
        crop_from_picture=_zoomed(landmarks_68, side_px, face_zoom) if sees_face else None,
        mask_HW=None if sees_face else pose_mask(landmarks_68, side_px),
        landmarks=_told("pose_landmarks", landmarks_68, is_read=config.pose.reads_landmarks),
    )


def _expression_cut(landmarks_68: Points, config: GcavtConfig) -> Cut:
    side_px, face_zoom = config.expression.input_px, config.expression.face_zoom
    return Cut(
        tensor="expression_image",
        code="expression_code",
        side_px=side_px,
        crop_from_picture=None if face_zoom == 1.0 else _zoomed(landmarks_68, side_px, face_zoom),
        mask_HW=expression_mask(landmarks_68, side_px, face_zoom),
        landmarks=_told(config.expression_landmarks, landmarks_68, is_read=config.expression.reads_landmarks),
    )


def _zoomed(landmarks_68: Points, side_px: int, face_zoom: float) -> Affine:
    return _inverse(face_window(landmarks_68, side_px, face_zoom * side_px / CROP_PX))


def _mouth_cut(landmarks_68: Points, config: GcavtConfig) -> Cut:
    half_px = 0.5 * MOUTH_SIDE * eye_distance(landmarks_68)
    turn_deg = -eye_line_deg(landmarks_68)
    window = mouth_window(landmarks_68, (CROP_PX, CROP_PX), config.mouth_px, half_px, turn_deg)
    return Cut(
        tensor="mouth_image",
        code="content_code",
        side_px=config.mouth_px,
        crop_from_picture=_inverse(window),
        border=Border.REPLICATE,
        landmarks=_told("face_landmarks", landmarks_68, is_read=config.content.reads_landmarks),
    )


def _told(name: str, landmarks_68: Points, *, is_read: bool) -> dict[str, NDArray[np.float32]]:
    describe = pose_landmarks if name == "pose_landmarks" else face_landmarks
    return {name: describe(landmarks_68)} if is_read else {}


_CUTS: Final[dict[str, Callable[[Points, GcavtConfig], Cut]]] = {
    "pose_encoder": _pose_cut,
    "expression_encoder": _expression_cut,
    "content_encoder": _mouth_cut,
}


def _inverse(matrix_23: Affine) -> Affine:
    """As cv2.warpAffine inverts it: in double precision, then rounded."""
    return np.asarray(cv2.invertAffineTransform(matrix_23.astype(np.float64)), dtype=np.float32)
