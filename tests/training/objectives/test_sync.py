"""The sync stage learns on rendered talkers; its figures on cases with known answers."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from gcavt.config import GcavtConfig
from gcavt.model import Gcavt
from training.datasets.talking import TalkingClips, render_talking
from training.objectives import sync
from training.recipes import RECIPES
from training.synthetic import espeak

pytestmark = pytest.mark.skipif(not espeak.is_installed(), reason="libespeak-ng is not installed")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("talking")
    render_talking(folder / "talking.npz", people=3, seconds=1.2)
    return folder


def test_clips_know_their_frames(folder: Path) -> None:
    clips = TalkingClips.load(folder / "talking.npz")
    assert len(clips) == 3
    assert clips.frames_of(1) == slice(30, 60)
    assert clips.mouths.shape == (90, 96, 96, 3)
    assert clips.mels.shape == (90, 80, 20)
    assert np.abs(np.diff(clips.mouths[:30].astype(float), axis=0)).mean() > 0.1, "the mouth moves"
    assert clips.mels.max() > 0.3, "there is sound"


def test_a_few_steps_learn_and_every_figure_is_told(folder: Path) -> None:
    torch.manual_seed(0)
    model = Gcavt(GcavtConfig.tiny())
    stage = sync.SyncStage(RECIPES["sync"](), folder)
    parameters = [p for module in stage.trained_modules(model) for p in module.parameters()]
    optimizer = torch.optim.AdamW(parameters, 2e-3)
    batch = stage.draw(np.random.default_rng(0), 4)
    losses = []
    for _ in range(8):
        loss, figures = stage.loss(model.train(), batch)
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < 0.95 * losses[0]
    assert figures["temperature"] != pytest.approx(0.07, abs=1e-6), "the temperature learns too"
    with torch.no_grad():
        told = stage.evaluate(model.eval())
    assert 0 <= told["in_sync"] <= 1 and 0 <= told["retrieval"] <= 1
    assert told["chance"] == pytest.approx(1 / 6)


def test_audio_alone_leaves_the_content_encoder(folder: Path) -> None:
    model = Gcavt(GcavtConfig.tiny())
    stage = sync.SyncStage(replace(RECIPES["sync"](), sync_mode="audio_only"), folder)
    assert model.content_encoder not in stage.trained_modules(model)
    loss, _ = stage.loss(model.train(), stage.draw(np.random.default_rng(0), 2))
    loss.backward()  # type: ignore[no-untyped-call]
    assert all(p.grad is None or not p.grad.any() for p in model.content_encoder.parameters())
    assert any(p.grad is not None and p.grad.any() for p in model.audio_encoder.parameters())


def test_a_run_looks_the_same_from_frame_to_frame() -> None:
    mouths = np.repeat(np.random.default_rng(1).integers(0, 255, (1, 96, 96, 3), np.uint8), 4, 0)
    changed = sync.augmented_mouths(mouths, np.random.default_rng(0))
    assert np.abs(changed[0] - mouths[0].transpose(2, 0, 1) / 255).mean() > 0.01
    np.testing.assert_array_equal(changed[1:], changed[:-1])


@pytest.mark.parametrize("late", [-3, 0, 6])
def test_the_offset_is_positive_where_the_mouth_comes_late(late: int) -> None:
    heard = np.random.default_rng(0).standard_normal((60, 8)).astype(np.float32)
    seen = sync.assembled(np.roll(heard, late, 0))
    assert sync.best_offset(sync.assembled(heard) @ seen.T) == late


def test_assembled_codes_are_unit_vectors_of_five_frames() -> None:
    codes = np.random.default_rng(0).standard_normal((9, 3)).astype(np.float32)
    joined = sync.assembled(codes)
    assert joined.shape == (5, 15)
    np.testing.assert_allclose(np.linalg.norm(joined, axis=1), 1, rtol=1e-5)
    np.testing.assert_allclose(joined[2] / joined[2, 0], codes[2:7].reshape(-1) / codes[2, 0], rtol=1e-4)
