"""Speech with exact phoneme times, from the system's espeak-ng through ctypes."""

from __future__ import annotations

import ctypes
import functools
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from training.synthetic.performance import TimedSymbol

LIBRARY = "libespeak-ng.so.1"

_AUDIO_OUTPUT_SYNCHRONOUS = 2
_BUFFER_MS = 500
_PHONEME_EVENTS_AS_IPA = 0x3
_EVENT_LIST_END, _EVENT_PHONEME = 0, 7
_PARAMETER_RATE, _PARAMETER_PITCH, _PARAMETER_RANGE = 1, 3, 4
_CHARS_UTF8 = 1


class EspeakMissingError(RuntimeError):
    """The espeak-ng library is not installed; the message says how to install it."""


@dataclass(frozen=True, kw_only=True)
class Voice:
    """How to speak. Rate is in words per minute; pitch and pitch range are 0 to 99."""

    name: str = "en-us"
    """An espeak-ng voice, optionally with a variant: "en-us+f3"."""
    rate_wpm: int = 165
    pitch: int = 50
    pitch_range: int = 50


@dataclass(frozen=True, kw_only=True, eq=False)
class Speech:
    """One utterance: mono sound in [-1, 1] and when each IPA phoneme sounds."""

    text: str
    samples: NDArray[np.float32]
    sample_rate: int
    phonemes: tuple[TimedSymbol, ...]

    @property
    def duration_s(self) -> float:
        return len(self.samples) / self.sample_rate


class _EventId(ctypes.Union):
    _fields_ = (("number", ctypes.c_int), ("name", ctypes.c_char_p), ("string", ctypes.c_char * 8))


class _Event(ctypes.Structure):
    _fields_ = (
        ("type", ctypes.c_int),
        ("unique_identifier", ctypes.c_uint),
        ("text_position", ctypes.c_int),
        ("length", ctypes.c_int),
        ("audio_position", ctypes.c_int),  # ms
        ("sample", ctypes.c_int),
        ("user_data", ctypes.c_void_p),
        ("id", _EventId),
    )


_Callback = ctypes.CFUNCTYPE(
    ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.POINTER(_Event)
)


@functools.cache
def _espeak() -> tuple[Any, int]:
    """The library, initialised once per process, and its sample rate."""
    try:
        library = ctypes.CDLL(LIBRARY)
    except OSError as error:
        raise EspeakMissingError(
            f"{LIBRARY} cannot be loaded; install it with: apt-get install libespeak-ng1 espeak-ng-data"
        ) from error
    rate = library.espeak_Initialize(_AUDIO_OUTPUT_SYNCHRONOUS, _BUFFER_MS, None, _PHONEME_EVENTS_AS_IPA)
    if rate <= 0:
        raise EspeakMissingError(
            "espeak-ng finds no voice data; install it with: apt-get install espeak-ng-data"
        )
    return library, int(rate)


def speak(text: str, voice: Voice | None = None) -> Speech:
    """Say `text`. Not thread-safe: espeak-ng keeps one voice per process.

    It also carries some state from one utterance to the next, so that saying a sentence again can shift it by
    about a millisecond; a process that repeats the same calls in the same order repeats the same samples.

    Raises EspeakMissingError if espeak-ng is not installed, ValueError if it lacks the voice.
    """
    voice = Voice() if voice is None else voice
    library, sample_rate = _espeak()
    pcm = bytearray()
    starts: list[tuple[str, float]] = []

    def collect(wave: Any, count: int, events: Any) -> int:
        i = 0
        while events[i].type != _EVENT_LIST_END:
            if events[i].type == _EVENT_PHONEME:
                ipa = events[i].id.string.decode("utf-8", "replace")
                starts.append((ipa, events[i].audio_position / 1000))
            i += 1
        if wave and count > 0:
            pcm.extend(ctypes.string_at(wave, count * 2))
        return 0

    callback = _Callback(collect)
    library.espeak_SetSynthCallback(callback)
    if library.espeak_SetVoiceByName(voice.name.encode()) != 0:
        raise ValueError(f"espeak-ng has no voice {voice.name!r}")
    for parameter, value in (
        (_PARAMETER_RATE, voice.rate_wpm),
        (_PARAMETER_PITCH, voice.pitch),
        (_PARAMETER_RANGE, voice.pitch_range),
    ):
        library.espeak_SetParameter(parameter, value, 0)
    encoded = text.encode()
    library.espeak_Synth(encoded, len(encoded) + 1, 0, 1, 0, _CHARS_UTF8, None, None)
    library.espeak_Synchronize()
    samples = np.frombuffer(bytes(pcm), np.int16).astype(np.float32) / np.float32(32768)
    ends = [start for _, start in starts[1:]] + [len(samples) / sample_rate]
    phonemes = tuple((ipa, start, end) for (ipa, start), end in zip(starts, ends, strict=True))
    return Speech(text=text, samples=samples, sample_rate=sample_rate, phonemes=phonemes)


_ACCENTS = ("en-us", "en", "en-gb-scotland", "en-gb-x-rp", "en-gb-x-gbclan", "en-029", "en-us-nyc")
_LOW_VARIANTS = ("", "+m1", "+m2", "+m3", "+m4", "+m5", "+m6", "+m7")
_HIGH_VARIANTS = ("+f1", "+f2", "+f3", "+f4", "+f5")


def random_voice(rng: np.random.Generator, masculinity: float) -> Voice:
    """A voice that suits a figure of `masculinity` 0 to 1."""
    variants = _LOW_VARIANTS if masculinity > 0.5 else _HIGH_VARIANTS
    return Voice(
        name=str(rng.choice(_ACCENTS)) + str(rng.choice(variants)),
        rate_wpm=int(rng.integers(135, 195)),
        pitch=int(rng.integers(30, 55)) if masculinity > 0.5 else int(rng.integers(45, 70)),
        pitch_range=int(rng.integers(35, 75)),
    )


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
