"""Contact sheets of ready identities: what they look like, who drives what, and speech with its words."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from engine.codes import DrivingCodes
from engine.compositor import read_picture
from engine.errors import BadMediaError
from engine.puppeteer import IdentityState
from gcavt import code_space
from training.metrics.actor import CODE_OF, Actor, Image
from training.metrics.clips import grid_sentence
from training.metrics.held_out import DRIVERS, Driver, HeldOut
from training.metrics.performance import RenderedFilm
from training.metrics.playing import Played
from training.metrics.reader import FaceReader
from training.metrics.sheets import grid
from training.synthetic.performance import both, weight_vector

_SIDE_PX = 160
_CANDIDATES = 24


@dataclass(frozen=True, kw_only=True)
class Character:
    """One ready identity."""

    name: str
    portrait: Image
    state: IdentityState


def read_bank(actor: Actor, folder: Path) -> list[Character]:
    """Every identity of a bundle's identities/, prepared for this actor.

    Raises BadMediaError for a folder without any.
    """
    facts = sorted(folder.glob("*/identity.json"))
    if not facts:
        raise BadMediaError(f"{folder} holds no identities (NAME/identity.json)")
    characters = []
    for path in facts:
        known = json.loads(path.read_text())
        portraits = [read_picture(file) for file in sorted(path.parent.glob("portrait_*.png"))]
        pose = np.array(known["reference_pose"], np.float32)
        origin = np.array(known["crop_origin"], np.int64)
        state = actor.identity(f"bank_{path.parent.name}", portraits, pose, origin)
        characters.append(Character(name=path.parent.name, portrait=portraits[0], state=state))
    return characters


# -- identities ---------------------------------------------------------------------------------------------

_Weights = NDArray[np.float32]
_REST: dict[str, float] = {}
MOMENTS: dict[str, tuple[tuple[float, float, float], _Weights, _Weights]] = {
    "turned, smiling": (
        (-2, 16, 2),
        weight_vector(both("mouthSmile", 0.75) | both("cheekSquint", 0.5) | both("eyeSquint", 0.3)),
        weight_vector(_REST),
    ),
    "surprised": (
        (4, -6, -2),
        weight_vector({"browInnerUp": 0.9, **both("browOuterUp", 0.8), **both("eyeWide", 0.8)}),
        weight_vector({"jawOpen": 0.35}),
    ),
    "saying ah": (
        (0, -16, 0),
        weight_vector(_REST),
        weight_vector({"jawOpen": 0.5, **both("mouthLowerDown", 0.3), **both("mouthUpperUp", 0.2)}),
    ),
    "saying oo": (
        (3, 8, 6),
        weight_vector(_REST),
        weight_vector({"mouthPucker": 0.8, "mouthFunnel": 0.4, "jawOpen": 0.12}),
    ),
    "eyes closed": ((-6, 4, -7), weight_vector(both("eyeBlink", 1.0)), weight_vector(_REST)),
}
"""Pitch, yaw, roll in degrees, then weights of expression and mouth."""


def bank_sheet(actor: Actor, bank: Sequence[Character]) -> Image:
    """Every identity's portrait, and its avatar in a few poses with a few faces, by exact codes.

    A model whose codes are its own cannot be told what to show: its sheet has the portraits alone.
    """
    moments = MOMENTS if actor.manifest.code_space == "exact" else {}
    rows, labels = [], []
    for character in bank:
        pictures = [_drawn(actor, character, *moment) for moment in moments.values()]
        rows.append([character.portrait, *pictures])
        labels.append([character.name, *moments])
    return grid(rows, labels, _SIDE_PX)


def _drawn(
    actor: Actor,
    character: Character,
    angles: tuple[float, float, float],
    expression: _Weights,
    mouth: _Weights,
) -> Image:
    codes = DrivingCodes(
        pose_code=code_space.pose_code([*angles, 0, 0, 0]),
        expression_code=code_space.expression_code(expression),
        content_code=code_space.content_code(mouth),
    )
    return actor.puppeteer.generate(character.state, *codes)[0]


# -- three sources ------------------------------------------------------------------------------------------


def three_source_sheet(
    actor: Actor,
    held_out: HeldOut,
    bank: Sequence[Character],
    reader: FaceReader,
    *,
    rows: int = 4,
    columns: int = 6,
) -> Image:
    """As the paper's Figures 1 and 4: on top who drives pose, expression and mouth of a column, below them
    the avatars of several people, all read by the encoders. Drivers are held-out rendered people.
    """
    rng = np.random.default_rng(6)
    chosen = {driver: _spread(held_out, driver, columns, rng) for driver in DRIVERS}
    frames = {d: [held_out.driving_frame(i, rng, reader) for i in chosen[d]] for d in DRIVERS}
    read = {d: [actor.codes(*frame) for frame in frames[d]] for d in DRIVERS}
    tops = [_beside_each_other([frames[d][k].image for d in DRIVERS]) for k in range(columns)]
    pictures = [[_legend(), *tops]]
    labels = [["drivers of", *["pose   expression   mouth"] * columns]]
    for character in bank[:rows]:
        row = [character.portrait]
        for k in range(columns):
            codes = DrivingCodes(**{CODE_OF[d]: getattr(read[d][k], CODE_OF[d]) for d in DRIVERS})
            row.append(actor.puppeteer.generate(character.state, *codes)[0])
        pictures.append(row)
        labels.append([character.name, *[""] * columns])
    return grid(pictures, labels, _SIDE_PX)


def _spread(held_out: HeldOut, driver: Driver, count: int, rng: np.random.Generator) -> list[int]:
    """Held-out frames that differ in a factor as much as may be, one far from those before it at a time."""
    candidates = held_out.sample(_CANDIDATES, seed=20 + DRIVERS.index(driver))
    values = np.stack([getattr(held_out.acting(i), driver) for i in candidates])
    if driver == "pose":
        values = values[:, :3]
    start = int(np.argmax(np.linalg.norm(values - values.mean(0), axis=1)))
    picked = [start]
    while len(picked) < min(count, len(candidates)):
        gaps = np.linalg.norm(values[:, None] - values[picked][None], axis=2).min(1)
        picked.append(int(np.argmax(gaps)))
    order = rng.permutation(len(picked))
    return [candidates[picked[int(k)]] for k in order] + [candidates[start]] * (count - len(picked))


def _beside_each_other(images: Sequence[Image]) -> Image:
    """A square with the pictures in a row across its middle."""
    side = 3 * _SIDE_PX
    small = side // len(images)
    square = np.full((side, side, 3), 24, np.uint8)
    top = (side - small) // 2
    for k, image in enumerate(images):
        square[top : top + small, k * small : (k + 1) * small] = cv2.resize(
            image, (small, small), interpolation=cv2.INTER_AREA
        )
    return square


def _legend() -> Image:
    return np.full((_SIDE_PX, _SIDE_PX, 3), 24, np.uint8)


# -- real drivers, and sound --------------------------------------------------------------------------------


def drivers_sheet(
    actor: Actor, bank: Sequence[Character], played: Sequence[Played], *, columns: int = 6
) -> Image:
    """Real people and, below each, one of the bank driven by them, at the same moments."""
    rows: list[list[Image]] = []
    labels: list[list[str]] = []
    for number, one in enumerate(played):
        character = bank[(3 * number) % len(bank)]
        times = np.linspace(0, len(one.driver_frames) - 1, columns + 2).round().astype(int)[1:-1]
        rows.append([one.driver_frames[t] for t in times])
        said = grid_sentence(one.name)
        title = f'{one.name}: "{said}"' if said else one.name
        labels.append([title, *[""] * (columns - 1)])
        rows.append([actor.puppeteer.generate(character.state, *one.codes[t])[0] for t in times])
        labels.append([f"{character.name}, driven", *[f"{t / 25:.2f} s" for t in times[1:]]])
    return grid(rows, labels, _SIDE_PX)


def words_sheet(actor: Actor, character: Character, film: RenderedFilm, *, columns: int = 12) -> Image:
    """A ready identity whose mouth hears our synthetic speech: two moments of every word, the word below.

    Pose and expression are the performance's own; the mouth has nothing but the sound.
    """
    spoken = film.played.spoken
    times = word_moments(film.words)
    rows: list[list[Image]] = []
    labels: list[list[str]] = []
    for first in range(0, len(times), columns):
        part = times[first : first + columns]
        rows.append([actor.puppeteer.generate(character.state, *spoken[t])[0] for t in part])
        labels.append([f"{film.words[t]} ({film.visemes[t]})" for t in part])
    return grid(rows, labels, 128)


def word_moments(words: Sequence[str]) -> list[int]:
    """Frames at a third and at two thirds of every word; `words` has one for each frame, "" in pauses."""
    moments: list[int] = []
    start = 0
    for end in range(1, len(words) + 1):
        if end < len(words) and words[end] == words[start]:
            continue
        if words[start]:
            length = end - start
            moments += sorted({start + length // 3, start + (2 * length) // 3})
        start = end
    return moments
