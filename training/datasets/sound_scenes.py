"""What a microphone hears besides the speaker: rooms, noise, music, narrow bands, any loudness.

All is synthesised. Sound is 16 kHz mono float32. A scene is drawn at random for training or named for a test.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy.signal import butter, fftconvolve, lfilter, sosfilt

from gcavt.audio import SAMPLE_RATE, TARGET_RMS, rms

Samples = NDArray[np.float32]
NoiseKind = Literal["white", "brown", "hum", "clicks", "music"]
NOISE_KINDS: tuple[NoiseKind, ...] = ("white", "brown", "hum", "clicks", "music")

SILENT_RMS = 1e-4
EARLY_REFLECTION_S = 0.003


@dataclass(frozen=True, kw_only=True)
class Scene:
    """How one recording is made. The defaults leave the sound as it is, at the normal level."""

    level_db: float = 0.0
    """Loudness of the speech over `TARGET_RMS`; what exceeds full scale is clipped."""
    noise: NoiseKind | None = None
    noise_db: float = -30.0
    """Loudness of the noise over that of the speech, or over `TARGET_RMS` where nobody speaks."""
    reverberation_s: float = 0.0
    """Time in which the room's echo falls by 60 dB; 0 for no room."""
    echo_db: float = -6.0
    """Energy of the echo over that of the direct sound."""
    band_hz: tuple[float, float] | None = None
    """What passes; (300, 3400) is a telephone."""
    tilt: float = 0.0
    """First-order colour of the microphone: above 0 dull, below 0 thin."""
    is_live: bool = False
    """Whether the level is tracked as live, or known from the whole recording."""


NAMED_SCENES: dict[str, Scene] = {
    "noise_10db": Scene(noise="brown", noise_db=-10),
    "white_noise_10db": Scene(noise="white", noise_db=-10),
    "music_10db": Scene(noise="music", noise_db=-10),
    "room": Scene(reverberation_s=0.6, echo_db=-3),
    "telephone": Scene(band_hz=(300, 3400)),
    "quiet_live": Scene(level_db=-30, is_live=True),
    "loud_live": Scene(level_db=10, is_live=True),
}
"""The conditions that are scored."""


def random_scene(rng: np.random.Generator) -> Scene:
    """One of many; about one in ten is perfectly clean."""
    if rng.random() < 0.1:
        return Scene()
    band = None
    if rng.random() < 0.2:
        band = (float(rng.uniform(80, 350)), float(rng.uniform(2800, 7000)))
    return Scene(
        level_db=float(rng.uniform(-30, 10)),
        noise=NOISE_KINDS[int(rng.integers(len(NOISE_KINDS)))],
        noise_db=-float(rng.choice((rng.uniform(4, 20), rng.uniform(15, 50)))),
        reverberation_s=float(rng.uniform(0.1, 0.9)) if rng.random() < 0.5 else 0.0,
        echo_db=float(rng.uniform(-16, 0)),
        band_hz=band,
        tilt=float(rng.uniform(-0.6, 0.6)),
        is_live=bool(rng.random() < 0.6),
    )


def recorded(speech: Samples, scene: Scene, rng: np.random.Generator) -> Samples:
    """The speech (n,), or silence, as the scene's microphone delivers it (n,): same length, no delay."""
    sound = np.asarray(speech, np.float32)
    if scene.reverberation_s > 0:
        sound = in_room(sound, scene.reverberation_s, scene.echo_db, rng)
    level = rms(sound)
    is_spoken = level > SILENT_RMS
    if is_spoken:
        sound = sound * np.float32(TARGET_RMS / level)
    if scene.noise is not None:
        noise = noise_of(scene.noise, len(sound), rng)
        sound = sound + noise * np.float32(TARGET_RMS * 10 ** (scene.noise_db / 20) / max(rms(noise), 1e-9))
    if scene.tilt:
        sound = np.asarray(lfilter([1.0, scene.tilt], [1.0], sound), np.float32)
    if scene.band_hz is not None:
        sections = butter(4, scene.band_hz, "bandpass", fs=SAMPLE_RATE, output="sos")
        sound = np.asarray(sosfilt(sections, sound), np.float32)
    if is_spoken or scene.noise is not None:
        sound = sound * np.float32(10 ** (scene.level_db / 20))
    return np.asarray(np.clip(sound, -1, 1), np.float32)


def in_room(sound: Samples, reverberation_s: float, echo_db: float, rng: np.random.Generator) -> Samples:
    """The direct sound and an exponentially decaying, diffuse echo of it (Moorer 1979)."""
    time_s = np.arange(round(reverberation_s * SAMPLE_RATE)) / SAMPLE_RATE
    tail = rng.standard_normal(len(time_s)) * 10 ** (-3 * time_s / reverberation_s)
    tail[time_s < EARLY_REFLECTION_S] = 0
    tail *= 10 ** (echo_db / 20) / max(float(np.sqrt((tail**2).sum())), 1e-9)
    tail[0] = 1
    return np.asarray(fftconvolve(sound, tail)[: len(sound)], np.float32)


def noise_of(kind: NoiseKind, count: int, rng: np.random.Generator) -> Samples:
    """`count` samples of a noise, at any loudness."""
    if kind == "music":
        return music(count, rng)
    if kind == "hum":
        return _hum(count, rng)
    if kind == "clicks":
        return _clicks(count, rng)
    white = rng.standard_normal(count)
    brown = lfilter([1.0], [1.0, -float(rng.uniform(0.8, 0.97))], white) if kind == "brown" else white
    return np.asarray(brown, np.float32)


def music(count: int, rng: np.random.Generator) -> Samples:
    """Chords, a bass and drums in time, or only some of them; no voice."""
    beat = round(SAMPLE_RATE * 60 / float(rng.uniform(70, 150)))
    sound = np.zeros(count + 4 * beat, np.float32)
    parts = rng.random(3) < 0.75
    parts[int(rng.integers(3))] = True
    root = int(rng.integers(40, 60))
    for number, start in enumerate(range(0, count, beat)):
        if number % 4 == 0:
            chord = root + int(rng.choice((0, 5, 7, 9, -3))) + np.array((0, int(rng.choice((3, 4))), 7))
        if parts[0] and (number % 4 == 0 or rng.random() < 0.3):
            length = beat * int(rng.integers(1, 5))
            for note in chord + 12 * int(rng.integers(0, 2)):
                _add(sound, start, _note(float(note), length, rng))
        if parts[1]:
            _add(sound, start, 1.5 * _note(float(chord[0] - 12), beat, rng))
        if parts[2]:
            _add(sound, start, _kick() if number % 2 == 0 else _snare(rng))
            _add(sound, start + beat // 2, 0.4 * _snare(rng)[:800])
    return sound[:count]


def _add(sound: Samples, start: int, piece: Samples) -> None:
    room = max(0, min(len(piece), len(sound) - start))
    sound[start : start + room] += piece[:room]


def _note(key: float, count: int, rng: np.random.Generator) -> Samples:
    """A plucked, struck or held tone; `key` as in MIDI, 69 for 440 Hz."""
    time_s = np.arange(count) / SAMPLE_RATE
    harmonics = np.arange(1, 9)[:, None]
    hz = 440 * 2 ** ((key - 69) / 12) * harmonics
    strength = (hz < 7000) / harmonics ** rng.uniform(0.7, 2)
    fall = np.exp(-time_s / rng.choice((0.15, 0.4, 3.0)))
    attack = np.minimum(1, time_s / rng.choice((0.004, 0.05)))
    wave = (strength * np.sin(2 * np.pi * hz * time_s + rng.uniform(0, 6.28, (8, 1)))).sum(0)
    return np.asarray(0.3 * wave * fall * attack, np.float32)


def _kick() -> Samples:
    time_s = np.arange(3200) / SAMPLE_RATE
    return np.asarray(
        1.5 * np.sin(2 * np.pi * (45 * time_s + 4 * (1 - np.exp(-time_s / 0.03)))) * np.exp(-time_s / 0.06),
        np.float32,
    )


def _snare(rng: np.random.Generator) -> Samples:
    time_s = np.arange(2400) / SAMPLE_RATE
    return np.asarray(0.5 * rng.standard_normal(2400) * np.exp(-time_s / 0.04), np.float32)


def _hum(count: int, rng: np.random.Generator) -> Samples:
    """Mains or a fan: a low tone with overtones over a little hiss."""
    time_s = np.arange(count) / SAMPLE_RATE
    hz = float(rng.choice((50.0, 60.0, rng.uniform(80, 400))))
    tone = sum(rng.uniform(0, 1) * np.sin(2 * np.pi * hz * k * time_s) for k in range(1, 9))
    return np.asarray(tone + 0.1 * rng.standard_normal(count), np.float32)


def _clicks(count: int, rng: np.random.Generator) -> Samples:
    """A keyboard, a mouse, knocks on the table: short bursts, over a little hiss."""
    sound = (0.01 * rng.standard_normal(count)).astype(np.float32)
    for start in rng.integers(0, max(count, 1), max(1, round(count / SAMPLE_RATE * rng.uniform(1, 8)))):
        length = int(rng.integers(80, 800))
        fall = np.exp(-np.arange(length) / (0.2 * length))
        burst = lfilter([1.0], [1.0, -float(rng.uniform(-0.5, 0.9))], rng.standard_normal(length))
        _add(sound, int(start), np.asarray(rng.uniform(0.3, 1) * burst * fall, np.float32))
    return sound
