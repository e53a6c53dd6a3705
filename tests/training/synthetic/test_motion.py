"""A performance as a whole, on sound that is made here: no speech engine is needed."""

from dataclasses import replace

import numpy as np
import pytest

from gcavt.code_space import COEFFICIENTS
from training.synthetic.head_motion import MOST_POSE, Temperament, head_track, within_range
from training.synthetic.motion import FPS, join_speech, perform, perform_speech, silence
from training.synthetic.prosody import Prosody, loudness_track, phrases_of, pitch_track, prosody_of
from training.synthetic.utterance import Speech, Voice
from training.synthetic.visemes import VISEME_NAMES

RATE = 16_000


def babble(seconds: float, seed: int = 0) -> Speech:
    """Syllables b-a of changing loudness in phrases of two seconds, a pause of half a second after each."""
    rng = np.random.default_rng(seed)
    samples = np.zeros(round(seconds * RATE), np.float32)
    phonemes, at_s = [], 0.3
    while at_s + 0.3 < seconds:
        loud = float(rng.uniform(0.1, 0.8))
        phonemes += [("b", at_s, at_s + 0.06), ("ɑ", at_s + 0.06, at_s + 0.25)]
        time_s = np.arange(round(0.25 * RATE)) / RATE
        tone = sum(np.sin(2 * np.pi * 120 * k * time_s) / k for k in range(1, 9))
        first = round(at_s * RATE)
        samples[first : first + len(time_s)] = loud * 0.3 * tone * np.hanning(len(time_s))
        at_s += 0.25 if at_s % 2.5 < 2 else 0.8
    return Speech(text="ba", samples=samples, sample_rate=RATE, phonemes=tuple(phonemes))


def column(name: str) -> int:
    return COEFFICIENTS.index(name)


def test_a_performance_follows_its_seed_and_fits_its_sound() -> None:
    said = babble(5)
    first = perform_speech(np.random.default_rng(4), said, 6 * FPS)
    second = perform_speech(np.random.default_rng(4), said, 6 * FPS)
    other = perform_speech(np.random.default_rng(5), said, 6 * FPS)
    assert np.array_equal(first.pose_T6, second.pose_T6)
    assert np.array_equal(first.weights_T52, second.weights_T52)
    assert not np.array_equal(first.pose_T6, other.pose_T6)
    assert first.frame_count == len(first.emotions_T) == 6 * FPS
    assert len(first.samples) == 6 * RATE
    assert first.weights_T52.min() >= 0 and first.weights_T52.max() <= 1


def test_silence_keeps_the_mouth_still_while_the_rest_lives() -> None:
    idle = perform(np.random.default_rng(1), 20, Voice(), is_idle=True)
    assert idle.mouth_T52.max() == 0
    assert np.abs(idle.samples).max() == 0 and idle.phonemes == ()
    assert idle.pose_T6[:, :3].std(0).min() > 0.3
    lids = idle.expression_T52[:, column("eyeBlinkLeft")]
    assert (lids > 0.9).any()


def test_the_jaw_follows_loudness() -> None:
    performance = perform_speech(np.random.default_rng(2), babble(20), 20 * FPS)
    loudness = loudness_track(performance.samples, RATE, performance.frame_count, FPS)
    jaw = performance.mouth_T52[:, column("jawOpen")]
    assert np.corrcoef(jaw, loudness)[0, 1] > 0.5


def test_lips_meet_on_b_even_in_surprise() -> None:
    performance = perform_speech(np.random.default_rng(3), babble(20), 20 * FPS, moods=("surprised",))
    closed = performance.visemes_T15[:, VISEME_NAMES.index("PP")] > 0.85
    assert closed.sum() > 10
    assert "surprised" in {performance.emotions_T[t] for t in np.nonzero(closed)[0]}
    jaw = performance.weights_T52[:, column("jawOpen")]
    assert jaw[closed].max() < 0.2 < jaw[~closed].max()


def test_blinks_come_as_often_as_people_blink() -> None:
    counts = []
    for seed in range(3):
        lids = perform_speech(np.random.default_rng(seed), babble(60), 60 * FPS).expression_T52
        shut = lids[:, column("eyeBlinkLeft")] > 0.5
        counts.append(int((shut[1:] & ~shut[:-1]).sum()))
    assert 10 < np.mean(counts) < 35


def test_the_head_moves_in_range_smoothly_and_in_every_direction() -> None:
    poses = np.concatenate(
        [perform_speech(np.random.default_rng(seed), babble(20), 20 * FPS).pose_T6[None] for seed in range(6)]
    )
    assert (np.abs(poses) <= MOST_POSE + 1e-4).all()
    assert (poses.std((0, 1)) > (1.5, 3.5, 1.0, 0.02, 0.008, 0.03)).all()
    assert np.abs(np.diff(poses[..., :3], axis=1)).max() < 6


def test_range_leaves_small_poses_alone_and_bends_large_ones() -> None:
    small = MOST_POSE * 0.6
    assert np.array_equal(within_range(small), small)
    assert (within_range(-5 * MOST_POSE) >= -MOST_POSE).all()


def head_pitch(prosody: Prosody, seed: int) -> np.ndarray:
    count = prosody.frame_count
    rng = np.random.default_rng(seed)
    temperament = replace(Temperament.draw(rng), nods=2.0, liveliness=1.0)
    return head_track(rng, prosody, FPS, temperament, np.zeros((count, 2)), np.zeros((count, 4)))[:, 0]


def quiet_prosody(seconds: int, **changes: object) -> Prosody:
    facts: dict[str, object] = {
        "loudness_T": np.zeros(seconds * FPS),
        "pitch_T": np.zeros(seconds * FPS),
        "accents": (),
        "phrases": ((0.0, float(seconds)),),
    }
    return Prosody(**(facts | changes))  # type: ignore[arg-type]


def test_accents_bring_nods() -> None:
    accents = tuple((float(at_s), 1.0) for at_s in np.arange(2, 30, 2.0))
    curves = np.mean([head_pitch(quiet_prosody(32, accents=accents), seed) for seed in range(12)], axis=0)
    dips = [curves[round(at_s * FPS) + 2] - curves[round((at_s - 0.7) * FPS)] for at_s, _ in accents]
    assert np.mean(dips) > 1.5, "degrees, down"


def test_the_head_sinks_at_the_end_of_a_phrase_and_comes_up_again() -> None:
    phrases = tuple((float(at_s), at_s + 2.5) for at_s in range(0, 40, 5))
    curves = np.mean([head_pitch(quiet_prosody(42, phrases=phrases), seed) for seed in range(12)], axis=0)
    sunk = np.mean([curves[round((end_s + 0.15) * FPS)] for _, end_s in phrases])
    during = np.mean([curves[round((end_s - 0.9) * FPS)] for _, end_s in phrases])
    assert sunk - during > 1.0


def test_pitch_is_heard_in_semitones_and_silence_has_none() -> None:
    time_s = np.arange(RATE) / RATE
    voice = np.concatenate([np.sin(2 * np.pi * hz * time_s) for hz in (150, 150, 300)] + [np.zeros(RATE)])
    pitch = pitch_track((0.3 * voice).astype(np.float32), RATE, 4 * FPS, FPS)
    assert abs(np.median(pitch[5:45])) < 0.5
    assert np.median(pitch[55:70]) == pytest.approx(12, abs=0.7)
    assert np.abs(pitch[78:]).max() == 0


def test_a_short_gap_does_not_end_a_phrase_and_a_long_one_does() -> None:
    timed = [("ɑ", 0.1, 0.5), ("", 0.5, 0.6), ("ɑ", 0.6, 1.0), ("", 1.0, 1.4), ("ɑ", 1.4, 2.0)]
    assert phrases_of(timed, 3.0) == ((0.1, 1.0), (1.4, 2.0))


def test_loud_syllables_are_accents() -> None:
    said = babble(10)
    prosody = prosody_of(said.samples, RATE, said.phonemes, 10 * FPS, FPS)
    assert 5 < len(prosody.accents) < 25
    assert all(0 <= strength <= 1 for _, strength in prosody.accents)
    loud = [prosody.loudness_T[int(at_s * FPS)] for at_s, _ in prosody.accents]
    assert np.mean(loud) > prosody.loudness_T.mean()


def test_joined_speech_keeps_every_sound_in_its_place() -> None:
    word = Speech(
        text="a",
        samples=np.ones(1600, np.float32),
        sample_rate=RATE,
        phonemes=(("a", 0.0, 0.1),),
        words=(("a", 0.0, 0.1),),
    )
    both = join_speech([word, word], [0.2, 0.5])
    assert both.duration_s == pytest.approx(0.9)
    assert np.allclose([start for _, start, _ in both.phonemes], [0.2, 0.8])
    assert [word for word, _, _ in both.words] == ["a", "a"]
    with pytest.raises(ValueError, match="sample rate"):
        join_speech([word, silence(1.0, 22_050)], [0, 0])


def test_less_than_a_frame_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one frame"):
        perform(np.random.default_rng(0), 0.01, Voice())
