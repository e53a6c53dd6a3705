"""What a voice does besides words: loudness, pitch, accents, and where its phrases begin and end.

Legend: T video frames.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter1d
from scipy.signal import find_peaks

from training.synthetic.visemes import TimedSymbol, visemes_of

PAUSE_S = 0.15
"""A silence at least this long ends a phrase."""
_PITCH_WINDOW_S = 0.046
_PITCH_HZ = (65.0, 420.0)
_VOICED = 0.45
"""Normalised autocorrelation above which a sound has a pitch."""
_ACCENT_APART_S = 0.36
_ACCENT_HEIGHT = 0.45


@dataclass(frozen=True, kw_only=True, eq=False)
class Prosody:
    """One utterance as a listener would mark it up."""

    loudness_T: NDArray[np.float64]
    """1 in loud passages, 0 in silence."""
    pitch_T: NDArray[np.float64]
    """Semitones above the speaker's median, 0 where there is no pitch."""
    accents: tuple[tuple[float, float], ...]
    """Time in seconds and strength 0 to 1 of each emphasised syllable."""
    phrases: tuple[tuple[float, float], ...]
    """Start and end in seconds of each stretch of speech between pauses."""

    @property
    def frame_count(self) -> int:
        return len(self.loudness_T)


def prosody_of(
    samples: NDArray[np.float32],
    sample_rate: int,
    phonemes: Sequence[TimedSymbol],
    frame_count: int,
    fps: float,
) -> Prosody:
    """Listen to `samples`, whose phonemes are known."""
    loudness = loudness_track(samples, sample_rate, frame_count, fps)
    pitch = pitch_track(samples, sample_rate, frame_count, fps)
    return Prosody(
        loudness_T=loudness,
        pitch_T=pitch,
        accents=_accents(loudness, pitch, fps),
        phrases=phrases_of(phonemes, frame_count / fps),
    )


def loudness_track(
    samples: NDArray[np.float32], sample_rate: int, frame_count: int, fps: float
) -> NDArray[np.float64]:
    """Smoothed loudness (T,), 1 at the clip's loud passages, 0 throughout if there is no sound."""
    edges = np.minimum(np.round(np.arange(frame_count + 1) / fps * sample_rate).astype(int), len(samples))
    energy = np.concatenate([[0.0], np.cumsum(samples.astype(np.float64) ** 2)])
    level = np.sqrt(np.diff(energy[edges]).clip(0) / np.maximum(np.diff(edges), 1))
    smooth = gaussian_filter1d(level, 1.0)
    return np.asarray(smooth / max(1e-6, float(np.percentile(smooth, 95))))


def pitch_track(
    samples: NDArray[np.float32], sample_rate: int, frame_count: int, fps: float
) -> NDArray[np.float64]:
    """Semitones above the median pitch (T,) by autocorrelation; 0 where the sound has no pitch."""
    width = round(_PITCH_WINDOW_S * sample_rate)
    shortest, longest = round(sample_rate / _PITCH_HZ[1]), round(sample_rate / _PITCH_HZ[0])
    padded = np.pad(samples.astype(np.float64), (width, 2 * width))
    starts = width + np.round((np.arange(frame_count) + 0.5) / fps * sample_rate).astype(int) - width // 2
    starts = np.minimum(starts, len(padded) - width)
    windows = padded[starts[:, None] + np.arange(width)] * np.hanning(width)
    spectrum = np.abs(np.fft.rfft(windows, 2 * width, axis=1)) ** 2
    correlation = np.fft.irfft(spectrum, axis=1)[:, : longest + 1]
    taper = np.fft.irfft(np.abs(np.fft.rfft(np.hanning(width), 2 * width)) ** 2)[: longest + 1]
    normalised = correlation / np.maximum(correlation[:, :1], 1e-9) / (taper / taper[0])
    candidates = normalised[:, shortest:]
    # of nearly equal peaks the first: the others are its multiples, an octave too low
    lags = shortest + (candidates > 0.9 * candidates.max(1, keepdims=True)).argmax(1)
    for _ in range(shortest):  # from where the peak begins to its top
        higher = np.minimum(lags + 1, longest)
        climbs = normalised[np.arange(frame_count), higher] > normalised[np.arange(frame_count), lags]
        if not climbs.any():
            break
        lags = np.where(climbs, higher, lags)
    voiced = (normalised[np.arange(frame_count), lags] > _VOICED) & (correlation[:, 0] > 1e-4)
    if not voiced.any():
        return np.zeros(frame_count)
    height = 12 * np.log2(sample_rate / lags)
    return np.where(voiced, np.clip(height - np.median(height[voiced]), -12, 12), 0.0)


def phrases_of(phonemes: Sequence[TimedSymbol], duration_s: float) -> tuple[tuple[float, float], ...]:
    """Start and end in seconds of each stretch of sounds without a pause of `PAUSE_S`."""
    phrases: list[tuple[float, float]] = []
    for viseme, start_s, end_s in visemes_of(phonemes):
        if viseme == "sil" or start_s >= duration_s:
            continue
        end_s = min(end_s, duration_s)
        if phrases and start_s - phrases[-1][1] < PAUSE_S:
            phrases[-1] = (phrases[-1][0], end_s)
        else:
            phrases.append((start_s, end_s))
    return tuple(phrases)


def _accents(
    loudness: NDArray[np.float64], pitch: NDArray[np.float64], fps: float
) -> tuple[tuple[float, float], ...]:
    """Peaks of loudness and pitch together, well apart from one another."""
    prominence = loudness + 0.06 * gaussian_filter1d(np.clip(pitch, -4, 8), 1.5)
    smooth = gaussian_filter1d(prominence, 1.5)
    peaks, facts = find_peaks(
        smooth, height=_ACCENT_HEIGHT, prominence=0.2, distance=max(1, round(_ACCENT_APART_S * fps))
    )
    strength = np.clip(facts["prominences"], 0, 1)
    return tuple(
        (float((peak + 0.5) / fps), float(value)) for peak, value in zip(peaks, strength, strict=True)
    )
