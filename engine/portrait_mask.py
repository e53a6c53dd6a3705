"""A photo and its face -> the portrait an identity is made of: the 256 px face crop on black.

Only for photos of the avatar's identity. Driving frames keep their background: the encoders are trained so.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

import cv2
import numpy as np
from mediapipe import Image, ImageFormat
from mediapipe.tasks.python import BaseOptions
from mediapipe.tasks.python.vision import ImageSegmenter, ImageSegmenterOptions
from numpy.typing import NDArray

from engine.errors import EngineError
from engine.native_log import without_chatter
from engine.native_tasks import Closing
from gcavt.preprocessing import CROP_PX, Face, crop_face, crop_from_box, transform_points


@dataclass(frozen=True)
class Portrait:
    image_HWC: NDArray[np.uint8]
    """(256, 256, 3) RGB, background black."""
    crop_HWC: NDArray[np.uint8]
    """The same as photographed, for the encoders: they are trained on backgrounds."""
    mask_HW: NDArray[np.float32]
    """(256, 256), 1 on the person and 0 on the background."""
    landmarks_68: NDArray[np.float32]
    """(68, 2) in the portrait's pixels."""


class PortraitMask:
    """Cuts persons out of photos with MediaPipe's selfie segmentation; used by one thread at a time."""

    def __init__(self, model_path: Path) -> None:
        """model_path is `engine.assets.selfie_segmentation_path()`. Raises EngineError for another file."""
        options = ImageSegmenterOptions(base_options=BaseOptions(model_asset_path=str(model_path)))
        try:
            with without_chatter():
                self._segmenter = ImageSegmenter.create_from_options(options)
        except (RuntimeError, ValueError, OSError) as error:
            raise EngineError(f"{model_path} is not a segmentation model: {error}") from error
        self._close = Closing(self, self._segmenter)

    def portrait(self, photo_HWC: NDArray[np.uint8], face: Face) -> Portrait:
        """The face crop with everything but the person in it black. About 20 ms."""
        crop_from_photo = crop_from_box(face.box_xyxy)
        # the mask goes on beyond the border likewise; a reflection would bring background and chins
        crop = crop_face(photo_HWC, crop_from_photo, outside="replicate")
        landmarks = transform_points(face.landmarks_68, crop_from_photo)
        mask = _continued(self.person_mask(crop), crop_from_photo, photo_HWC.shape[:2])
        mask = _decided(_only_the_one_at(mask, landmarks))
        on_black = np.round(crop * mask[:, :, None]).astype(np.uint8)
        return Portrait(on_black, crop, mask, landmarks)

    def person_mask(self, image_HWC: NDArray[np.uint8]) -> NDArray[np.float32]:
        """(H, W), how surely each pixel of an RGB image is a person, 0 to 1. Best on a square of 256 px."""
        image = Image(image_format=ImageFormat.SRGB, data=np.ascontiguousarray(image_HWC))
        masks = self._segmenter.segment(image).confidence_masks
        return np.array(masks[0].numpy_view(), dtype=np.float32).reshape(image_HWC.shape[:2])

    def close(self) -> None:
        self._close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _decided(mask_HW: NDArray[np.float32]) -> NDArray[np.float32]:
    """Doubtful values pushed towards 0 and 1: a grey veil of background shows on black."""
    low, high = 0.25, 0.75
    return np.asarray(np.clip((mask_HW - low) / (high - low), 0.0, 1.0), dtype=np.float32)


def _continued(
    mask_HW: NDArray[np.float32], crop_from_photo: NDArray[np.float32], photo_hw: tuple[int, ...]
) -> NDArray[np.float32]:
    """The mask where the crop leaves the photo: the border's values at the sides and below, nothing above."""
    photo_corners = np.array([[0, 0], [photo_hw[1] - 1, photo_hw[0] - 1]], dtype=np.float32)
    (left, top), (right, bottom) = np.clip(transform_points(photo_corners, crop_from_photo), 0, CROP_PX - 1)
    along = np.arange(CROP_PX)
    columns = np.clip(along, np.ceil(left), np.floor(right)).astype(int)
    rows = np.clip(along, np.ceil(top), np.floor(bottom)).astype(int)
    continued: NDArray[np.float32] = mask_HW[rows][:, columns]
    continued[along < np.ceil(top)] = 0.0
    return continued


def _only_the_one_at(mask_HW: NDArray[np.float32], landmarks_68: NDArray[np.float32]) -> NDArray[np.float32]:
    """The mask without other persons: only the connected area under the face."""
    _, labels = cv2.connectedComponents((mask_HW > 0.1).astype(np.uint8))
    x, y = np.clip(np.round(landmarks_68[27:36].mean(axis=0)).astype(int), 0, CROP_PX - 1)
    if labels[y, x] == 0:  # the segmenter overlooked the face: keep what it found
        return mask_HW
    return np.where(labels == labels[y, x], mask_HW, np.float32(0.0))
