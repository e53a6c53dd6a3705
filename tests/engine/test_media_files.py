from __future__ import annotations

import logging
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from numpy.typing import NDArray

from engine.errors import BadMediaError
from engine.media_files import (
    FPS,
    SAMPLES_PER_FRAME,
    SOUND_RATE,
    MediaFile,
    Mp4Writer,
    Sound,
    pictures_at_25_fps,
    read_sound,
)


def _grey(index: int) -> NDArray[np.uint8]:
    """A picture whose brightness tells its number."""
    return np.full((64, 64, 3), 20 + 5 * index, np.uint8)


def _number(image: NDArray[np.uint8]) -> int:
    return round((float(image.mean()) - 20) / 5)


def _video(path: Path, frames: int, rate: int = FPS) -> Path:
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=rate)
        stream.width = stream.height = 64
        stream.options = {"crf": "1", "g": "1"}
        for index in range(frames):
            frame = av.VideoFrame.from_ndarray(_grey(index), format="rgb24")
            frame.pts, frame.time_base = index, Fraction(1, rate)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def _tone(path: Path, seconds: float, *, volume: float = 0.3) -> Path:
    samples = volume * np.sin(np.arange(round(seconds * 16000)) * 2 * np.pi * 220 / 16000)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("pcm_s16le", rate=16000, layout="mono")
        frame = av.AudioFrame.from_ndarray(
            (samples * 32767).astype(np.int16)[None], format="s16", layout="mono"
        )
        frame.sample_rate = 16000
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def _numbers(path: Path) -> list[int]:
    return [_number(image) for image in pictures_at_25_fps(MediaFile.probe(path))]


def test_a_25_fps_file_gives_each_frame_once(tmp_path: Path) -> None:
    assert _numbers(_video(tmp_path / "a.mp4", 20)) == list(range(20))


def test_a_50_fps_file_gives_every_second_frame(tmp_path: Path) -> None:
    numbers = _numbers(_video(tmp_path / "a.mp4", 40, rate=50))
    assert len(numbers) == 20
    assert all(abs(number - 2 * i) <= 1 for i, number in enumerate(numbers))


def test_a_10_fps_file_repeats_its_frames(tmp_path: Path) -> None:
    numbers = _numbers(_video(tmp_path / "a.mp4", 10, rate=10))
    assert len(numbers) == 25
    assert all(abs(number - min(i * 10 / 25, 9)) <= 0.51 for i, number in enumerate(numbers))


def test_a_picture_file_is_one_frame(tmp_path: Path) -> None:
    import cv2

    cv2.imwrite(str(tmp_path / "p.png"), _grey(3))
    media = MediaFile.probe(tmp_path / "p.png")
    assert media.is_picture and media.has_images and not media.has_sound
    assert _numbers(tmp_path / "p.png") == [3]


def test_a_video_that_breaks_off_is_used_as_far_as_it_decodes(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = _video(tmp_path / "a.mkv", 40)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with caplog.at_level(logging.WARNING):
        numbers = _numbers(path)
    assert 0 < len(numbers) < 40
    assert numbers == list(range(len(numbers)))
    assert "cut short" in caplog.text or "to its end" in caplog.text


@pytest.mark.parametrize("name", ["a.png", "a.mp4", "a.txt", "a.wav"])
def test_text_under_any_name_is_refused(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    path.write_text("Lorem ipsum dolor sit amet.\n" * 50)
    with pytest.raises(BadMediaError, match=name):
        list(pictures_at_25_fps(MediaFile.probe(path)))


def test_a_file_without_any_frame_left_is_refused(tmp_path: Path) -> None:
    path = _video(tmp_path / "a.mp4", 20)
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(BadMediaError, match=r"a\.mp4"):
        list(pictures_at_25_fps(MediaFile.probe(path)))


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(BadMediaError, match="gone.mp4 does not exist"):
        MediaFile.probe(tmp_path / "gone.mp4")


def test_sound_is_read_at_48_khz_in_whole(tmp_path: Path) -> None:
    media = MediaFile.probe(_tone(tmp_path / "t.wav", 0.5))
    sound = read_sound(media)
    assert media.has_sound and not media.has_images
    assert abs(sound.samples.shape[1] - SOUND_RATE // 2) <= 2
    assert sound.frame_count in (12, 13)
    assert not sound.is_silent


def test_digital_silence_is_called_so(tmp_path: Path) -> None:
    assert read_sound(MediaFile.probe(_tone(tmp_path / "t.wav", 0.2, volume=0))).is_silent


def test_a_frames_sound_is_padded_after_the_end() -> None:
    sound = Sound(np.ones((2, SAMPLES_PER_FRAME + 10), np.float32))
    assert sound.of_frame(0).sum() == 2 * SAMPLES_PER_FRAME
    assert sound.of_frame(1).sum() == 20
    assert sound.of_frame(7).shape == (2, SAMPLES_PER_FRAME)


def test_a_written_film_reads_back(tmp_path: Path) -> None:
    tone = 0.3 * np.sin(np.arange(SAMPLES_PER_FRAME, dtype=np.float32) * 0.05)[None]
    with Mp4Writer(tmp_path / "out.mp4", 64, 64, channels=1) as writer:
        for index in range(10):
            writer.write(_grey(index), tone)
    media = MediaFile.probe(tmp_path / "out.mp4")
    assert media.has_video and media.has_sound
    assert _numbers(tmp_path / "out.mp4") == list(range(10))
    assert abs(read_sound(media).samples.shape[1] - 10 * SAMPLES_PER_FRAME) <= 1024
    with av.open(str(tmp_path / "out.mp4")) as container:
        assert container.streams.video[0].average_rate == FPS
        codecs = [stream.codec_context.name for stream in container.streams]
    assert codecs[0] in ("h264", "libx264") and codecs[1] == "aac"


def test_an_unfinished_film_leaves_no_file(tmp_path: Path) -> None:
    with (
        pytest.raises(KeyboardInterrupt),
        Mp4Writer(tmp_path / "out.mp4", 64, 64, channels=0) as writer,
    ):
        writer.write(_grey(0), None)
        raise KeyboardInterrupt
    assert list(tmp_path.iterdir()) == []


def test_an_older_film_survives_a_failed_one(tmp_path: Path) -> None:
    (tmp_path / "out.mp4").write_text("older")
    with pytest.raises(ValueError), Mp4Writer(tmp_path / "out.mp4", 64, 64, channels=0):
        raise ValueError("no")
    assert (tmp_path / "out.mp4").read_text() == "older"
