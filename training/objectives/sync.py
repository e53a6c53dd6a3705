"""The paper's audio-visual synchronisation: mouth and sound of one moment get one code, other moments do not.

Each sample is a run of frames of one clip. Its first SYNC_FRAMES frames, seen and heard, are the pair; the
other clips of the batch and later pieces of the same run are what they must not be taken for.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import cast

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from gcavt.augmentation import without_identity
from gcavt.losses import ContrastiveSyncLoss
from gcavt.model import Gcavt
from gcavt.preprocessing import to_network
from training.datasets.talking import TalkingClips, render_talking
from training.objectives.audio import augmented_windows
from training.objectives.objective import Batch
from training.recipes import TrainConfig

SYNC_FRAMES = 5
"""Frames whose codes are assembled into one vector, as SyncNet's window."""
LEAST_SHIFT = 5
"""Frames between a piece and one that counts as another moment: mel windows no longer overlap."""
RUN_FRAMES = 15
MOST_TURN_DEG = 20.0
MOST_OFFSET = 15
HELD_OUT_SHARE = 0.2


class SyncStage:
    """Content and audio encoder by the contrastive loss of equation 1."""

    def __init__(self, config: TrainConfig, folder: Path) -> None:
        """Renders the talkers into the folder if they are not there. Raises ValueError for fewer than two."""
        path = folder / "talking.npz"
        if not path.exists():
            folder.mkdir(parents=True, exist_ok=True)
            render_talking(path)
        self.clips = TalkingClips.load(path)
        held_out = max(1, round(HELD_OUT_SHARE * len(self.clips)))
        self.train_clips = np.arange(len(self.clips) - held_out)
        self.held_out_clips = np.arange(len(self.clips) - held_out, len(self.clips))
        if not len(self.train_clips):
            raise ValueError(f"{path} holds one talker: the last ones are held out")
        self.loss_of_codes = ContrastiveSyncLoss(mode=config.sync_mode)

    def trained_modules(self, model: nn.Module) -> Iterable[nn.Module]:
        joined = cast(Gcavt, model)
        heard = (joined.audio_encoder, self.loss_of_codes)
        return heard if self.loss_of_codes.mode == "audio_only" else (joined.content_encoder, *heard)

    def draw(self, rng: np.random.Generator, batch_size: int) -> Batch:
        """Runs of different clips as far as there are enough."""
        clips = rng.choice(self.train_clips, batch_size, replace=batch_size > len(self.train_clips))
        runs = [self._run(int(clip), rng) for clip in clips]
        mouths = np.stack([augmented_mouths(self.clips.mouths[run], rng) for run in runs])
        heard = [run.start + np.arange(SYNC_FRAMES) for run in runs]
        mels = np.stack([self.clips.mels[rows] for rows in heard]).astype(np.float32)
        mels = augmented_windows(mels.reshape(-1, *mels.shape[2:]), rng).reshape(mels.shape)
        return {"mouths": torch.from_numpy(mouths), "mels": torch.from_numpy(mels)[:, :, None]}

    def _run(self, clip: int, rng: np.random.Generator) -> slice:
        frames = self.clips.frames_of(clip)
        first = int(rng.integers(frames.start, frames.stop - RUN_FRAMES + 1))
        return slice(first, first + RUN_FRAMES)

    def loss(self, model: nn.Module, batch: Batch) -> tuple[Tensor, dict[str, float]]:
        joined = cast(Gcavt, model)
        mouths, mels = batch["mouths"], batch["mels"]
        seen = joined.content_encoder(mouths.flatten(0, 1)).reshape(*mouths.shape[:2], -1)
        heard = joined.audio_encoder(mels.flatten(0, 1)).reshape(len(mels), -1)
        own = seen[:, :SYNC_FRAMES].flatten(1)
        later = range(LEAST_SHIFT, RUN_FRAMES - SYNC_FRAMES + 1)
        shifted = torch.stack([seen[:, s : s + SYNC_FRAMES].flatten(1) for s in later], 1)
        loss = self.loss_of_codes(own, heard, shifted)
        return loss, {"temperature": float(self.loss_of_codes.temperature.detach())}

    def evaluate(self, model: nn.Module) -> dict[str, float]:
        """Over people and voices held out.

        `in_sync`: share of clips whose best offset of -15 to 15 frames is within one of 0. `retrieval`: how
        often the mouth of a moment is the nearest to its sound among moments of the same clip that lie
        SYNC_FRAMES apart (`chance` by guessing).
        """
        joined = cast(Gcavt, model)
        hits, offsets, chances = [], [], []
        for clip in self.held_out_clips:
            rows = self.clips.frames_of(int(clip))
            mouths = torch.from_numpy(np.stack([to_network(m) for m in self.clips.mouths[rows]]))
            mels = torch.from_numpy(self.clips.mels[rows].astype(np.float32))[:, None]
            seen = assembled(joined.content_encoder(mouths).numpy())
            heard = assembled(joined.audio_encoder(mels).numpy())
            likeness = heard @ seen.T
            offsets.append(best_offset(likeness))
            apart = likeness[::SYNC_FRAMES, ::SYNC_FRAMES]
            hits.append(float((apart.argmax(1) == np.arange(len(apart))).mean()))
            chances.append(1 / len(apart))
        return {
            "in_sync": float(np.mean([abs(offset) <= 1 for offset in offsets])),
            "retrieval": float(np.mean(hits)),
            "chance": float(np.mean(chances)),
        }


def augmented_mouths(mouths_THWC: NDArray[np.uint8], rng: np.random.Generator) -> NDArray[np.float32]:
    """Network inputs (T, 3, H, W): turned and with another look, the same way in all frames of a run."""
    height, width = mouths_THWC.shape[1:3]
    turn = cv2.getRotationMatrix2D(
        ((width - 1) / 2, (height - 1) / 2), float(rng.uniform(-MOST_TURN_DEG, MOST_TURN_DEG)), 1.0
    )
    seed = int(rng.integers(2**32))
    turned = (
        cv2.warpAffine(mouth, turn, (width, height), borderMode=cv2.BORDER_REPLICATE) for mouth in mouths_THWC
    )
    looks = (without_identity(np.asarray(m, np.uint8), np.random.default_rng(seed)) for m in turned)
    return np.stack([to_network(look) for look in looks])


def assembled(codes_TD: NDArray[np.float32]) -> NDArray[np.float32]:
    """Unit vectors (T - 4, 5 D) of SYNC_FRAMES consecutive codes each."""
    count = len(codes_TD) - SYNC_FRAMES + 1
    joined = np.concatenate([codes_TD[k : k + count] for k in range(SYNC_FRAMES)], 1)
    return np.asarray(joined / np.linalg.norm(joined, axis=1, keepdims=True), np.float32)


def best_offset(likeness_TT: NDArray[np.float32]) -> int:
    """Frames by which the seen mouth comes late: where the mean likeness along a diagonal is greatest."""
    most = min(MOST_OFFSET, len(likeness_TT) - 1)
    means = [float(np.diagonal(likeness_TT, k).mean()) for k in range(-most, most + 1)]
    return int(np.argmax(means)) - most
