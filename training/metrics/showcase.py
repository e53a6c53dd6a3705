"""Contact sheets of ready identities: what they look like, who drives what, and speech with its words."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from engine.codes import DrivingCodes
from engine.compositor import read_picture
from engine.errors import NoFaceError
from engine.puppeteer import IdentityState
from gcavt import code_space
from training.metrics.actor import CODE_OF, Actor, Image
from training.metrics.clips import grid_sentence
from training.metrics.held_out import DRIVERS, Acting, Driver, HeldOut
from training.metrics.performance import speak_sentence, word_of_frame
from training.metrics.playing import Driven, hear
from training.metrics.reader import FaceReader
from training.metrics.sheets import grid
from training.synthetic.motion import Performance
from training.synthetic.performance import VISEME_NAMES, both, weight_vector

_SIDE_PX = 144
_CANDIDATES = 96
_MODERATE_DEG = (18.0, 28.0, 15.0)
_BLINK = code_space.COEFFICIENTS.index("eyeBlinkLeft")
_ABREAST = 2
"""Identities in a row of the bank's sheet."""


@dataclass(frozen=True, kw_only=True)
class Character:
    """One ready identity."""

    name: str
    portrait: Image
    state: IdentityState


def read_bank(actor: Actor, folder: Path) -> list[Character]:
    """Every identity of a bundle's identities/, prepared for this actor."""
    characters = []
    for path in sorted(folder.glob("*/identity.json")):
        known = json.loads(path.read_text())
        portraits = [read_picture(file) for file in sorted(path.parent.glob("portrait_*.png"))]
        pose = np.array(known["reference_pose"], np.float32)
        origin = np.array(known["crop_origin"], np.int64)
        sides = np.array(known["side_poses"], np.float32) if "side_poses" in known else None
        state = actor.identity(f"bank_{path.parent.name}", portraits, pose, origin, sides)
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
    rows: list[list[Image]] = []
    labels: list[list[str]] = []
    for number, character in enumerate(bank):
        if number % _ABREAST == 0:
            rows.append([])
            labels.append([])
        rows[-1] += [character.portrait, *(_drawn(actor, character, *moment) for moment in moments.values())]
        labels[-1] += [character.name, *moments]
    return grid(rows, labels, 128)


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
    empty = np.full((_SIDE_PX, _SIDE_PX, 3), 24, np.uint8)
    pictures = [[empty, *(frame.image for frame in frames[d])] for d in DRIVERS]
    labels = [["", *[f"{d} from"] * columns] for d in DRIVERS]
    for character in bank[:: max(1, len(bank) // rows)][:rows]:
        row = [character.portrait]
        for k in range(columns):
            codes = DrivingCodes(**{CODE_OF[d]: getattr(read[d][k], CODE_OF[d]) for d in DRIVERS})
            row.append(actor.puppeteer.generate(character.state, *codes)[0])
        pictures.append(row)
        labels.append([character.name, *[""] * columns])
    return grid(pictures, labels, _SIDE_PX)


def _spread(held_out: HeldOut, driver: Driver, count: int, rng: np.random.Generator) -> list[int]:
    """Held-out frames that differ in a factor as much as may be, one far from those before it at a time."""
    drawn = held_out.sample(_CANDIDATES, seed=20 + DRIVERS.index(driver))
    moderate = [i for i in drawn if _is_moderate(held_out.acting(i))]
    candidates = moderate if len(moderate) >= count else drawn
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


def _is_moderate(acting: Acting) -> bool:
    """Whether a live driver would look so: turned no further than a camera follows, with open eyes."""
    return bool((np.abs(acting.pose[:3]) < _MODERATE_DEG).all() and acting.expression[_BLINK] < 0.5)


# -- real drivers, and sound --------------------------------------------------------------------------------


def drivers_sheet(
    actor: Actor, bank: Sequence[Character], clips: Sequence[Driven], *, columns: int = 6
) -> Image:
    """Real people and, below each, one of the bank driven by them, at the same moments."""
    rows: list[list[Image]] = []
    labels: list[list[str]] = []
    for number, one in enumerate(clips):
        character = bank[(3 * number) % len(bank)]
        times = np.linspace(0, len(one.driver_frames) - 1, columns + 2).round().astype(int)[1:-1]
        rows.append([one.driver_frames[t] for t in times])
        said = grid_sentence(one.name)
        title = f'{one.name}: "{said}"' if said else one.name
        labels.append([title, *[""] * (columns - 1)])
        rows.append([actor.puppeteer.generate(character.state, *one.codes[t])[0] for t in times])
        labels.append([f"{character.name}, driven", *[f"{t / 25:.2f} s" for t in times[1:]]])
    return grid(rows, labels, _SIDE_PX)


def words_sheet(actor: Actor, character: Character, *, seconds: float = 5.0, columns: int = 13) -> Image:
    """A ready identity whose mouth hears our synthetic speech: two moments of every word, the word below.

    The mouth has nothing but the sound. Pose and expression are the performance's own by exact codes; a model
    whose codes are its own keeps those of its portrait.
    """
    performance, sound_16k = speak_sentence(seconds)
    heard = hear(actor, sound_16k, len(performance.pose_T6))
    resting = _without_mouth(actor, character, performance)
    words = word_of_frame(performance.words, len(heard))
    times = word_moments(words)
    rows: list[list[Image]] = []
    labels: list[list[str]] = []
    for first in range(0, len(times), columns):
        part = times[first : first + columns]
        codes = [resting[t]._replace(content_code=heard[t]) for t in part]
        rows.append([actor.puppeteer.generate(character.state, *code)[0] for code in codes])
        visemes = [VISEME_NAMES[int(np.argmax(performance.visemes_T15[t]))] for t in part]
        labels.append([f"{words[t]} ({viseme})" for t, viseme in zip(part, visemes, strict=True)])
    return grid(rows, labels, 128)


def _without_mouth(actor: Actor, character: Character, performance: Performance) -> list[DrivingCodes]:
    """Codes for every frame of a performance, with a closed mouth or the portrait's."""
    if actor.manifest.code_space == "exact":
        nothing = np.zeros(len(code_space.COEFFICIENTS), np.float32)
        return [
            Acting(pose=pose, expression=expression, mouth=nothing).codes
            for pose, expression in zip(performance.pose_T6, performance.expression_T52, strict=True)
        ]
    with FaceReader() as reader:
        face = reader.read(character.portrait)
    if face is None:
        raise NoFaceError(f"no face was found in the portrait of {character.name}")
    return [actor.codes(character.portrait, face.landmarks_68)] * len(performance.pose_T6)


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
