"""A continuous performance at a steady frame rate: speech, blinks, gaze, head motion, passing expressions.

Legend: T frames. Everything follows from the random generator that is passed in.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter1d

from gcavt.code_space import COEFFICIENTS
from training.synthetic.performance import (
    EXPRESSIONS,
    TimedSymbol,
    expression_vector,
    gaze,
    viseme_matrix,
    viseme_track,
    weight_vector,
)
from training.synthetic.speech import Speech, Voice, random_sentence, speak

FPS = 25
MOODS = tuple(name for name in EXPRESSIONS if name != "neutral")
_BLINK_SHAPE = (0.5, 1.0, 0.8, 0.3)
"""Lid closure over the frames of one blink."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Performance:
    """What happens in a clip, frame by frame, and its sound."""

    pose_T6: NDArray[np.float32]
    """Pitch, yaw, roll in degrees; translation x, y, z in head units."""
    expression_T52: NDArray[np.float32]
    """Everything but speech."""
    mouth_T52: NDArray[np.float32]
    """Speech alone."""
    visemes_T15: NDArray[np.float32]
    samples: NDArray[np.float32]
    """Mono sound in [-1, 1], exactly T / FPS seconds."""
    sample_rate: int
    text: str
    phonemes: tuple[TimedSymbol, ...]

    @property
    def frame_count(self) -> int:
        return len(self.pose_T6)

    @property
    def weights_T52(self) -> NDArray[np.float32]:
        return np.asarray(np.clip(self.expression_T52 + self.mouth_T52, 0, 1), np.float32)


def perform(rng: np.random.Generator, seconds: float, voice: Voice) -> Performance:
    """Invent a performance of `seconds`, spoken in `voice`."""
    count = round(seconds * FPS)
    if count < 1:
        raise ValueError(f"seconds must be at least one frame (1/{FPS}), got {seconds}")
    return perform_speech(rng, _monologue(rng, count / FPS, voice), count)


def perform_speech(
    rng: np.random.Generator, speech: Speech, frame_count: int, moods: Sequence[str] = MOODS
) -> Performance:
    """Act out `speech` for `frame_count` frames; it is cut or followed by silence to fit.

    Passing expressions are drawn from `moods`.
    """
    samples = _fitted(speech.samples, round(frame_count / FPS * speech.sample_rate))
    visemes = viseme_track(speech.phonemes, frame_count, FPS)
    loudness = _loudness(samples, speech.sample_rate, frame_count)
    mouth = np.clip(visemes @ viseme_matrix() * np.float32(rng.uniform(0.8, 1.05)), 0, 1)
    gaze_T2 = _gaze_track(rng, frame_count)
    expression = _expression_episodes(rng, frame_count, moods)
    expression += np.stack([weight_vector(gaze(right, up)) for right, up in gaze_T2])
    _lift_brows(expression, loudness, rng.uniform(0.1, 0.45))
    blink = _blink_track(rng, frame_count)[:, None]
    lids = [COEFFICIENTS.index("eyeBlinkLeft"), COEFFICIENTS.index("eyeBlinkRight")]
    expression[:, lids] = np.maximum(expression[:, lids], blink)
    return Performance(
        pose_T6=_head_track(rng, frame_count, loudness, gaze_T2),
        expression_T52=np.clip(expression, 0, 1).astype(np.float32),
        mouth_T52=mouth.astype(np.float32),
        visemes_T15=visemes,
        samples=samples,
        sample_rate=speech.sample_rate,
        text=speech.text,
        phonemes=speech.phonemes,
    )


def join_speech(parts: list[Speech], gaps_s: list[float]) -> Speech:
    """Utterances one after another, each preceded by its gap of silence."""
    sound: list[NDArray[np.float32]] = []
    phonemes: list[TimedSymbol] = []
    count = 0
    for part, gap_s in zip(parts, gaps_s, strict=True):
        silence = np.zeros(round(gap_s * part.sample_rate), np.float32)
        offset_s = (count + len(silence)) / part.sample_rate
        phonemes += [(ipa, start + offset_s, end + offset_s) for ipa, start, end in part.phonemes]
        sound += [silence, part.samples]
        count += len(silence) + len(part.samples)
    return Speech(
        text=" ".join(part.text for part in parts),
        samples=np.concatenate(sound),
        sample_rate=parts[0].sample_rate,
        phonemes=tuple(phonemes),
    )


def _monologue(rng: np.random.Generator, seconds: float, voice: Voice) -> Speech:
    parts, gaps_s, length_s = [], [], 0.0
    while length_s < seconds:
        gaps_s.append(float(rng.uniform(0.15, 0.9)))
        parts.append(speak(random_sentence(rng), voice))
        length_s += gaps_s[-1] + parts[-1].duration_s
    return join_speech(parts, gaps_s)


def _fitted(samples: NDArray[np.float32], count: int) -> NDArray[np.float32]:
    return np.pad(samples[:count], (0, max(0, count - len(samples))))


def _loudness(samples: NDArray[np.float32], sample_rate: int, frame_count: int) -> NDArray[np.float64]:
    """Smoothed loudness per frame, 1 at the clip's loud passages, 0 throughout if there is no sound."""
    edges = np.round(np.arange(frame_count + 1) / FPS * sample_rate).astype(int)
    level = np.array([np.abs(samples[a:b]).mean() for a, b in zip(edges[:-1], edges[1:], strict=True)])
    smooth = gaussian_filter1d(level.astype(np.float64), 1.5)
    return np.asarray(smooth / max(1e-6, float(np.percentile(smooth, 95))))


def _drift(rng: np.random.Generator, count: int, sigma: float, width_s: float) -> NDArray[np.float64]:
    """Smooth noise of standard deviation `sigma` that changes over about `width_s`."""
    width = width_s * FPS
    margin = int(4 * width) + 1
    smooth = gaussian_filter1d(rng.standard_normal(count + 2 * margin), width)
    return np.asarray(smooth[margin : margin + count] * sigma * np.sqrt(2 * np.sqrt(np.pi) * width))


def _gaze_track(rng: np.random.Generator, count: int) -> NDArray[np.float64]:
    """Gaze (T, 2), right and up, -1 to 1: fixations mostly near the camera, with quick jumps between."""
    track = np.zeros((count, 2))
    start = 0
    while start < count:
        away = rng.random() < 0.3
        track[start:] = rng.normal(0, (0.45, 0.25) if away else (0.08, 0.06))
        start += int(FPS * (rng.uniform(0.3, 1.2) if away else rng.uniform(0.8, 3.0)))
    return np.asarray(np.clip(gaussian_filter1d(track, 0.6, axis=0), -0.9, 0.9))


def _blink_track(rng: np.random.Generator, count: int) -> NDArray[np.float32]:
    track = np.zeros(count + len(_BLINK_SHAPE), np.float32)
    start = int(FPS * rng.uniform(0.5, 3))
    while start < count:
        track[start : start + len(_BLINK_SHAPE)] = _BLINK_SHAPE
        again = rng.random() < 0.12  # a double blink
        start += int(FPS * (0.32 if again else np.clip(rng.lognormal(1.15, 0.5), 1.0, 8.0)))
    return track[:count]


def _expression_episodes(rng: np.random.Generator, count: int, moods: Sequence[str]) -> NDArray[np.float64]:
    """Expressions (T, 52) that come, stay for some seconds and go, with rest between."""
    track = np.zeros((count, len(COEFFICIENTS)))
    start = int(FPS * rng.uniform(0, 1.5))
    while start < count:
        length = int(FPS * rng.uniform(1.2, 4.0))
        ramp = int(FPS * rng.uniform(0.25, 0.6))
        shape = np.clip(np.minimum(np.arange(length) + 1, length - np.arange(length)) / ramp, 0, 1)
        shape = shape * shape * (3 - 2 * shape)
        vector = expression_vector(str(rng.choice(moods)), rng.uniform(0.35, 1.0))
        stop = min(count, start + length)
        track[start:stop] += shape[: stop - start, None] * vector
        start += length + int(FPS * rng.uniform(0.2, 2.0))
    return track


def _lift_brows(expression: NDArray[np.float64], loudness: NDArray[np.float64], amount: float) -> None:
    """Raise the brows on emphasis, in place."""
    emphasis = np.clip(gaussian_filter1d(loudness, 2) - 0.6, 0, 1) * 2 * amount
    for name, share in (("browInnerUp", 1.0), ("browOuterUpLeft", 0.6), ("browOuterUpRight", 0.6)):
        expression[:, COEFFICIENTS.index(name)] += share * emphasis


def _head_track(
    rng: np.random.Generator, count: int, loudness: NDArray[np.float64], gaze_T2: NDArray[np.float64]
) -> NDArray[np.float32]:
    """Pose (T, 6): slow drift, faster sway while speaking, nods on emphasis, and following the gaze."""
    speaking = 0.4 + 0.6 * np.clip(gaussian_filter1d(loudness, 6), 0, 1)
    follow = gaussian_filter1d(gaze_T2, 5, axis=0)
    pitch = _drift(rng, count, 3.5, 0.9) + speaking * _drift(rng, count, 2.0, 0.22)
    pitch += 2.5 * gaussian_filter1d(loudness, 2) - 6 * follow[:, 1]
    yaw = _drift(rng, count, 9, 1.3) + speaking * _drift(rng, count, 2.5, 0.3) - 10 * follow[:, 0]
    roll = _drift(rng, count, 3, 1.1) + speaking * _drift(rng, count, 1.2, 0.3)
    x = _drift(rng, count, 0.06, 1.5) + 0.02 * yaw / 9
    y = _drift(rng, count, 0.05, 1.5)
    z = _drift(rng, count, 0.12, 2.0)
    return np.stack([pitch, yaw, roll, x, y, z], 1).astype(np.float32)
