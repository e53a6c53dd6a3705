"""From a tracked face to the network inputs: the stable crop and the pose, expression and mouth images.

Images are RGB uint8 HWC. A point is (x, y) in pixels with pixel centres at whole numbers. A transform's name
reads to_from: `crop_from_image` takes image pixels to crop pixels. Only numpy and OpenCV are used, so that
training and the engine run the very same code.

Shape letters: H W pixels, C channels, N or K points. `d_eye` is the distance of the outer eye corners.
Source: GC-AVT (Liang et al., CVPR 2022), section 3.2; sizes the paper leaves open are the constants below.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from gcavt.config import EditReposeGeneratorConfig

Image = NDArray[np.uint8]
Points = NDArray[np.float32]
Affine = NDArray[np.float32]
Outside = Literal["reflect", "fade", "replicate"]
"""What a crop shows beyond the picture; see `crop_face`."""

CROP_PX = 256
BOX_SCALE = 1.8
"""Side of the crop over the longer side of the face box."""

CROP_TIME_CONSTANT_S = 0.8
CROP_CENTRE_LEASH = 0.06
"""The smoothed crop centre never lags behind the face by more than this share of the crop's side."""
CROP_SIZE_LEASH = 0.08
"""The smoothed crop side never differs from the wanted one by more than this (natural logarithm)."""
CROP_JUMP = 0.30
"""A face this far (share of the side) from the crop is another shot or person: smoothing starts afresh."""
CROP_SIZE_JUMP = 0.40

FADE_BLUR_SHARE = 0.016
"""Sigma of the blur outside the picture, over the crop's side (latent-pose-reenactment)."""

POSE_BROW_RAISE = 0.10
POSE_LOWER_EDGE = 0.85
"""Lower edge of the pose mask below the nose base, in d_eye: rigid, so that it does not tell the mouth."""
POSE_LOWER_HALF_WIDTH = 0.40
POSE_DILATION = 0.12

EXPRESSION_BROW_RAISE = 0.25
FACE_WINDOW_DROP = 0.12
"""Centre of the zoomed face window below the mean of nose and eye corners, in d_eye."""
EXPRESSION_ROTATION_DEG = 30.0
EXPRESSION_SHIFT = 0.04
EXPRESSION_SCALE = (0.9, 1.1)

MOUTH_PX = 96
MOUTH_SIDE = 1.2
"""Side of the mouth crop in d_eye; 0.8 is the "smaller mouth area" of the paper's ablation (d)."""
MOUTH_ROTATION_DEG = 20.0
MOUTH_REGION_SHRINK = 0.08
MOUTH_FEATHER_SIGMA = 5.0 / 256.0
"""Feather of the pasted mouth over the crop's side."""

SHIFT_FRAMES = (5, 15)
"""Distance in frames of the frame that lends its mouth to the expression input."""
SHIFT_FALLBACK_FRAMES = 3
ALIGN_MAX_RESIDUAL = 4.0 / 256.0
ALIGN_MAX_SCALE_CHANGE = 0.10

# iBUG 68 landmarks as vertices of MediaPipe's face mesh. Checked by eye on frontal and turned faces; the jaw
# follows the mesh's face oval in steps of nearly equal length, the nose ridge 168-197-5-4 as well.
MESH_OF_IBUG_68 = np.array(
    # jaw, from the picture's left to its right, chin in the middle
    [127, 234, 93, 132, 58, 136, 150, 176, 152, 400, 379, 365, 288, 361, 323, 454, 356]
    + [70, 63, 105, 66, 107]  # brow on the picture's left
    + [336, 296, 334, 293, 300]  # brow on the picture's right
    + [168, 197, 5, 4]  # nose ridge down to the tip
    + [98, 97, 2, 326, 327]  # nose base
    + [33, 160, 158, 133, 153, 144]  # eye on the picture's left, from its outer corner clockwise
    + [362, 385, 387, 263, 373, 380]  # eye on the picture's right, from its inner corner clockwise
    + [61, 39, 37, 0, 267, 269, 291, 405, 314, 17, 84, 181]  # outer lips
    + [78, 82, 13, 312, 308, 317, 14, 87],  # inner lips
    dtype=np.intp,
)
MESH_POINTS = 468
"""Points 468 to 477 of the 478 are the irises."""

JAW = slice(0, 17)
BROWS = slice(17, 27)
NOSE = slice(27, 36)
NOSE_BASE = 33
EYES = slice(36, 48)
MOUTH = slice(48, 68)
OUTER_EYE_CORNERS = (36, 45)
RIGID_POINTS = np.array([*range(27, 36), 36, 39, 42, 45], dtype=np.intp)
"""Nose and eye corners: what hardly moves in the head when the face does."""
MOUTH_REGION = np.array([*range(3, 14), 35, 31], dtype=np.intp)
"""Polygon of the lower face: jaw 3 to 13 closed by the nose base."""

_SUBPIXEL_BITS = 4
_CIRCLE = np.stack([np.cos(np.arange(16) * np.pi / 8), np.sin(np.arange(16) * np.pi / 8)], axis=1).astype(
    np.float32
)


@dataclass(frozen=True)
class Face:
    """One tracked face in the pixels of the image it was found in."""

    landmarks_478: Points
    """(478, 2), or (468, 2) where the irises are unknown."""
    landmarks_68: Points
    """(68, 2), iBUG order."""
    box_xyxy: NDArray[np.float32]
    """(4,): left, top, right, bottom of all face mesh points, much what a face detector boxes."""
    blendshapes: dict[str, float] | None = None
    """MediaPipe's own reading of the face, 0 to 1 by ARKit name; for evaluation, no network sees it."""
    head_rotation: NDArray[np.float32] | None = None
    """(3, 3) rotation of the head in camera space."""


def face_from_landmarks(landmarks_K2: Points) -> Face:
    """A Face from 478 or 468 mesh points alone."""
    return Face(
        landmarks_478=np.asarray(landmarks_K2, dtype=np.float32),
        landmarks_68=landmarks_68_from_478(landmarks_K2),
        box_xyxy=face_box(landmarks_K2),
    )


def landmarks_68_from_478(landmarks_K2: NDArray[np.floating]) -> Points:
    """The 68 iBUG landmarks among MediaPipe's 478 (or 468). Further columns than x, y are dropped."""
    if landmarks_K2.ndim != 2 or len(landmarks_K2) < MESH_POINTS or landmarks_K2.shape[1] < 2:
        raise ValueError(f"landmarks must be (478, 2) or (468, 2), got {landmarks_K2.shape}")
    return np.asarray(landmarks_K2[MESH_OF_IBUG_68, :2], dtype=np.float32)


def face_box(landmarks_K2: NDArray[np.floating]) -> NDArray[np.float32]:
    """(left, top, right, bottom) of the face mesh: hairline to chin, cheek to cheek, like an S3FD box."""
    mesh_K2 = landmarks_K2[:MESH_POINTS, :2]
    return np.concatenate([mesh_K2.min(axis=0), mesh_K2.max(axis=0)]).astype(np.float32)


def eye_distance(landmarks_68: Points) -> float:
    """d_eye, the distance in pixels of the outer eye corners, at least one pixel."""
    across = landmarks_68[OUTER_EYE_CORNERS[1]] - landmarks_68[OUTER_EYE_CORNERS[0]]
    return max(float(np.hypot(across[0], across[1])), 1.0)


def head_angles(rotation_33: NDArray[np.floating]) -> NDArray[np.float32]:
    """Pitch, yaw, roll (3,) in degrees of a rotation composed as roll x yaw x pitch."""
    pitch = np.arctan2(rotation_33[2, 1], rotation_33[2, 2])
    yaw = np.arcsin(np.clip(-rotation_33[2, 0], -1, 1))
    roll = np.arctan2(rotation_33[1, 0], rotation_33[0, 0])
    return np.asarray(np.degrees([pitch, yaw, roll]), np.float32)


class RunningEyeDistance:
    """The median of d_eye over the last frames, so that the mouth crop does not pump with tracking noise."""

    def __init__(self, frames: int = 9) -> None:
        self._history: deque[float] = deque(maxlen=frames)

    def update(self, landmarks_68: Points) -> float:
        self._history.append(eye_distance(landmarks_68))
        return float(np.median(self._history))

    def reset(self) -> None:
        self._history.clear()


# -- the face crop ------------------------------------------------------------------------------------------


def crop_from_box(box_xyxy: NDArray[np.floating]) -> Affine:
    """`crop_from_image` for one still picture: the box enlarged by 1.8 about its centre, to 256 px."""
    centre, side = _square(box_xyxy)
    return _crop_from_square(centre, side)


class StableCrop:
    """Where to cut the face out of each frame of a stream: the box enlarged by 1.8, smoothed over time.

    The crop follows slowly, like a camera operator, so head shifts stay visible inside it, but the face never
    leaves it. A jump (a cut, another person) and a change of frame size start the smoothing afresh.
    """

    def __init__(self, frame_rate_hz: float = 25.0) -> None:
        self._gain = 1.0 - float(np.exp(-1.0 / (frame_rate_hz * CROP_TIME_CONSTANT_S)))
        self.reset()

    def reset(self) -> None:
        self._centre: NDArray[np.float64] | None = None
        self._side = 0.0
        self._image_hw: tuple[int, int] | None = None

    def update(self, face: Face, image_hw: tuple[int, int]) -> Affine:
        """`crop_from_image` (2, 3) for this frame; image_hw is the frame's height and width in pixels."""
        centre, side = _square(face.box_xyxy)
        if self._centre is None or image_hw != self._image_hw or self._is_jump(centre, side):
            self._centre, self._side = centre, side
        else:
            self._follow(centre, side)
        self._image_hw = image_hw
        return _crop_from_square(self._centre, self._side)

    def _is_jump(self, centre: NDArray[np.float64], side: float) -> bool:
        assert self._centre is not None
        moved = float(np.hypot(*(centre - self._centre))) / self._side
        return moved > CROP_JUMP or abs(float(np.log(side / self._side))) > CROP_SIZE_JUMP

    def _follow(self, centre: NDArray[np.float64], side: float) -> None:
        assert self._centre is not None
        lag = (1.0 - self._gain) * (centre - self._centre)
        longest = CROP_CENTRE_LEASH * self._side
        self._centre = centre - lag * min(1.0, longest / max(float(np.hypot(*lag)), 1e-9))
        size_lag = (1.0 - self._gain) * float(np.log(side / self._side))
        self._side = side * float(np.exp(-np.clip(size_lag, -CROP_SIZE_LEASH, CROP_SIZE_LEASH)))


def crop_face(
    image_HWC: Image, crop_from_image: Affine, size_px: int = CROP_PX, *, outside: Outside = "reflect"
) -> Image:
    """Cut the face out: size_px x size_px x 3.

    `crop_from_image` maps to a 256 px crop and is scaled when another size is asked for. Beyond the picture
    the crop shows its reflection; with "fade" (slower) the reflection is blurred and fades to the median
    colour, as in latent-pose-reenactment; with "replicate" the border pixels go on.
    """
    to_size = _scaled(crop_from_image, size_px / CROP_PX)
    shrinking = shrinking_for(image_HWC.shape[:2], to_size, size_px)
    crop = cv2.warpAffine(
        shrinking.of(image_HWC),
        shrinking.crop_from_shrunk,
        (size_px, size_px),
        flags=cv2.INTER_CUBIC if enlarges(to_size) else cv2.INTER_LINEAR,
        borderMode=cv2.BORDER_REPLICATE if outside == "replicate" else cv2.BORDER_REFLECT_101,
    )
    if outside == "fade":
        return _faded(np.asarray(crop, dtype=np.uint8), to_size, image_HWC.shape[:2])
    return np.asarray(crop, dtype=np.uint8)


def transform_points(points_N2: NDArray[np.floating], matrix_23: Affine) -> Points:
    """Points (N, 2) through an affine map (2, 3)."""
    return np.asarray(points_N2 @ matrix_23[:, :2].T + matrix_23[:, 2], dtype=np.float32)


def portrait_crop_origin(landmarks_68: Points, generator: EditReposeGeneratorConfig) -> tuple[int, int]:
    """Where (x, y) in a 256 px portrait the generator's face crop begins: set by the eyes, kept inside."""
    middle = landmarks_68[list(OUTER_EYE_CORNERS)].mean(axis=0)
    origin = np.round(middle).astype(int) - np.array(generator.crop_eye_offset_px)
    room = np.array([CROP_PX - generator.crop_width_px, CROP_PX - generator.crop_height_px])
    x, y = np.clip(origin, 0, room)
    return int(x), int(y)


def to_network(image_HWC: Image) -> NDArray[np.float32]:
    """uint8 (H, W, 3) to float32 (3, H, W) in [0, 1], contiguous."""
    return np.ascontiguousarray(image_HWC.transpose(2, 0, 1), dtype=np.float32) / np.float32(255.0)


def _square(box_xyxy: NDArray[np.floating]) -> tuple[NDArray[np.float64], float]:
    box = np.asarray(box_xyxy, dtype=np.float64)
    width, height = box[2:] - box[:2]
    return (box[:2] + box[2:]) / 2.0, max(float(max(width, height)) * BOX_SCALE, 1.0)


def _crop_from_square(centre: NDArray[np.float64], side: float) -> Affine:
    scale = CROP_PX / side
    offset = (CROP_PX - 1) / 2.0 - scale * centre
    return np.array([[scale, 0.0, offset[0]], [0.0, scale, offset[1]]], dtype=np.float32)


def _scaled(matrix_23: Affine, scale: float) -> Affine:
    """The same map onto a raster `scale` times as fine; the corner stays, not the first pixel's centre."""
    scaled = matrix_23 * np.float32(scale)
    scaled[:, 2] += np.float32((scale - 1.0) / 2.0)
    return np.asarray(scaled, dtype=np.float32)


def _scale_of(matrix_23: Affine) -> float:
    return float(np.sqrt(abs(np.linalg.det(matrix_23[:, :2]))))


def enlarges(to_crop: Affine) -> bool:
    """Whether a crop shows the image larger than it is; it is then cut by cubic interpolation."""
    return _scale_of(to_crop) > 1.0


@dataclass(frozen=True, kw_only=True)
class Shrinking:
    """The part of an image that a crop shows, how many times smaller it is made, and the map from there."""

    rows: slice
    columns: slice
    factor: int
    crop_from_shrunk: Affine

    def of(self, image_HWC: Image) -> Image:
        """The part, made smaller."""
        part = image_HWC[self.rows, self.columns]
        if self.factor == 1:
            return part
        size = (part.shape[1] // self.factor, part.shape[0] // self.factor)
        return np.asarray(cv2.resize(part, size, interpolation=cv2.INTER_AREA), dtype=np.uint8)


def shrinking_for(image_hw: Sequence[int], to_crop: Affine, size_px: int = CROP_PX) -> Shrinking:
    """How `crop_face` makes an image smaller before it is warped to a crop of size_px by `to_crop`.

    cv2.warpAffine has no area filter, so that a plain warp of a large face would alias.
    """
    factor = round(1.0 / max(_scale_of(to_crop), 1e-3))
    if factor <= 1:
        whole = slice(0, image_hw[0]), slice(0, image_hw[1])
        return Shrinking(rows=whole[0], columns=whole[1], factor=1, crop_from_shrunk=to_crop)
    corner = size_px - 0.5
    corners = np.array([[-0.5, -0.5], [corner, -0.5], [-0.5, corner], [corner, corner]], dtype=np.float32)
    shown = transform_points(corners, np.asarray(cv2.invertAffineTransform(to_crop), dtype=np.float32))
    image_wh = np.array([image_hw[1], image_hw[0]])
    low, high = shown.min(axis=0), shown.max(axis=0)
    # what lies outside is reflected, and the reflection needs as much of the inside
    margin = max(0.0, float(np.max(-low)), float(np.max(high - image_wh))) + 2 * factor
    first = (np.clip(np.floor(low - margin), 0, image_wh - factor) // factor * factor).astype(int)
    blocks = np.maximum((np.clip(np.ceil(high + margin), 0, image_wh) - first) // factor, 1).astype(int)
    last = first + blocks * factor
    linear = to_crop[:, :2] * factor
    offset = to_crop[:, :2] @ (first + (factor - 1) / 2.0) + to_crop[:, 2]
    return Shrinking(
        rows=slice(int(first[1]), int(last[1])),
        columns=slice(int(first[0]), int(last[0])),
        factor=factor,
        crop_from_shrunk=np.column_stack([linear, offset]).astype(np.float32),
    )


def _faded(crop_HWC: Image, crop_from_image: Affine, image_hw: Sequence[int]) -> Image:
    outside = _distance_outside(crop_HWC.shape[0], crop_from_image, image_hw)
    farthest = float(outside.max())
    if farthest <= 0.0:
        return crop_HWC
    fade = (outside / farthest)[:, :, None]
    image = crop_HWC.astype(np.float32)
    blurred = cv2.GaussianBlur(image, (0, 0), FADE_BLUR_SHARE * crop_HWC.shape[0])
    image += (blurred - image) * np.minimum(1.0, 3.0 * fade)
    image += (np.median(crop_HWC, axis=(0, 1)) - image) * fade
    return np.asarray(np.round(image), dtype=np.uint8)


def _distance_outside(size_px: int, crop_from_image: Affine, image_hw: Sequence[int]) -> NDArray[np.float32]:
    """Per crop pixel, how far outside the picture it lies, in crop pixels (0 inside)."""
    image_from_crop = cv2.invertAffineTransform(crop_from_image)
    along = np.arange(size_px, dtype=np.float32)
    grid = np.stack(np.meshgrid(along, along), axis=-1).reshape(-1, 2)
    points = transform_points(grid, np.asarray(image_from_crop, dtype=np.float32))
    last = np.array([image_hw[1] - 1, image_hw[0] - 1], dtype=np.float32)
    beyond = np.maximum(np.maximum(-points, points - last), 0.0)
    distance = np.hypot(beyond[:, 0], beyond[:, 1]) * float(
        np.sqrt(abs(np.linalg.det(crop_from_image[:, :2])))
    )
    return np.asarray(distance.reshape(size_px, size_px), dtype=np.float32)


# -- the three driver inputs --------------------------------------------------------------------------------


def pose_input(crop_HWC: Image, landmarks_68: Points, size_px: int, face_zoom: float = 1.0) -> Image:
    """The whole head with brows, eyes, nose and mouth blacked out: size_px x size_px x 3.

    landmarks_68 are in the crop's pixels. Background, hair, ears, contour and shoulders stay. With a
    `face_zoom` above 1 nothing is blacked out: a window that much smaller than the crop, about nose and eyes,
    the eye line level (`gcavt.face_pose_encoder`).
    """
    if face_zoom != 1.0:
        return _zoomed_on_face(crop_HWC, landmarks_68, size_px, face_zoom)[0]
    image, landmarks = _resized(crop_HWC, landmarks_68, size_px)
    cv2.fillConvexPoly(image, _fixed_point(_pose_mask_hull(landmarks)), (0, 0, 0), shift=_SUBPIXEL_BITS)
    return image


def pose_mask(landmarks_68: Points, size_px: int) -> Image:
    """(size_px, size_px): 0 where `pose_input` blacks the crop out, else 255."""
    mask = np.full((size_px, size_px), 255, dtype=np.uint8)
    hull = _pose_mask_hull(_resized_points(landmarks_68, size_px / CROP_PX))
    cv2.fillConvexPoly(mask, _fixed_point(hull), (0,), shift=_SUBPIXEL_BITS)
    return mask


def pose_landmarks(landmarks_68: Points, crop_px: int = CROP_PX) -> NDArray[np.float32]:
    """(136,): x and y of each landmark about the crop's centre, in quarters of the crop's side.

    landmarks_68 are in the crop's pixels, whose centres are whole numbers.
    """
    return ((landmarks_68 - 0.5 * (crop_px - 1)) * (4.0 / crop_px)).astype(np.float32).reshape(-1)


def face_landmarks(landmarks_68: Points) -> NDArray[np.float32]:
    """(136,): x and y of each landmark about the middle between the eyes, in distances between the eyes, the
    eye line level."""
    left, right = landmarks_68[36:42].mean(axis=0), landmarks_68[42:48].mean(axis=0)
    along = (right - left) / max(float(np.sum((right - left) ** 2)), 1e-6)
    axes = np.stack([along, [-along[1], along[0]]])
    aligned = (landmarks_68 - 0.5 * (left + right)) @ axes.T
    return np.asarray(aligned, np.float32).reshape(-1)


def expression_input(crop_HWC: Image, landmarks_68: Points, size_px: int, face_zoom: float = 1.0) -> Image:
    """The face alone, brows to jaw, on black: size_px x size_px x 3 (run time: own mouth, no rotation).

    landmarks_68 are in the crop's pixels. With `face_zoom` above 1 a window that much smaller than the crop
    is cut about nose and eyes, its eye line level, so that a small input still resolves lids and brows.
    """
    if face_zoom != 1.0:
        crop_HWC, landmarks_68 = _zoomed_on_face(crop_HWC, landmarks_68, size_px, face_zoom)
    image, landmarks = _resized(crop_HWC, landmarks_68, size_px)
    return _keep_face(image, landmarks)


def expression_mask(landmarks_68: Points, size_px: int, face_zoom: float = 1.0) -> Image:
    """(size_px, size_px): 255 where `expression_input` keeps the face, else 0."""
    if face_zoom != 1.0:
        matrix = face_window(landmarks_68, size_px, face_zoom * size_px / CROP_PX)
        return _face_mask((size_px, size_px), transform_points(landmarks_68, matrix))
    return _face_mask((size_px, size_px), _resized_points(landmarks_68, size_px / CROP_PX))


def mouth_crop(
    crop_HWC: Image,
    landmarks_68: Points,
    size_px: int = MOUTH_PX,
    derotate: bool = True,
    *,
    rotation_deg: float = 0.0,
    eye_distance_px: float | None = None,
    side_in_eye_distances: float = MOUTH_SIDE,
) -> Image:
    """The speech-content input: a square about the lips, size_px x size_px x 3.

    landmarks_68 are in the crop's pixels. With `derotate` the eye line becomes horizontal; `rotation_deg`
    turns further (training draws it, run time leaves 0). `eye_distance_px` replaces this frame's d_eye by a
    steadier one (RunningEyeDistance). The square is moved inside the crop where it would leave it.
    """
    half = 0.5 * side_in_eye_distances * (eye_distance_px or eye_distance(landmarks_68))
    turn_deg = rotation_deg - (eye_line_deg(landmarks_68) if derotate else 0.0)
    matrix = mouth_window(landmarks_68, crop_HWC.shape[:2], size_px, half, turn_deg)
    mouth = cv2.warpAffine(
        crop_HWC, matrix, (size_px, size_px), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE
    )
    return np.asarray(mouth, dtype=np.uint8)


def mouth_window(
    landmarks_68: Points, image_hw: Sequence[int], size_px: int, half_px: float, turn_deg: float
) -> Affine:
    """Image -> window of size_px about the lips, reaching half_px to each side, inside the image."""
    height, width = image_hw
    centre = landmarks_68[MOUTH].mean(axis=0).astype(np.float64)
    farthest = np.array([width, height]) - half_px - 0.5
    centre = np.clip(centre, half_px - 0.5, np.maximum(farthest, half_px - 0.5))
    return _turned_about(centre, (size_px - 1) / 2.0, turn_deg, size_px / (2.0 * half_px))


def eye_line_deg(landmarks_68: Points) -> float:
    """Angle of the line through the outer eye corners, degrees, positive when it falls to the right."""
    across = landmarks_68[OUTER_EYE_CORNERS[1]] - landmarks_68[OUTER_EYE_CORNERS[0]]
    return float(np.degrees(np.arctan2(across[1], across[0])))


def _pose_mask_hull(landmarks_68: Points) -> Points:
    d_eye = eye_distance(landmarks_68)
    right, down = _face_axes(landmarks_68)
    edge_middle = landmarks_68[NOSE_BASE] + POSE_LOWER_EDGE * d_eye * down
    edge = np.stack(
        [
            edge_middle - POSE_LOWER_HALF_WIDTH * d_eye * right,
            edge_middle + POSE_LOWER_HALF_WIDTH * d_eye * right,
        ]
    )
    brows = landmarks_68[BROWS] - POSE_BROW_RAISE * d_eye * down
    points = np.concatenate([brows, landmarks_68[EYES], landmarks_68[31:36], edge])
    # a hull widened by a disc is the hull of the discs about its points
    return np.asarray((points[:, None] + POSE_DILATION * d_eye * _CIRCLE).reshape(-1, 2), dtype=np.float32)


def _keep_face(image_HWC: Image, landmarks_68: Points) -> Image:
    mask = _face_mask(image_HWC.shape[:2], landmarks_68)
    return np.asarray(cv2.bitwise_and(image_HWC, image_HWC, mask=mask), dtype=np.uint8)


def _face_mask(image_hw: Sequence[int], landmarks_68: Points) -> Image:
    _, down = _face_axes(landmarks_68)
    brows = landmarks_68[BROWS] - EXPRESSION_BROW_RAISE * eye_distance(landmarks_68) * down
    hull = _fixed_point(np.concatenate([brows, landmarks_68[JAW]]))
    mask = np.zeros((image_hw[0], image_hw[1]), dtype=np.uint8)
    cv2.fillConvexPoly(mask, hull, (255,), shift=_SUBPIXEL_BITS)
    return mask


def _zoomed_on_face(
    crop_HWC: Image, landmarks_68: Points, size_px: int, face_zoom: float
) -> tuple[Image, Points]:
    """The face window and its landmarks, both at size_px."""
    matrix = face_window(landmarks_68, size_px, face_zoom * size_px / crop_HWC.shape[0])
    window = cv2.warpAffine(crop_HWC, matrix, (size_px, size_px), flags=cv2.INTER_LINEAR)
    return np.asarray(window, dtype=np.uint8), transform_points(landmarks_68, matrix)


def face_window(landmarks_68: Points, size_px: int, scale: float) -> Affine:
    """Image -> window of size_px about nose and eyes, the eye line level."""
    _, down = _face_axes(landmarks_68)
    centre = landmarks_68[RIGID_POINTS].mean(axis=0) + FACE_WINDOW_DROP * eye_distance(landmarks_68) * down
    return _turned_about(centre, (size_px - 1) / 2.0, -eye_line_deg(landmarks_68), scale)


def _face_axes(landmarks_68: Points) -> tuple[Points, Points]:
    """Unit vectors of the face in the image: to the picture's right along the eye line, and down from it."""
    angle = np.radians(eye_line_deg(landmarks_68))
    right = np.array([np.cos(angle), np.sin(angle)], dtype=np.float32)
    return right, np.array([-right[1], right[0]], dtype=np.float32)


def _resized(crop_HWC: Image, landmarks_68: Points, size_px: int) -> tuple[Image, Points]:
    """A copy of the crop at size_px and its landmarks there."""
    scale = size_px / crop_HWC.shape[0]
    if scale == 1.0:
        return crop_HWC.copy(), landmarks_68
    interpolation = cv2.INTER_AREA if scale < 1.0 else cv2.INTER_CUBIC
    image = cv2.resize(crop_HWC, (size_px, size_px), interpolation=interpolation)
    return np.asarray(image, dtype=np.uint8), _resized_points(landmarks_68, scale)


def _resized_points(points_N2: Points, scale: float) -> Points:
    if scale == 1.0:
        return points_N2
    resized = (points_N2 + np.float32(0.5)) * np.float32(scale) - np.float32(0.5)
    return np.asarray(resized, dtype=np.float32)


def _fixed_point(points_N2: Points) -> NDArray[np.int32]:
    """The convex hull of the points as OpenCV draws it, in sixteenths of a pixel."""
    hull = cv2.convexHull(np.asarray(points_N2, dtype=np.float32))
    return np.asarray(np.round(hull * (1 << _SUBPIXEL_BITS)), dtype=np.int32)


def _turned_about(
    centre: NDArray[np.floating], centre_after: float | NDArray[np.floating], turn_deg: float, scale: float
) -> Affine:
    """Turn by turn_deg (clockwise on the screen) and scale about `centre`, which goes to `centre_after`."""
    angle = np.radians(turn_deg)
    linear = scale * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    return np.column_stack([linear, centre_after - linear @ centre]).astype(np.float32)


# -- the expression input in training: another moment's mouth, turned at random ----------------------------


def draw_mouth_shift(rng: np.random.Generator, frame: int, first_frame: int, last_frame: int) -> int | None:
    """The shift i, in frames, of the frame that lends its mouth, inside the shot first..last (inclusive).

    |i| is uniform in 5..15 with a random sign; in a short shot the largest shift of at least 3; else None.
    """
    before, after = frame - first_frame, last_frame - frame
    shifts = [i for i in range(SHIFT_FRAMES[0], SHIFT_FRAMES[1] + 1) if i <= max(before, after)]
    if not shifts:
        longest = max(before, after)
        if longest < SHIFT_FALLBACK_FRAMES:
            return None
        return longest if after >= before else -longest
    shift = int(rng.choice(shifts))
    signs = [sign for sign, room in ((1, after), (-1, before)) if shift <= room]
    return shift * int(rng.choice(signs))


def similarity(from_N2: NDArray[np.floating], to_N2: NDArray[np.floating]) -> Affine:
    """The rotation, scale and shift (2, 3) that takes one point set closest to another, in least squares.

    Source: Umeyama 1991, "Least-squares estimation of transformation parameters between two point patterns".
    """
    source, target = np.asarray(from_N2, dtype=np.float64), np.asarray(to_N2, dtype=np.float64)
    source_mean, target_mean = source.mean(axis=0), target.mean(axis=0)
    centred = source - source_mean
    left, strengths, right = np.linalg.svd((target - target_mean).T @ centred)
    signs = np.array([1.0, np.sign(np.linalg.det(left @ right))])
    rotation = (left * signs) @ right
    scale = float(strengths @ signs) / max(float((centred**2).sum()), 1e-12)
    return np.column_stack([scale * rotation, target_mean - scale * rotation @ source_mean]).astype(
        np.float32
    )


def mouth_alignment(from_68: Points, to_68: Points, image_px: int = CROP_PX) -> Affine | None:
    """The similarity between two moments of one face by its rigid points, or None where they do not fit.

    None means: mean residual above 4 px (at 256) or scale change above 10 per cent; draw another shift.
    """
    matrix = similarity(from_68[RIGID_POINTS], to_68[RIGID_POINTS])
    gaps = transform_points(from_68[RIGID_POINTS], matrix) - to_68[RIGID_POINTS]
    residual = float(np.sqrt((gaps**2).sum(axis=1)).mean())
    scale = _scale_of(matrix)
    if residual > ALIGN_MAX_RESIDUAL * image_px or abs(scale - 1.0) > ALIGN_MAX_SCALE_CHANGE:
        return None
    return matrix


def with_mouth_of(
    crop_HWC: Image,
    landmarks_68: Points,
    shifted_crop_HWC: Image,
    crop_from_shifted: Affine,
    *,
    match_colour: bool = False,
) -> Image:
    """The crop with another moment's lower face, moved into place by `crop_from_shifted`."""
    height, width = crop_HWC.shape[:2]
    lender = cv2.warpAffine(
        shifted_crop_HWC, crop_from_shifted, (width, height), borderMode=cv2.BORDER_REFLECT_101
    )
    lender_f = np.asarray(lender, dtype=np.float32)
    crop_f = crop_HWC.astype(np.float32)
    alpha = _mouth_region_alpha(landmarks_68, (height, width))
    if match_colour:
        lender_f = _colour_matched(lender_f, crop_f, alpha > 0.5)
    return np.asarray(np.round(crop_f + (lender_f - crop_f) * alpha[:, :, None]).clip(0, 255), dtype=np.uint8)


def without_mouth(crop_HWC: Image, landmarks_68: Points) -> Image:
    """The crop with the lower face faded to black: for a shot too short to lend a mouth."""
    alpha = _mouth_region_alpha(landmarks_68, crop_HWC.shape[:2])
    return np.asarray(np.round(crop_HWC * (1.0 - alpha[:, :, None])), dtype=np.uint8)


def expression_training_input(
    crop_HWC: Image, landmarks_68: Points, size_px: int, rng: np.random.Generator
) -> Image:
    """`expression_input` turned within 30 degrees, shifted within 4 % and scaled .9 to 1.1 about the face.

    The crop is the composite of `with_mouth_of` or `without_mouth`; turning fills with black.
    """
    image, landmarks = _resized(crop_HWC, landmarks_68, size_px)
    face = _keep_face(image, landmarks)
    centre = landmarks.mean(axis=0)
    shift = rng.uniform(-EXPRESSION_SHIFT, EXPRESSION_SHIFT, 2) * size_px
    matrix = _turned_about(
        centre,
        centre + shift,
        float(rng.uniform(-EXPRESSION_ROTATION_DEG, EXPRESSION_ROTATION_DEG)),
        float(rng.uniform(*EXPRESSION_SCALE)),
    )
    turned = cv2.warpAffine(face, matrix, (size_px, size_px), flags=cv2.INTER_LINEAR)
    return np.asarray(turned, dtype=np.uint8)


def mouth_training_crop(
    crop_HWC: Image, landmarks_68: Points, rng: np.random.Generator, size_px: int = MOUTH_PX
) -> Image:
    """`mouth_crop` with a random turn within 20 degrees."""
    rotation_deg = float(rng.uniform(-MOUTH_ROTATION_DEG, MOUTH_ROTATION_DEG))
    return mouth_crop(crop_HWC, landmarks_68, size_px, rotation_deg=rotation_deg)


def _mouth_region_alpha(landmarks_68: Points, image_hw: Sequence[int]) -> NDArray[np.float32]:
    polygon = landmarks_68[MOUTH_REGION]
    centroid = polygon.mean(axis=0)
    shrunk = centroid + (1.0 - MOUTH_REGION_SHRINK) * (polygon - centroid)
    fixed = np.round(shrunk * (1 << _SUBPIXEL_BITS)).astype(np.int32)
    alpha = np.zeros((image_hw[0], image_hw[1]), dtype=np.float32)
    cv2.fillPoly(alpha, [fixed], (1.0,), shift=_SUBPIXEL_BITS)
    return np.asarray(cv2.GaussianBlur(alpha, (0, 0), MOUTH_FEATHER_SIGMA * image_hw[0]), dtype=np.float32)


def _colour_matched(
    image_HWC: NDArray[np.float32], like_HWC: NDArray[np.float32], where_HW: NDArray[np.bool_]
) -> NDArray[np.float32]:
    """The image with mean and spread per channel of another inside a region."""
    if not where_HW.any():
        return image_HWC
    inside, wanted = image_HWC[where_HW], like_HWC[where_HW]
    gain = wanted.std(axis=0) / np.maximum(inside.std(axis=0), 1.0)
    return np.asarray((image_HWC - inside.mean(axis=0)) * gain + wanted.mean(axis=0), dtype=np.float32)
