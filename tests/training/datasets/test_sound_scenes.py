"""Recorded sound against what its scene says of it."""

from __future__ import annotations

import math

import numpy as np
import pytest
from numpy.typing import NDArray

from gcavt.audio import SAMPLE_RATE, TARGET_RMS, rms
from training.datasets.sound_scenes import (
    NOISE_KINDS,
    NoiseKind,
    Scene,
    in_room,
    music,
    noise_of,
    random_scene,
    recorded,
)

Samples = NDArray[np.float32]


def voice(seconds: float = 2.0) -> Samples:
    t = np.arange(round(seconds * SAMPLE_RATE)) / SAMPLE_RATE
    sound = sum(np.sin(2 * np.pi * 130 * k * t) / k for k in range(1, 40)) * np.clip(np.sin(9 * t), 0, 1)
    return np.asarray(0.2 * sound, np.float32)


def band_share(sound: Samples, low_hz: float, high_hz: float) -> float:
    power = np.abs(np.fft.rfft(sound)) ** 2
    hz = np.fft.rfftfreq(len(sound), 1 / SAMPLE_RATE)
    return float(power[(hz >= low_hz) & (hz < high_hz)].sum() / power.sum())


@pytest.mark.parametrize("level_db", [-30, -12, 0])
def test_speech_arrives_as_loud_as_the_scene_says(level_db: float) -> None:
    sound = recorded(voice(), Scene(level_db=level_db), np.random.default_rng(0))
    assert 20 * math.log10(rms(sound) / TARGET_RMS) == pytest.approx(level_db, abs=0.05)


def test_too_loud_speech_is_clipped_at_full_scale() -> None:
    sound = recorded(voice(), Scene(level_db=20), np.random.default_rng(0))
    assert np.abs(sound).max() == 1.0
    assert (np.abs(sound) == 1.0).mean() > 0.01


@pytest.mark.parametrize("kind", NOISE_KINDS)
def test_noise_has_its_ratio_to_the_speech(kind: NoiseKind) -> None:
    clean = recorded(voice(), Scene(), np.random.default_rng(0))
    noisy = recorded(voice(), Scene(noise=kind, noise_db=-10), np.random.default_rng(0))
    assert 20 * math.log10(rms(noisy - clean) / rms(clean)) == pytest.approx(-10, abs=0.3)


def test_noise_where_nobody_speaks_has_its_own_loudness() -> None:
    sound = recorded(
        np.zeros(32000, np.float32), Scene(noise="white", noise_db=-20), np.random.default_rng(0)
    )
    assert 20 * math.log10(rms(sound) / TARGET_RMS) == pytest.approx(-20, abs=0.1)
    assert not recorded(np.zeros(16000, np.float32), Scene(level_db=5), np.random.default_rng(0)).any()


def test_a_telephone_passes_its_band_alone() -> None:
    hiss = np.random.default_rng(0).normal(0, 0.1, 32000).astype(np.float32)
    sound = recorded(hiss, Scene(band_hz=(300, 3400)), np.random.default_rng(0))
    assert band_share(hiss, 300, 3400) < 0.45
    assert band_share(sound, 300, 3400) > 0.9


def test_a_room_keeps_the_direct_sound_and_dies_away_in_its_time() -> None:
    click = np.zeros(SAMPLE_RATE, np.float32)
    click[100] = 1.0
    heard = in_room(click, 0.5, -3.0, np.random.default_rng(0))
    assert heard[100] == pytest.approx(1.0, abs=1e-5) and np.abs(heard[:100]).max() < 1e-5
    echo = heard[101:]
    assert 10 * math.log10(float((echo**2).sum())) == pytest.approx(-3.0, abs=0.1)
    early, late = rms(echo[800:1600]), rms(echo[4800:5600])  # 0.25 s apart: half of the 60 dB
    assert 20 * math.log10(early / late) == pytest.approx(30, abs=2)


def test_music_is_tuned_and_goes_in_time() -> None:
    for seed in range(5):
        sound = music(4 * SAMPLE_RATE, np.random.default_rng(seed))
        assert len(sound) == 4 * SAMPLE_RATE and np.isfinite(sound).all()
        blocks = np.array([rms(part) for part in np.split(sound, 80)])
        assert blocks.max() > 1.3 * np.median(blocks)


def test_clicks_are_short_and_far_louder_than_what_lies_between() -> None:
    sound = np.abs(noise_of("clicks", SAMPLE_RATE * 2, np.random.default_rng(1)))
    assert sound.max() > 20 * np.median(sound)


def test_random_scenes_differ_and_repeat_with_their_seed() -> None:
    scenes = [random_scene(np.random.default_rng(seed)) for seed in range(60)]
    again = [random_scene(np.random.default_rng(seed)) for seed in range(60)]
    assert scenes == again
    assert {scene.noise for scene in scenes} >= set(NOISE_KINDS)
    assert any(scene.band_hz for scene in scenes) and any(scene.reverberation_s for scene in scenes)
    assert min(scene.level_db for scene in scenes) < -20 and max(scene.level_db for scene in scenes) > 5
