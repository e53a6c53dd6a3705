"""Held-out people with their heads turned: what portraits from the side bring."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import replace
from typing import Any

import numpy as np
from tqdm import tqdm

from training.metrics.actor import Actor, Image
from training.metrics.held_out import HeldOut
from training.metrics.pictures import picture_figures
from training.metrics.sheets import grid

TURNS_DEG = (-32, -16, 16, 32)
"""As far as a head may turn that is known from the front alone (`within_reach`), and half as far."""
GIVEN = {"sides": True, "front only": False}
SHEET_PEOPLE = 5


def evaluate_turned(actor: Actor, held_out: HeldOut) -> tuple[dict[str, dict[str, float]], Image]:
    """Mean figures by how far a head is turned and what is given, and a contact sheet; codes are exact.

    The frame's own pose is kept but for the yaw; a person's first triple is used.
    """
    figures: dict[str, list[dict[str, float]]] = defaultdict(list)
    rows: list[list[Image]] = []
    for identity in tqdm(held_out.identities, desc="turned heads"):
        index = held_out.first_of(identity)
        states = {name: held_out.state(actor, index, has_sides=sides) for name, sides in GIVEN.items()}
        columns: dict[str, list[Image]] = defaultdict(list)
        for turn in TURNS_DEG:
            acting = held_out.acting(index)
            pose = acting.pose.copy()
            pose[1] = turn
            acting = replace(acting, pose=pose)
            target = held_out.render(identity, acting)
            columns["exact"].append(target.image)
            for name, state in states.items():
                picture = actor.draw(state, acting.codes)
                columns[name].append(picture)
                found = picture_figures(picture, target.image, target.figure, target.mouth, target.eyes)
                figures[f"{abs(turn)} degrees, {name}"].append(found)
        reference = held_out.reference(index)
        rows += [[reference, *columns[name]] for name in (*GIVEN, "exact")]
    means = {
        key: {figure: float(np.mean([one[figure] for one in values])) for figure in values[0]}
        for key, values in figures.items()
    }
    labels = [
        [name, *(f"{turn:+d}" for turn in TURNS_DEG)]
        for _ in held_out.identities
        for name in (*GIVEN, "exact")
    ]
    shown = len(GIVEN) * SHEET_PEOPLE + SHEET_PEOPLE
    return means, grid(rows[:shown], labels[:shown])


def columns_of(values: dict[str, dict[str, float]]) -> list[list[Any]]:
    """Rows of the report's table: what, SSIM and PSNR of the picture and of the figure."""
    names = ("ssim", "ssim_figure", "psnr_db", "psnr_figure_db")
    return [[key, *(found[name] for name in names)] for key, found in sorted(values.items())]
