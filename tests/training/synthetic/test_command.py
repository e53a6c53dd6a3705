import argparse
from pathlib import Path

import av
import numpy as np
import pytest

from training.synthetic import command
from training.synthetic.clip_writer import ClipWriter, replacing
from training.synthetic.speech import EspeakMissingError, speak


def parse(*words: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    command.add_arguments(parser)
    return parser.parse_args(list(words))


def tone(seconds: float, rate: int) -> np.ndarray:
    return (0.3 * np.sin(2 * np.pi * 440 * np.arange(round(seconds * rate)) / rate)).astype(np.float32)


def test_clip_holds_every_frame_and_its_sound(tmp_path: Path) -> None:
    path = tmp_path / "clip.mp4"
    with ClipWriter(path, size_px=64, fps=25, samples=tone(1, 22050), sample_rate=22050) as writer:
        for i in range(25):
            writer.write(np.full((64, 64, 3), i * 10, np.uint8))
    with av.open(str(path)) as container:
        assert container.streams.video[0].codec_context.name == "h264"
        levels = [frame.to_ndarray(format="rgb24").mean() for frame in container.decode(video=0)]
    assert np.allclose(levels, np.arange(25) * 10, atol=6)
    with av.open(str(path)) as container:
        assert container.streams.audio[0].codec_context.name == "aac"
        heard = sum(frame.samples for frame in container.decode(audio=0))
    assert heard == pytest.approx(22050, abs=3000)


def test_synth_writes_clip_truth_and_contact_sheet(tmp_path: Path) -> None:
    args = parse(
        "--identities", "1", "--seconds", "0.4", "--out", str(tmp_path), "--size", "64", "--seed", "5"
    )
    args.supersampling = 1
    try:
        speak("")
    except EspeakMissingError as error:
        pytest.skip(str(error))
    assert command.run(args) == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "contact_sheet.png",
        "identity_000005.mp4",
        "identity_000005.npz",
    ]
    with np.load(tmp_path / "identity_000005.npz") as truth:
        assert truth["landmarks_T468_2"].shape == (10, 468, 2)
        assert truth["pose_T6"].shape == (10, 6)


def test_interrupted_clip_leaves_nothing_behind(tmp_path: Path) -> None:
    def interrupted() -> None:
        with (
            replacing(tmp_path / "clip.mp4") as path,
            ClipWriter(path, size_px=64, fps=25, samples=tone(1, 16000), sample_rate=16000) as writer,
        ):
            writer.write(np.zeros((64, 64, 3), np.uint8))
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--identities", "0"), "--identities must be at least 1, got 0"),
        (("--seconds", "0"), "--seconds must be at least"),
        (("--size", "101"), "--size must be even"),
        (("--seed", "-1"), "--seed must not be negative"),
    ],
)
def test_impossible_requests_get_one_line(
    words: tuple[str, str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert command.run(parse(*words, "--out", str(tmp_path))) == command.EXIT_USER_ERROR
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1


def test_a_file_in_place_of_the_folder_gets_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "taken").write_text("")
    assert command.run(parse("--out", str(tmp_path / "taken"))) == command.EXIT_USER_ERROR
    assert capsys.readouterr().err.count("\n") == 1
