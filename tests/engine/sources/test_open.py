from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from engine.clock import MediaClock
from engine.errors import BadDescriptionError, BadMediaError, EngineError
from engine.media import AudioChunk
from engine.sources.open import open_source
from tests.engine.media_on_the_fly import write_sound, write_video


def nobody(chunk: AudioChunk) -> None: ...


@pytest.mark.parametrize(
    ("description", "carries"),
    [
        ({"kind": "file", "path": "clip.mp4"}, (True, True)),
        ({"kind": "file", "path": "voice.wav"}, (False, True)),
        ({"kind": "file", "path": "photo.png"}, (True, False)),
        ({"kind": "still", "path": "photo.png"}, (True, False)),
        ({"kind": "url", "url": "rtsp://camera/live", "timeout_s": 2}, (True, True)),
        ({"kind": "tts"}, (False, True)),
        ({"kind": "tts", "sample_rate": 16000}, (False, True)),
    ],
)
def test_a_description_opens_its_source(
    tmp_path: Path, description: dict[str, object], carries: tuple[bool, bool]
) -> None:
    write_video(tmp_path / "clip.mp4", 5, sound_s=0.2)
    write_sound(tmp_path / "voice.wav", 0.2)
    cv2.imwrite(str(tmp_path / "photo.png"), np.zeros((8, 8, 3), np.uint8))
    if "path" in description:
        description = {**description, "path": str(tmp_path / str(description["path"]))}
    source = open_source(description, MediaClock(), nobody)
    assert (source.state["video"], source.state["audio"]) == carries
    assert source.state["live"] is False, "it has not been started"
    assert source.kind in (description["kind"], "still")


@pytest.mark.parametrize(
    ("description", "error", "complaint"),
    [
        ({}, BadDescriptionError, "source's kind must be one of file, still, url"),
        ({"kind": ["file"]}, BadDescriptionError, "kind must be one of"),
        ({"kind": "file"}, BadDescriptionError, "path must be a text, got nothing"),
        ({"kind": "file", "path": "gone.mp4"}, BadMediaError, "does not exist"),
        ({"kind": "still", "path": "gone.png"}, BadMediaError, "gone.png cannot be read"),
        ({"kind": "url", "url": "gopher://x"}, BadDescriptionError, "no stream to receive"),
        ({"kind": "url", "url": "rtsp://x", "timeout_s": 0}, BadDescriptionError, "from 0.5 to 60"),
        ({"kind": "webcam", "width": 640.5}, BadDescriptionError, "whole number"),
        ({"kind": "webcam", "fps": True}, BadDescriptionError, "fps must be a number"),
        ({"kind": "tts", "sample_rate": 100}, BadDescriptionError, "sample_rate must be"),
        ({"kind": "tts", "voice": "Anna"}, BadDescriptionError, "no field 'voice'"),
    ],
)
def test_what_is_wrong_with_a_description_is_named(
    description: dict[str, object], error: type[EngineError], complaint: str
) -> None:
    with pytest.raises(error, match=complaint):
        open_source(description, MediaClock(), nobody)
