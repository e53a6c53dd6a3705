"""Speech with exact phoneme times from the system's espeak-ng, each utterance as if it were the first."""

from __future__ import annotations

import atexit
import functools
import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import IO, Any

import numpy as np

from training.synthetic import espeak_worker
from training.synthetic.utterance import EngineMissingError, Speech, Voice
from training.synthetic.visemes import TimedSymbol

LIBRARY = "libespeak-ng.so.1"
_MISSING = {
    "library": f"{LIBRARY} cannot be loaded; install it with: apt-get install libespeak-ng1 espeak-ng-data",
    "data": "espeak-ng finds no voice data; install it with: apt-get install espeak-ng-data",
}


class EspeakMissingError(EngineMissingError):
    """The espeak-ng library is not installed; the message says how to install it."""


class _Worker:
    """The process that speaks; it ends with this one, whose pipe it reads."""

    def __init__(self) -> None:
        command = [sys.executable, "-I", "-S", str(Path(espeak_worker.__file__)), LIBRARY]
        # a session of its own, so that Ctrl-C is this process's to answer
        process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True
        )
        assert process.stdin is not None and process.stdout is not None
        self._process = process
        self._requests: IO[bytes] = process.stdin
        self._replies: IO[bytes] = process.stdout
        hello, _ = self._reply()
        if "error" in hello:
            self.close()
            raise EspeakMissingError(_MISSING[hello["error"]])
        self.sample_rate = int(hello["sample_rate"])

    def ask(self, voice_name: str, **request: object) -> tuple[dict[str, Any], bytes]:
        """The reply and its sound. Raises ValueError for a voice that espeak-ng lacks."""
        self._requests.write(json.dumps({"voice": voice_name, **request}).encode() + b"\n")
        self._requests.flush()
        reply, sound = self._reply()
        if "error" in reply:
            raise ValueError(f"espeak-ng has no voice {voice_name!r}")
        return reply, sound

    def _reply(self) -> tuple[dict[str, Any], bytes]:
        line = self._replies.readline()
        if not line:
            raise RuntimeError(f"espeak-ng ended with exit code {self._process.wait()}")
        reply: dict[str, Any] = json.loads(line)
        return reply, self._replies.read(reply["bytes"])

    def close(self) -> None:
        self._requests.close()
        self._process.wait()
        self._replies.close()


@functools.cache
def _worker() -> _Worker:
    worker = _Worker()
    atexit.register(worker.close)
    return worker


def is_installed() -> bool:
    try:
        _worker()
    except EspeakMissingError:
        return False
    return True


def speak(text: str, voice: Voice) -> Speech:
    """Say `text`: the same samples for the same arguments, whatever was said before. Not thread-safe.

    Raises EspeakMissingError if espeak-ng is not installed, ValueError if it lacks the voice.
    """
    worker = _worker()
    reply, pcm = worker.ask(
        voice.name,
        wants="sound",
        text=text,
        rate_wpm=voice.rate_wpm,
        pitch=voice.pitch,
        pitch_range=voice.pitch_range,
    )
    samples = np.frombuffer(pcm, np.int16).astype(np.float32) / np.float32(32768)
    duration_s = len(samples) / worker.sample_rate
    phonemes = _lasting(reply["phonemes"], duration_s)
    return Speech(
        text=text,
        samples=samples,
        sample_rate=worker.sample_rate,
        phonemes=phonemes,
        words=_until_silence(_lasting(reply["words"], duration_s), phonemes),
    )


def ipa_of(text: str, voice_name: str = "en-us") -> str:
    """The phonemes of `text` in IPA, with stress marks and the spaces between words."""
    reply, _ = _worker().ask(voice_name, wants="ipa", text=text)
    return ", ".join(reply["clauses"])


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
