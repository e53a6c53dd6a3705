"""A source out of its description, as PUT /sessions/{id}/sources/{name} and `gcavt desktop` write it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

from engine.clock import MediaClock
from engine.description import Fields
from engine.sources.file import open_file
from engine.sources.microphone import MicrophoneSource
from engine.sources.source import HearSound, Source
from engine.sources.still import StillSource
from engine.sources.tts import TtsSource
from engine.sources.url import open_url
from engine.sources.webcam import WebcamConfig, open_webcam

Opener = Callable[[Fields, MediaClock, HearSound], Source]

REMOTE_KINDS: Final = frozenset({"tts"})
"""What a client from elsewhere may open: nothing in them reads this machine's files, devices or network."""


def open_source(description: Mapping[str, object], clock: MediaClock, on_sound: HearSound) -> Source:
    """The source that a description names; it is not started yet.

    {"kind": "file", "path": "talk.mp4"}        a video or a sound file in a loop, or a photo
    {"kind": "still", "path": "me.jpg"}
    {"kind": "url", "url": "rtsp://...", "timeout_s": 5}
    {"kind": "webcam", "device": "/dev/video0", "width": 640, "height": 480, "fps": 30}
    {"kind": "microphone", "device": "part of its name"}
    {"kind": "tts", "sample_rate": 24000}       to be fed with signed 16-bit mono PCM

    Raises BadDescriptionError, BadMediaError or DeviceMissingError.
    """
    fields = Fields("source", description)
    return fields.choice("kind", OPENERS)(fields, clock, on_sound)


def _file(fields: Fields, clock: MediaClock, on_sound: HearSound) -> Source:
    path = fields.text("path")
    fields.check_all_read()
    return open_file(Path(path), clock, on_sound)


def _still(fields: Fields, clock: MediaClock, on_sound: HearSound) -> Source:
    path = fields.text("path")
    fields.check_all_read()
    return StillSource(Path(path), clock)


def _url(fields: Fields, clock: MediaClock, on_sound: HearSound) -> Source:
    url, timeout_s = fields.text("url"), fields.number("timeout_s", 5.0, least=0.5, most=60)
    fields.check_all_read()
    return open_url(url, clock, on_sound, timeout_s=timeout_s)


def _webcam(fields: Fields, clock: MediaClock, on_sound: HearSound) -> Source:
    config = WebcamConfig(
        device=fields.text_or_none("device"),
        width_px=fields.whole("width", 640, least=16, most=4096),
        height_px=fields.whole("height", 480, least=16, most=4096),
        fps=fields.number("fps", 30.0, least=1, most=120),
    )
    fields.check_all_read()
    return open_webcam(config, clock, on_sound)


def _microphone(fields: Fields, clock: MediaClock, on_sound: HearSound) -> Source:
    device = fields.text_or_none("device")
    fields.check_all_read()
    return MicrophoneSource(device, clock, on_sound)


def _tts(fields: Fields, clock: MediaClock, on_sound: HearSound) -> Source:
    sample_rate = fields.whole("sample_rate", 24_000, least=8_000, most=48_000)
    fields.check_all_read()
    return TtsSource(sample_rate, clock, on_sound)


OPENERS: Final[Mapping[str, Opener]] = {
    "file": _file,
    "still": _still,
    "url": _url,
    "webcam": _webcam,
    "microphone": _microphone,
    "tts": _tts,
}
