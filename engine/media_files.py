"""Media files as `gcavt drive` uses them: pictures at 25 fps, sound at 48 kHz, a finished MP4 or none."""

from __future__ import annotations

import logging
import math
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import Final, Self

import av
import cv2
import numpy as np
from av.container import InputContainer
from av.stream import Disposition
from av.video.stream import VideoStream
from numpy.typing import NDArray

from engine.compositor import read_picture
from engine.errors import BadMediaError

logger = logging.getLogger(__name__)

Image = NDArray[np.uint8]

FPS: Final = 25
SOUND_RATE: Final = 48_000
SAMPLES_PER_FRAME: Final = SOUND_RATE // FPS
MAX_SIDE_PX: Final = 1280
"""Larger pictures are shrunk while they are decoded; the face tracker looks at far fewer pixels."""
SILENCE_PEAK: Final = 1e-4
"""-80 dB of full scale: quieter than the noise of any microphone."""


@dataclass(frozen=True, kw_only=True)
class MediaFile:
    """What a file holds. A cover picture in a sound file does not count as video."""

    path: Path
    is_picture: bool
    has_video: bool
    has_sound: bool
    expected_frames: int
    """Frames at 25 fps by what the file says of itself; 0 if it says nothing."""

    @property
    def has_images(self) -> bool:
        return self.is_picture or self.has_video

    @classmethod
    def probe(cls, path: Path) -> MediaFile:
        """Look into a file. Raises BadMediaError: missing, or nothing in it that can be decoded."""
        if not path.is_file():
            raise BadMediaError(f"{path} does not exist")
        if _is_picture(path):
            return cls(path=path, is_picture=True, has_video=False, has_sound=False, expected_frames=1)
        with _opened(path) as container:
            video = _video_stream(container)
            has_sound = bool(container.streams.audio)
            if video is None and not has_sound:
                raise BadMediaError(f"{path} holds neither picture nor sound")
            if video is not None:
                _try_first_picture(container, video, path)
            return cls(
                path=path,
                is_picture=False,
                has_video=video is not None,
                has_sound=has_sound,
                expected_frames=round((container.duration or 0) / av.time_base * FPS),
            )


def _try_first_picture(container: InputContainer, stream: VideoStream, path: Path) -> None:
    """Raises BadMediaError if not even one picture can be decoded, before any work is done with it."""
    try:
        frame = next(container.decode(stream), None)
    except av.FFmpegError as error:
        raise BadMediaError(f"{path} holds no picture that can be decoded: {error.strerror}") from error
    if frame is None:
        raise BadMediaError(f"{path} holds no picture that can be decoded")


def pictures_at_25_fps(media: MediaFile) -> Iterator[Image]:
    """RGB pictures of a video (or the one of a picture file), evenly spaced at 25 fps from the first on.

    Picture i is the one nearest to i / 25 s, so that a 25 fps file gives each of its frames once. A file
    that breaks off gives what can be decoded, with a warning. Raises BadMediaError if that is nothing.
    """
    if media.is_picture:
        yield _shrunk(read_picture(media.path))
        return
    index = 0
    for frame, until_s in _frames(media.path):
        if (index / FPS) >= until_s:
            continue
        image = _to_rgb(frame)
        while index / FPS < until_s:
            yield image
            index += 1
    if index == 0:
        raise BadMediaError(f"{media.path}: none of the video can be decoded")
    if index < 0.95 * media.expected_frames - 2:
        logger.warning(
            "%s is cut short: %d frames of about %d could be used", media.path, index, media.expected_frames
        )


def _frames(path: Path) -> Iterator[tuple[av.VideoFrame, float]]:
    """Every decodable frame with the time, from the first frame, until which it is the nearest one."""
    with _opened(path) as container:
        stream = _video_stream(container)
        assert stream is not None
        stream.thread_type = "AUTO"
        period_s = float(1 / (stream.average_rate or Fraction(FPS)))
        held: tuple[av.VideoFrame, float] | None = None
        start_s = 0.0
        for count, frame in enumerate(_decodable(container, stream, path)):
            time_s = count * period_s if frame.time is None else frame.time
            if held is None:
                start_s = time_s
            else:
                yield held[0], (held[1] + time_s) / 2 - start_s
            held = frame, time_s
        if held is not None:
            # half a frame less, so that the count of frames is the duration rounded
            yield held[0], held[1] - start_s + period_s - 0.5 / FPS


def _decodable(container: InputContainer, stream: VideoStream, path: Path) -> Iterator[av.VideoFrame]:
    try:
        yield from container.decode(stream)
    except av.FFmpegError as error:
        logger.warning("%s cannot be decoded to its end: %s", path, error.strerror)


@dataclass(frozen=True)
class Sound:
    """The sound of a file from the moment of its first picture on (or from its own start)."""

    samples: NDArray[np.float32]
    """(channels, samples) at SOUND_RATE; one channel or two."""

    @property
    def frame_count(self) -> int:
        """Video frames at 25 fps that begin while the sound lasts."""
        return math.ceil(len(self.samples[0]) / SAMPLES_PER_FRAME)

    @property
    def is_silent(self) -> bool:
        return self.samples.size == 0 or float(np.abs(self.samples).max()) < SILENCE_PEAK

    def of_frame(self, index: int) -> NDArray[np.float32]:
        """(channels, SAMPLES_PER_FRAME) that belong to video frame `index`; silence after the end."""
        part = self.samples[:, index * SAMPLES_PER_FRAME : (index + 1) * SAMPLES_PER_FRAME]
        return np.pad(part, ((0, 0), (0, SAMPLES_PER_FRAME - part.shape[1])))


def read_sound(media: MediaFile) -> Sound:
    """All sound of a file. Raises BadMediaError if it has none that can be decoded."""
    parts: list[NDArray[np.float32]] = []
    with _opened(media.path) as container:
        if not container.streams.audio:
            raise BadMediaError(f"{media.path} holds no sound")
        stream = container.streams.audio[0]
        layout = "mono" if stream.codec_context.channels == 1 else "stereo"
        resampler = av.AudioResampler(format="fltp", layout=layout, rate=SOUND_RATE)
        lead_s = _start_s(stream) - _start_s(_video_stream(container) or stream)
        try:
            for frame in container.decode(stream):
                parts += [np.asarray(part.to_ndarray(), np.float32) for part in resampler.resample(frame)]
        except av.FFmpegError as error:
            logger.warning("the sound of %s cannot be decoded to its end: %s", media.path, error.strerror)
        if parts:
            parts += [np.asarray(part.to_ndarray(), np.float32) for part in resampler.resample(None)]
    if not parts:
        raise BadMediaError(f"{media.path}: none of the sound can be decoded")
    return Sound(_shifted(np.concatenate(parts, axis=1), round(lead_s * SOUND_RATE)))


def _start_s(stream: av.stream.Stream) -> float:
    if stream.start_time is None or stream.time_base is None:
        return 0.0
    return float(stream.start_time * stream.time_base)


def _shifted(samples: NDArray[np.float32], later: int) -> NDArray[np.float32]:
    """The samples begun `later`, with silence before, or earlier, with their beginning cut off."""
    return np.pad(samples, ((0, 0), (later, 0))) if later > 0 else samples[:, -later:]


class Mp4Writer:
    """H.264 at 25 fps with AAC sound. The file appears when the block ends well, and not otherwise.

    with Mp4Writer(path, width, height, channels=2) as writer: ...
    """

    def __init__(self, path: Path, width_px: int, height_px: int, channels: int) -> None:
        """channels: of the sound; 0 for a silent file. Raises BadMediaError if `path` cannot be written."""
        self._path = path
        self._partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
        try:
            self._container = av.open(
                str(self._partial), "w", format="mp4", options={"movflags": "faststart"}
            )
        except OSError as error:
            raise BadMediaError(f"{path} cannot be written: {error.strerror}") from error
        self._video = self._container.add_stream("libx264", rate=FPS)
        self._video.width, self._video.height, self._video.pix_fmt = width_px, height_px, "yuv420p"
        self._video.options = {"crf": "18", "preset": "fast"}
        self._layout = "mono" if channels == 1 else "stereo"
        self._sound = (
            self._container.add_stream("aac", rate=SOUND_RATE, layout=self._layout) if channels else None
        )
        self._frames = 0

    def write(self, image_HWC: Image, sound_CN: NDArray[np.float32] | None) -> None:
        """Append one picture and the sound that goes with it, (channels, SAMPLES_PER_FRAME)."""
        picture = av.VideoFrame.from_ndarray(image_HWC, format="rgb24")
        picture.pts, picture.time_base = self._frames, Fraction(1, FPS)
        self._container.mux(self._video.encode(picture))
        if self._sound is not None and sound_CN is not None:
            samples = av.AudioFrame.from_ndarray(
                np.ascontiguousarray(sound_CN), format="fltp", layout=self._layout
            )
            samples.sample_rate = SOUND_RATE
            samples.pts, samples.time_base = self._frames * SAMPLES_PER_FRAME, Fraction(1, SOUND_RATE)
            self._container.mux(self._sound.encode(samples))
        self._frames += 1

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if kind is None:
                self._finish()
            else:
                self._container.close()
        finally:
            self._partial.unlink(missing_ok=True)

    def _finish(self) -> None:
        self._container.mux(self._video.encode(None))
        if self._sound is not None:
            self._container.mux(self._sound.encode(None))
        self._container.close()
        os.replace(self._partial, self._path)


@contextmanager
def _opened(path: Path) -> Iterator[InputContainer]:
    try:
        container = av.open(str(path))
    except (av.FFmpegError, OSError) as error:
        raise BadMediaError(f"{path} is not a media file that can be decoded: {error.strerror}") from error
    with container:
        if container.format.name == "tty":  # FFmpeg paints any text file as a picture of its letters
            raise BadMediaError(f"{path} is a text file, neither picture nor video nor sound")
        yield container


def _video_stream(container: InputContainer) -> VideoStream | None:
    moving = [s for s in container.streams.video if not s.disposition & Disposition.attached_pic]
    return moving[0] if moving else None


def _is_picture(path: Path) -> bool:
    with path.open("rb") as stream:
        if stream.read(4) == b"GIF8":  # may move: left to FFmpeg
            return False
    return bool(cv2.haveImageReader(str(path)))


def _to_rgb(frame: av.VideoFrame) -> Image:
    """The picture upright, at most MAX_SIDE_PX long."""
    scale = min(1.0, MAX_SIDE_PX / max(frame.width, frame.height))
    width, height = round(frame.width * scale), round(frame.height * scale)
    image = frame.to_ndarray(format="rgb24", width=width, height=height)
    return np.ascontiguousarray(np.rot90(image, frame.rotation // 90), np.uint8)


def _shrunk(image_HWC: Image) -> Image:
    scale = MAX_SIDE_PX / max(image_HWC.shape[:2])
    if scale >= 1:
        return image_HWC
    size = (round(image_HWC.shape[1] * scale), round(image_HWC.shape[0] * scale))
    return np.asarray(cv2.resize(image_HWC, size, interpolation=cv2.INTER_AREA), np.uint8)
