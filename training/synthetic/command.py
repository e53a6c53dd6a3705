"""`gcavt synth`: clips of synthetic talking heads with sound, and the truth about every frame beside them.

For each identity: `NAME.mp4` (H.264 25 fps, AAC) and `NAME.npz` (the arrays of `clip_truth`); for all
together `contact_sheet.png`. Dense truth (flow, depth) is not stored: a seed renders it again.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from training.synthetic import truth
from training.synthetic.clip_writer import ClipWriter, replacing
from training.synthetic.identity import Identity, Scene
from training.synthetic.motion import FPS, Performance, perform
from training.synthetic.performance import VISEME_NAMES
from training.synthetic.renderer import Renderer
from training.synthetic.speech import EspeakMissingError, random_voice

EXIT_USER_ERROR = 2
_SHEET_FRAMES = 6
_SHEET_PX = 128


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--identities", type=int, default=4, help="how many people (default 4)")
    parser.add_argument("--seconds", type=float, default=10.0, help="length of each clip (default 10)")
    parser.add_argument("--out", type=Path, required=True, help="folder for the clips; made if missing")
    parser.add_argument("--seed", type=int, default=0, help="first identity's seed (default 0)")
    parser.add_argument("--size", type=int, default=256, help="picture side in pixels, even (default 256)")
    parser.add_argument(
        "--supersampling", type=int, choices=(1, 2), default=2, help="1 is faster, 2 smoother"
    )
    parser.add_argument("--background", choices=("scene", "black"), default="scene")


def run(args: argparse.Namespace) -> int:
    """Render the clips. Returns 0, or 2 after one line on stderr that says what to change."""
    problem = _problem_with(args)
    if problem:
        print(f"gcavt synth: {problem}", file=sys.stderr)
        return EXIT_USER_ERROR
    rows = []
    try:
        args.out.mkdir(parents=True, exist_ok=True)
        frames = args.identities * round(args.seconds * FPS)
        with tqdm(total=frames, unit="frame", desc="synth", disable=None) as progress:
            for seed in range(args.seed, args.seed + args.identities):
                rows.append(write_clip(args, seed, progress))
        with replacing(args.out / "contact_sheet.png") as path:
            _write_png(path, np.vstack(rows))
    except (EspeakMissingError, OSError) as error:
        print(f"gcavt synth: {error}", file=sys.stderr)
        return EXIT_USER_ERROR
    return 0


def _problem_with(args: argparse.Namespace) -> str | None:
    if args.identities < 1:
        return f"--identities must be at least 1, got {args.identities}"
    if args.seconds < 1 / FPS:
        return f"--seconds must be at least {1 / FPS}, got {args.seconds}"
    if args.seed < 0:
        return f"--seed must not be negative, got {args.seed}"
    if args.size < 64 or args.size % 2:
        return f"--size must be even and at least 64, got {args.size}"
    return None


def write_clip(args: argparse.Namespace, seed: int, progress: tqdm[Any]) -> NDArray[np.uint8]:
    """Render one identity's clip and truth into args.out; returns its row of the contact sheet."""
    rng = np.random.default_rng((seed, 1))
    identity = Identity(seed)
    performance = perform(rng, args.seconds, random_voice(rng, identity.masculinity))
    renderer = Renderer(
        identity,
        Scene.from_seed(seed),
        size_px=args.size,
        supersampling=args.supersampling,
        background=args.background,
    )
    shown = set(np.linspace(0, performance.frame_count - 1, _SHEET_FRAMES).astype(int).tolist())
    row: list[NDArray[np.uint8]] = []
    landmarks: list[NDArray[np.float32]] = []
    name = f"identity_{seed:06d}"
    with replacing(args.out / f"{name}.npz") as truth_path, replacing(args.out / f"{name}.mp4") as clip_path:
        with ClipWriter(
            clip_path,
            size_px=args.size,
            fps=FPS,
            samples=performance.samples,
            sample_rate=performance.sample_rate,
        ) as writer:
            for i in range(performance.frame_count):
                render = renderer.render(performance.weights_T52[i], performance.pose_T6[i])
                writer.write(render.image)
                landmarks.append(truth.landmarks(render))
                if i in shown:
                    row.append(_thumbnail(render.image))
                progress.update()
        np.savez_compressed(truth_path, **clip_truth(performance, landmarks, seed))
    return np.hstack(row + [np.zeros_like(row[0])] * (_SHEET_FRAMES - len(row)))


def clip_truth(
    performance: Performance, landmarks: Sequence[NDArray[np.float32]], seed: int
) -> dict[str, Any]:
    """The arrays of a clip's .npz; T frames, P phonemes."""
    return {
        "seed": np.int64(seed),
        "fps": np.int64(FPS),
        "pose_T6": performance.pose_T6,
        "expression_T52": performance.expression_T52,
        "mouth_T52": performance.mouth_T52,
        "visemes_T15": performance.visemes_T15,
        "viseme_names": np.array(VISEME_NAMES),
        "landmarks_T468_2": np.stack(landmarks),
        "text": np.array(performance.text),
        "phonemes_P": np.array([ipa for ipa, _, _ in performance.phonemes]),
        "phoneme_times_s_P2": np.array([times for _, *times in performance.phonemes], np.float32),
    }


def _write_png(path: Path, image_HW3: NDArray[np.uint8]) -> None:
    if not cv2.imwrite(str(path), image_HW3[..., ::-1]):
        raise OSError(f"cannot write {path}")


def _thumbnail(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    return np.asarray(cv2.resize(image, (_SHEET_PX, _SHEET_PX), interpolation=cv2.INTER_AREA), np.uint8)
