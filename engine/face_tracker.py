"""Driving frame -> the tracked face: MediaPipe's FaceLandmarker, following the largest face of a video."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
from mediapipe import Image, ImageFormat
from mediapipe.tasks.python import BaseOptions
from mediapipe.tasks.python.vision import (
    FaceLandmarker,
    FaceLandmarkerOptions,
    FaceLandmarkerResult,
    RunningMode,
)
from numpy.typing import NDArray

from engine.errors import EngineError
from engine.native_log import without_chatter
from engine.native_tasks import Closing
from gcavt.preprocessing import Face, face_box, landmarks_68_from_478

MAX_FACES = 2
"""Faces looked for: the largest is followed, so that somebody in the background does not take over."""

_Window = tuple[int, int, int, int]
"""Left, top, right, bottom in whole pixels."""


class FaceTracker:
    """Finds and follows one face; one tracker per video, used by one thread at a time.

    A face turned away or out of the picture gives None, and is taken up again when it comes back. About 12 ms
    a frame on one core. A face narrower than about a tenth of the picture is not found.
    """

    def __init__(self, model_path: Path, *, reads_shapes: bool = True) -> None:
        """model_path is `engine.assets.face_landmarker_path()`. Raises EngineError for any other file.

        Driving needs landmarks only: without `reads_shapes` a Face has neither blendshapes nor a head
        rotation, and a frame costs a little less (13.1 against 13.4 CPU-ms).
        """
        self._options = FaceLandmarkerOptions(
            base_options=BaseOptions(model_asset_path=str(model_path)),
            running_mode=RunningMode.VIDEO,
            num_faces=MAX_FACES,
            output_face_blendshapes=reads_shapes,
            output_facial_transformation_matrixes=reads_shapes,
        )
        self._image_hw: tuple[int, int] | None = None
        self._last_timestamp_ms = -1
        self._landmarker = _open(self._options)
        self._close = Closing(self, self._landmarker)

    def track(self, image_HWC: NDArray[np.uint8], timestamp_ms: int) -> Face | None:
        """The largest face of an RGB frame, or None where there is none.

        A timestamp that does not increase is taken as one millisecond after the last. The frame size may
        change at any time.
        """
        if image_HWC.ndim != 3 or image_HWC.shape[2] != 3 or image_HWC.dtype != np.uint8:
            raise ValueError(f"frame must be RGB uint8 (H, W, 3), got {image_HWC.dtype} {image_HWC.shape}")
        height, width = image_HWC.shape[:2]
        if self._image_hw not in (None, (height, width)):
            self.reset()  # the old face's place means nothing in the new picture
        self._image_hw = (height, width)
        self._last_timestamp_ms = max(timestamp_ms, self._last_timestamp_ms + 1)
        image = Image(image_format=ImageFormat.SRGB, data=np.ascontiguousarray(image_HWC))
        result = self._landmarker.detect_for_video(image, self._last_timestamp_ms)
        return _largest_face(result, width, height)

    def find_in_photo(self, photo_HWC: NDArray[np.uint8]) -> Face | None:
        """The largest face of a still picture, small ones included, or None. Ends what was followed before.

        The detector sees only 128 px of what it is shown. Where it finds nothing in the whole picture, it is
        shown windows of half and then a quarter of the size, about 10 ms each.
        """
        self.reset()
        for parts in (1, 2, 4):
            faces = self._find_in_windows(photo_HWC, _windows(photo_HWC.shape[:2], parts))
            if faces:
                largest = max(faces, key=lambda face: _area(face.box_xyxy))
                close_up = _window_about(largest, photo_HWC.shape[:2])
                return next(iter(self._find_in_windows(photo_HWC, [close_up])), largest)
        return None

    def _find_in_windows(self, photo_HWC: NDArray[np.uint8], windows: list[_Window]) -> list[Face]:
        faces = []
        for left, top, right, bottom in windows:
            face = self.track(photo_HWC[top:bottom, left:right], 0)
            if face is not None:
                faces.append(_moved(face, left, top))
                self.reset()  # do not follow this face into the next window
        return faces

    def reset(self) -> None:
        """Forget the face followed so far, as at a cut to another shot. Takes some 50 ms."""
        self._close()
        self._landmarker = _open(self._options)
        self._close = Closing(self, self._landmarker)
        self._last_timestamp_ms = -1

    def close(self) -> None:
        self._close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _open(options: FaceLandmarkerOptions) -> FaceLandmarker:
    try:
        with without_chatter():
            return FaceLandmarker.create_from_options(options)
    except (RuntimeError, ValueError, OSError) as error:
        path = options.base_options.model_asset_path
        raise EngineError(f"{path} is not a face landmarker model: {error}") from error


def _largest_face(result: FaceLandmarkerResult, width: int, height: int) -> Face | None:
    faces_K2 = [_landmarks_px(landmarks, width, height) for landmarks in result.face_landmarks]
    if not faces_K2:
        return None
    boxes = [face_box(landmarks_K2) for landmarks_K2 in faces_K2]
    largest = max(range(len(boxes)), key=lambda i: _area(boxes[i]))
    face = Face(
        landmarks_478=faces_K2[largest],
        landmarks_68=landmarks_68_from_478(faces_K2[largest]),
        box_xyxy=boxes[largest],
    )
    if not result.face_blendshapes or not result.facial_transformation_matrixes:
        return face
    return replace(
        face,
        blendshapes={shape.category_name: shape.score for shape in result.face_blendshapes[largest]},
        head_rotation=_rotation(result.facial_transformation_matrixes[largest]),
    )


def _area(box_xyxy: NDArray[np.float32]) -> float:
    return float(np.prod(box_xyxy[2:] - box_xyxy[:2]))


def _windows(image_hw: tuple[int, ...], parts: int) -> list[_Window]:
    """Windows of one size, 1 / parts of the picture's width and height, overlapping by half."""
    height, width = max(image_hw[0] // parts, 1), max(image_hw[1] // parts, 1)
    steps = range(2 * parts - 1)
    corners = [(width * i // 2, height * j // 2) for j in steps for i in steps]
    return [(left, top, left + width, top + height) for left, top in corners]


def _window_about(face: Face, image_hw: tuple[int, ...]) -> _Window:
    """A square of three times the face's size about it, as far as the picture goes."""
    centre = (face.box_xyxy[:2] + face.box_xyxy[2:]) / 2.0
    half = 1.5 * float(np.max(face.box_xyxy[2:] - face.box_xyxy[:2]))
    last = np.array([image_hw[1], image_hw[0]])
    left, top = np.clip(np.floor(centre - half), 0, last - 1).astype(int)
    right, bottom = np.clip(np.ceil(centre + half), 1, last).astype(int)
    return int(left), int(top), int(right), int(bottom)


def _moved(face: Face, right_px: int, down_px: int) -> Face:
    step = np.array([right_px, down_px], dtype=np.float32)
    return replace(
        face,
        landmarks_478=face.landmarks_478 + step,
        landmarks_68=face.landmarks_68 + step,
        box_xyxy=face.box_xyxy + np.tile(step, 2),
    )


def _landmarks_px(landmarks: list[Any], width: int, height: int) -> NDArray[np.float32]:
    """(478, 2) in pixels whose centres are whole numbers; MediaPipe counts 0 to 1 from edge to edge."""
    return np.array([(p.x * width - 0.5, p.y * height - 0.5) for p in landmarks], dtype=np.float32)


def _rotation(head_from_model: NDArray[np.floating]) -> NDArray[np.float32]:
    """The rotation nearest to the upper left of a 4 x 4 matrix that also holds scale and shift."""
    left, _, right = np.linalg.svd(np.asarray(head_from_model)[:3, :3])
    return np.asarray(left @ right, dtype=np.float32)
