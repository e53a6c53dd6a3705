"""Stage that regresses the audio encoder to the exact mouth codes of synthetic speech."""

from __future__ import annotations

import functools
import re
from collections.abc import Iterable
from pathlib import Path
from pydoc_data import topics
from typing import cast

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.signal import lfilter
from torch import Tensor, nn
from tqdm import tqdm

from gcavt import audio, code_space
from gcavt.model import Gcavt
from training.objectives.encoders import weight_figures, weighted_code_error
from training.objectives.objective import Batch
from training.recipes import TrainConfig
from training.synthetic.performance import viseme_matrix, viseme_track
from training.synthetic.speech import Voice, random_sentence, speak

TRAIN_UTTERANCES, HELD_OUT_UTTERANCES = 900, 30
ACCENTS = ("en-us", "en", "en-gb-scotland", "en-gb-x-rp", "en-gb-x-gbclan", "en-029", "en-us-nyc")
VARIANTS = ("", "+f1", "+f2", "+f3", "+f4", "+m1", "+m2", "+m3", "+m4", "+m5", "+m6", "+klatt", "+klatt3")
HELD_OUT_VOICES = ("en-us+f5", "en+m7", "en-gb-scotland+f2")
COMMON_NOISE_DB = (12.0, 60.0)
"""Range of the ratio of speech to noise."""


class AudioStage:
    """Windows of spoken sentences, and the mouth that each shows at its middle."""

    def __init__(self, config: TrainConfig, folder: Path) -> None:
        self.config = config
        cache = folder / "speech.npz"
        if not cache.exists():
            folder.mkdir(parents=True, exist_ok=True)
            _write_speech(cache)
        with np.load(cache) as arrays:
            self.windows = {k: arrays[f"{k}_windows"] for k in ("train", "held_out")}
            self.weights = {k: arrays[f"{k}_weights"] for k in ("train", "held_out")}
            self.utterances = arrays["held_out_utterances"]
        spread = self.weights["train"].std(0)
        self.active = spread > 0.04
        self.spread = torch.from_numpy(np.maximum(spread, 0.04))

    def trained_modules(self, model: nn.Module) -> Iterable[nn.Module]:
        return (cast(Gcavt, model).audio_encoder,)

    def draw(self, rng: np.random.Generator, batch_size: int) -> Batch:
        index = rng.integers(0, len(self.windows["train"]), batch_size)
        windows = self.windows["train"][index].astype(np.float32)
        return {
            "mel": torch.from_numpy(augmented_windows(windows, rng))[:, None],
            "code": torch.from_numpy(code_space.content_code(self.weights["train"][index])),
        }

    def loss(self, model: nn.Module, batch: Batch) -> tuple[Tensor, dict[str, float]]:
        code = cast(Gcavt, model).audio_encoder(batch["mel"])
        return weighted_code_error(code, batch["code"], self.spread), {}

    def evaluate(self, model: nn.Module) -> dict[str, float]:
        windows = torch.from_numpy(self.windows["held_out"].astype(np.float32))[:, None]
        encoder = cast(Gcavt, model).audio_encoder
        codes = torch.cat([encoder(part) for part in torch.split(windows, 256)]).numpy()
        truth = self.weights["held_out"]
        weights = code_space.content_weights(codes)
        jaw = code_space.COEFFICIENTS.index("jawOpen")
        figures = weight_figures(weights, truth, self.active)
        figures["jaw_correlation"] = float(np.corrcoef(weights[:, jaw], truth[:, jaw])[0, 1])
        figures["in_sync"] = self._share_in_sync(weights[:, self.active], truth[:, self.active])
        return figures

    def _share_in_sync(self, weights: NDArray[np.float32], truth: NDArray[np.float32]) -> float:
        """Share of utterances whose best offset among -15..15 frames is within one frame of 0."""
        hits = []
        for name in np.unique(self.utterances):
            ours, exact = weights[self.utterances == name], truth[self.utterances == name]
            if len(ours) < 40:
                continue
            errors = [
                ((ours[15:-15] - exact[15 + k : len(exact) - 15 + k]) ** 2).mean() for k in range(-15, 16)
            ]
            hits.append(abs(int(np.argmin(errors)) - 15) <= 1)
        return float(np.mean(hits)) if hits else float("nan")


def augmented_windows(windows_BFT: NDArray[np.float32], rng: np.random.Generator) -> NDArray[np.float32]:
    """Mel windows at another loudness, from a larger or smaller throat, with a band missing, with hiss."""
    batch, bands, frames = windows_BFT.shape
    heard = windows_BFT > 0
    changed = windows_BFT + rng.uniform(-0.08, 0.08, (batch, 1, 1)).astype(np.float32) * heard
    changed = changed + 0.02 * rng.standard_normal(changed.shape).astype(np.float32) * heard
    changed = np.roll(changed, int(rng.integers(-3, 4)), axis=1)
    for row in range(0, batch, 2):
        low = int(rng.integers(0, bands - 12))
        changed[row, low : low + int(rng.integers(0, 12))] = 0
    return np.asarray(np.clip(changed, 0, 1), np.float32)


def _write_speech(path: Path) -> None:
    arrays: dict[str, NDArray[np.generic]] = {}
    for split, count, seed in (("train", TRAIN_UTTERANCES, 1), ("held_out", HELD_OUT_UTTERANCES, 99)):
        rng = np.random.default_rng(seed)
        windows, weights, names = [], [], []
        for number in tqdm(range(count), desc=f"speaking ({split})", mininterval=5):
            some_windows, some_weights = _utterance(rng, held_out=split == "held_out")
            windows.append(some_windows)
            weights.append(some_weights)
            names.append(np.full(len(some_weights), number, np.int32))
        arrays[f"{split}_windows"] = np.concatenate(windows)
        arrays[f"{split}_weights"] = np.concatenate(weights)
        arrays[f"{split}_utterances"] = np.concatenate(names)
    partial = path.with_suffix(".partial.npz")
    np.savez(partial, **arrays)  # type: ignore[arg-type]
    partial.rename(path)


def _utterance(
    rng: np.random.Generator, *, held_out: bool
) -> tuple[NDArray[np.float16], NDArray[np.float32]]:
    """Mel windows (N, 80, 20) and mouth weights (N, 52) of one spoken sentence with silence about it."""
    if held_out:
        name = str(rng.choice(HELD_OUT_VOICES))
    else:
        name = str(rng.choice(ACCENTS)) + str(rng.choice(VARIANTS))
    voice = Voice(
        name=name,
        rate_wpm=int(rng.integers(120, 215)),
        pitch=int(rng.integers(20, 80)),
        pitch_range=int(rng.integers(25, 75)),
    )
    speech = speak(random_sentence(rng) if rng.random() < 0.3 else _random_words(rng), voice)
    samples = audio.resample_to_16k_mono(speech.samples, speech.sample_rate)
    frames = audio.video_frame_count(len(samples))
    weights = viseme_track(speech.phonemes, frames) @ viseme_matrix()
    pad = 8
    samples = np.pad(samples, (pad * 640, pad * 640))
    weights = np.pad(weights, ((pad, pad), (0, 0)))
    mel = audio.mel_spectrogram(_recorded(samples, rng))
    windows = np.stack([audio.mel_window(mel, t) for t in range(len(weights))])
    return windows.astype(np.float16), np.asarray(weights, np.float32)


@functools.cache
def _vocabulary() -> tuple[str, ...]:
    """Running English text that every Python carries: its own documentation."""
    text = " ".join(topics.topics.values()).lower()
    return tuple(re.findall(r"[a-z]{2,10}", text))


def _random_words(rng: np.random.Generator) -> str:
    words = _vocabulary()
    start = int(rng.integers(0, len(words) - 20))
    return " ".join(words[start : start + int(rng.integers(5, 12))])


def _recorded(samples: NDArray[np.float32], rng: np.random.Generator) -> NDArray[np.float32]:
    """The speech through a microphone: spectral tilt, a room's echo, noise."""
    tilt = float(rng.uniform(-0.6, 0.6))
    changed = samples + tilt * np.concatenate([[0], samples[:-1]])
    if rng.random() < 0.5:
        delay = int(rng.integers(160, 1200))
        echo = np.zeros(delay + 1)
        echo[0], echo[-1] = 1, -float(rng.uniform(0.05, 0.45))
        changed = lfilter([1.0], echo, changed)
    level = max(audio.rms(changed.astype(np.float32)), 1e-4)
    noise = rng.standard_normal(len(changed))
    if rng.random() < 0.5:
        noise = lfilter([0.3], [1, -0.9], noise)
    noise *= level / max(float(noise.std()), 1e-6) * 10 ** (-float(rng.uniform(*COMMON_NOISE_DB)) / 20)
    return np.asarray(changed + noise, np.float32)
