import asyncio
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
import pytest

from engine.clock import MediaClock
from engine.errors import BadMediaError
from engine.media import AudioChunk
from engine.sources.file import Clip, ClipSource
from engine.sources.source import MAX_SIDE_PX, SOUND_RATE, Arrival
from engine.sources.still import StillSource

MS = 1_000_000
FRAMES = 10


class ManualClock(MediaClock):
    """Sleeping moves it to the deadline at once."""

    def __init__(self) -> None:
        self.time_ns = 0

    def now_ns(self) -> int:
        return self.time_ns

    async def sleep_until(self, deadline_ns: int) -> None:
        self.time_ns = max(self.time_ns, deadline_ns)
        await asyncio.sleep(0)


@pytest.fixture
def clip_path(tmp_path: Path) -> Path:
    """Ten pictures at 25 fps with 0.4 s of a tone."""
    path = tmp_path / "clip.mp4"
    with av.open(str(path), "w") as container:
        video = container.add_stream("libx264", rate=25)
        video.width = video.height = 64
        video.pix_fmt = "yuv420p"
        audio = container.add_stream("aac", rate=SOUND_RATE, layout="mono")
        for index in range(FRAMES):
            picture = np.full((64, 64, 3), 20 * index, np.uint8)
            container.mux(video.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(video.encode(None))
        samples = 0.5 * np.sin(2 * np.pi * 440 * np.arange(SOUND_RATE * 2 // 5) / SOUND_RATE)
        sound = av.AudioFrame.from_ndarray(samples.astype(np.float32)[None], format="fltp", layout="mono")
        sound.sample_rate = SOUND_RATE
        sound.pts, sound.time_base = 0, Fraction(1, SOUND_RATE)
        container.mux(audio.encode(sound))
        container.mux(audio.encode(None))
    return path


async def test_a_clip_loops_with_its_sound_on_evenly_spaced_times(clip_path: Path) -> None:
    chunks: list[AudioChunk] = []
    source = ClipSource(clip_path, ManualClock(), chunks.append)
    source.start()
    assert source.state == {"video": True, "audio": True, "live": True}
    arrivals = [await source.pictures.get() for _ in range(5)]
    while len(chunks) < 2 * FRAMES + 1:
        arrivals.append(await source.pictures.get())
    await source.close()
    assert all((arrival.capture_time_ns % (40 * MS)) == 0 for arrival in arrivals)
    times_ms = [chunk.capture_time_ns // MS for chunk in chunks]
    assert times_ms == [40 * (i + 1) for i in range(len(chunks))]
    assert {len(chunk.samples) for chunk in chunks} == {SOUND_RATE // 25}
    assert np.abs(chunks[1].samples).max() > 0.3
    assert np.allclose(chunks[1].samples, chunks[1 + FRAMES].samples)


def test_a_clip_that_is_missing_or_no_video_is_named(tmp_path: Path) -> None:
    text = tmp_path / "text.mp4"
    text.write_text("not a video")
    for path in (tmp_path / "nowhere.mp4", text):
        with pytest.raises(BadMediaError, match=path.name):
            Clip(path)


def test_sound_beyond_the_clip_is_silence(clip_path: Path) -> None:
    sound = Clip(clip_path).sound()
    beyond = sound.between(len(sound.samples) - 10, 100)
    assert len(beyond) == 100
    assert not beyond[10:].any()


async def test_a_photo_is_shown_again_and_again(tmp_path: Path) -> None:
    path = tmp_path / "photo.png"
    cv2.imwrite(str(path), np.full((32, 48, 3), 200, np.uint8))
    source = StillSource(path, ManualClock())
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
