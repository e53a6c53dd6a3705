"""Speech with exact phoneme times from the system's espeak-ng, through ctypes."""

from __future__ import annotations

import ctypes
import functools
from collections.abc import Sequence
from typing import Any

import numpy as np

from training.synthetic.utterance import EngineMissingError, Speech, Voice
from training.synthetic.visemes import TimedSymbol

LIBRARY = "libespeak-ng.so.1"

_AUDIO_OUTPUT_SYNCHRONOUS = 2
_BUFFER_MS = 500
_PHONEME_EVENTS_AS_IPA = 0x3
_PHONEME_MODE_IPA = 0x02
_EVENT_LIST_END, _EVENT_WORD, _EVENT_PHONEME = 0, 1, 7
_PARAMETER_RATE, _PARAMETER_PITCH, _PARAMETER_RANGE = 1, 3, 4
_CHARS_UTF8 = 1


class EspeakMissingError(EngineMissingError):
    """The espeak-ng library is not installed; the message says how to install it."""


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


def is_installed() -> bool:
    try:
        _espeak()
    except EspeakMissingError:
        return False
    return True


def speak(text: str, voice: Voice) -> Speech:
    """Say `text`. Not thread-safe: espeak-ng keeps one voice per process.

    It also carries some state from one utterance to the next, so that saying a sentence again can shift it by
    about a millisecond; a process that repeats the same calls in the same order repeats the same samples.

    Raises EspeakMissingError if espeak-ng is not installed, ValueError if it lacks the voice.
    """
    library, sample_rate = _espeak()
    pcm = bytearray()
    starts: list[tuple[str, float]] = []
    words: list[tuple[str, float]] = []

    def collect(wave: Any, count: int, events: Any) -> int:
        i = 0
        while events[i].type != _EVENT_LIST_END:
            start_s = events[i].audio_position / 1000
            if events[i].type == _EVENT_WORD:
                first = events[i].text_position - 1
                words.append((text[first : first + events[i].length], start_s))
            if events[i].type == _EVENT_PHONEME:
                ipa = events[i].id.string.decode("utf-8", "replace")
                starts.append((ipa, start_s))
            i += 1
        if wave and count > 0:
            pcm.extend(ctypes.string_at(wave, count * 2))
        return 0

    callback = _Callback(collect)
    library.espeak_SetSynthCallback(callback)
    _choose(library, voice.name)
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
    duration_s = len(samples) / sample_rate
    phonemes = _lasting(starts, duration_s)
    return Speech(
        text=text,
        samples=samples,
        sample_rate=sample_rate,
        phonemes=phonemes,
        words=_until_silence(_lasting(words, duration_s), phonemes),
    )


def ipa_of(text: str, voice_name: str = "en-us") -> str:
    """The phonemes of `text` in IPA, with stress marks and the spaces between words."""
    library, _ = _espeak()
    _choose(library, voice_name)
    library.espeak_TextToPhonemes.restype = ctypes.c_char_p
    pointer = ctypes.c_char_p(text.encode())
    clauses = []
    while pointer.value:
        clauses.append(
            library.espeak_TextToPhonemes(ctypes.byref(pointer), _CHARS_UTF8, _PHONEME_MODE_IPA).decode()
        )
    return ", ".join(clauses)


def _choose(library: Any, voice_name: str) -> None:
    if library.espeak_SetVoiceByName(voice_name.encode()) != 0:
        raise ValueError(f"espeak-ng has no voice {voice_name!r}")


def _lasting(starts: Sequence[tuple[str, float]], duration_s: float) -> tuple[TimedSymbol, ...]:
    """Symbols that each last until the next one begins."""
    ends = [*(start_s for _, start_s in starts[1:]), duration_s]
    return tuple((symbol, start_s, end_s) for (symbol, start_s), end_s in zip(starts, ends, strict=False))


def _until_silence(words: Sequence[TimedSymbol], phonemes: Sequence[TimedSymbol]) -> tuple[TimedSymbol, ...]:
    """Words that end with their last sound, not with the pause behind it."""
    ended = []
    for word, start_s, end_s in words:
        sounds = [end for ipa, start, end in phonemes if ipa and start_s - 1e-3 <= start < end_s - 1e-3]
        ended.append((word, start_s, min(end_s, max(sounds, default=end_s))))
    return tuple(ended)
