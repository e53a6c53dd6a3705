"""Films of an avatar: driven by pictures, or by pictures and a voice, and read off again frame by frame."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from engine.assets import face_landmarker_path
from engine.clock import NS_PER_S, MediaClock
from engine.codes import Code, DrivingCodes, Socket
from engine.drivers import FaceDriver
from engine.errors import NoFaceError
from engine.face_tracker import FaceTracker
from engine.media import VideoFrame
from engine.metrics import StageTimes
from engine.puppeteer import IdentityState
from gcavt.audio import VIDEO_FPS, mel_spectrogram, mel_window
from gcavt.preprocessing import Face
from training.metrics.actor import CODE_OF, Actor, Image
from training.metrics.flicker import flicker
from training.metrics.follow import READINGS, Readings, face_readings
from training.metrics.sync import LEAST_FRAMES, MAX_LAG_FRAMES, correlation_at_lags

_SOCKETS: frozenset[Socket] = frozenset({"pose", "expression", "mouth"})


@dataclass(frozen=True, kw_only=True)
class Watched:
    """A film read by MediaPipe and by the content encoder."""

    readings: Readings
    """(T, len(READINGS))."""
    mouth_TD: NDArray[np.float32]
    """Content codes (T, D) of the mouth crops; the last one holds where the face is lost."""

    @property
    def found(self) -> float:
        """Share of frames with a face."""
        return float(np.isfinite(self.readings[:, 0]).mean())


@dataclass(frozen=True, kw_only=True)
class Take:
    """An avatar's film and what is read off it."""

    film_THWC: NDArray[np.uint8]
    watched: Watched

    @property
    def flicker(self) -> float:
        return flicker(self.film_THWC)


@dataclass(frozen=True, kw_only=True)
class Driven:
    """One driving film and the codes that it gives, frame by frame."""

    name: str
    driver_frames: Sequence[Image]
    driver: Watched
    codes: Sequence[DrivingCodes]
    spoken: Sequence[DrivingCodes]
    """Pose and expression by video, the mouth by sound alone; empty for a silent film."""


@dataclass(frozen=True, kw_only=True)
class Played(Driven):
    """A driving film with its avatars."""

    by_video: Take
    by_sound: Take | None
    """Pose and expression by video, the mouth by sound alone; None for a silent film."""
    sync_curves: dict[str, NDArray[np.float64]]
    """Correlation at lags of the sound with the mouth of: driver, by_video, by_sound. Empty if too short."""


def play(
    actor: Actor,
    identity: IdentityState,
    name: str,
    frames: Iterable[Image],
    sound_16k: NDArray[np.float32] | None,
) -> Played:
    """Drive `identity` with a film at 25 fps as the engine does, and with its sound.

    Raises NoFaceError if no frame shows a face.
    """
    driven = drive(actor, name, frames, sound_16k)
    by_video = take(actor, identity, name, driven.codes)
    by_sound, curves = None, {}
    if driven.spoken:
        by_sound = take(actor, identity, f"{name}, mouth by sound", driven.spoken)
        curves = _sync_curves(driven, by_video, by_sound)
    return Played(**vars(driven), by_video=by_video, by_sound=by_sound, sync_curves=curves)


def drive(actor: Actor, name: str, frames: Iterable[Image], sound_16k: NDArray[np.float32] | None) -> Driven:
    """Read a film at 25 fps and its sound. Raises NoFaceError if no frame shows a face."""
    shown = list(frames)
    codes, readings = read_driver(actor, name, shown)
    heard = [] if sound_16k is None else hear(actor, sound_16k, len(codes))
    return Driven(
        name=name,
        driver_frames=shown,
        driver=Watched(readings=readings, mouth_TD=np.stack([code.content_code for code in codes])),
        codes=codes,
        spoken=[code._replace(content_code=mouth) for code, mouth in zip(codes, heard, strict=bool(heard))],
    )


def _sync_curves(driven: Driven, by_video: Take, by_sound: Take) -> dict[str, NDArray[np.float64]]:
    """Of the sound with each mouth; none for a film too short."""
    if len(driven.codes) < 2 * MAX_LAG_FRAMES + LEAST_FRAMES:
        return {}
    heard = np.stack([code.content_code for code in driven.spoken])
    mouths = {
        "driver": driven.driver.mouth_TD,
        "by_video": by_video.watched.mouth_TD,
        "by_sound": by_sound.watched.mouth_TD,
    }
    return {key: correlation_at_lags(heard, mouth) for key, mouth in mouths.items()}


class _RecordingTracker(FaceTracker):
    """Keeps the readings of what it tracks, so that a film is not tracked twice."""

    def __init__(self) -> None:
        super().__init__(face_landmarker_path())
        self.readings: list[NDArray[np.float32]] = []

    def track(self, image_HWC: NDArray[np.uint8], timestamp_ms: int) -> Face | None:
        face = super().track(image_HWC, timestamp_ms)
        self.readings.append(face_readings(face))
        return face


def read_driver(
    actor: Actor, name: str, frames: Sequence[Image]
) -> tuple[list[DrivingCodes], NDArray[np.float32]]:
    """Codes and MediaPipe's readings of every frame; codes hold where the face is lost.

    Raises NoFaceError if there is never one.
    """
    tracker = _RecordingTracker()
    driver = FaceDriver(tracker, VIDEO_FPS)
    stages = StageTimes(MediaClock())
    read: list[dict[Socket, Code]] = []
    try:
        for index, image in enumerate(tqdm(frames, desc=f"read {name}", leave=False)):
            frame = VideoFrame(image, index * NS_PER_S // VIDEO_FPS)
            read.append(driver.read(actor.puppeteer, frame, _SOCKETS, stages))
    finally:
        driver.close()
    held = next((codes for codes in read if codes), None)
    if held is None:
        raise NoFaceError(f"{name}: no face was found in it")
    codes = []
    for now in read:
        held = now or held
        codes.append(DrivingCodes(**{CODE_OF[socket]: code for socket, code in held.items()}))
    return codes, np.stack(tracker.readings)


def hear(actor: Actor, sound_16k: NDArray[np.float32], frame_count: int) -> list[Code]:
    """Content codes of a sound, one per video frame."""
    mel = mel_spectrogram(sound_16k)
    return [actor.puppeteer.content_code_from_mel(mel_window(mel, t)) for t in range(frame_count)]


def take(actor: Actor, identity: IdentityState, name: str, codes: Sequence[DrivingCodes]) -> Take:
    """Draw the avatar, then watch it."""
    pictures = [
        actor.puppeteer.generate(identity, *code)[0] for code in tqdm(codes, desc=f"draw {name}", leave=False)
    ]
    return Take(film_THWC=np.stack(pictures), watched=watch(actor, pictures))


def watch(actor: Actor, film: Sequence[Image]) -> Watched:
    """Read an avatar's film; its pictures are face crops already."""
    readings, mouths = [], []
    mouth: Code = np.zeros(actor.manifest.config.content_dim, np.float32)
    with FaceTracker(face_landmarker_path()) as tracker:
        for number, image in enumerate(film):
            face = tracker.track(image, number * 1000 // VIDEO_FPS)
            readings.append(face_readings(face))
            if face is not None:
                mouth = actor.puppeteer.content_code(image, face.landmarks_68)
            mouths.append(mouth)
    return Watched(readings=np.stack(readings).reshape(-1, len(READINGS)), mouth_TD=np.stack(mouths))
