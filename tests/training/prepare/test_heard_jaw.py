"""Agreement of two jaws on curves whose lag and likeness are known."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from gcavt.audio_encoder import AudioEncoder
from gcavt.checkpoint import save_checkpoint
from gcavt.config import GcavtConfig
from gcavt.model import Gcavt
from training.datasets.sound_scenes import Scene
from training.prepare.heard_jaw import agreement, heard_jaw, lag_frames, read_encoder


def curve(shift_frames: float) -> NDArray[np.float32]:
    t = np.arange(90) - shift_frames
    return np.asarray(np.sin(0.31 * t) + 0.6 * np.sin(0.73 * t + 1), np.float32)


@pytest.mark.parametrize("late", [-2.0, -0.5, 0.0, 0.4, 3.0])
def test_lag_is_found_to_a_fraction_of_a_frame(late: float) -> None:
    assert lag_frames(curve(late), curve(0)) == pytest.approx(late, abs=0.06)


def test_agreement_ignores_means_and_frames_without_a_face() -> None:
    seen = [curve(0), curve(10) + np.float32(5)]
    seen[0][20:25] = np.nan
    heard = [np.asarray(0.5 * jaw, np.float32) for jaw in (curve(0), curve(10)[:85])]
    figures = agreement(heard, seen)
    assert figures["pooled_r"] == pytest.approx(1, abs=1e-5)
    assert figures["spread"] == pytest.approx(0.5, abs=1e-3)
    assert figures["late_frames"] == pytest.approx(0, abs=0.05)


def test_the_encoder_of_a_checkpoint_hears_a_jaw_per_frame(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = Gcavt(GcavtConfig.tiny()).eval()
    save_checkpoint(tmp_path / "m.safetensors", model, model.config, {})
    encoder = read_encoder(tmp_path / "m.safetensors")
    assert isinstance(encoder, AudioEncoder)
    sound = np.random.default_rng(0).normal(0, 0.1, 640 * 12 + 5).astype(np.float32)
    jaws = [heard_jaw(encoder, sound, Scene(), ms) for ms in (120, 0)]
    assert all(jaw.shape == (13,) for jaw in jaws)
    assert np.abs(jaws[0] - jaws[1]).max() > 0
