"""Speech with exact phoneme times: voices to choose from, sentences to say, and the engines that say them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from training.synthetic import espeak, flite, kokoro
from training.synthetic.espeak import EspeakMissingError
from training.synthetic.utterance import Engine, EngineMissingError, Speech, Voice

__all__ = [
    "ENGINES",
    "Engine",
    "EngineMissingError",
    "EspeakMissingError",
    "Speech",
    "Voice",
    "random_sentence",
    "random_voice",
    "speak",
]

ENGINES: tuple[Engine, ...] = ("espeak", "flite", "kokoro")
_ACCENTS = ("en-us", "en", "en-gb-scotland", "en-gb-x-rp", "en-gb-x-gbclan", "en-029", "en-us-nyc")
_LOW_VARIANTS = ("", "+m1", "+m2", "+m3", "+m4", "+m5", "+m6", "+m7")
_HIGH_VARIANTS = ("+f1", "+f2", "+f3", "+f4", "+f5")
_FLITE_LOW, _FLITE_HIGH = ("rms", "awb"), ("slt",)
_KOKORO_LOW, _KOKORO_HIGH = ("jm_kumo",), ("jf_alpha", "jf_gongitsune", "jf_nezumi", "jf_tebukuro")


def speak(text: str, voice: Voice | None = None) -> Speech:
    """Say `text` with the voice's engine. Not thread-safe.

    Raises EngineMissingError if that engine is not installed, ValueError if it lacks the voice.
    """
    voice = Voice() if voice is None else voice
    engine = {"espeak": espeak.speak, "flite": flite.speak, "kokoro": kokoro.speak}[voice.engine]
    return engine(text, voice)


def random_voice(
    rng: np.random.Generator, masculinity: float, engines: Sequence[Engine] = ("espeak",)
) -> Voice:
    """A voice of one of `engines` that suits a figure of `masculinity` 0 to 1.

    espeak-ng has about a hundred voices, the others three or five, so where there is a choice it is drawn
    four times as often as each of them.
    """
    if not engines:
        raise ValueError("engines must name at least one speech engine")
    is_low = masculinity > 0.5
    chances = np.array([4.0 if engine == "espeak" else 1.0 for engine in engines])
    engine = engines[int(rng.choice(len(engines), p=chances / chances.sum()))]
    rate_wpm = int(rng.integers(135, 195))
    if engine == "espeak":
        return Voice(
            name=str(rng.choice(_ACCENTS)) + str(rng.choice(_LOW_VARIANTS if is_low else _HIGH_VARIANTS)),
            rate_wpm=rate_wpm,
            pitch=int(rng.integers(30, 55)) if is_low else int(rng.integers(45, 70)),
            pitch_range=int(rng.integers(35, 75)),
        )
    low, high = (_FLITE_LOW, _FLITE_HIGH) if engine == "flite" else (_KOKORO_LOW, _KOKORO_HIGH)
    return Voice(engine=engine, name=str(rng.choice(low if is_low else high)), rate_wpm=rate_wpm)


_OPENERS = (
    "I think that",
    "You know,",
    "Yesterday",
    "Every morning",
    "To be honest,",
    "Whenever it rains,",
    "Believe me,",
    "If we are lucky,",
    "Oddly enough,",
    "For the first time,",
    "Please remember that",
    "They say that",
)
_SUBJECTS = (
    "my brother",
    "the old baker",
    "her youngest daughter",
    "our neighbour",
    "a famous pianist",
    "the whole village",
    "nobody",
    "the quiet boy from Paris",
    "that yellow bird",
    "your uncle George",
    "the boat",
    "the people upstairs",
)
_VERBS = (
    "would love to paint",
    "carefully watches",
    "used to borrow",
    "never throws away",
    "always makes",
    "should measure",
    "quickly found",
    "moved",
    "might choose",
    "forgot about",
    "was thinking of",
    "very much enjoyed",
)
_OBJECTS = (
    "five blue bottles",
    "the thick leather book",
    "a big bowl of soup",
    "those shiny shoes",
    "the moon over the river",
    "fresh bread and butter",
    "some very strange music",
    "the church on the hill",
    "a joke about fish",
    "the other three chairs",
    "warm wool for the winter",
    "all of the apples",
)
_ENDINGS = (
    "before breakfast.",
    "with both hands!",
    "and then went home.",
    "in the middle of the road.",
    "for about an hour.",
    "without a word.",
    "again?",
    "because of the weather.",
    "just for fun.",
    "at the beach in July.",
    "while you were away.",
    "on purpose.",
)


def random_sentence(rng: np.random.Generator) -> str:
    """An English sentence from a grammar whose parts cover every viseme."""
    parts = [str(rng.choice(part)) for part in (_OPENERS, _SUBJECTS, _VERBS, _OBJECTS, _ENDINGS)]
    return " ".join(parts)
