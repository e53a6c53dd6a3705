"""`gcavt drive`: a video of an avatar whose identity, pose, expression and mouth come from files."""

from __future__ import annotations

import argparse
import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from tqdm import tqdm

from engine.assets import face_landmarker_path
from engine.backends.backend import BACKENDS, DEFAULT_BACKEND, open_backend
from engine.bundle import DEFAULT_MODEL, Bundle
from engine.clock import NS_PER_S, MediaClock
from engine.codes import Code, DrivingCodes, Socket
from engine.compositor import Compositor, background_from_text, read_picture
from engine.drivers import FaceDriver
from engine.errors import BadMediaError, BundleError, NoFaceError
from engine.face_tracker import FaceTracker
from engine.media import VideoFrame
from engine.media_files import (
    FPS,
    SOUND_RATE,
    Image,
    MediaFile,
    Mp4Writer,
    Sound,
    pictures_at_25_fps,
    read_sound,
)
from engine.metrics import StageTimes
from engine.puppeteer import IdentityState, Puppeteer
from gcavt.audio import mel_spectrogram, mel_window, resample_to_16k_mono
from gcavt.code_space import POSE_DIM, POSE_SCALE

logger = logging.getLogger(__name__)

IDLE_SECONDS: Final = 5.0
FEW_FACES: Final = 0.5
"""Below this share of frames with a face, a warning says so."""


@dataclass(frozen=True)
class Track:
    """The codes of one socket, one per frame at 25 fps."""

    codes: Sequence[Code]

    def at(self, index: int) -> Code:
        """The code of frame `index`; after the end, the last one."""
        return self.codes[min(index, len(self.codes) - 1)]


@dataclass(frozen=True, kw_only=True)
class Performance:
    """All that is needed to draw the film."""

    identity: IdentityState
    tracks: dict[Socket, Track]
    sound: Sound | None
    frame_count: int


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.description = (
        "Make a video of an avatar from files. Each of its four sockets takes a source of its own; frame i\n"
        "of the result belongs to frame i of every driver at 25 fps (other rates are resampled). The result\n"
        "is as long as the longest driver; shorter ones hold their last frame. Its sound is the mouth's."
    )
    parser.epilog = (
        "examples:\n"
        "  gcavt drive --pose me.mp4 --expression me.mp4 --mouth me.mp4 --out avatar.mp4\n"
        "  gcavt drive --identity front.jpg smile.jpg --mouth speech.wav --out talk.mp4\n"
        "  gcavt drive --pose a.mp4 --expression b.jpg --mouth c.wav --background '#204060' --out mix.mp4"
    )
    parser.add_argument("--out", type=Path, required=True, metavar="FILE.mp4", help="H.264 and AAC, 25 fps")
    parser.add_argument(
        "--identity",
        nargs="+",
        metavar="IMG|NAME",
        help="photos of one person, the first looking ahead with closed mouth, others with an open one or "
        "from aside, or the name of an identity that comes with the model (default: its first)",
    )
    parser.add_argument("--pose", type=Path, metavar="VIDEO|IMAGE", help="default: sways gently")
    parser.add_argument(
        "--expression", type=Path, metavar="VIDEO|IMAGE", help="default: neutral, blinks now and then"
    )
    parser.add_argument(
        "--mouth", type=Path, metavar="VIDEO|AUDIO", help="what a face says or a voice (default: closed)"
    )
    parser.add_argument(
        "--relative-pose",
        action="store_true",
        help="add the driver's movement since its first frame to the identity's own pose, instead of copying "
        "the driver's pose",
    )
    parser.add_argument(
        "--background", default="#000000", metavar="#rrggbb|IMAGE", help="behind the head (default: black)"
    )
    parser.add_argument(
        "--seconds",
        type=_positive,
        default=IDLE_SECONDS,
        help="length where no driver moves (default: %(default)s)",
    )
    parser.add_argument(
        "--model", default=DEFAULT_MODEL, metavar="NAME|PATH", help="a bundle (default: %(default)s)"
    )
    parser.add_argument(
        "--backend", choices=BACKENDS, default=DEFAULT_BACKEND, help="what computes (default: %(default)s)"
    )
    parser.add_argument(
        "--threads", type=int, metavar="N", help="CPU threads (default: the backend's choice)"
    )


def run(args: argparse.Namespace) -> int:
    """Read all sources, then draw. Raises EngineError, whose message is one line for the user."""
    _check_output(args)
    compositor = Compositor(background_from_text(args.background))
    drivers = _probe_drivers(args)
    bundle = Bundle.open(args.model)
    backend = open_backend(args.backend, bundle.directory, threads=args.threads)
    try:
        puppeteer = Puppeteer(bundle, backend)
        identity = read_identity(args.identity, bundle, puppeteer)
        performance = read_performance(
            drivers, identity, puppeteer, seconds=args.seconds, relative_pose=args.relative_pose
        )
        write_film(args.out, performance, puppeteer, compositor)
    finally:
        backend.close()
    seconds = performance.frame_count / FPS
    print(f"{args.out}: {performance.frame_count} frames, {seconds:.1f} s ({backend.provider})")
    return 0


def _positive(text: str) -> float:
    value = float(text)
    if not value > 0:
        raise argparse.ArgumentTypeError(f"must be above 0, got {text}")
    return value


def _check_output(args: argparse.Namespace) -> None:
    """Raises BadMediaError for an output that could not be written, before any work is done."""
    out: Path = args.out
    if out.suffix.lower() != ".mp4":
        raise BadMediaError(f"--out must end in .mp4, got {out}")
    if not out.parent.is_dir():
        raise BadMediaError(f"the directory of --out does not exist: {out.parent}")
    sources = [path for path in (args.pose, args.expression, args.mouth) if path is not None]
    if any(source.resolve() == out.resolve() for source in sources):
        raise BadMediaError(f"--out would overwrite a source: {out}")


# -- sources ------------------------------------------------------------------------------------------------


def _probe_drivers(args: argparse.Namespace) -> dict[Socket, MediaFile]:
    """The driving files by socket. Raises BadMediaError for one that its socket cannot use."""
    drivers: dict[Socket, MediaFile] = {}
    chosen: dict[Socket, Path | None] = {
        "pose": args.pose,
        "expression": args.expression,
        "mouth": args.mouth,
    }
    for socket, path in chosen.items():
        if path is None:
            continue
        media = MediaFile.probe(path)
        if socket != "mouth" and not media.has_images:
            raise BadMediaError(f"--{socket} needs a video or a picture; {path} holds only sound")
        drivers[socket] = media
    return drivers


def read_identity(words: Sequence[str] | None, bundle: Bundle, puppeteer: Puppeteer) -> IdentityState:
    """The identity that the words of --identity name: photos, or one name of the bundle's own."""
    names = bundle.identity_names()
    if not words:
        if not names:
            raise BundleError(f"model {bundle.name} comes without identities: give photos with --identity")
        return puppeteer.identity_from_bank(names[0])
    if len(words) == 1 and not Path(words[0]).is_file():
        if words[0] in names:
            return puppeteer.identity_from_bank(words[0])
        raise BadMediaError(
            f"--identity {words[0]} is neither a picture file nor an identity of model {bundle.name} "
            f"({', '.join(names) or 'it has none'})"
        )
    photos = [_read_photo(Path(word)) for word in words]
    with FaceTracker(face_landmarker_path()) as tracker:
        return puppeteer.identity_from_portraits(photos, tracker)


def _read_photo(path: Path) -> Image:
    if not path.is_file():
        raise BadMediaError(f"{path} does not exist")
    return read_picture(path)


def read_performance(
    drivers: dict[Socket, MediaFile],
    identity: IdentityState,
    puppeteer: Puppeteer,
    *,
    seconds: float,
    relative_pose: bool,
) -> Performance:
    """Decode and encode every driving file, each of them once."""
    sound = _mouth_sound(drivers.get("mouth"))
    tracks: dict[Socket, Track] = {}
    for media in dict.fromkeys(drivers.values()):
        sockets: frozenset[Socket] = frozenset(s for s, m in drivers.items() if m == media)
        if media.has_images:
            tracks |= read_face(media, sockets, puppeteer)
        elif sound is not None:
            tracks["mouth"] = _voice_track(sound, media, puppeteer)
    if relative_pose and "pose" in tracks:
        tracks["pose"] = _relative(tracks["pose"], _own_pose(identity))
    moving = [len(tracks[socket].codes) for socket, media in drivers.items() if not media.is_picture]
    return Performance(
        identity=identity,
        tracks=tracks,
        sound=sound,
        frame_count=max(moving, default=max(1, round(seconds * FPS))),
    )


def _mouth_sound(mouth: MediaFile | None) -> Sound | None:
    return read_sound(mouth) if mouth is not None and mouth.has_sound else None


def read_face(media: MediaFile, sockets: frozenset[Socket], puppeteer: Puppeteer) -> dict[Socket, Track]:
    """The codes that a face shows, frame by frame. Where it is lost, the last codes hold.

    Raises NoFaceError if there is no face in the whole file.
    """
    driver = FaceDriver(FaceTracker(face_landmarker_path(), reads_shapes=False), FPS)
    stages = StageTimes(MediaClock())
    readings: list[dict[Socket, Code]] = []
    pictures = tqdm(
        pictures_at_25_fps(media),
        desc=f"read {media.path.name}",
        total=media.expected_frames or None,
        unit="frame",
    )
    try:
        for index, image in enumerate(pictures):
            frame = VideoFrame(image, index * NS_PER_S // FPS)
            readings.append(driver.read(puppeteer, frame, sockets, stages))
    finally:
        driver.close()
    found = [reading for reading in readings if reading]
    if not found:
        raise NoFaceError(f"{media.path}: no face was found in it")
    if len(found) < FEW_FACES * len(readings):
        logger.warning("%s: a face was found in %d of %d frames", media.path, len(found), len(readings))
    return {socket: Track(list(_held(readings, socket, found[0]))) for socket in sockets}


def _held(
    readings: Sequence[dict[Socket, Code]], socket: Socket, first: dict[Socket, Code]
) -> Iterator[Code]:
    held = first
    for reading in readings:
        held = reading or held
        yield held[socket]


def _voice_track(sound: Sound, media: MediaFile, puppeteer: Puppeteer) -> Track:
    if sound.is_silent:
        raise BadMediaError(f"{media.path} is silent: nothing in it can move a mouth")
    mel = mel_spectrogram(resample_to_16k_mono(sound.samples.mean(axis=0), SOUND_RATE))
    frames = tqdm(range(sound.frame_count), desc=f"read {media.path.name}", unit="frame")
    return Track([puppeteer.content_code_from_mel(mel_window(mel, index)) for index in frames])


def _own_pose(identity: IdentityState) -> Code:
    """The pose code of the identity's portrait, or the pose straight ahead where that is not known."""
    pose = np.zeros_like(identity.rest.pose_code) if identity.rest else np.zeros(POSE_DIM, np.float32)
    reference_pose = identity.tensors.get("reference_pose")
    if reference_pose is not None:
        pose[:6] = reference_pose[0] / POSE_SCALE
    elif identity.rest is not None:
        pose = identity.rest.pose_code
    return pose


def _relative(track: Track, own_pose: Code) -> Track:
    return Track([own_pose + code - track.codes[0] for code in track.codes])


# -- film ---------------------------------------------------------------------------------------------------


def write_film(out: Path, performance: Performance, puppeteer: Puppeteer, compositor: Compositor) -> None:
    """Draw every frame into `out`, which appears when it is finished."""
    side_h, side_w = performance.identity.portrait_HWC.shape[:2]
    sound = performance.sound
    channels = 0 if sound is None else sound.samples.shape[0]
    with Mp4Writer(out, side_w, side_h, channels) as writer:
        for index in tqdm(range(performance.frame_count), desc=f"draw {out.name}", unit="frame"):
            codes = _codes_at(index, performance, puppeteer)
            image, mask = puppeteer.generate(performance.identity, *codes)
            writer.write(compositor.compose(image, mask), None if sound is None else sound.of_frame(index))


def _codes_at(index: int, performance: Performance, puppeteer: Puppeteer) -> DrivingCodes:
    idle = puppeteer.idle_codes(index / FPS, performance.identity)
    tracks = performance.tracks
    return DrivingCodes(
        pose_code=tracks["pose"].at(index) if "pose" in tracks else idle.pose_code,
        expression_code=tracks["expression"].at(index) if "expression" in tracks else idle.expression_code,
        content_code=tracks["mouth"].at(index) if "mouth" in tracks else idle.content_code,
    )
