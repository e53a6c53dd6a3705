"""People drawn by the synthetic renderer from seeds that training does not use: exact landmarks and poses."""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from clients.people import Person
from gcavt.config import EditReposeGeneratorConfig
from gcavt.preprocessing import landmarks_68_from_478, portrait_crop_origin
from training.datasets.placement import normal_pose
from training.datasets.render import draw_pose, expression_or_viseme, placement
from training.synthetic import truth
from training.synthetic.identity import Identity, Scene
from training.synthetic.performance import random_expression, random_mouth
from training.synthetic.renderer import Render, Renderer

FIRST_SEED: Final = 700_000
PEOPLE: Final = 4
OPEN_MOUTH: Final = ("aa", 0.9)

Image = NDArray[np.uint8]
Points = NDArray[np.float32]


def render_people(frames: int, *, people: int = PEOPLE, show_progress: bool = False) -> list[Person]:
    """`frames` driving frames in all, spread over `people` identities; the same ones every time."""
    each = -(-frames // people)
    seeds = range(FIRST_SEED, FIRST_SEED + people)
    return [
        _person(seed, each) for seed in tqdm(seeds, desc="render", unit="person", disable=not show_progress)
    ]


def _person(seed: int, frames: int) -> Person:
    rng = np.random.default_rng(seed)
    scene = Scene.from_seed(seed)
    renderer = Renderer(Identity(seed), scene, supersampling=2)
    position = placement(renderer)
    place = np.concatenate([np.zeros(3, np.float32), position])
    pose = place + 0.3 * draw_pose(rng)
    neutral = renderer.render(0.3 * (random_expression(rng) + random_mouth(rng)), pose)
    open_mouth = renderer.render(expression_or_viseme(*OPEN_MOUTH), pose)
    origins = [
        portrait_crop_origin(_landmarks(r), EditReposeGeneratorConfig()) for r in (neutral, open_mouth)
    ]
    shown = []
    for _ in range(frames):
        face = np.clip(random_expression(rng) + random_mouth(rng), 0, 1)
        render = renderer.render(face, place + draw_pose(rng))
        shown.append((_over(render, scene), _landmarks(render)))
    crop_origin = np.concatenate([np.asarray(origin, np.int64) // 2 * 2 for origin in origins])
    return Person(
        name=f"rendered_{seed}",
        kind="rendered",
        portraits=(neutral.image, open_mouth.image),
        known=(normal_pose(pose, position), crop_origin),
        frames=tuple(shown),
    )


def _landmarks(render: Render) -> Points:
    return np.asarray(landmarks_68_from_478(truth.landmarks(render)) - np.float32(0.5), np.float32)


def _over(render: Render, scene: Scene) -> Image:
    """The figure over its room; a rendered picture is on black, so only the room is weighed."""
    alpha = render.alpha[:, :, None].astype(np.float32) / 255
    room = np.clip(scene.background, 0, 1) ** (1 / 2.2) * 255
    return np.asarray(np.clip(render.image + (1 - alpha) * room, 0, 255), np.uint8)
