"""Contact sheets: what the numbers are about, to be looked at first."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image as Pillow
from PIL import ImageDraw, ImageFont

from engine.codes import DrivingCodes
from training.metrics.actor import CODE_OF, Actor, Image
from training.metrics.clips import grid_sentence
from training.metrics.held_out import DRIVERS, Driver, HeldOut
from training.metrics.performance import RenderedFilm
from training.metrics.playing import Played
from training.metrics.reader import FaceReader
from training.metrics.rendered import SheetRow

_LABEL_PX = 18
CONTROL_COLUMNS = 6


def grid(rows: Sequence[Sequence[Image]], labels: Sequence[Sequence[str]], side_px: int = 192) -> Image:
    """Pictures in rows, each with its label below; all are drawn side_px wide."""
    if [len(row) for row in rows] != [len(row) for row in labels]:
        raise ValueError("every picture needs a label")
    columns = max(len(row) for row in rows)
    cell = side_px + _LABEL_PX
    sheet = Pillow.new("RGB", (columns * side_px, len(rows) * cell), (24, 24, 24))
    draw = ImageDraw.Draw(sheet)
    font = ImageFont.load_default(13)
    for y, (row, names) in enumerate(zip(rows, labels, strict=True)):
        for x, (image, name) in enumerate(zip(row, names, strict=True)):
            sheet.paste(Pillow.fromarray(_sized(image, side_px)), (x * side_px, y * cell))
            draw.text((x * side_px + 4, y * cell + side_px + 2), name, (220, 220, 220), font)
    return np.asarray(sheet, np.uint8)


def _sized(image: Image, side_px: int) -> NDArray[np.uint8]:
    height, width = image.shape[:2]
    side = min(height, width)
    top, left = (height - side) // 2, (width - side) // 2
    square = image[top : top + side, left : left + side]
    return np.asarray(cv2.resize(square, (side_px, side_px), interpolation=cv2.INTER_AREA), np.uint8)


def identities_sheet(rows: Sequence[SheetRow]) -> Image:
    """Per person: reference, then target and picture of every mode (exact and self share their target)."""
    shown = [
        ("reference", "reference"),
        ("exact target", "target"),
        ("exact", "exact codes"),
        ("self", "self-driven"),
        ("cross target", "target of three drivers"),
        ("cross", "three drivers"),
        ("calibrated", "calibrated"),
    ]
    pictures = [[row.reference, *(row.pictures[key] for key, _ in shown[1:])] for row in rows]
    return grid(pictures, [[label for _, label in shown]] * len(rows))


def control_sheet(actor: Actor, held_out: HeldOut, reader: FaceReader) -> Image:
    """One factor varies per pair of rows: the drivers above, the avatar below, as in the paper's Figure 4."""
    rng = np.random.default_rng(5)
    index = held_out.sample(3, seed=4)[-1]
    state = held_out.state(actor, index)
    base = held_out.of_another(index, 1, rng)[0]
    still = actor.codes(*held_out.driving_frame(base, rng, reader))
    rows: list[list[Image]] = []
    labels: list[list[str]] = []
    for step, driver in enumerate(DRIVERS):
        others = _different(held_out, index, step + 1, rng, driver)
        frames = [held_out.driving_frame(i, rng, reader) for i in others]
        codes = [actor.codes(*frame) for frame in frames]
        rows.append([held_out.shown(base).image, *(frame.image for frame in frames)])
        labels.append(["holds the other two", *[f"drives {driver}"] * len(frames)])
        rows.append([held_out.reference(index), *(actor.draw(state, _with(still, c, driver)) for c in codes)])
        labels.append(["reference", *[f"avatar, {driver} varies"] * len(frames)])
    return grid(rows, labels)


def _different(
    held_out: HeldOut, index: int, step: int, rng: np.random.Generator, driver: Driver
) -> list[int]:
    """Frames of other people that span a driver's range: sorted by its strongest direction."""
    count = 3 * CONTROL_COLUMNS
    drawn = [held_out.of_another(index, step + k, rng)[0] for k in range(count)]
    values = np.stack([getattr(held_out.acting(i), driver) for i in drawn])
    column = 1 if driver == "pose" else int(np.argmax(values.std(0)))
    order = np.argsort(values[:, column])
    return [drawn[int(order[k])] for k in np.linspace(0, count - 1, CONTROL_COLUMNS - 1).round().astype(int)]


def _with(codes: DrivingCodes, other: DrivingCodes, driver: Driver) -> DrivingCodes:
    return codes._replace(**{CODE_OF[driver]: getattr(other, CODE_OF[driver])})


def clips_sheet(played: Sequence[Played], columns: int = 7) -> Image:
    """Every clip's driver, its avatar by video, and its avatar with the mouth by sound."""
    rows: list[list[Image]] = []
    labels: list[list[str]] = []
    for one in played:
        times = np.linspace(0, len(one.driver_frames) - 1, columns + 2).round().astype(int)[1:-1]
        rows.append([one.driver_frames[t] for t in times])
        labels.append([f"{one.name} {t / 25:.2f} s" for t in times])
        rows.append([one.by_video.film_THWC[t] for t in times])
        labels.append(["avatar"] * columns)
        if one.by_sound is not None:
            sentence = grid_sentence(one.name)
            said = f', "{sentence}"' if sentence else ""
            rows.append([one.by_sound.film_THWC[t] for t in times])
            labels.append([f"mouth by sound{said}", *[""] * (columns - 1)])  # runs on over the next cells
    return grid(rows, labels, 160)


def sound_strip(film: RenderedFilm, columns: int = 14, side_px: int = 128) -> Image:
    """The rendered driver's avatar, mouth by sound, with word and viseme under every frame."""
    assert film.played.by_sound is not None
    spoken = [t for t, word in enumerate(film.words) if word]
    times = [spoken[int(i)] for i in np.linspace(0, len(spoken) - 1, 2 * columns).round()]
    rows: list[list[Image]] = []
    labels: list[list[str]] = []
    for part in (times[:columns], times[columns:]):
        rows.append([film.exact_THWC[t] for t in part])
        labels.append([f"exact {t / 25:.2f} s" for t in part])
        rows.append([film.played.by_video.film_THWC[t] for t in part])
        labels.append(["by video"] * len(part))
        rows.append([film.played.by_sound.film_THWC[t] for t in part])
        labels.append([f"{film.words[t]} ({film.visemes[t]})" for t in part])
    return grid(rows, labels, side_px)
