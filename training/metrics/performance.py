"""A rendered person speaks: an exact film to hold the avatar's against, for flicker and sync."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from engine.puppeteer import IdentityState
from gcavt.audio import VIDEO_FPS, resample_to_16k_mono
from training.datasets.placement import rendered_pose
from training.metrics.actor import Actor, Image
from training.metrics.clips import sync_figures
from training.metrics.flicker import flicker
from training.metrics.held_out import Acting, HeldOut
from training.metrics.playing import Played, play, read_driver, take
from training.synthetic.identity import Identity, Scene
from training.synthetic.motion import Performance, join_speech, perform_speech
from training.synthetic.performance import VISEME_NAMES
from training.synthetic.renderer import Renderer
from training.synthetic.speech import Voice, speak
from training.synthetic.visemes import TimedSymbol

SENTENCE = "Hello, and welcome! We are happy to show you our open mouths today."
VOICE = Voice(name="en-us+f5", rate_wpm=150)
"""A voice kept out of the audio encoder's training."""
_PAUSE_S = 0.3
_FURTHER = -2.0
"""Head units by which the driver sits back, so that the face crop finds room around the face."""
_DRIVER_PX = 384
CAMERA_NOISE = 3.0
"""Standard deviation of a still camera's noise, in 1/255."""


@dataclass(frozen=True, kw_only=True)
class RenderedFilm:
    """The avatars of a rendered driver, and the exact picture of every frame."""

    played: Played
    exact_THWC: NDArray[np.uint8]
    words: list[str]
    """What is being said, frame by frame; empty in pauses."""
    visemes: list[str]
    figures: dict[str, Any]


def evaluate_performance(actor: Actor, held_out: HeldOut, seconds: float) -> RenderedFilm:
    """One held-out person drives another for `seconds`, by pictures and by sound.

    Raises EspeakMissingError where there is nothing to speak with.
    """
    index = held_out.sample(1, seed=2)[0]
    avatar, driver = held_out.identities[0], held_out.identities[1]
    performance, sound_16k = speak_sentence(seconds)
    count = len(performance.pose_T6)
    actings = [
        Acting(pose=pose, expression=expression, mouth=mouth)
        for pose, expression, mouth in zip(
            performance.pose_T6, performance.expression_T52, performance.mouth_T52, strict=True
        )
    ]
    frames = _driver_film(held_out, driver, actings)
    exact = [held_out.render(avatar, a).image for a in tqdm(actings, desc="exact film", leave=False)]
    state = held_out.state(actor, index)
    played = play(actor, state, "rendered driver", frames, sound_16k)
    return RenderedFilm(
        played=played,
        exact_THWC=np.stack(exact),
        words=word_of_frame(performance.words, count),
        visemes=[VISEME_NAMES[int(np.argmax(row))] for row in performance.visemes_T15],
        figures={
            "flicker": _flicker_figures(actor, state, played, np.stack(exact), frames[0]),
            "sync": sync_figures([played]),
        },
    )


def speak_sentence(seconds: float) -> tuple[Performance, NDArray[np.float32]]:
    """How SENTENCE is performed in the first `seconds`, and its 16 kHz sound.

    Raises EspeakMissingError where there is nothing to speak with.
    """
    speech = join_speech([speak(SENTENCE, VOICE)], [_PAUSE_S])
    performance = perform_speech(np.random.default_rng(11), speech, round(seconds * VIDEO_FPS))
    return performance, resample_to_16k_mono(performance.samples, performance.sample_rate)


def _driver_film(held_out: HeldOut, identity: int, actings: list[Acting]) -> list[Image]:
    renderer = Renderer(
        Identity(identity),
        Scene.from_seed(identity),
        size_px=_DRIVER_PX,
        supersampling=1,
        background="scene",
    )
    place = held_out.triples.place(np.array([identity]))[0]
    back = np.array([0, 0, 0, 0, 0, _FURTHER], np.float32)
    frames = []
    for acting in tqdm(actings, desc="film the driver", leave=False):
        face = np.clip(acting.expression + acting.mouth, 0, 1)
        frames.append(renderer.render(face, rendered_pose(acting.pose + back, place)).image)
    return frames


def _flicker_figures(
    actor: Actor, state: IdentityState, played: Played, exact_THWC: NDArray[np.uint8], still: Image
) -> dict[str, float]:
    """In 1/255: before a still face through a noisy camera, and while the driver moves."""
    rng = np.random.default_rng(0)
    noisy = [
        np.clip(still + rng.normal(0, CAMERA_NOISE, still.shape), 0, 255).round().astype(np.uint8)
        for _ in range(VIDEO_FPS)
    ]
    codes, _ = read_driver(actor, "still driver", noisy)
    resting = take(actor, state, "still driver", codes)
    moving, true = played.by_video.flicker, flicker(exact_THWC)
    return {
        "still": resting.flicker,
        "camera_noise": flicker(np.stack(noisy)),
        "moving": moving,
        "moving_exact": true,
        "moving_over_exact": moving / true,
    }


def word_of_frame(words: Sequence[TimedSymbol], count: int) -> list[str]:
    """What is being said in each of `count` frames; empty in pauses."""
    labels = [""] * count
    for word, start_s, end_s in words:
        for frame in range(round(start_s * VIDEO_FPS), min(round(end_s * VIDEO_FPS), count)):
            labels[frame] = word
    return labels
