import argparse
import json
from pathlib import Path

import av
import numpy as np
import pyarrow.parquet
import pytest

from gcavt.code_space import COEFFICIENTS
from training.synthetic import command, espeak
from training.synthetic.clip_writer import ClipWriter, replacing
from training.synthetic.mask_video import MaskWriter, read_masks
from training.synthetic.shading import Segment

needs_espeak = pytest.mark.skipif(not espeak.is_installed(), reason="libespeak-ng is not installed")
FRAMES = 10


def parse(*words: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    command.add_arguments(parser)
    return parser.parse_args(list(words))


def small(folder: Path, *words: str) -> argparse.Namespace:
    wanted = "--identities 1 --seconds 0.4 --size 64 --supersampling 1 --seed 5 --voices espeak --idle 0"
    return parse(*wanted.split(), "--out", str(folder), *words)


def tone(seconds: float, rate: int) -> np.ndarray:
    return (0.3 * np.sin(2 * np.pi * 440 * np.arange(round(seconds * rate)) / rate)).astype(np.float32)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if not espeak.is_installed():
        pytest.skip("libespeak-ng is not installed")
    folder = tmp_path_factory.mktemp("clips")
    assert command.run(small(folder)) == 0
    return folder


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


def test_masks_come_back_exactly(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    segmentation = rng.integers(0, 9, (4, 64, 64)).astype(np.uint8)
    alpha = rng.integers(0, 256, (4, 64, 64)).astype(np.uint8)
    with MaskWriter(tmp_path / "masks.mkv", size_px=64, fps=25) as writer:
        for frame in zip(segmentation, alpha, strict=True):
            writer.write(*frame)
    assert all(map(np.array_equal, read_masks(tmp_path / "masks.mkv"), (segmentation, alpha)))


def test_synth_writes_clip_masks_truth_and_contact_sheet(made: Path) -> None:
    assert sorted(path.name for path in made.iterdir()) == [
        "contact_sheet.png",
        "identity_000005.masks.mkv",
        "identity_000005.mp4",
        "identity_000005.parquet",
    ]
    segmentation, alpha = read_masks(made / "identity_000005.masks.mkv")
    assert segmentation.shape == alpha.shape == (FRAMES, 64, 64)
    assert {int(Segment.SKIN), int(Segment.CLOTH)} <= set(np.unique(segmentation).tolist())


def test_truth_is_a_table_with_a_row_per_frame(made: Path) -> None:
    table = pyarrow.parquet.read_table(made / "identity_000005.parquet")
    assert table.num_rows == FRAMES
    assert set(COEFFICIENTS) | {"pitch_deg", "phoneme", "viseme", "word"} <= set(table.column_names)
    arrays = {name: np.stack(table[name].to_numpy()) for name in ("landmarks_68", "landmarks_478")}
    visible = np.stack(table["visible_478"].to_numpy())
    assert arrays["landmarks_68"].shape == (FRAMES, 136) and arrays["landmarks_478"].shape == (FRAMES, 956)
    assert 300 < visible.sum(1).min() <= 478
    points = arrays["landmarks_478"].reshape(FRAMES, 478, 2)
    segmentation, _ = read_masks(made / "identity_000005.masks.mkv")
    nose = points[0, 1].astype(int)
    assert segmentation[0, nose[1], nose[0]] == Segment.SKIN
    facts = json.loads(table.schema.metadata[b"gcavt"])
    assert facts["seed"] == 5 and facts["fps"] == 25 and facts["visemes"][0] == "sil"


def test_a_second_run_keeps_whole_clips_and_makes_broken_ones_again(
    made: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    clip = made / "identity_000005.mp4"
    before = clip.stat().st_mtime_ns
    assert command.run(small(made)) == 0
    assert clip.stat().st_mtime_ns == before
    assert "1 of 1 clips are there already" in capsys.readouterr().err
    table = made / "identity_000005.parquet"
    rows = pyarrow.parquet.read_table(table)
    table.unlink()
    (made / ".partial-identity_000005.mp4").write_bytes(b"half")
    assert command.run(small(made)) == 0
    assert not list(made.glob(".partial-*"))
    assert pyarrow.parquet.read_table(table).equals(rows), "a seed makes the same clip again"


def test_other_settings_do_not_mix_in_one_folder(made: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert command.run(small(made, "--webcam")) == command.EXIT_USER_ERROR
    assert "webcam False instead of True" in capsys.readouterr().err


@needs_espeak
def test_ctrl_c_leaves_whole_clips_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    written = MaskWriter.write

    def interrupted(self: MaskWriter, *masks: np.ndarray) -> None:
        written(self, *masks)
        raise KeyboardInterrupt

    monkeypatch.setattr(MaskWriter, "write", interrupted)
    assert command.run(small(tmp_path)) == command.EXIT_INTERRUPTED
    assert list(tmp_path.iterdir()) == []


def test_interrupted_file_leaves_nothing_behind(tmp_path: Path) -> None:
    def interrupted() -> None:
        with replacing(tmp_path / "clip.mp4") as path:
            path.write_bytes(b"half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--identities", "0"), "--identities must be at least 1, got 0"),
        (("--seconds", "0"), "--seconds must be at least"),
        (("--seconds", "nan"), "--seconds must be at least"),
        (("--size", "101"), "--size must be even"),
        (("--seed", "-1"), "--seed must not be negative"),
        (("--fps", "30"), "--fps must be 25"),
        (("--jobs", "0"), "--jobs must be at least 1"),
        (("--idle", "2"), "--idle must be 0 to 1"),
        (("--voices", "hal"), "--voices must be of espeak, flite, kokoro, got 'hal'"),
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
