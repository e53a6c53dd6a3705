"""Portraits to an identity, driving crops to codes, identity and codes to a picture: one frame at a time.

Everything that depends on the identity alone is computed once, when the identity is made; a frame then costs
one run of the generator. Used from one thread at a time; no PyTorch.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, cast

import cv2
import numpy as np
from numpy.typing import NDArray

from engine.assets import face_landmarker_path, selfie_segmentation_path
from engine.backends.abilities import FaceLook, ReadsFaces, draw_together
from engine.backends.backend import Backend
from engine.bundle import BankIdentity, Bundle
from engine.codes import Code, DrivingCodes, Socket
from engine.compositor import read_picture
from engine.errors import BundleError, NoFaceError
from engine.idle import idle_codes
from engine.reference_portraits import (
    TURNED_DEG,
    ReferencePair,
    frontal_portraits,
    pair_references,
    turned_portraits,
)
from gcavt.code_space import pose_from_code, within_reach
from gcavt.config import EditReposeGeneratorConfig
from gcavt.preprocessing import (
    Affine,
    crop_face,
    expression_input,
    face_landmarks,
    mouth_crop,
    pose_input,
    pose_landmarks,
    to_network,
)
from trt_build.specs import engine_specs

if TYPE_CHECKING:
    from engine.face_tracker import FaceTracker

Image = NDArray[np.uint8]
Points = NDArray[np.float32]
Tensors = dict[str, NDArray[np.float32]]

ENCODERS: Final[dict[Socket, str]] = {
    "pose": "pose_encoder",
    "expression": "expression_encoder",
    "mouth": "content_encoder",
}
"""What reads each socket's code out of a picture."""


@dataclass(frozen=True, kw_only=True)
class IdentityState:
    """Who the avatar is, ready for the generator."""

    name: str
    portrait_HWC: Image
    """256 px RGB on black: the primary portrait."""
    tensors: Mapping[str, NDArray[np.float32]]
    """The generator's inputs that do not change from frame to frame, by name, batch 1."""
    rest: DrivingCodes | None
    """What the encoders read from the primary portrait itself; None where nobody needed to know."""


@dataclass(frozen=True)
class _Portrait:
    image_HWC: Image
    """On black."""
    landmarks_68: Points | None
    seen_HWC: Image
    """What the encoders are shown: a photo with its background. On black they read a pitch 2 degrees off."""


@dataclass(frozen=True)
class _References:
    """What the edit_repose generator looks at, and from where."""

    pair: ReferencePair
    pose: NDArray[np.float32]
    """(6,) of the primary."""
    sides: Sequence[Image]
    """Turned to the picture's left, then right; the primary where there is none."""
    side_poses: NDArray[np.float32]
    """(12,)"""


class Puppeteer:
    """The networks of one bundle, joined to the pictures and numbers that the engine speaks of."""

    def __init__(self, bundle: Bundle, backend: Backend) -> None:
        self._bundle = bundle
        self._backend = backend
        self._config = bundle.config
        self._specs = engine_specs(bundle.config)
        self._generator_inputs = self._specs["generator"].input_names
        self._is_exact = bundle.manifest.code_space == "exact"
        reads_faces = isinstance(backend, ReadsFaces) and backend.reads_faces
        self._face_reader = cast(ReadsFaces, backend) if reads_faces else None

    @property
    def has_exact_codes(self) -> bool:
        """Its codes are known functions of pose and blendshape weights (`gcavt.code_space`)."""
        return self._is_exact

    # -- identities ----------------------------------------------------------------------------------------

    def identity_from_portraits(
        self, photos: Sequence[Image], tracker: FaceTracker, *, name: str = "portrait"
    ) -> IdentityState:
        """An identity out of photos (RGB uint8, any size); the first should look ahead with its mouth closed.

        Of those that look the same way the one with the most open mouth lends its teeth, the one with the
        most closed eyes its lids; those turned furthest aside show what a turned head uncovers.
        Raises NoFaceError naming the photo (from 1) that shows no face, ValueError for no photo at all.
        """
        from engine.portrait_mask import PortraitMask

        if not photos:
            raise ValueError("an identity needs at least one photo")
        portraits = []
        with PortraitMask(selfie_segmentation_path()) as cutter:
            for number, photo in enumerate(photos, 1):
                face = tracker.find_in_photo(photo)
                if face is None:
                    raise NoFaceError(f"No face was found in {_which(number, len(photos))}.")
                cut_out = cutter.portrait(photo, face)
                portraits.append(_Portrait(cut_out.image_HWC, cut_out.landmarks_68, cut_out.crop_HWC))
        return self._identity(name, portraits, None)

    def identity_from_bank(self, name: str) -> IdentityState:
        """An identity that comes with the bundle. Raises BundleError for an unknown name."""
        bank = self._bundle.identity(name)
        images = [read_picture(path) for path in bank.portrait_paths]
        for image, path in zip(images, bank.portrait_paths, strict=True):
            if image.shape != (self._config.image_px, self._config.image_px, 3):
                raise BundleError(f"{path} must be {self._config.image_px} px square, got {image.shape[:2]}")
        landmarks = self._landmarks(images) if self._needs_landmarks(bank) else [None] * len(images)
        portraits = [_Portrait(image, points, image) for image, points in zip(images, landmarks, strict=True)]
        return self._identity(name, portraits, bank)

    def _needs_landmarks(self, bank: BankIdentity) -> bool:
        if not self._is_exact:
            return True
        is_complete = bank.reference_pose is not None and bank.crop_origin is not None
        return isinstance(self._config.generator, EditReposeGeneratorConfig) and not is_complete

    def _landmarks(self, portraits: Sequence[Image]) -> list[Points | None]:
        from engine.face_tracker import FaceTracker

        with FaceTracker(face_landmarker_path()) as tracker:
            faces = [tracker.find_in_photo(portrait) for portrait in portraits]
        return [None if face is None else face.landmarks_68 for face in faces]

    def _identity(
        self, name: str, portraits: Sequence[_Portrait], bank: BankIdentity | None
    ) -> IdentityState:
        primary = portraits[0]
        has_sides = bank is not None and bank.side_poses is not None
        ahead = portraits[:2] if has_sides else portraits
        codes = [self._identity_code(portrait.image_HWC) for portrait in ahead]
        tensors: Tensors = {"identity_code": np.mean(codes, axis=0, dtype=np.float32)}
        if isinstance(self._config.generator, EditReposeGeneratorConfig):
            if bank is None or bank.reference_pose is None or bank.crop_origin is None:
                references = self._read_references(name, portraits, self._config.generator)
            else:
                references = _known_references(portraits, bank, bank.reference_pose, bank.crop_origin)
            tensors |= self._reference_state(references)
        rest = None
        if primary.landmarks_68 is not None:
            rest = self.codes_of_face(primary.seen_HWC, primary.landmarks_68)
        elif not self._is_exact:
            raise NoFaceError(f"No face was found in the first portrait of {name}.")
        return IdentityState(
            name=name,
            portrait_HWC=primary.image_HWC,
            tensors={key: _frozen(tensors[key]) for key in self._generator_inputs if key in tensors},
            rest=rest,
        )

    def _identity_code(self, portrait_HWC: Image) -> NDArray[np.float32]:
        image = _resized(portrait_HWC, self._config.identity.input_px)
        inputs = {"portrait_image": to_network(image)[None]}
        return self._backend.run("identity_encoder", inputs)["identity_code"]

    def _read_references(
        self, name: str, portraits: Sequence[_Portrait], generator: EditReposeGeneratorConfig
    ) -> _References:
        """What photos lend, by what the tracker and the pose encoder read in them."""
        images = [portrait.image_HWC for portrait in portraits]
        points = [_points(portrait, name) for portrait in portraits]
        poses = [
            pose_from_code(self.pose_code(portrait.seen_HWC, its))
            for portrait, its in zip(portraits, points, strict=True)
        ]
        yaws = [float(pose[1]) for pose in poses]
        ahead, sides = frontal_portraits(yaws), turned_portraits(yaws)
        pair = pair_references([images[i] for i in ahead], [points[i] for i in ahead], generator)
        return _References(
            pair, poses[0], [images[i] for i in sides], np.concatenate([poses[i] for i in sides])
        )

    def _reference_state(self, references: _References) -> Tensors:
        pair = references.pair
        inputs = {
            "primary_image": to_network(pair.primary_HWC)[None],
            "secondary_image": to_network(pair.secondary_HWC)[None],
            "crop_origin": pair.crop_origin[None],
            "side_images": np.concatenate([to_network(side) for side in references.sides])[None],
        }
        return self._backend.run("reference_encoder", inputs) | {
            "reference_pose": references.pose[None],
            "crop_origin": pair.crop_origin[None],
            "side_poses": references.side_poses[None],
        }

    # -- codes ---------------------------------------------------------------------------------------------

    def pose_code(self, crop_HWC: Image, landmarks_68: Points) -> Code:
        """(12,) how the head of a 256 px driving crop is held; tracked landmarks in the crop's pixels."""
        pose = self._config.pose
        image = pose_input(crop_HWC, landmarks_68, pose.input_px, pose.face_zoom)
        landmarks = pose_landmarks(landmarks_68) if pose.reads_landmarks else None
        return self._code("pose", image, landmarks)

    def content_code(self, crop_HWC: Image, landmarks_68: Points) -> Code:
        """(256,) what the mouth of a 256 px driving crop says; tracked landmarks in the crop's pixels."""
        image = mouth_crop(crop_HWC, landmarks_68, self._config.mouth_px)
        landmarks = face_landmarks(landmarks_68) if self._config.content.reads_landmarks else None
        return self._code("content", image, landmarks)

    def _expression_code(self, crop_HWC: Image, landmarks_68: Points) -> Code:
        expression = self._config.expression
        image = expression_input(crop_HWC, landmarks_68, expression.input_px, expression.face_zoom)
        describe = pose_landmarks if self._config.expression_landmarks == "pose_landmarks" else face_landmarks
        landmarks = describe(landmarks_68) if expression.reads_landmarks else None
        return self._code("expression", image, landmarks)

    def content_code_from_mel(self, window_80x20: NDArray[np.float32]) -> Code:
        """(256,) what the sound of a mel window (bands x frames) says."""
        inputs = {"mel_window": window_80x20[None, None]}
        return _first(self._backend.run("audio_encoder", inputs)["content_code"])

    def codes_in_picture(
        self, image_HWC: Image, crop_from_image: Affine, landmarks_68: Points, sockets: Collection[Socket]
    ) -> dict[Socket, Code]:
        """Codes for the sockets of a face in a camera's picture, cut out on the device where it does that.

        landmarks_68 are in the pixels of the 256 px crop.
        """
        if not sockets:
            return {}
        if self._face_reader is not None:
            encoders = {socket: ENCODERS[socket] for socket in sockets}
            look = FaceLook(image_HWC, crop_from_image, landmarks_68, tuple(encoders.values()))
            codes = self._face_reader.read_face(look)
            return {socket: codes[encoder] for socket, encoder in encoders.items()}
        crop_HWC = crop_face(image_HWC, crop_from_image)
        return self._codes(crop_HWC, landmarks_68, sockets)

    def codes_of_face(self, crop_HWC: Image, landmarks_68: Points) -> DrivingCodes:
        """All three codes of one driving crop."""
        codes = self._codes(crop_HWC, landmarks_68, ENCODERS)
        return DrivingCodes(
            pose_code=codes["pose"], expression_code=codes["expression"], content_code=codes["mouth"]
        )

    def _codes(self, crop_HWC: Image, landmarks_68: Points, sockets: Iterable[Socket]) -> dict[Socket, Code]:
        read = {"pose": self.pose_code, "expression": self._expression_code, "mouth": self.content_code}
        return {socket: read[socket](crop_HWC, landmarks_68) for socket in sockets}

    def idle_codes(self, time_s: float, identity: IdentityState | None = None) -> DrivingCodes:
        """What to show at a moment when nothing drives: swaying and blinking, mouth closed.

        In a free code space no motion is known: the identity rests as its portrait shows it.
        Raises BundleError if that identity is not given there.
        """
        if self._is_exact:
            return idle_codes(time_s)
        if identity is None or identity.rest is None:
            raise BundleError(f"model {self._bundle.name} has a free code space: idle needs an identity")
        return identity.rest

    def _code(self, encoder: str, image_HWC: Image, landmarks: NDArray[np.float32] | None) -> Code:
        """Landmarks go to the encoder's second input, if it has one."""
        names = self._specs[f"{encoder}_encoder"].input_names
        values = [to_network(image_HWC)] if landmarks is None else [to_network(image_HWC), landmarks]
        inputs = {name: value[None] for name, value in zip(names, values, strict=True)}
        return _first(self._backend.run(f"{encoder}_encoder", inputs)[f"{encoder}_code"])

    # -- pictures ------------------------------------------------------------------------------------------

    def generate(
        self, identity: IdentityState, pose_code: Code, expression_code: Code, content_code: Code
    ) -> tuple[Image, Image]:
        """The avatar as RGB uint8 (256, 256, 3) on black, and its mask uint8 (256, 256)."""
        inputs = self.generator_inputs(identity, pose_code, expression_code, content_code)
        return draw_together(self._backend, [inputs])[0]

    def generator_inputs(
        self, identity: IdentityState, pose_code: Code, expression_code: Code, content_code: Code
    ) -> Tensors:
        """What `generate` gives to the generator."""
        if self._is_exact:
            left, right = _sides_seen(identity.tensors)
            pose_code = within_reach(pose_code, is_left_seen=left, is_right_seen=right)
        codes = {"pose_code": pose_code, "expression_code": expression_code, "content_code": content_code}
        return {**identity.tensors, **{name: code[None] for name, code in codes.items()}}

    def warm_up(self) -> None:
        """Compile every network by running it once, so that the first frame is not late."""
        for network, spec in engine_specs(self._config).items():
            inputs = {t.name: np.zeros(t.with_batch(1), np.float32) for t in spec.inputs}
            self._backend.run(network, inputs)


def _sides_seen(tensors: Mapping[str, NDArray[np.float32]]) -> tuple[bool, bool]:
    """Whether portraits show the head turned to the picture's left and right."""
    if "side_poses" not in tensors:
        return False, False
    ahead, poses = tensors["reference_pose"][0, 1], tensors["side_poses"][0]
    return bool(ahead - poses[1] >= TURNED_DEG), bool(poses[7] - ahead >= TURNED_DEG)


def _known_references(
    portraits: Sequence[_Portrait],
    bank: BankIdentity,
    pose: NDArray[np.float32],
    crop_origin: NDArray[np.float32],
) -> _References:
    images = [portrait.image_HWC for portrait in portraits]
    pair = ReferencePair(images[0], images[min(1, len(images) - 1)], crop_origin)
    if bank.side_poses is None:
        return _References(pair, pose, [images[0]] * 2, np.tile(pose, 2))
    return _References(pair, pose, images[2:], bank.side_poses)


def _first(codes_BD: NDArray[np.float32]) -> Code:
    return np.asarray(codes_BD[0], np.float32)


def _frozen(tensor: NDArray[np.float32]) -> NDArray[np.float32]:
    """What cannot be written need not be copied to a GPU with every picture."""
    tensor = np.ascontiguousarray(tensor, np.float32)
    tensor.setflags(write=False)
    return tensor


def _which(number: int, count: int) -> str:
    return "the photo" if count == 1 else f"photo {number} of {count}"


def _points(portrait: _Portrait, name: str) -> Points:
    if portrait.landmarks_68 is None:
        raise NoFaceError(f"No face was found in a portrait of {name}.")
    return portrait.landmarks_68


def _resized(image_HWC: Image, side_px: int) -> Image:
    if image_HWC.shape[0] == side_px:
        return image_HWC
    return np.asarray(cv2.resize(image_HWC, (side_px, side_px), interpolation=cv2.INTER_AREA), np.uint8)
