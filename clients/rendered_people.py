"""Rendered people for the model to watch: what engines are calibrated on and measured with.

They are drawn by the synthetic renderer from seeds that training does not use, with exact landmarks, and go
through the engine's own puppeteer, hence through `gcavt.preprocessing`, to the networks.
"""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from engine.config import BUILT_IN_CLIP
from gcavt.audio import mel_spectrogram, mel_window, read_audio_16k_mono, video_frame_count
from gcavt.config import EditReposeGeneratorConfig
from gcavt.preprocessing import landmarks_68_from_478, portrait_crop_origin
from training.datasets.placement import normal_pose
from training.datasets.render import draw_pose, expression_or_viseme, placement
from training.metrics.actor import Actor
from training.synthetic import truth
from training.synthetic.identity import Identity, Scene
from training.synthetic.performance import random_expression, random_mouth
from training.synthetic.renderer import Render, Renderer
from trt_build.accuracy import Call, Networks, Recorder
from trt_build.manifest import Manifest

FIRST_SEED: Final = 700_000
PEOPLE: Final = 4
OPEN_MOUTH: Final = ("aa", 0.9)

Image = NDArray[np.uint8]
Points = NDArray[np.float32]


@dataclass(frozen=True, kw_only=True)
class Person:
    """One identity and the frames that drive it, which show the next person."""

    name: str
    portraits: tuple[Image, Image]
    reference_pose: NDArray[np.float32]
    crop_origin: NDArray[np.int64]
    frames: tuple[tuple[Image, Points], ...]
    """Driving crops over a background, with landmarks."""


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
    return Person(
        name=f"rendered_{seed}",
        portraits=(neutral.image, open_mouth.image),
        reference_pose=normal_pose(pose, position),
        crop_origin=np.concatenate([np.asarray(o, np.int64) // 2 * 2 for o in origins]),
        frames=tuple(shown),
    )


def _landmarks(render: Render) -> Points:
    return np.asarray(landmarks_68_from_478(truth.landmarks(render)) - np.float32(0.5), np.float32)


def _over(render: Render, scene: Scene) -> Image:
    """The figure over its room; a rendered picture is on black, so only the room is weighed."""
    alpha = render.alpha[:, :, None].astype(np.float32) / 255
    room = np.clip(scene.background, 0, 1) ** (1 / 2.2) * 255
    return np.asarray(np.clip(render.image + (1 - alpha) * room, 0, 255), np.uint8)


def speech_windows(count: int) -> list[NDArray[np.float32]]:
    """Mel windows (80, 20) of the built-in clip's speech, spread over its length."""
    samples = read_audio_16k_mono(BUILT_IN_CLIP)
    mel = mel_spectrogram(samples)
    last = video_frame_count(len(samples)) - 1
    return [mel_window(mel, round(index)) for index in np.linspace(0, last, count)]


def play(networks: Networks, manifest: Manifest, people: list[Person]) -> list[Call]:
    """Let every person be driven by the next one's frames; the calls that this made, in order.

    The mouth is read from the picture and from sound in turn.
    """
    recorder = Recorder(networks)
    windows = iter(speech_windows(sum(len(person.frames) for person in people)))
    with tempfile.TemporaryDirectory(prefix="gcavt-people-") as folder:
        actor = Actor(manifest, recorder, Path(folder))
        for index, person in enumerate(people):
            _drive(actor, person, people[(index + 1) % len(people)], windows)
    return recorder.calls


def _drive(actor: Actor, person: Person, driver: Person, windows: Any) -> None:
    state = actor.identity(person.name, person.portraits, person.reference_pose, person.crop_origin)
    for number, (frame, landmarks) in enumerate(driver.frames):
        codes = actor.codes(frame, landmarks)
        heard = actor.puppeteer.content_code_from_mel(next(windows))
        actor.draw(state, codes._replace(content_code=heard) if number % 2 else codes)
