"""`gcavt evaluate --quick` from the command line: everything runs and is written; nothing is learned here."""

import json
import shutil
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

SHORT = ("--frames", "1", "--control", "1", "--seconds", "0.8")
"""Too short for sync."""


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
    more = (*SHORT, "--clips", str(clip), "--beside", str(checkpoint))
    assert evaluate(checkpoint, rendered, tmp_path, *more) == 0
    figures = json.loads((tmp_path / "evaluation.json").read_text())
    assert set(figures["rendered"]) >= {"exact", "photo", "self", "cross", "calibrated"}
    assert set(figures["control"]) == {"exact", "encoders"}
    flicker = figures["performance"]["flicker"]
    assert flicker["camera_noise"] > flicker["still"] >= 0
    assert figures["performance"]["sync"] == figures["sync"] == {}
    assert set(figures["follow"]["clips"]) == {"bbaf2n"}
    report = (tmp_path / "evaluation.md").read_text()
    titles = ("# Nearness", "# Control and leakage", "# Real drivers", "# Side by side")
    assert all(title in report for title in titles)
    for name in ("identities", "control", "sound", "clips"):
        assert read_picture(tmp_path / f"{name}.png").std() > 5
    ours, other = figures["control"]["encoders"], figures["beside"]["control"]["encoders"]
    assert json.dumps(ours) == json.dumps(other), "the same model beside itself"
    assert set(figures["beside"]["control"]) == {"encoders"}


@pytest.mark.slow
def test_a_longer_film_is_scored_for_sync(checkpoint: Path, rendered: Path, tmp_path: Path) -> None:
    assert evaluate(checkpoint, rendered, tmp_path) == 0
    figures = json.loads((tmp_path / "evaluation.json").read_text())
    assert set(figures["performance"]["sync"]) == {"driver", "by_video", "by_sound"}


def test_sheets_alone_show_the_bank_and_measure_nothing(
    checkpoint: Path, rendered: Path, clip: Path, tmp_path: Path
) -> None:
    bank, out = tmp_path / "bank", tmp_path / "sheets"
    shutil.copytree(PRETRAINED_DIR / "lite" / "identities" / "lena", bank / "lena")
    more = ("--sheets-only", "--bank", str(bank), "--seconds", "0.8", "--clips", str(clip))
    assert evaluate(checkpoint, rendered, out, *more) == 0
    assert {path.name for path in out.iterdir()} == {"bank.png", "sources.png", "words.png", "drivers.png"}
    for path in out.iterdir():
        assert read_picture(path).std() > 5


@pytest.mark.parametrize(
    ("more", "words"),
    [
        (["--clips", "nowhere.mp4"], "nowhere.mp4 does not exist"),
        (["--frames", "0"], "must be above 0"),
        (["--sheets-only"], "name some with --bank DIR"),
        (["--bank", "nowhere"], "nowhere holds no identities"),
        (["--test-seeds", "70", "3"], "holds other people than seeds 70 to 72"),
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
