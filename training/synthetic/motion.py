"""A continuous performance at a steady frame rate: speech, and a face and head that go with it.

The order of causes: the voice gives visemes, accents and phrases; emotions come and go and turn the eyes; the
head follows voice, emotion and gaze; the eyes turn by what the head leaves over; lids close.

Legend: T frames. Everything follows from the random generator that is passed in.
"""

from __future__ import annotations

import multiprocessing
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gcavt.code_space import COEFFICIENTS
from training.synthetic.emotion import (
    draw_episodes,
    emotion_glances,
    emotion_labels,
    emotion_pose,
    emotion_track,
)
from training.synthetic.eyes import blink_times, blink_track, eye_weights, gaze_track, head_following
from training.synthetic.head_motion import Temperament, brow_raises, head_track
from training.synthetic.motion_curves import drift, frame_times
from training.synthetic.performance import EXPRESSIONS
from training.synthetic.prosody import Prosody, prosody_of
from training.synthetic.speech import Speech, Voice, random_sentence, speak
from training.synthetic.visemes import VISEME_NAMES, TimedSymbol, viseme_matrix, viseme_track

FPS = 25
MOODS = tuple(name for name in EXPRESSIONS if name != "neutral")
IDLE_SHARE = 0.12
"""Pauses in which somebody only listens, among all pauses."""
_LOUDNESS_SWING = 0.3
"""By how much of its opening a loud or soft voice moves the jaw further or less far."""
_LID_FOLLOWS_GAZE = 0.35
_MICRO = {
    "browInnerUp": 0.015,
    "browDownLeft": 0.012,
    "browDownRight": 0.012,
    "cheekSquintLeft": 0.012,
    "cheekSquintRight": 0.012,
    "eyeSquintLeft": 0.02,
    "eyeSquintRight": 0.02,
    "mouthSmileLeft": 0.012,
    "mouthSmileRight": 0.012,
    "noseSneerLeft": 0.008,
    "noseSneerRight": 0.008,
}
"""Standard deviation of the movement of a resting face."""


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
    emotions_T: tuple[str, ...]
    """A key of `EXPRESSIONS` for every frame."""
    samples: NDArray[np.float32]
    """Mono sound in [-1, 1], exactly T / FPS seconds."""
    sample_rate: int
    text: str
    phonemes: tuple[TimedSymbol, ...]
    words: tuple[TimedSymbol, ...] = ()

    @property
    def frame_count(self) -> int:
        return len(self.pose_T6)

    @property
    def weights_T52(self) -> NDArray[np.float32]:
        return np.asarray(np.clip(self.expression_T52 + self.mouth_T52, 0, 1), np.float32)


def perform(rng: np.random.Generator, seconds: float, voice: Voice, *, is_idle: bool = False) -> Performance:
    """Invent a performance of `seconds`, spoken in `voice`, or of silent listening if `is_idle`."""
    count = round(seconds * FPS)
    if count < 1:
        raise ValueError(f"seconds must be at least one frame (1/{FPS}), got {seconds}")
    if is_idle:
        return perform_speech(rng, silence(count / FPS), count)
    return perform_speech(rng, _monologue(rng, count / FPS, voice), count)


def perform_apart(
    rng: np.random.Generator, seconds: float, voice: Voice, *, is_idle: bool = False
) -> tuple[Performance, np.random.Generator]:
    """`perform` in a process of its own, and the generator as it left it.

    espeak-ng carries state from one utterance to the next, also through its own restart: only in a fresh
    process do a seed and a voice always give the same samples, whatever was said before.
    """
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        return pool.submit(_perform_and_hand_back, rng, seconds, voice, is_idle).result()


def _perform_and_hand_back(
    rng: np.random.Generator, seconds: float, voice: Voice, is_idle: bool
) -> tuple[Performance, np.random.Generator]:
    return perform(rng, seconds, voice, is_idle=is_idle), rng


def perform_speech(
    rng: np.random.Generator, speech: Speech, frame_count: int, moods: Sequence[str] = MOODS
) -> Performance:
    """Act out `speech` for `frame_count` frames; it is cut or followed by silence to fit.

    Passing expressions are drawn from `moods`.
    """
    samples = _fitted(speech.samples, round(frame_count / FPS * speech.sample_rate))
    prosody = prosody_of(samples, speech.sample_rate, speech.phonemes, frame_count, FPS)
    visemes = viseme_track(speech.phonemes, frame_count, FPS)
    temperament = Temperament.draw(rng)
    episodes = draw_episodes(rng, frame_count / FPS, moods)
    gaze_T2, saccades = gaze_track(rng, frame_count, FPS, glances=emotion_glances(episodes))
    pose = head_track(
        rng,
        prosody,
        FPS,
        temperament,
        head_following(gaze_T2, FPS),
        emotion_pose(episodes, frame_count, FPS),
    )
    speaking = 1.0 - visemes[:, VISEME_NAMES.index("sil")].astype(np.float64)
    expression = emotion_track(rng, episodes, frame_count, FPS, speaking)
    _part_lips_less(expression, visemes)
    _raise_brows(
        expression, brow_raises(rng, frame_times(frame_count, FPS), prosody.accents, temperament.brow_raises)
    )
    _tremble(rng, expression)
    closing_s = blink_times(
        rng,
        frame_count / FPS,
        temperament.blink_rate_hz,
        [end_s for _, end_s in prosody.phrases],
        saccades,
    )
    _move_eyes(expression, gaze_T2, pose, blink_track(rng, frame_count, FPS, closing_s))
    return Performance(
        pose_T6=pose.astype(np.float32),
        expression_T52=np.clip(expression, 0, 1).astype(np.float32),
        mouth_T52=_mouth(rng, visemes, prosody),
        visemes_T15=visemes,
        emotions_T=emotion_labels(episodes, frame_count, FPS),
        samples=samples,
        sample_rate=speech.sample_rate,
        text=speech.text,
        phonemes=speech.phonemes,
        words=speech.words,
    )


def silence(seconds: float, sample_rate: int = 22_050) -> Speech:
    """Nobody speaks."""
    return Speech(
        text="",
        samples=np.zeros(round(seconds * sample_rate), np.float32),
        sample_rate=sample_rate,
        phonemes=(),
    )


def join_speech(parts: list[Speech], gaps_s: list[float]) -> Speech:
    """Utterances one after another, each preceded by its gap of silence."""
    sound: list[NDArray[np.float32]] = []
    phonemes: list[TimedSymbol] = []
    words: list[TimedSymbol] = []
    count = 0
    for part, gap_s in zip(parts, gaps_s, strict=True):
        if part.sample_rate != parts[0].sample_rate:
            raise ValueError(
                f"parts must share one sample rate, got {parts[0].sample_rate} and {part.sample_rate}"
            )
        gap = np.zeros(round(gap_s * part.sample_rate), np.float32)
        offset_s = (count + len(gap)) / part.sample_rate
        phonemes += [(ipa, start + offset_s, end + offset_s) for ipa, start, end in part.phonemes]
        words += [(word, start + offset_s, end + offset_s) for word, start, end in part.words]
        sound += [gap, part.samples]
        count += len(gap) + len(part.samples)
    return Speech(
        text=" ".join(part.text for part in parts),
        samples=np.concatenate(sound),
        sample_rate=parts[0].sample_rate,
        phonemes=tuple(phonemes),
        words=tuple(words),
    )


def _monologue(rng: np.random.Generator, seconds: float, voice: Voice) -> Speech:
    parts, gaps_s, length_s = [], [], 0.0
    while length_s < seconds:
        listens = rng.random() < IDLE_SHARE
        gaps_s.append(float(rng.uniform(2.0, 5.0) if listens else rng.uniform(0.15, 0.9)))
        parts.append(speak(random_sentence(rng), voice))
        length_s += gaps_s[-1] + parts[-1].duration_s
    return join_speech(parts, gaps_s)


def _fitted(samples: NDArray[np.float32], count: int) -> NDArray[np.float32]:
    return np.pad(samples[:count], (0, max(0, count - len(samples))))


def _mouth(
    rng: np.random.Generator, visemes_T15: NDArray[np.float32], prosody: Prosody
) -> NDArray[np.float32]:
    """Mouth weights (T, 52): the visemes, articulated more or less, the jaw wider the louder the voice."""
    mouth = visemes_T15 @ viseme_matrix() * np.float32(rng.uniform(0.85, 1.05))
    swing = 1 + _LOUDNESS_SWING * (np.clip(prosody.loudness_T, 0, 1.4) - 0.7)
    mouth[:, COEFFICIENTS.index("jawOpen")] *= swing
    return np.asarray(np.clip(mouth, 0, 1), np.float32)


def _part_lips_less(expression: NDArray[np.float64], visemes_T15: NDArray[np.float32]) -> None:
    """Let the lips meet on p, b, m and the teeth reach them on f, v, whatever the mood; in place."""
    meeting = visemes_T15[:, VISEME_NAMES.index("PP")] + 0.7 * visemes_T15[:, VISEME_NAMES.index("FF")]
    for name in ("jawOpen", "mouthFunnel"):
        expression[:, COEFFICIENTS.index(name)] *= 1 - meeting
    for name in ("mouthUpperUp", "mouthLowerDown"):
        for side in ("Left", "Right"):
            expression[:, COEFFICIENTS.index(name + side)] *= 1 - meeting


def _raise_brows(expression: NDArray[np.float64], height_T: NDArray[np.float64]) -> None:
    for name, share in (("browInnerUp", 1.0), ("browOuterUpLeft", 0.7), ("browOuterUpRight", 0.65)):
        expression[:, COEFFICIENTS.index(name)] += share * height_T


def _tremble(rng: np.random.Generator, expression: NDArray[np.float64]) -> None:
    """Add the movement of a resting face, in place; a muscle only pulls, so half of the noise is lost."""
    for name, size in _MICRO.items():
        noise = drift(rng, len(expression), FPS, 0.25)
        expression[:, COEFFICIENTS.index(name)] += size * np.maximum(noise + 0.5, 0)


def _move_eyes(
    expression: NDArray[np.float64],
    gaze_T2: NDArray[np.float64],
    pose_T6: NDArray[np.float64],
    lids_T2: NDArray[np.float64],
) -> None:
    """Turn the eyes, let the upper lids follow them down, and blink; in place."""
    weights, _ = eye_weights(gaze_T2, pose_T6[:, 1], pose_T6[:, 0])
    for name, track in weights.items():
        expression[:, COEFFICIENTS.index(name)] += track
    for side, name in enumerate(("Left", "Right")):
        lid = COEFFICIENTS.index(f"eyeBlink{name}")
        lowered = expression[:, lid] + _LID_FOLLOWS_GAZE * weights[f"eyeLookDown{name}"]
        expression[:, lid] = np.maximum(np.minimum(lowered, 1), lids_T2[:, side])
        for held in ("eyeWide", "eyeSquint"):  # a closing lid is neither
            expression[:, COEFFICIENTS.index(held + name)] *= 1 - lids_T2[:, side]
