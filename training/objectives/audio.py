"""Stage that regresses the audio encoder to the exact mouth codes of synthetic speech.

One network learns every look-ahead: in each window the mel frames after a look-ahead drawn at random are
withheld as `gcavt.audio.with_look_ahead` withholds them live.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from gcavt import code_space
from gcavt.audio import LOOK_AHEAD_MS, LOOK_AHEADS_MS, with_look_ahead
from gcavt.model import Gcavt
from training.datasets.sound_scenes import NAMED_SCENES
from training.datasets.speech import render_speech
from training.objectives.encoders import weight_figures, weighted_code_error
from training.objectives.objective import Batch
from training.recipes import TrainConfig

SPOKEN_CONDITIONS = (*NAMED_SCENES, "human", "foreign")
UNSPOKEN_CONDITIONS = ("only_music", "only_brown", "only_clicks")
JAW = code_space.COEFFICIENTS.index("jawOpen")
MOST_OFFSET = 15
SMALLEST_SPREAD = 0.04


class AudioStage:
    """Windows of spoken sentences, and the mouth that each shows at its frame."""

    def __init__(self, config: TrainConfig, folder: Path) -> None:
        """Renders the speech into the folder if it is not there."""
        self.config = config
        cache = folder / "speech.npz"
        if not cache.exists():
            folder.mkdir(parents=True, exist_ok=True)
            render_speech(cache)
        with np.load(cache) as arrays:
            self._arrays = {name: arrays[name] for name in arrays.files}
        spread = self._arrays["train_weights"].std(0)
        self.active = spread > SMALLEST_SPREAD
        self.spread = torch.from_numpy(np.maximum(spread, SMALLEST_SPREAD))

    def trained_modules(self, model: nn.Module) -> Iterable[nn.Module]:
        return (cast(Gcavt, model).audio_encoder,)

    def draw(self, rng: np.random.Generator, batch_size: int) -> Batch:
        index = rng.integers(0, len(self._arrays["train_windows"]), batch_size)
        windows = augmented_windows(self._arrays["train_windows"][index].astype(np.float32), rng)
        windows = with_random_look_aheads(windows, rng)
        return {
            "mel": torch.from_numpy(windows)[:, None],
            "code": torch.from_numpy(code_space.content_code(self._arrays["train_weights"][index])),
        }

    def loss(self, model: nn.Module, batch: Batch) -> tuple[Tensor, dict[str, float]]:
        code = cast(Gcavt, model).audio_encoder(batch["mel"])
        return weighted_code_error(code, batch["code"], self.spread), {}

    def evaluate(self, model: nn.Module) -> dict[str, float]:
        """Over unheard voices, by look-ahead; the jaw in each condition; how open the mouth is at nothing.

        Per look-ahead: `r2` over the coefficients that move, Pearson's `jaw_r`, and `in_sync`, the share of
        utterances whose best offset is within a frame. `jaw_r_CONDITION` is for the whole window; `open_` is
        the mean jawOpen where nobody speaks (truth 0).
        """
        encoder = cast(Gcavt, model).audio_encoder.eval()
        figures: dict[str, float] = {}
        truth, utterances = self._arrays["clean_weights"], self._arrays["clean_utterances"]
        for look_ahead_ms in LOOK_AHEADS_MS:
            weights = self._heard(encoder, "clean", look_ahead_ms)
            figures[f"r2_{look_ahead_ms}"] = weight_figures(weights, truth, self.active)["r2"]
            figures[f"jaw_r_{look_ahead_ms}"] = correlation(weights[:, JAW], truth[:, JAW])
            figures[f"in_sync_{look_ahead_ms}"] = share_in_sync(
                weights[:, self.active], truth[:, self.active], utterances
            )
        for name in SPOKEN_CONDITIONS:
            jaw = self._arrays[f"{name}_weights"][:, JAW]
            figures[f"jaw_r_{name}"] = correlation(self._heard(encoder, name, LOOK_AHEAD_MS)[:, JAW], jaw)
        for name in UNSPOKEN_CONDITIONS:
            weights = self._heard(encoder, name, LOOK_AHEAD_MS)
            figures[f"open_{name}"] = float(np.clip(weights[:, JAW], 0, 1).mean())
        silence = torch.zeros(1, 1, *self._arrays["clean_windows"].shape[1:])
        figures["open_silence"] = float(code_space.content_weights(encoder(silence).numpy())[0, JAW])
        return figures

    def _heard(self, encoder: nn.Module, condition: str, look_ahead_ms: int) -> NDArray[np.float32]:
        """The mouth's weights (N, 52) that the encoder hears in a condition."""
        windows = self._arrays[f"{condition}_windows"].astype(np.float32)
        inputs = torch.from_numpy(with_look_ahead(windows, look_ahead_ms))[:, None]
        codes = torch.cat([encoder(part) for part in torch.split(inputs, 128)])
        return code_space.content_weights(codes.numpy())


def with_random_look_aheads(
    windows_BFT: NDArray[np.float32],
    rng: np.random.Generator,
    look_aheads_ms: Sequence[int] = LOOK_AHEADS_MS,
) -> NDArray[np.float32]:
    """Each window with one of the look-aheads, drawn evenly."""
    limited = windows_BFT.copy()
    drawn = rng.choice(np.asarray(look_aheads_ms), len(windows_BFT))
    for look_ahead_ms in look_aheads_ms:
        rows = drawn == look_ahead_ms
        limited[rows] = with_look_ahead(windows_BFT[rows], look_ahead_ms)
    return limited


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


def correlation(one: NDArray[np.float32], other: NDArray[np.float32]) -> float:
    """Pearson's r; 0 where one of them does not move."""
    if one.std() == 0 or other.std() == 0:
        return 0.0
    return float(np.corrcoef(one, other)[0, 1])


def share_in_sync(
    weights: NDArray[np.float32], truth: NDArray[np.float32], utterances: NDArray[np.int32]
) -> float:
    """Share of utterances of at least 40 frames whose best offset is within one frame of 0; NaN for none."""
    hits = []
    for number in np.unique(utterances):
        rows = utterances == number
        if rows.sum() >= MOST_OFFSET * 2 + 10:
            hits.append(abs(best_offset(weights[rows], truth[rows])) <= 1)
    return float(np.mean(hits)) if hits else float("nan")


def best_offset(weights: NDArray[np.float32], truth: NDArray[np.float32]) -> int:
    """Frames by which `weights` (T, K) come late, among -15 to 15: where the squared error is least."""
    inner = weights[MOST_OFFSET:-MOST_OFFSET]
    errors = [
        ((inner - truth[MOST_OFFSET - k : len(truth) - MOST_OFFSET - k]) ** 2).mean()
        for k in range(-MOST_OFFSET, MOST_OFFSET + 1)
    ]
    return int(np.argmin(errors)) - MOST_OFFSET
