"""Speech with exact phoneme times from the program flite: three voices built from recordings of people."""

from __future__ import annotations

import re
import shutil
import subprocess
import tempfile
import wave
from pathlib import Path

import numpy as np

from training.synthetic.utterance import EngineMissingError, Speech, Voice
from training.synthetic.visemes import TimedSymbol

PROGRAM = "flite"
VOICES = ("slt", "rms", "awb")
"""flite's fourth, kal, is left out: its times run up to 0.1 s ahead of its sound."""
_USUAL_RATE_WPM = 165.0
_TIMEOUT_S = 120.0

_IPA_OF_ARPABET = {
    "aa": "ɑ", "ae": "æ", "ah": "ʌ", "ao": "ɔ", "aw": "aʊ", "ax": "ə", "axr": "ɚ", "ay": "aɪ",
    "b": "b", "ch": "tʃ", "d": "d", "dh": "ð", "dx": "ɾ", "eh": "ɛ", "el": "əl", "em": "əm", "en": "ən",
    "er": "ɜ", "ey": "eɪ", "f": "f", "g": "ɡ", "hh": "h", "hv": "h", "ih": "ɪ", "iy": "i", "jh": "dʒ",
    "k": "k", "l": "l", "m": "m", "n": "n", "ng": "ŋ", "ow": "oʊ", "oy": "ɔɪ", "p": "p", "pau": "",
    "r": "ɹ", "s": "s", "sh": "ʃ", "t": "t", "th": "θ", "uh": "ʊ", "uw": "u", "v": "v", "w": "w",
    "y": "j", "z": "z", "zh": "ʒ",
}  # fmt: skip


def is_installed() -> bool:
    return shutil.which(PROGRAM) is not None


def speak(text: str, voice: Voice) -> Speech:
    """Say `text`. Raises EngineMissingError without flite, ValueError if it lacks the voice or fails."""
    if voice.name not in VOICES:
        raise ValueError(f"flite has no voice {voice.name!r}; it has {', '.join(VOICES)}")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "speech.wav"
        stretch = _USUAL_RATE_WPM / voice.rate_wpm
        try:
            done = subprocess.run(
                [PROGRAM, "-voice", voice.name, "--setf", f"duration_stretch={stretch:.3f}", "-psdur",
                 "-t", text, "-o", str(path)],
                capture_output=True, text=True, timeout=_TIMEOUT_S, check=False,
            )  # fmt: skip
        except FileNotFoundError as error:
            raise EngineMissingError(
                f"{PROGRAM} cannot be run; install it with: apt-get install flite"
            ) from error
        if done.returncode != 0 or not path.exists():
            raise ValueError(f"flite failed with exit code {done.returncode}: {done.stderr.strip()[:200]}")
        with wave.open(str(path), "rb") as recording:
            sample_rate = recording.getframerate()
            pcm = recording.readframes(recording.getnframes())
    samples = np.frombuffer(pcm, np.int16).astype(np.float32) / np.float32(32768)
    return Speech(text=text, samples=samples, sample_rate=sample_rate, phonemes=_phonemes(done.stdout))


def _phonemes(listing: str) -> tuple[TimedSymbol, ...]:
    """Timed IPA of flite's "pau:0.184 dh:0.236 ...": every phone with its end in seconds."""
    timed, start_s = [], 0.0
    for phone, end in re.findall(r"([a-z]+):([0-9.]+)", listing):
        timed.append((_IPA_OF_ARPABET[phone], start_s, float(end)))
        start_s = float(end)
    return tuple(timed)
