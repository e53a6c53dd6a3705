"""Held-out rendered people: how near to the exact picture, and which driver moves what."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from engine.codes import DrivingCodes
from engine.shaping import Shaping, shaped
from gcavt.preprocessing import Face
from training.metrics.actor import CODE_OF, Actor, Image
from training.metrics.control import Leak, drift, excess, follow, leak, mean_leak
from training.metrics.held_out import DRIVERS, Driver, HeldOut, Shown
from training.metrics.pictures import Mask, picture_figures
from training.metrics.reader import FaceReader, factor_readings, landmark_error_px

MODES = {
    "exact": "codes of the target's exact parameters",
    "photo": "the same, but all that is known of the person is one photo on which they smile or speak",
    "self": "the target frame, over a random background, drives through tracker and encoders; the portrait's "
    "pose is read by the same encoder, as for a user's photo",
    "pose only": "as self, but only the pose is read by its encoder; the other two codes are exact",
    "expression only": "likewise for the expression",
    "mouth only": "likewise for the mouth",
    "cross": "three other people drive pose, expression and mouth; target: an exact render of the mixture",
    "calibrated": "the same once each of the three has looked ahead, face at rest, as `calibrate` asks",
}
POSE_READ = ("self", "pose only")
"""Modes in which the portrait's pose is read; in the others it is exact."""
Figures = dict[str, float]
Way = Literal["exact", "encoders"]
"""Codes of exact parameters, or as the encoders read them."""
WAYS: tuple[Way, ...] = ("exact", "encoders")


@dataclass(frozen=True)
class SheetRow:
    """One identity on the contact sheet."""

    reference: Image
    pictures: dict[str, Image] = field(default_factory=dict)
    """Target and picture of each mode."""


def evaluate_modes(
    actor: Actor, held_out: HeldOut, reader: FaceReader, count: int
) -> tuple[dict[str, Figures], list[SheetRow]]:
    """Mean figures per mode over `count` triples, and rows for the contact sheet."""
    rng = np.random.default_rng(3)
    figures: dict[str, list[Figures]] = defaultdict(list)
    rows = []
    for number, index in enumerate(tqdm(held_out.sample(count, seed=0), desc="held-out people")):
        state = held_out.state(actor, index)
        row = SheetRow(held_out.reference(index))
        target = held_out.shown(index)
        read_target = reader.read(target.image)
        exact = held_out.acting(index).codes
        read_state = held_out.state(actor, index, reader)
        picture = actor.draw(held_out.photo_state(actor, index), exact)
        figures["photo"].append(_figures(picture, target, reader.read(picture), read_target))
        row.pictures.update({"photo target": target.image, "photo": picture})
        for mode, codes in _self_driven(actor, held_out, index, exact, rng, reader).items():
            picture = actor.draw(read_state if mode in POSE_READ else state, codes)
            figures[mode].append(_figures(picture, target, reader.read(picture), read_target))
            row.pictures.update({f"{mode} target": target.image, mode: picture})
        crossed, target = _cross_driven(actor, held_out, index, number, rng, reader)
        read_target = reader.read(target.image)
        for mode, codes in crossed.items():
            picture = actor.draw(state, codes)
            figures[mode].append(_figures(picture, target, reader.read(picture), read_target))
            row.pictures.update({f"{mode} target": target.image, mode: picture})
        rows.append(row)
    return {mode: _means(figures[mode]) for mode in MODES}, rows


def _self_driven(
    actor: Actor,
    held_out: HeldOut,
    index: int,
    exact: DrivingCodes,
    rng: np.random.Generator,
    reader: FaceReader,
) -> dict[str, DrivingCodes]:
    """The codes of all modes whose target is the triple's own."""
    read = actor.codes(*held_out.driving_frame(index, rng, reader))
    only = {f"{d} only": exact._replace(**{CODE_OF[d]: getattr(read, CODE_OF[d])}) for d in DRIVERS}
    return {"exact": exact, "self": read, **only}


def _cross_driven(
    actor: Actor, held_out: HeldOut, index: int, number: int, rng: np.random.Generator, reader: FaceReader
) -> tuple[dict[str, DrivingCodes], Shown]:
    """The codes of three other people's frames in both modes, and the exact render of the mixture."""
    acting = held_out.acting(index)
    read, calibrated = {}, {}
    for step, driver in enumerate(DRIVERS):
        (other,) = held_out.of_another(index, 1 + number + 3 * step, rng)
        seen = actor.codes(*held_out.driving_frame(other, rng, reader))
        resting = actor.codes(*held_out.resting_frame(held_out.identity_of(other), rng, reader))
        code, neutral = getattr(seen, CODE_OF[driver]), getattr(resting, CODE_OF[driver])
        read[CODE_OF[driver]] = code
        calibrated[CODE_OF[driver]] = shaped(
            driver, code, Shaping(neutral=neutral), is_exact=actor.has_exact_codes
        )
        acting = acting.driven_by(held_out.acting(other), {driver})
    modes = {"cross": DrivingCodes(**read), "calibrated": DrivingCodes(**calibrated)}
    return modes, held_out.render(held_out.identity_of(index), acting)


def _figures(picture: Image, target: Shown, ours: Face | None, exact: Face | None) -> Figures:
    """Nearness of a picture; `ours` and `exact` are readings of picture and target."""
    nothing = float("nan")
    return {
        **picture_figures(picture, target.image, target.figure, target.mouth, target.eyes),
        "landmark_px": landmark_error_px(ours.landmarks_68, target.landmarks_68) if ours else nothing,
        "tool_landmark_px": landmark_error_px(exact.landmarks_68, target.landmarks_68) if exact else nothing,
        "landmark_to_reading_px": (
            landmark_error_px(ours.landmarks_68, exact.landmarks_68) if ours and exact else nothing
        ),
        "face_found": float(ours is not None),
        "face_found_in_target": float(exact is not None),
    }


def _means(values: list[Figures]) -> Figures:
    return {key: float(np.nanmean([figures[key] for figures in values])) for key in values[0]}


# -- control and leakage ------------------------------------------------------------------------------------


@dataclass
class _Tally:
    """What one way of coding has shown so far."""

    follows: dict[Driver, list[tuple[float, float, float]]] = field(default_factory=lambda: defaultdict(list))
    leaks: dict[tuple[Driver, Driver], list[Leak]] = field(default_factory=lambda: defaultdict(list))
    readings: dict[tuple[Driver, Driver], list[tuple[float, float]]] = field(
        default_factory=lambda: defaultdict(list)
    )


def evaluate_control(
    actor: Actor, held_out: HeldOut, reader: FaceReader, count: int, ways: Sequence[Way] = WAYS
) -> dict[str, Any]:
    """Response of every driver, and leakage from every driver to the other two factors.

    Per sample, somebody is driven by picture A of another person, then one driver at a time goes to picture
    B of that person. Both pictures differ in everything, so what should not pass has every chance to. Once
    with exact codes (the generator alone) and once through the encoders, or only one of these `ways`.
    """
    rng = np.random.default_rng(7)
    tallies = {way: _Tally() for way in ways}
    for number, index in enumerate(tqdm(held_out.sample(count, seed=1), desc="control and leakage")):
        before, after = held_out.of_another(index, 1 + number, rng, 2)
        codes: dict[Way, tuple[DrivingCodes, ...]] = {
            "exact": tuple(held_out.acting(i).codes for i in (before, after)),
            "encoders": tuple(actor.codes(*held_out.driving_frame(i, rng, reader)) for i in (before, after)),
        }
        renders = _renders(held_out, index, before, after)
        readings = {drivers: reader.read(render.image) for drivers, render in renders.items()}
        state = held_out.state(actor, index)
        for way in ways:
            a, b = codes[way]
            pictures = {frozenset[Driver](): actor.draw(state, a)}
            for driver in DRIVERS:
                changed = a._replace(**{CODE_OF[driver]: getattr(b, CODE_OF[driver])})
                pictures[frozenset({driver})] = actor.draw(state, changed)
            _tally_pictures(tallies[way], pictures, renders)
            _tally_readings(tallies[way], {key: reader.read(p) for key, p in pictures.items()}, readings)
    return {way: _summary(tally) for way, tally in tallies.items()}


Drivers = frozenset[Driver]


def _renders(held_out: HeldOut, index: int, before: int, after: int) -> dict[Drivers, Shown]:
    """Exact pictures with no, one and two drivers gone from A to B."""
    a, b = held_out.acting(before), held_out.acting(after)
    chosen = {frozenset({f, g}) for f in DRIVERS for g in DRIVERS} | {frozenset[Driver]()}
    identity = held_out.identity_of(index)
    return {drivers: held_out.render(identity, a.driven_by(b, drivers)) for drivers in chosen}


def _region(factor: Driver, *shown: Shown) -> Mask:
    """Where a factor shows: pose in the whole figure, expression at brows and eyes, mouth at the lips."""
    names = {"pose": "figure", "expression": "eyes", "mouth": "mouth"}
    masks: list[Mask] = [getattr(s, names[factor]) for s in shown]
    return np.asarray(np.any(masks, axis=0))


def _change(to: Image, since: Image, region: Mask) -> NDArray[np.float32]:
    return to[region].astype(np.float32) - since[region]


def _tally_pictures(
    tally: _Tally, pictures: Mapping[Drivers, Image], renders: Mapping[Drivers, Shown]
) -> None:
    nobody = frozenset[Driver]()
    for driver in DRIVERS:
        one = frozenset({driver})
        for factor in DRIVERS:
            both = frozenset({driver, factor})
            region = _region(factor, *(renders[d] for d in (nobody, one, frozenset({factor}), both)))
            out = _change(pictures[one], pictures[nobody], region)
            true = _change(renders[one].image, renders[nobody].image, region)
            if factor != driver:
                other = frozenset({factor})
                far = _change(renders[both].image, renders[one].image, region)
                near = _change(renders[other].image, renders[nobody].image, region)
                before = drift(_change(pictures[nobody], renders[nobody].image, region), true, near)
                after = drift(_change(pictures[one], renders[one].image, region), true, far)
                tally.leaks[driver, factor].append(leak(before, after, far))
            elif (found := follow(out, true)) is not None:
                tally.follows[driver].append((found.response, found.cosine, found.size))


def _tally_readings(
    tally: _Tally, pictures: Mapping[Drivers, Face | None], renders: Mapping[Drivers, Face | None]
) -> None:
    nobody = frozenset[Driver]()
    for driver in DRIVERS:
        one = frozenset({driver})
        for factor in DRIVERS:
            far = one if factor == driver else frozenset({driver, factor})
            near = nobody if factor == driver else one
            faces = (
                pictures[one],
                pictures[nobody],
                renders[one],
                renders[nobody],
                renders[far],
                renders[near],
            )
            if any(face is None for face in faces):
                continue
            read = [factor_readings(face, factor) for face in faces if face is not None]
            out, true, driven = read[0] - read[1], read[2] - read[3], read[4] - read[5]
            if factor == driver:
                tally.readings[driver, factor].append((float(out @ true), float(true @ true)))
            else:
                tally.readings[driver, factor].append(excess(out, true, driven))


def _summary(tally: _Tally) -> dict[str, Any]:
    """Responses, and both matrices: rows are drivers, columns are factors."""
    response, pictures, signed, readings = {}, {}, {}, {}
    for driver in DRIVERS:
        values = np.array(tally.follows[driver] or [(np.nan,) * 3])
        response[driver] = dict(zip(("response", "cosine", "size"), map(float, values.mean(0)), strict=True))
        response[driver]["samples"] = len(tally.follows[driver])
        response[driver]["response_read"] = _ratio(tally.readings[driver, driver])
        own_reading = _or_nan(response[driver]["response_read"])
        others = [factor for factor in DRIVERS if factor != driver]
        leaks = {factor: mean_leak(tally.leaks[driver, factor]) for factor in others}
        own = _or_nan(response[driver]["response"])
        pictures[driver] = {factor: leaks[factor][0] / own for factor in others}
        signed[driver] = {factor: leaks[factor][1] / own for factor in others}
        readings[driver] = {factor: _ratio(tally.readings[driver, factor]) / own_reading for factor in others}
    return {
        "response": response,
        "leakage_pictures": pictures,
        "leakage_pictures_signed": signed,
        "leakage_readings": readings,
    }


def _or_nan(response: float) -> float:
    """Leakage relative to a driver that moves nothing, or the wrong way, means nothing."""
    return response if response > 0 else float("nan")


def _ratio(pairs: list[tuple[float, float]]) -> float:
    """Sum of the firsts over sum of the seconds."""
    above, below = np.sum(pairs, 0) if pairs else (np.nan, np.nan)
    return float(above / below) if below else float("nan")
