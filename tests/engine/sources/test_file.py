from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
import pytest

from engine.clock import MediaClock
from engine.errors import BadMediaError
from engine.media import AudioChunk
from engine.sources.ffmpeg import in_time_order
from engine.sources.file import ClipSource, open_file
from engine.sources.source import MAX_SIDE_PX, SOUND_RATE, Arrival
from engine.sources.still import StillSource
from tests.engine.media_on_the_fly import ManualClock, eventually, write_sound, write_video

MS = 1_000_000
FRAMES = 10


@pytest.fixture
def clip_path(tmp_path: Path) -> Path:
    """Ten pictures at 25 fps with 0.4 s of a tone."""
    return write_video(tmp_path / "clip.mp4", FRAMES, sound_s=FRAMES / 25)


async def test_a_clip_loops_with_its_sound_on_evenly_spaced_times(clip_path: Path) -> None:
    chunks: list[AudioChunk] = []
    source = ClipSource(clip_path, MediaClock(), chunks.append)
    source.start()
    arrivals = [await source.pictures.get() for _ in range(2 * FRAMES + 2)]
    while len({arrival.clip_index for arrival in arrivals}) < FRAMES and len(arrivals) < 8 * FRAMES:
        arrivals.append(await source.pictures.get())
    assert source.state == {"video": True, "audio": True, "live": True}
    await source.close()
    numbers = [arrival.clip_index for arrival in arrivals]
    assert set(numbers) == set(range(FRAMES)), "a loaded machine may miss one, but not in every round"
    for before, after in pairwise(arrivals):
        assert before.clip_index is not None and after.clip_index is not None
        passed = (after.clip_index - before.clip_index) % FRAMES
        step_ms = (after.capture_time_ns - before.capture_time_ns) / MS
        longer_ms = (
            25 if after.clip_index < before.clip_index else 0
        )  # the sound lasts longer than the picture
        assert 40 * passed <= step_ms <= 40 * passed + longer_ms
    times_ms = np.array([chunk.capture_time_ns for chunk in chunks]) / MS
    assert np.abs(np.diff(times_ms) - 20).max() < 20
    assert len(chunks) >= 2 * FRAMES
    assert np.abs(chunks[5].samples).max() > 0.3
    assert {chunk.sample_rate for chunk in chunks} == {SOUND_RATE}


async def test_sound_and_picture_of_a_file_keep_their_places(clip_path: Path) -> None:
    chunks: list[AudioChunk] = []
    source = open_file(clip_path, MediaClock(), chunks.append)
    source.start()
    first = await source.pictures.get()
    for _ in range(4):
        await source.pictures.get()
    await source.close()
    assert first.clip_index is None
    assert abs(chunks[0].capture_time_ns - first.capture_time_ns) < 2 * MS


async def test_a_sound_file_is_heard_over_and_over(tmp_path: Path) -> None:
    chunks: list[AudioChunk] = []
    source = open_file(write_sound(tmp_path / "a: voice.wav", 0.2), MediaClock(), chunks.append)
    assert source.state == {"video": False, "audio": True, "live": False}
    source.start()
    await eventually(lambda: len(chunks) >= 25)
    await source.close()
    heard_s = sum(len(chunk.samples) for chunk in chunks) / SOUND_RATE
    span_s = (chunks[-1].end_time_ns - chunks[0].capture_time_ns) / 1e9
    assert heard_s == pytest.approx(span_s, abs=0.01)
    assert min(np.abs(chunk.samples).max() for chunk in chunks) > 0.3


@pytest.mark.parametrize("open_it", [open_file, ClipSource])
def test_a_clip_that_is_missing_or_no_media_is_named(tmp_path: Path, open_it: type[ClipSource]) -> None:
    text = tmp_path / "text.mp4"
    text.write_text("not a video")
    for path in (tmp_path / "nowhere.mp4", text):
        with pytest.raises(BadMediaError, match=path.name):
            open_it(path, MediaClock(), lambda chunk: None)


def test_a_sound_file_is_no_clip(tmp_path: Path) -> None:
    with pytest.raises(BadMediaError, match="no moving picture"):
        ClipSource(write_sound(tmp_path / "voice.wav", 0.2), MediaClock(), lambda chunk: None)


async def test_a_photo_is_shown_again_and_again(tmp_path: Path) -> None:
    path = tmp_path / "photo.png"
    cv2.imwrite(str(path), np.full((32, 48, 3), 200, np.uint8))
    source = open_file(path, ManualClock(), lambda chunk: None)
    assert isinstance(source, StillSource)
    source.start()
    first, second = await source.pictures.get(), await source.pictures.get()
    await source.close()
    assert second.capture_time_ns > first.capture_time_ns
    assert first.to_video_frame().image_HWC.shape == (32, 48, 3)


def test_a_photo_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    text = tmp_path / "photo.png"
    text.write_text("not a photo")
    with pytest.raises(BadMediaError, match="photo.png"):
        StillSource(text, ManualClock())


@pytest.mark.parametrize(("width", "height"), [(1280, 720), (720, 1280), (64, 64), (1, 1)])
def test_large_pictures_are_reduced_and_small_ones_left_alone(width: int, height: int) -> None:
    frame = av.VideoFrame.from_ndarray(np.zeros((height, width, 3), np.uint8), format="rgb24")
    image = Arrival(frame, 0, 0).to_video_frame().image_HWC
    assert max(image.shape) == min(MAX_SIDE_PX, max(width, height, 3))
    assert image.dtype == np.uint8


def test_what_a_container_keeps_apart_is_played_together(tmp_path: Path) -> None:
    path = write_video(tmp_path / "clip.mp4", 50, sound_s=2.0)
    with av.open(str(path)) as container:
        packets = list(container.demux())
        timed = [packet for packet in packets if packet.size]
        flushing = [packet for packet in packets if not packet.size]
        apart = sorted(timed, key=lambda packet: (int(_seconds(packet)), packet.stream.type))
        mended = list(in_time_order(iter(apart + flushing), 1.1))
        jumps_s, mended_s = (np.diff([_seconds(p) for p in order if p.size]) for order in (apart, mended))
        assert mended[-len(flushing) :] == flushing
    assert jumps_s.min() < -0.5
    assert mended_s.min() >= 0


def _seconds(packet: av.Packet[Any]) -> float:
    assert packet.dts is not None and packet.time_base is not None
    return float(packet.dts * packet.time_base)
