from __future__ import annotations

import argparse
import subprocess
import sys
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from clients import drive
from engine.errors import BadMediaError, BundleError, EngineError, NoFaceError
from engine.media_files import MediaFile, pictures_at_25_fps, read_sound
from tests.bundles import TinyBundles, astronaut

FRAMES = 15


@pytest.fixture(scope="module")
def media(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """face.mp4 (15 frames, a head that shifts and tilts), wall.mp4 (no face), voice.wav (1 s), hush.wav."""
    directory = tmp_path_factory.mktemp("media")
    photo = cv2.resize(astronaut(), (320, 320), interpolation=cv2.INTER_AREA)
    turns = [cv2.getRotationMatrix2D((140.0, 80.0), i - 7.0, 1.0) for i in range(FRAMES)]
    for turn, shift in zip(turns, range(FRAMES), strict=True):
        turn[:, 2] += np.array([0.5 * shift, 20.0])
    _write_video(
        directory / "face.mp4",
        [
            np.asarray(cv2.warpAffine(photo, turn, (320, 320), borderMode=cv2.BORDER_REFLECT), np.uint8)
            for turn in turns
        ],
    )
    _write_video(directory / "wall.mp4", [np.full((320, 320, 3), 90, np.uint8)] * 5)
    cv2.imwrite(str(directory / "photo.png"), cv2.cvtColor(photo, cv2.COLOR_RGB2BGR))
    rng = np.random.default_rng(0)
    _write_wav(directory / "voice.wav", 0.1 * rng.standard_normal(16000))
    _write_wav(directory / "hush.wav", np.zeros(16000))
    (directory / "text.png").write_text("no picture")
    return directory


def _write_video(path: Path, images: list[NDArray[np.uint8]]) -> None:
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=25)
        stream.height, stream.width = images[0].shape[:2]
        for index, image in enumerate(images):
            frame = av.VideoFrame.from_ndarray(np.asarray(image, np.uint8), format="rgb24")
            frame.pts, frame.time_base = index, Fraction(1, 25)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))


def _write_wav(path: Path, samples: NDArray[np.float64]) -> None:
    with av.open(str(path), "w") as container:
        stream = container.add_stream("pcm_s16le", rate=16000, layout="mono")
        frame = av.AudioFrame.from_ndarray(
            (samples * 32767).astype(np.int16)[None], format="s16", layout="mono"
        )
        frame.sample_rate = 16000
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "out.mp4"


def _drive(bundle: Path, out: Path, *words: str | Path) -> int:
    parser = argparse.ArgumentParser()
    drive.add_arguments(parser)
    model = ["--model", str(bundle), "--threads", "1"]
    return drive.run(parser.parse_args([*model, "--out", str(out), *(str(word) for word in words)]))


def _frame_count(path: Path) -> int:
    return len(list(pictures_at_25_fps(MediaFile.probe(path))))


@pytest.fixture
def bundle(tiny_bundles: TinyBundles) -> Path:
    return tiny_bundles.path("edit_repose")


def test_one_file_for_three_sockets_gives_its_frames_and_is_read_once(
    bundle: Path, media: Path, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    decoded: list[Path] = []

    def counting(file: MediaFile) -> object:
        decoded.append(file.path)
        return pictures_at_25_fps(file)

    monkeypatch.setattr(drive, "pictures_at_25_fps", counting)
    face = media / "face.mp4"
    assert _drive(bundle, out, "--pose", face, "--expression", face, "--mouth", face) == 0
    assert decoded == [face]
    assert _frame_count(out) == FRAMES
    assert not MediaFile.probe(out).has_sound


def test_a_voice_gives_its_length_and_its_sound(bundle: Path, media: Path, out: Path) -> None:
    assert _drive(bundle, out, "--mouth", media / "voice.wav", "--pose", media / "face.mp4") == 0
    assert _frame_count(out) == 25
    sound = read_sound(MediaFile.probe(out))
    assert abs(sound.samples.shape[1] - 48000) <= 1024
    assert not sound.is_silent


def test_without_drivers_the_head_idles_for_the_asked_time(bundle: Path, out: Path) -> None:
    assert _drive(bundle, out, "--seconds", "0.4") == 0
    assert _frame_count(out) == 10


def test_photos_and_a_still_driver_are_taken(bundle: Path, media: Path, out: Path) -> None:
    photo = media / "photo.png"
    words: list[str | Path] = [
        "--identity",
        photo,
        photo,
        "--pose",
        photo,
        "--seconds",
        "0.2",
        "--background",
        "#ff0000",
    ]
    assert _drive(bundle, out, *words) == 0
    assert _frame_count(out) == 5


def test_the_paper_member_is_driven_alike(tiny_bundles: TinyBundles, media: Path, out: Path) -> None:
    assert _drive(tiny_bundles.path("adain"), out, "--pose", media / "face.mp4", "--relative-pose") == 0
    assert _frame_count(out) == FRAMES


def test_a_short_track_holds_its_last_code() -> None:
    track = drive.Track([np.full(12, i, np.float32) for i in range(3)])
    assert [track.at(i)[0] for i in range(5)] == [0, 1, 2, 2, 2]


def test_relative_pose_starts_at_the_identitys_own() -> None:
    own = np.full(12, 5, np.float32)
    track = drive._relative(drive.Track([np.full(12, i, np.float32) for i in (7, 9)]), own)
    assert [code[0] for code in track.codes] == [5, 7]


@pytest.mark.parametrize(
    ("words", "error", "message"),
    [
        (["--pose", "wall.mp4"], NoFaceError, "no face was found"),
        (["--identity", "wall.mp4"], BadMediaError, "not a picture"),
        (["--identity", "text.png"], BadMediaError, "not a picture"),
        (["--identity", "nobody"], BadMediaError, "neither a picture file nor an identity"),
        (["--pose", "voice.wav"], BadMediaError, "holds only sound"),
        (["--mouth", "hush.wav"], BadMediaError, "is silent"),
        (["--expression", "text.png"], BadMediaError, "text.png"),
        (["--mouth", "gone.wav"], BadMediaError, "does not exist"),
        (["--background", "mauve"], BadMediaError, "neither a colour"),
        (["--model", "gigantic"], BundleError, "no model called"),
    ],
    ids=lambda value: "-".join(value).strip("-") if isinstance(value, list) else None,
)
def test_bad_input_is_one_clear_error_and_no_file(
    bundle: Path, media: Path, out: Path, words: list[str], error: type[EngineError], message: str
) -> None:
    files = [str(media / word) if "." in word and word != "gone.wav" else word for word in words]
    with pytest.raises(error, match=message) as caught:
        _drive(bundle, out, *files)
    assert "\n" not in caught.value.message
    assert list(out.parent.iterdir()) == []


@pytest.mark.parametrize(
    ("name", "message"), [("out.avi", "must end in .mp4"), ("no/such/out.mp4", "does not exist")]
)
def test_an_output_that_cannot_be_written_is_refused_first(
    bundle: Path, tmp_path: Path, name: str, message: str
) -> None:
    with pytest.raises(BadMediaError, match=message):
        _drive(bundle, tmp_path / name)


def test_a_source_is_never_overwritten(bundle: Path, media: Path) -> None:
    with pytest.raises(BadMediaError, match="overwrite a source"):
        _drive(bundle, media / "face.mp4", "--pose", media / "face.mp4")


def test_an_interrupted_drive_leaves_no_file(
    bundle: Path, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(drive, "_codes_at", interrupt)
    with pytest.raises(KeyboardInterrupt):
        _drive(bundle, out)
    assert list(out.parent.iterdir()) == []


def test_the_command_prints_one_line_for_a_bad_file(bundle: Path, media: Path, out: Path) -> None:
    words = ["drive", "--model", str(bundle), "--out", str(out), "--pose", str(media / "text.png")]
    result = subprocess.run(
        [sys.executable, "-m", "clients.cli", *words], capture_output=True, text=True, check=False
    )
    assert result.returncode == 2
    assert result.stderr.count("\n") == 1
    assert "text.png" in result.stderr
