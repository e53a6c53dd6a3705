"""Media files as drivers: videos and sound files played over and over, photos held up."""

from __future__ import annotations

from pathlib import Path

from engine.clock import MediaClock
from engine.errors import BadMediaError
from engine.media_files import MediaFile
from engine.sources.ffmpeg import FfmpegSource, MediaInput
from engine.sources.source import HearSound, Source
from engine.sources.still import StillSource


class ClipSource(FfmpegSource):
    """The built-in clip: its pictures are numbered, so that each is looked at once for all sessions."""

    def __init__(self, path: Path, clock: MediaClock, on_sound: HearSound) -> None:
        """Raises BadMediaError if the clip cannot be opened or shows no picture."""
        media = MediaFile.probe(path)
        if not media.has_video:
            raise BadMediaError(f"The clip {path} has no moving picture.")
        super().__init__(_input(media, numbers_pictures=True), clock, on_sound)


def open_file(path: Path, clock: MediaClock, on_sound: HearSound) -> Source:
    """A source out of any media file. Raises BadMediaError if it is missing or cannot be decoded."""
    media = MediaFile.probe(path)
    if media.is_picture:
        return StillSource(path, clock)
    return FfmpegSource(_input(media), clock, on_sound)


def _input(media: MediaFile, *, numbers_pictures: bool = False) -> MediaInput:
    return MediaInput(
        kind="file",
        label=f"The file {media.path.name}",
        address=f"file:{media.path.resolve()}",  # a colon in its name makes no protocol
        has_video=media.has_video,
        has_sound=media.has_sound,
        loops=True,
        numbers_pictures=numbers_pictures,
    )
