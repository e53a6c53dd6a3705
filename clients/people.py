"""People for the model to watch: what engines are calibrated on and measured with."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from engine.assets import face_landmarker_path
from engine.config import BUILT_IN_CLIP
from engine.face_tracker import FaceTracker
from engine.puppeteer import IdentityState
from gcavt.audio import mel_spectrogram, mel_window, read_audio_16k_mono, video_frame_count
from training.metrics.actor import Actor
from trt_build.accuracy import Call, Networks, Recorder
from trt_build.manifest import Manifest

Image = NDArray[np.uint8]
Points = NDArray[np.float32]


@dataclass(frozen=True, kw_only=True)
class Person:
    """One identity and the frames that drive it, which show another person."""

    name: str
    kind: str
    """Where the pictures come from: rendered or photographed."""
    portraits: tuple[Image, ...]
    """On black and 256 px where the pose is known, else photos."""
    known: tuple[NDArray[np.float32], NDArray[np.int64]] | None = None
    """Pose and face crops of the portraits, if they are known exactly."""
    frames: tuple[tuple[Image, Points], ...]
    """Driving crops over a background, with landmarks."""


def play(networks: Networks, manifest: Manifest, people: Sequence[Person]) -> list[Call]:
    """Let every person be driven by the next one's frames; the calls that this made, in order.

    They are labelled by the kind of the person shown. The mouth is read from the picture and from sound in
    turn.
    """
    recorder = Recorder(networks)
    windows = iter(speech_windows(sum(len(person.frames) for person in people)))
    with ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="gcavt-people-"))
        tracker = None
        if any(person.known is None for person in people):
            tracker = stack.enter_context(FaceTracker(face_landmarker_path()))
        actor = Actor(manifest, recorder, Path(folder))
        for index, person in enumerate(people):
            recorder.label = person.kind
            _drive(actor, _identity(actor, person, tracker), people[(index + 1) % len(people)], windows)
    return recorder.calls


def _identity(actor: Actor, person: Person, tracker: FaceTracker | None) -> IdentityState:
    if person.known is not None:
        return actor.identity(person.name, person.portraits, *person.known)
    assert tracker is not None
    return actor.puppeteer.identity_from_portraits(person.portraits, tracker, name=person.name)


def _drive(actor: Actor, state: IdentityState, driver: Person, windows: Any) -> None:
    for number, (frame, landmarks) in enumerate(driver.frames):
        codes = actor.codes(frame, landmarks)
        heard = actor.puppeteer.content_code_from_mel(next(windows))
        actor.draw(state, codes._replace(content_code=heard) if number % 2 else codes)


def speech_windows(count: int) -> list[NDArray[np.float32]]:
    """Mel windows (80, 20) of the built-in clip's speech, spread over its length."""
    samples = read_audio_16k_mono(BUILT_IN_CLIP)
    mel = mel_spectrogram(samples)
    last = video_frame_count(len(samples)) - 1
    return [mel_window(mel, round(index)) for index in np.linspace(0, last, count)]
