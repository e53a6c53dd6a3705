"""The audio stage's inputs and figures on cases with known answers; a few steps learn."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from gcavt.config import GcavtConfig
from gcavt.model import Gcavt
from training.datasets.speech import render_speech
from training.objectives import audio
from training.recipes import audio_encoder


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> audio.AudioStage:
    folder: Path = tmp_path_factory.mktemp("speech")
    render_speech(folder / "speech.npz", train_utterances=6, held_out_utterances=2)
    return audio.AudioStage(audio_encoder(), folder)


def test_half_of_all_windows_end_in_repetition_and_each_look_ahead_is_drawn() -> None:
    windows = np.random.default_rng(0).uniform(0.1, 1, (400, 3, 20)).astype(np.float32)
    limited = audio.with_random_look_aheads(windows, np.random.default_rng(1))
    known = 20 - (limited[:, 0, ::-1] == limited[:, 0, -1:]).cumprod(1).sum(1) + 1
    assert {20, 16, 12, 8} == set(known.tolist())
    assert all(60 < (known == count).sum() < 140 for count in (20, 16, 12, 8))
    np.testing.assert_array_equal(limited[:, :, :8], windows[:, :, :8])


def test_offset_is_positive_where_the_mouth_comes_late() -> None:
    truth = np.random.default_rng(0).standard_normal((90, 3)).astype(np.float32)
    for late in (-4, 0, 7):
        assert audio.best_offset(np.roll(truth, late, 0), truth) == late


def test_in_sync_counts_utterances_within_a_frame() -> None:
    truth = np.random.default_rng(0).standard_normal((180, 2)).astype(np.float32)
    utterances = np.repeat(np.arange(3, dtype=np.int32), 60)
    weights = np.concatenate([truth[:60], np.roll(truth[60:120], 1, 0), np.roll(truth[120:], 5, 0)])
    assert audio.share_in_sync(weights, truth, utterances) == pytest.approx(2 / 3)
    assert np.isnan(audio.share_in_sync(weights, truth, np.arange(180, dtype=np.int32)))


def test_a_mouth_that_never_moves_correlates_with_nothing() -> None:
    assert audio.correlation(np.zeros(9, np.float32), np.arange(9, dtype=np.float32)) == 0.0


def test_a_few_steps_learn_and_every_figure_is_told(stage: audio.AudioStage) -> None:
    torch.manual_seed(0)
    model = Gcavt(GcavtConfig.tiny())
    rng = np.random.default_rng(0)
    optimizer = torch.optim.AdamW(model.audio_encoder.parameters(), 2e-3)
    losses = []
    for _ in range(12):
        loss, _ = stage.loss(model, stage.draw(rng, 16))
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        losses.append(float(loss.detach()))
    assert np.mean(losses[-3:]) < 0.8 * np.mean(losses[:3])
    with torch.no_grad():
        figures = stage.evaluate(model)
    for look_ahead_ms in (120, 80, 40, 0):
        assert -1 <= figures[f"jaw_r_{look_ahead_ms}"] <= 1
    assert {"jaw_r_music_10db", "jaw_r_human", "open_only_music", "open_silence"} <= set(figures)
    assert all(np.isfinite(value) for value in figures.values())
