"""What is said against the mouth that says it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from gcavt import audio
from gcavt.code_space import COEFFICIENTS
from training.datasets import speech
from training.datasets.sentences import LANGUAGES
from training.datasets.sound_scenes import NAMED_SCENES, Scene
from training.synthetic.speech import Voice, speak
from training.synthetic.visemes import sounds_of

JAW = COEFFICIENTS.index("jawOpen")


def loudness(utterance: speech.Utterance) -> NDArray[np.float64]:
    return np.array([audio.rms(part) for part in np.split(utterance.samples, utterance.frames)])


def test_every_frame_has_its_mouth_and_pauses_are_closed() -> None:
    said = speech.spoken("papa has a big old car", Voice())
    assert len(said.samples) == said.frames * 640
    assert said.weights.shape == (said.frames, 52)
    assert np.abs(said.weights[: speech.PAUSE_FRAMES - 4]).max() < 0.02
    assert said.weights[:, JAW].max() > 0.4


def test_a_voice_played_faster_keeps_its_mouth_in_step() -> None:
    text, voice = "a a a a. a a a a.", Voice()
    for shift in (0.88, 1.14):
        said = speech.spoken(text, voice, shift)
        loud = loudness(said)
        assert np.corrcoef(loud, said.weights[:, JAW])[0, 1] > 0.5
    slow, fast = (speech.spoken(text, voice, s).frames - 16 for s in (0.88, 1.14))
    assert slow / fast == pytest.approx(1.14 / 0.88, rel=0.1)


def test_a_recorded_voice_keeps_its_mouth_in_step() -> None:
    said = speech.spoken("mama and papa are far away", Voice(engine="flite", name="rms"), 1.1)
    assert np.corrcoef(loudness(said), said.weights[:, JAW])[0, 1] > 0.4


@pytest.mark.parametrize("language", sorted(LANGUAGES))
def test_every_language_is_spoken_in_sounds_that_the_mouth_knows(language: str) -> None:
    said = speak(LANGUAGES[language], Voice(name=language))
    assert said.duration_s > 3
    phonemes = speech.known_phonemes(said.phonemes)
    unknown = [ipa for ipa, *_ in phonemes if ipa.strip(" _") and not sounds_of(ipa)]
    assert not unknown
    assert sum(bool(sounds_of(ipa)) for ipa, *_ in phonemes) > 40


def test_a_modifier_prolongs_the_sound_before_it() -> None:
    phonemes = [("p", 0.0, 0.1), ("ʲ", 0.1, 0.15), ("(en)", 0.15, 0.2), ("ʎ", 0.2, 0.3), ("", 0.3, 0.4)]
    assert speech.known_phonemes(phonemes) == [("p", 0.0, 0.15), ("l", 0.2, 0.3), ("", 0.3, 0.4)]


def test_windows_are_those_of_a_whole_recording_or_of_live_sound() -> None:
    said = speech.spoken("hello", Voice())
    rng = np.random.default_rng(0)
    windows = speech.windows_of([(said, Scene()), (said, Scene(is_live=True))], rng)
    assert windows.mel.shape == (2 * said.frames, 80, 20)
    assert windows.utterance.tolist() == [0] * said.frames + [1] * said.frames
    mel = audio.mel_spectrogram(said.samples)
    expected = np.stack([audio.mel_window(mel, t) for t in range(said.frames)])
    np.testing.assert_allclose(windows.mel[: said.frames], expected, atol=2e-3)
    assert np.abs(windows.mel[: said.frames] - windows.mel[said.frames :]).max() > 0.01


def test_rendered_speech_holds_training_and_every_scored_condition(tmp_path: Path) -> None:
    path = tmp_path / "speech.npz"
    speech.render_speech(path, train_utterances=4, held_out_utterances=2)
    with np.load(path) as arrays:
        names = {name.removesuffix("_windows") for name in arrays.files if name.endswith("_windows")}
        assert names >= {"train", "clean", "human", "foreign", "only_music", *NAMED_SCENES}
        for name in names:
            assert len(arrays[f"{name}_windows"]) == len(arrays[f"{name}_weights"])
        assert not arrays["only_music_weights"].any() and arrays["only_music_windows"].any()
