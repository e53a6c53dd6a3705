"""Rendered people that training never saw, with a renderer for any mixture of their performances."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple, cast

import numpy as np
from numpy.typing import NDArray

from engine.codes import DrivingCodes
from engine.errors import BadMediaError
from engine.puppeteer import IdentityState
from gcavt import code_space
from gcavt.preprocessing import landmarks_68_from_478
from training.datasets.placement import normal_pose, rendered_pose
from training.datasets.render import portrait_origin, posed_face
from training.datasets.triples import Triples
from training.metrics.actor import Actor, Image, Points
from training.metrics.pictures import Mask
from training.metrics.reader import FaceReader
from training.objectives.edit_repose import HELD_OUT_IDENTITIES
from training.objectives.encoders import over_background, random_background
from training.objectives.image_losses import box_mask, eye_boxes, mouth_boxes
from training.synthetic import truth
from training.synthetic.camera import through_lens
from training.synthetic.identity import Identity, Scene
from training.synthetic.renderer import Renderer

Driver = Literal["pose", "expression", "mouth"]
DRIVERS: tuple[Driver, ...] = ("pose", "expression", "mouth")

SAME_RENDER = 3.0
"""Mean difference in 1/255 up to which a stored frame and one drawn now count as the same renderer's."""


@dataclass(frozen=True, kw_only=True)
class Acting:
    """A performance at one moment, apart from who acts."""

    pose: NDArray[np.float32]
    """(6,) normal pose: degrees, then head units."""
    expression: NDArray[np.float32]
    """(52,) without speech."""
    mouth: NDArray[np.float32]
    """(52,) speech."""

    @property
    def codes(self) -> DrivingCodes:
        """Exact codes."""
        return DrivingCodes(
            pose_code=code_space.pose_code(self.pose),
            expression_code=code_space.expression_code(self.expression),
            content_code=code_space.content_code(self.mouth),
        )

    def driven_by(self, other: Acting, drivers: Collection[Driver]) -> Acting:
        """This moment with some drivers taken from another one."""
        values = {name: getattr(other if name in drivers else self, name) for name in DRIVERS}
        return Acting(**values)


@dataclass(frozen=True, kw_only=True)
class Shown:
    """An exact render on black."""

    image: Image
    alpha: NDArray[np.uint8]
    landmarks_68: Points
    """True positions, occluded points included; pixel centres at whole numbers."""

    @property
    def figure(self) -> Mask:
        return np.asarray(self.alpha > 127)

    @property
    def mouth(self) -> Mask:
        """Box about the lips, 6 px wider."""
        return _box(mouth_boxes(self.landmarks_68[None] + np.float32(0.5)))

    @property
    def eyes(self) -> Mask:
        """Box about brows and eyes, 4 px wider."""
        return _box(eye_boxes(self.landmarks_68[None] + np.float32(0.5)))


class DrivingFrame(NamedTuple):
    """What an encoder is given of one moment."""

    image: Image
    landmarks_68: Points


def _resting(pose_6: NDArray[np.float32]) -> Acting:
    nothing = np.zeros(len(code_space.COEFFICIENTS), np.float32)
    return Acting(pose=pose_6, expression=nothing, mouth=nothing)


def _as_seen(shown: Shown, rng: np.random.Generator, reader: FaceReader) -> DrivingFrame:
    image = over_background(shown.image, shown.alpha, random_background(rng))
    face = reader.read(image)
    return DrivingFrame(image, shown.landmarks_68 if face is None else face.landmarks_68)


def _box(box_14: NDArray[np.floating]) -> Mask:
    return np.asarray(box_mask(box_14, 256, 256)[0, 0].numpy() > 0)


class HeldOut:
    """The last identities of a data set."""

    def __init__(self, folder: Path, identities: int = HELD_OUT_IDENTITIES) -> None:
        self.triples = Triples(folder)
        names = np.unique(self.triples.identity_of_reference)
        self.identities = [int(name) for name in names[max(0, len(names) - identities) :]]
        self._renderers: dict[int, Renderer] = {}
        if len(self.identities) < 2:
            raise BadMediaError(f"{folder} holds one person: drivers need another one")
        self._check_renderer(folder)

    def _check_renderer(self, folder: Path) -> None:
        """Mixtures are rendered now and must look like the stored references."""
        index = int(self._of(self.identities[0])[0])
        stored, drawn = self.shown(index), self.render(self.identity_of(index), self.acting(index))
        gap = float(np.abs(stored.image.astype(np.float32) - drawn.image).mean())
        if gap > SAME_RENDER:
            raise BadMediaError(
                f"{folder} was rendered by another version of the renderer (mean difference {gap:.1f} of "
                "255): render it again"
            )

    def _of(self, identity: int) -> NDArray[np.intp]:
        return np.nonzero(self.triples.identity == identity)[0]

    def sample(self, count: int, seed: int) -> list[int]:
        """Triples spread evenly over the identities, drawn at random within each, without repetition."""
        rng = np.random.default_rng(seed)
        per_identity = [rng.permutation(self._of(name)) for name in self.identities]
        rounds = min(map(len, per_identity))
        chosen = [int(triples[i]) for i in range(rounds) for triples in per_identity]
        return chosen[:count]

    def of_another(self, index: int, step: int, rng: np.random.Generator, count: int = 1) -> list[int]:
        """Triples of one other identity, `step` places further on."""
        place = self.identities.index(self.identity_of(index))
        step = 1 + (step - 1) % (len(self.identities) - 1)
        name = self.identities[(place + step) % len(self.identities)]
        return [int(i) for i in rng.choice(self._of(name), count, replace=False)]

    def identity_of(self, index: int) -> int:
        return int(self.triples.identity[index])

    def acting(self, index: int) -> Acting:
        at = np.array([index])
        expression, mouth = (
            np.asarray(self.triples.triple(key, at)[0], np.float32) for key in ("expression", "mouth")
        )
        return Acting(pose=self.triples.pose(at)[0], expression=expression, mouth=mouth)

    def shown(self, index: int) -> Shown:
        """The stored target frame."""
        at = np.array([index])
        return Shown(
            image=cast(Image, self.triples.triple("target", at)[0]),
            alpha=cast(Image, self.triples.triple("alpha", at)[0]),
            landmarks_68=np.asarray(self.triples.triple("landmarks", at)[0], np.float32) - np.float32(0.5),
        )

    def driving_frame(self, index: int, rng: np.random.Generator, reader: FaceReader) -> DrivingFrame:
        """The stored target over a random background, as encoders meet it, with the landmarks that the face
        tracker reads there; the true ones where it finds no face."""
        return _as_seen(self.shown(index), rng, reader)

    def resting_frame(self, identity: int, rng: np.random.Generator, reader: FaceReader) -> DrivingFrame:
        """Likewise somebody who looks straight ahead and does nothing."""
        return _as_seen(self.render(identity, _resting(np.zeros(6, np.float32))), rng, reader)

    def render(self, identity: int, acting: Acting) -> Shown:
        """Somebody's exact picture of a performance."""
        place = self.triples.place(np.array([identity]))[0]
        face = np.clip(acting.expression + acting.mouth, 0, 1)
        render = self.renderer(identity).render(face, rendered_pose(acting.pose, place))
        landmarks = landmarks_68_from_478(truth.landmarks(render)) - np.float32(0.5)
        return Shown(
            image=through_lens(render.image), alpha=through_lens(render.alpha), landmarks_68=landmarks
        )

    def outline(self, identity: int, pose_6: NDArray[np.float32]) -> NDArray[np.uint8]:
        """(256, 256) the mask of somebody in a pose. What the face does hardly matters to it."""
        return self.render(identity, _resting(pose_6)).alpha

    def photo(self, index: int) -> tuple[Image, Points]:
        """The primary portrait as a photo that somebody chose, with a smile or a word, and its landmarks."""
        face = posed_face(np.random.default_rng(int(self.triples.reference_of[index])))
        render = self.renderer(self.identity_of(index)).render(face, self._portrait_poses(index)[0])
        return through_lens(render.image), landmarks_68_from_478(truth.landmarks(render))

    def photo_state(self, actor: Actor, index: int) -> IdentityState:
        """The identity of a triple from that one photo, whose pose is exactly known."""
        image, landmarks_68 = self.photo(index)
        name, origins = f"photo_{self.triples.reference_of[index]}", np.tile(portrait_origin(landmarks_68), 2)
        return actor.identity(name, [image, image], self._portrait_poses(index)[1], origins)

    def _portrait_poses(self, index: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """(6,) each, in degrees and head units: the primary portrait's pose as rendered, and normal."""
        row = self.triples.reference_of[[index]]
        rendered = np.asarray(self.triples.reference("reference_pose", row)[0], np.float32)
        place = self.triples.place(self.triples.identity_of_reference[row])[0]
        return rendered, normal_pose(rendered, place)

    def renderer(self, identity: int) -> Renderer:
        if identity not in self._renderers:
            self._renderers[identity] = Renderer(
                Identity(identity), Scene.from_seed(identity), supersampling=2
            )
        return self._renderers[identity]

    def reference(self, index: int) -> Image:
        """The primary portrait that goes with a triple."""
        row = self.triples.reference_of[[index]]
        return cast(Image, self.triples.reference("reference_image", row)[0])

    def first_of(self, identity: int) -> int:
        """Somebody's first triple."""
        return int(self._of(identity)[0])

    def state(
        self, actor: Actor, index: int, reader: FaceReader | None = None, *, has_sides: bool = True
    ) -> IdentityState:
        """The identity of a triple as the model holds it, from its reference portraits.

        With a reader the portraits' poses are what the pose encoder reads there, over a random background, as
        for a user's photos; without, they are exact, as for the identities that come with the model.
        has_sides: with the portraits of the turned head.
        """
        row = self.triples.reference_of[[index]]
        images = [
            cast(Image, self.triples.reference(key, row)[0])
            for key in ("reference_image", "reference_second")
        ]
        origin = np.asarray(self.triples.reference("reference_origin", row)[0], np.int64)
        if not has_sides:
            return actor.identity(f"front_{row[0]}", images, self._portrait_poses(index)[1], origin)
        images += list(cast(Image, self.triples.reference("side_images", row)[0]))
        pose, side_poses = self._portrait_poses(index)[1], self.triples.side_poses(row)[0]
        poses = [pose, *side_poses]
        if reader is not None:
            rng = np.random.default_rng(int(row[0]))
            identity, seen = self.identity_of(index), [images[0], *images[2:]]
            photos = [
                over_background(image, self.outline(identity, one), random_background(rng))
                for image, one in zip(seen, poses, strict=True)
            ]
            poses = [read_pose(actor, reader, *one) for one in zip(photos, poses, strict=True)]
        pose, sides = poses[0], np.concatenate(poses[1:])
        return actor.identity(f"reference_{row[0]}", images, pose, origin, sides)


def read_pose(
    actor: Actor, reader: FaceReader, image: Image, otherwise: NDArray[np.float32]
) -> NDArray[np.float32]:
    """(6,) what the pose encoder reads in a portrait; `otherwise` where the tracker finds no face."""
    face = reader.read(image)
    if face is None:
        return otherwise
    return code_space.pose_from_code(actor.codes(image, face.landmarks_68).pose_code)
