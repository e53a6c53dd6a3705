"""How well the audio encoder hears the jaw of real speakers: their jaw as MediaPipe sees it, against its own.

`python -m training.prepare.heard_jaw --checkpoint CHECKPOINT VIDEO [VIDEO ...]`

Prints, for every look-ahead and for conditions of sound at one of them, Pearson's r pooled over the clips
with their means removed, its mean over clips, and by how many frames the heard jaw comes late. MediaPipe's
jaw is a weak truth: on renders it agrees with the exact one with r = .79 (see LOG.md), and it lags a little.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import av
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from tqdm import tqdm

from engine.assets import face_landmarker_path
from engine.face_tracker import FaceTracker
from gcavt import audio, code_space
from gcavt.audio_encoder import AudioEncoder
from gcavt.checkpoint import read_checkpoint
from training.datasets.sound_scenes import NAMED_SCENES, Scene, recorded
from training.metrics.report import table

Floats = NDArray[np.float32]

JAW = code_space.COEFFICIENTS.index("jawOpen")
MOST_LAG = 6
PART = "audio_encoder."


@dataclass(frozen=True, eq=False)
class Speaker:
    """One clip: its sound, and the jaw that is seen (frames,), NaN where there is no face."""

    name: str
    samples: audio.Samples
    jaw: Floats


def read_speaker(path: Path, tracker: FaceTracker) -> Speaker:
    """Raises ValueError for a clip without sound or without a face."""
    tracker.reset()
    jaw = []
    with av.open(str(path)) as container:
        for number, frame in enumerate(container.decode(video=0)):
            face = tracker.track(np.asarray(frame.to_ndarray(format="rgb24"), np.uint8), number * 40)
            shapes = None if face is None else face.blendshapes
            jaw.append(np.nan if shapes is None else shapes["jawOpen"])
    if not np.isfinite(jaw).any():
        raise ValueError(f"{path}: no face in any frame")
    return Speaker(path.stem, audio.read_audio_16k_mono(path), np.array(jaw, np.float32))


def read_encoder(checkpoint: Path) -> AudioEncoder:
    """The audio encoder of a checkpoint."""
    stored = read_checkpoint(checkpoint)
    encoder = AudioEncoder(stored.config).eval()
    weights: dict[str, Tensor] = {
        name.removeprefix(PART): value.float()
        for name, value in stored.tensors.items()
        if name.startswith(PART)
    }
    encoder.load_state_dict(weights)
    return encoder


@torch.no_grad()
def heard_jaw(encoder: AudioEncoder, samples: audio.Samples, scene: Scene, look_ahead_ms: int) -> Floats:
    """(frames,) jawOpen of speech in a scene, as it is heard live or offline."""
    sound = recorded(samples, scene, np.random.default_rng(3))
    level = audio.LevelTracker() if scene.is_live else max(audio.rms(sound), audio.RMS_FLOOR)
    stream = audio.StreamingMel(level, look_ahead_ms)
    windows = np.stack([window.mel for window in stream.push(sound) + stream.finish()])
    codes = torch.cat([encoder(part) for part in torch.split(torch.from_numpy(windows)[:, None], 64)])
    return np.asarray(code_space.content_weights(codes.numpy())[:, JAW], np.float32)


def agreement(heard: Sequence[Floats], seen: Sequence[Floats]) -> dict[str, float]:
    """Pooled and mean r, spread of the heard over the seen jaw, median lag in frames."""
    pairs = []
    for one, other in zip(heard, seen, strict=True):
        frames = min(len(one), len(other))
        known = np.isfinite(other[:frames])
        x, y = one[:frames][known], other[:frames][known]
        pairs.append((x - x.mean(), y - y.mean()))
    x_all, y_all = (np.concatenate(side) for side in zip(*pairs, strict=True))
    return {
        "pooled_r": _r(x_all, y_all),
        "mean_r": float(np.mean([_r(x, y) for x, y in pairs])),
        "spread": float(x_all.std() / y_all.std()),
        "late_frames": float(np.median([lag_frames(x, y) for x, y in pairs])),
    }


def lag_frames(heard: Floats, seen: Floats) -> float:
    """By how many frames `heard` comes late: where r is greatest within 6 frames, refined by a parabola."""
    inner = seen[MOST_LAG : len(seen) - MOST_LAG]
    lags = range(-MOST_LAG, MOST_LAG + 1)
    r = [_r(heard[MOST_LAG + k : len(heard) - MOST_LAG + k], inner) for k in lags]
    best = int(np.argmax(r))
    if best in (0, len(r) - 1):
        return float(lags[best])
    before, here, after = r[best - 1 : best + 2]
    return lags[best] + 0.5 * (before - after) / (before - 2 * here + after)


def _r(x: Floats, y: Floats) -> float:
    return float(np.corrcoef(x, y)[0, 1])


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("videos", nargs="+", type=Path)
    parser.add_argument("--checkpoint", type=Path, required=True)
    parser.add_argument(
        "--look-ahead-ms",
        type=int,
        default=80,
        choices=audio.LOOK_AHEADS_MS,
        help="where the conditions are scored (default %(default)s)",
    )
    args = parser.parse_args()
    torch.set_num_threads(1)
    encoder = read_encoder(args.checkpoint)
    with FaceTracker(face_landmarker_path()) as tracker:
        speakers = [read_speaker(path, tracker) for path in tqdm(args.videos, desc="watching")]
    cases = [(f"clean, {ms} ms", Scene(), ms) for ms in audio.LOOK_AHEADS_MS]
    scenes = {"live": Scene(is_live=True)} | NAMED_SCENES
    cases += [
        (f"{name}, {args.look_ahead_ms} ms", scene, args.look_ahead_ms) for name, scene in scenes.items()
    ]
    results = {}
    for name, scene, look_ahead_ms in tqdm(cases, desc="listening"):
        heard = [heard_jaw(encoder, speaker.samples, scene, look_ahead_ms) for speaker in speakers]
        results[name] = agreement(heard, [speaker.jaw for speaker in speakers])
    columns = list(next(iter(results.values())))
    rows = [[name, *(row[key] for key in columns)] for name, row in results.items()]
    sys.stdout.write(table(["case", *columns], rows) + "\n")
    sys.stdout.write(json.dumps({"clips": len(speakers), "results": results}) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
