"""A process of its own for espeak-ng: every request is answered by a fork of the freshly initialised library.

espeak-ng carries state from one utterance to the next (flutter, noise, the last clause), so that what it says
depends on what it said before. `training.synthetic.espeak` starts this file; it imports nothing but ctypes.

Requests are lines of JSON on standard input. A reply is one line of JSON and then the `bytes` of sound that
it announces. The first reply, before any request, tells the sample rate or what is missing.
"""

from __future__ import annotations

import ctypes
import json
import os
import sys
from typing import Any

_AUDIO_OUTPUT_SYNCHRONOUS = 2
_BUFFER_MS = 500
_PHONEME_EVENTS_AS_IPA = 0x3
_PHONEME_MODE_IPA = 0x02
_EVENT_LIST_END, _EVENT_WORD, _EVENT_PHONEME = 0, 1, 7
_PARAMETER_RATE, _PARAMETER_PITCH, _PARAMETER_RANGE = 1, 3, 4
_CHARS_UTF8 = 1


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


def _speak(library: Any, request: dict[str, Any]) -> tuple[dict[str, Any], bytes]:
    """Sound of a text, and when its phonemes and words start."""
    text: str = request["text"]
    pcm = bytearray()
    phonemes: list[tuple[str, float]] = []
    words: list[tuple[str, float]] = []

    def collect(wave: Any, count: int, events: Any) -> int:
        i = 0
        while events[i].type != _EVENT_LIST_END:
            start_s = events[i].audio_position / 1000
            if events[i].type == _EVENT_WORD:
                first = events[i].text_position - 1
                words.append((text[first : first + events[i].length], start_s))
            if events[i].type == _EVENT_PHONEME:
                phonemes.append((events[i].id.string.decode("utf-8", "replace"), start_s))
            i += 1
        if wave and count > 0:
            pcm.extend(ctypes.string_at(wave, count * 2))
        return 0

    callback = _Callback(collect)
    library.espeak_SetSynthCallback(callback)
    for parameter, key in (
        (_PARAMETER_RATE, "rate_wpm"),
        (_PARAMETER_PITCH, "pitch"),
        (_PARAMETER_RANGE, "pitch_range"),
    ):
        library.espeak_SetParameter(parameter, request[key], 0)
    encoded = text.encode()
    library.espeak_Synth(encoded, len(encoded) + 1, 0, 1, 0, _CHARS_UTF8, None, None)
    library.espeak_Synchronize()
    return {"phonemes": phonemes, "words": words}, bytes(pcm)


def _ipa(library: Any, request: dict[str, Any]) -> tuple[dict[str, Any], bytes]:
    """Phonemes of a text, clause by clause."""
    library.espeak_TextToPhonemes.restype = ctypes.c_char_p
    pointer = ctypes.c_char_p(request["text"].encode())
    clauses = []
    while pointer.value:
        phonemes = library.espeak_TextToPhonemes(ctypes.byref(pointer), _CHARS_UTF8, _PHONEME_MODE_IPA)
        clauses.append(phonemes.decode())
    return {"clauses": clauses}, b""


def _answer(library: Any, request: dict[str, Any]) -> tuple[dict[str, Any], bytes]:
    if library.espeak_SetVoiceByName(request["voice"].encode()) != 0:
        return {"error": "voice"}, b""
    return _ipa(library, request) if request["wants"] == "ipa" else _speak(library, request)


def _send(reply: dict[str, Any], sound: bytes = b"") -> None:
    line = json.dumps(reply | {"bytes": len(sound)}).encode()
    sys.stdout.buffer.write(line + b"\n" + sound)
    sys.stdout.buffer.flush()


def _serve(library_name: str) -> None:
    try:
        library = ctypes.CDLL(library_name)
    except OSError:
        return _send({"error": "library"})
    rate = library.espeak_Initialize(_AUDIO_OUTPUT_SYNCHRONOUS, _BUFFER_MS, None, _PHONEME_EVENTS_AS_IPA)
    if rate <= 0:
        return _send({"error": "data"})
    _send({"sample_rate": rate})
    for line in sys.stdin.buffer:
        child = os.fork()
        if child == 0:
            _send(*_answer(library, json.loads(line)))
            os._exit(0)
        _, status = os.waitpid(child, 0)
        if status:  # the child cannot have answered: stop, which the other side sees
            sys.exit(1)
    return None


if __name__ == "__main__":
    _serve(sys.argv[1])
