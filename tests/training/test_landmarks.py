"""Fitting the refiner where the answer is known: a tracker that errs by what the picture tells."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from gcavt.checkpoint import read_checkpoint
from gcavt.config import GcavtConfig, LandmarkRefinerConfig
from gcavt.landmark_refiner import LandmarkRefiner
from gcavt.preprocessing import transform_points
from tests.bundles import tiny_config
from tests.gcavt.test_preprocessing import face_68
from training import landmarks
from training.datasets.faces import Faces
from training.landmarks import Ridge, errors_px, fit, look_at
from training.prepare.refine import read_refiner, refined

PEOPLE, FRAMES = 60, 4
CONFIG = LandmarkRefinerConfig(input_px=64, eye_distance_px=17.6, points=1, window_sigma=0.06)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Faces of 68 dots each that differ from the mean in three ways; the tracker knows the mean only."""
    rng = np.random.default_rng(0)
    rows: dict[str, list[NDArray[np.generic]]] = {}
    modes = rng.normal(0, 1.5, (3, 68, 2))
    for person in range(PEOPLE):
        shape = np.tensordot(rng.normal(size=3), modes, 1).astype(np.float32)
        for _ in range(FRAMES):
            turn = cv2.getRotationMatrix2D((127.5, 127.5), float(rng.normal(0, 5)), 1.0).astype(np.float32)
            tracked = transform_points(face_68(), turn)
            exact = transform_points(face_68() + shape, turn)
            image = np.full((256, 256, 3), 90, np.uint8)
            for x, y in exact:
                cv2.circle(
                    image,
                    (round(16 * float(x)), round(16 * float(y))),
                    48,
                    (220, 180, 160),
                    -1,
                    cv2.LINE_AA,
                    4,
                )
            row: dict[str, NDArray[Any]] = {
                "image": image,
                "tracked": tracked,
                "exact": exact,
                "pose": np.zeros(6, np.float32),
                "expression": np.zeros(52, np.float32),
                "mouth": np.zeros(52, np.float32),
                "identity": np.array(person),
            }
            for name, value in row.items():
                rows.setdefault(name, []).append(value)
    folder = tmp_path_factory.mktemp("dots")
    np.savez(folder / "people_000000.npz", **{name: np.stack(values) for name, values in rows.items()})  # type: ignore[arg-type]
    return folder


def test_strangers_landmarks_are_mended_by_what_is_seen_there(folder: Path) -> None:
    looks = look_at(Faces(folder), CONFIG, np.random.default_rng(0))
    refiner = LandmarkRefiner(CONFIG)
    errors: dict[str, float] = {}

    def report(step: str, points: NDArray[np.float32]) -> None:
        errors[step] = float(errors_px(looks, points)[looks.identity >= PEOPLE * 3 // 4].mean())

    fit(refiner, looks, report)
    assert list(errors) == ["tracked", "linear map", "histograms, stage 1", "histograms, stage 2"]
    assert errors["histograms, stage 2"] < 0.75 * errors["linear map"]
    with torch.no_grad():
        picture = torch.from_numpy(looks.image).permute(0, 3, 1, 2).float() / 255
        values = refiner(picture, torch.from_numpy(looks.tracked)).numpy()
    strangers = looks.identity >= PEOPLE * 3 // 4
    assert errors_px(looks, values)[strangers].mean() == pytest.approx(
        errors["histograms, stage 2"], rel=0.01
    )


def test_ridge_finds_a_linear_map_without_the_fold_that_is_left_out() -> None:
    rng = np.random.default_rng(0)
    values = rng.normal(3, 2, (600, 5)).astype(np.float32)
    weight = rng.normal(size=(2, 5)).astype(np.float32)
    fold = np.arange(600) % 3
    targets = values @ weight.T + 7
    targets[fold == 1] = -50  # never looked at
    found, bias = Ridge(values, targets, fold).without(1, 1e-6)
    np.testing.assert_allclose(values[fold != 1] @ found.T + bias, targets[fold != 1], atol=0.3)


def test_the_command_writes_the_maps_and_everybodys_landmarks(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    config = replace(tiny_config("edit_repose"), refiner=CONFIG)
    monkeypatch.setattr(GcavtConfig, "lite_refined", lambda: config)
    monkeypatch.setattr("sys.argv", ["landmarks", "--faces", str(folder), "--run", str(tmp_path)])
    landmarks.main()
    assert "histograms, stage 2: " in capsys.readouterr().out
    checkpoint = read_checkpoint(tmp_path / "last.safetensors")
    assert checkpoint.config == config
    assert checkpoint.provenance["trained"] == ["landmark_refiner"]
    (chunk,) = Faces(folder).chunks()
    assert chunk.refined is not None
    before, after = (np.linalg.norm(p - chunk.exact, axis=2).mean() for p in (chunk.tracked, chunk.refined))
    assert after < 0.85 * before

    refiner = read_refiner(tmp_path / "last.safetensors")
    once = refined(refiner, chunk.image[0], chunk.tracked[0])
    # the mean of three maps, two of which have seen this person
    assert np.linalg.norm(once - chunk.exact[0], axis=1).mean() < 0.85 * before
    assert np.isnan(refined(refiner, chunk.image[0], np.full((68, 2), np.nan, np.float32))).all()
