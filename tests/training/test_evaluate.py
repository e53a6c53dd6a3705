"""`gcavt evaluate --quick` from the command line: everything runs and is written; nothing is learned here."""

import json
from itertools import islice
from pathlib import Path

import cv2
import numpy as np
import pytest

from clients import cli
from engine.bundle import PRETRAINED_DIR
from engine.compositor import read_picture
from engine.media_files import MediaFile, Mp4Writer, pictures_at_25_fps, read_sound
from training.metrics.clips import grid_sentence
from training.metrics.report import table


def evaluate(checkpoint: Path, data: Path, out: Path, *more: str) -> int:
    return cli.main(["evaluate", str(checkpoint), "--data", str(data), "--out", str(out), "--quick", *more])


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A little of the built-in driver: too short for sync, long enough to be followed."""
    media = MediaFile.probe(PRETRAINED_DIR / "clips" / "demo.mp4")
    sound, path = read_sound(media), tmp_path_factory.mktemp("clips") / "bbaf2n.mp4"
    with Mp4Writer(path, 256, 256, len(sound.samples)) as writer:
        for number, image in enumerate(islice(pictures_at_25_fps(media), 12)):
            writer.write(np.asarray(cv2.resize(image, (256, 256)), np.uint8), sound.of_frame(number))
    return path


def test_every_figure_and_every_sheet_is_written(
    checkpoint: Path, rendered: Path, clip: Path, tmp_path: Path
) -> None:
    assert evaluate(checkpoint, rendered, tmp_path, "--clips", str(clip)) == 0
    figures = json.loads((tmp_path / "evaluation.json").read_text())
    assert set(figures["rendered"]) >= {"exact", "self", "cross"}
    assert set(figures["control"]) == {"exact", "encoders"}
    assert figures["performance"]["flicker"]["camera_noise"] > figures["performance"]["flicker"]["still"] >= 0
    assert set(figures["performance"]["sync"]) == {"driver", "by_video", "by_sound"}
    assert figures["sync"] == {}
    assert set(figures["follow"]["clips"]) == {"bbaf2n"}
    report = (tmp_path / "evaluation.md").read_text()
    assert all(f"## {title}" in report for title in ("Nearness", "Control and leakage", "Real drivers"))
    for name in ("identities", "control", "sound", "clips"):
        assert read_picture(tmp_path / f"{name}.png").std() > 5


@pytest.mark.parametrize(
    ("more", "words"),
    [
        (["--clips", "nowhere.mp4"], "nowhere.mp4 does not exist"),
        (["--frames", "0"], "must be above 0"),
    ],
)
def test_what_cannot_be_measured_is_one_line(
    more: list[str],
    words: str,
    checkpoint: Path,
    rendered: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert evaluate(checkpoint, rendered, tmp_path, *more) == 2
    assert words in capsys.readouterr().err


def test_an_empty_data_folder_is_said_to_be(
    checkpoint: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert evaluate(checkpoint, tmp_path, tmp_path) == 2
    assert "no finished part" in capsys.readouterr().err


def test_grid_names_are_spelt_out() -> None:
    assert grid_sentence("grid_s1_bbaf2n") == "bin blue at f 2 now"
    assert grid_sentence("grid_F_lwbsza") == "lay white by s zero again"
    assert grid_sentence("holiday") is None


def test_tables_show_a_dash_for_what_is_unknown() -> None:
    assert table(["a", "b"], [[float("nan"), 0.12345]]).splitlines()[-1] == "| - | 0.123 |"
