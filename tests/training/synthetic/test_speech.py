import ctypes

import numpy as np
import pytest

from training.synthetic import speech
from training.synthetic.motion import FPS, perform, perform_speech
from training.synthetic.performance import VISEME_NAMES
from training.synthetic.speech import EspeakMissingError, Voice, random_sentence, random_voice, speak


def espeak_is_missing() -> bool:
    try:
        ctypes.CDLL(speech.LIBRARY)
    except OSError:
        return True
    return False


needs_espeak = pytest.mark.skipif(espeak_is_missing(), reason="libespeak-ng is not installed")


@needs_espeak
def test_phonemes_follow_one_another_and_end_with_the_sound() -> None:
    said = speak("My big brother found five yellow fish.")
    starts = [start for _, start, _ in said.phonemes]
    assert len(starts) > 15
    assert starts == sorted(starts)
    assert all(
        end == following for (_, _, end), following in zip(said.phonemes[:-1], starts[1:], strict=True)
    )
    assert said.phonemes[-1][2] == pytest.approx(said.duration_s)


@needs_espeak
def test_sound_is_there_while_phonemes_are_spoken() -> None:
    said = speak("Mama")
    assert 0.3 < said.duration_s < 2
    assert 0.1 < np.abs(said.samples).max() <= 1


@needs_espeak
def test_every_random_voice_exists() -> None:
    rng = np.random.default_rng(0)
    names = {random_voice(rng, masculinity).name for masculinity in (0.1, 0.9) for _ in range(60)}
    for name in names:
        assert speak("a", Voice(name=name)).duration_s > 0


@needs_espeak
def test_unknown_voice_is_named() -> None:
    with pytest.raises(ValueError, match="en-atlantis"):
        speak("hello", Voice(name="en-atlantis"))


@needs_espeak
def test_a_performance_follows_its_seed_and_fits_its_sound() -> None:
    said = speak("My big brother found five yellow fish.")
    first = perform_speech(np.random.default_rng(4), said, 6 * FPS)
    second = perform_speech(np.random.default_rng(4), said, 6 * FPS)
    assert np.array_equal(first.pose_T6, second.pose_T6)
    assert np.array_equal(first.weights_T52, second.weights_T52)
    assert first.frame_count == 6 * FPS
    assert len(first.samples) == 6 * first.sample_rate
    assert first.weights_T52.min() >= 0 and first.weights_T52.max() <= 1


@needs_espeak
def test_a_performance_speaks_blinks_and_moves_smoothly() -> None:
    performance = perform(np.random.default_rng(4), 10.0, Voice())
    speaking = 1 - performance.visemes_T15[:, VISEME_NAMES.index("sil")]
    assert speaking.mean() > 0.4
    lids = performance.expression_T52.max(1)
    assert (lids >= 0.99).sum() >= 2
    steps = np.abs(np.diff(performance.pose_T6[:, :3], axis=0))
    assert performance.pose_T6[:, 1].std() > 2
    assert steps.max() < 6


def test_missing_library_names_the_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(speech, "LIBRARY", "libespeak-absent.so.1")
    speech._espeak.cache_clear()
    with pytest.raises(EspeakMissingError, match="apt-get install libespeak-ng1"):
        speak("hello")
    speech._espeak.cache_clear()


def test_random_sentences_follow_their_seed() -> None:
    assert random_sentence(np.random.default_rng(2)) == random_sentence(np.random.default_rng(2))
