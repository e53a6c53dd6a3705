"""Clips of people who talk: the mouth crop of every frame and the mel window that goes with it.

`python -m training.datasets.talking --out DATA/talking.npz`
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from gcavt.audio import VIDEO_FPS, mel_spectrogram, mel_window, resample_to_16k_mono
from gcavt.preprocessing import MOUTH_PX, landmarks_68_from_478, mouth_crop
from training.datasets.placement import rendered_pose
from training.datasets.render import placement
from training.synthetic import truth
from training.synthetic.identity import Identity, Scene
from training.synthetic.motion import perform
from training.synthetic.renderer import Renderer
from training.synthetic.speech import random_voice

FIRST_SEED = 5000
"""Apart from the people of the triples."""
PEOPLE, SECONDS = 40, 6.0


@dataclass(frozen=True, eq=False)
class TalkingClips:
    """All frames of all clips, one clip after the other; each clip is another person in another voice."""

    mouths: NDArray[np.uint8]
    """(N, 96, 96, 3), RGB, eye line level."""
    mels: NDArray[np.float16]
    """(N, 80, 20)."""
    clip: NDArray[np.int32]
    """(N,), which clip each frame is of."""

    @classmethod
    def load(cls, path: Path) -> TalkingClips:
        with np.load(path) as arrays:
            return cls(arrays["mouths"], arrays["mels"], arrays["clip"])

    def __len__(self) -> int:
        """How many clips."""
        return int(self.clip[-1]) + 1

    def frames_of(self, clip: int) -> slice:
        return slice(*np.searchsorted(self.clip, (clip, clip + 1)).tolist())


def render_clip(seed: int, seconds: float) -> tuple[NDArray[np.uint8], NDArray[np.float16]]:
    """Mouth crops (T, 96, 96, 3) and mel windows (T, 80, 20) of one person's talk.

    Raises EngineMissingError where espeak-ng is not installed.
    """
    rng = np.random.default_rng(seed)
    identity = Identity(seed)
    performance = perform(rng, seconds, random_voice(rng, identity.masculinity))
    renderer = Renderer(identity, Scene.from_seed(seed), supersampling=1)
    place = placement(renderer)
    mouths = []
    for pose, expression, mouth in zip(
        performance.pose_T6, performance.expression_T52, performance.mouth_T52, strict=True
    ):
        render = renderer.render(np.clip(expression + mouth, 0, 1), rendered_pose(pose, place))
        mouths.append(mouth_crop(render.image, landmarks_68_from_478(truth.landmarks(render)), MOUTH_PX))
    mel = mel_spectrogram(resample_to_16k_mono(performance.samples, performance.sample_rate))
    windows = [mel_window(mel, t) for t in range(len(mouths))]
    return np.stack(mouths), np.stack(windows).astype(np.float16)


def render_talking(path: Path, people: int = PEOPLE, seconds: float = SECONDS) -> None:
    """Write the clips of `people` talkers of `seconds` each; one core takes about that long for a clip."""
    mouths, mels = zip(
        *(render_clip(FIRST_SEED + n, seconds) for n in tqdm(range(people), desc="talking", mininterval=5)),
        strict=True,
    )
    clip = np.repeat(np.arange(people, dtype=np.int32), [len(part) for part in mouths])
    partial = path.with_suffix(".partial.npz")
    np.savez(partial, mouths=np.concatenate(mouths), mels=np.concatenate(mels), clip=clip)
    partial.rename(path)


def main() -> int:
    parser = argparse.ArgumentParser(
        description=f"Render the sync stage's talkers, {VIDEO_FPS} frames a second."
    )
    parser.add_argument("--out", type=Path, required=True, help="file, .npz; left alone if it is there")
    parser.add_argument("--people", type=int, default=PEOPLE, help="default %(default)s")
    parser.add_argument("--seconds", type=float, default=SECONDS, help="of each clip; default %(default)s")
    args = parser.parse_args()
    if not args.out.exists():
        args.out.parent.mkdir(parents=True, exist_ok=True)
        render_talking(args.out, args.people, args.seconds)
    return 0


if __name__ == "__main__":
    sys.exit(main())
