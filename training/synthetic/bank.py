"""What ships with the product: a bank of rendered identities and the built-in driver clip.

`python -m training.synthetic.bank` draws both into `gcavt/pretrained/`. The seeds were chosen by looking.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

import gcavt
from gcavt.config import EditReposeGeneratorConfig
from gcavt.preprocessing import landmarks_68_from_478, portrait_crop_origin
from training.datasets.placement import normal_pose
from training.datasets.render import placement
from training.synthetic import truth
from training.synthetic.camera import through_lens
from training.synthetic.clip_writer import ClipWriter, replacing
from training.synthetic.identity import Identity, Scene
from training.synthetic.motion import FPS, join_speech, perform_speech
from training.synthetic.performance import both, weight_vector
from training.synthetic.renderer import Render, Renderer
from training.synthetic.speech import Voice, speak

PRETRAINED = Path(gcavt.__file__).parent / "pretrained"
LICENCE = "CC0-1.0, rendered; nobody exists"
IDENTITIES = {
    "adrian": 41,
    "amara": 28,
    "freya": 40,
    "hana": 10,
    "idris": 29,
    "jun": 39,
    "kofi": 38,
    "lena": 45,
    "mateo": 33,
    "noah": 14,
    "ruby": 21,
    "sofia": 48,
    "zola": 37,
}
"""Name and seed."""
DRIVER_SEED = 35
_DRIVER_MOTION_SEED = 102
"""Turns the head to both sides by more than 17 degrees."""
_DRIVER_PX = 384
_DRIVER_VOICE = Voice(name="en-us+f3", rate_wpm=158, pitch=55, pitch_range=60)
_DRIVER_LINES = (
    ("Hello, and welcome!", 0.3),
    ("I am only a picture that someone calculated.", 0.35),
    ("But I can look around, raise my eyebrows, and smile.", 0.35),
    ("Now use your own camera, your own voice, or both.", 0.45),
)
"""What the driver says, each after a pause in seconds."""
_TEETH_AND_LIDS = weight_vector(
    {
        "jawOpen": 0.34,
        **both("mouthUpperUp", 0.5),
        **both("mouthLowerDown", 0.45),
        **both("mouthSmile", 0.25),
        **both("eyeBlink", 1.0),
    }
)
"""The second portrait: it lends teeth and lids."""
_SIDE_YAW_DEG = 30.0
"""The third and fourth: they show what a turned head uncovers."""


def studio() -> Scene:
    """Soft warm light from the upper right of the picture, as a portrait photographer would set it."""
    direction = np.array([0.35, 0.45, 0.82])
    return Scene(
        key_direction=direction / np.linalg.norm(direction),
        key_colour=np.array([1, 0.96, 0.9]) * 0.85,
        ambient=0.45,
        background=np.zeros((8, 8, 3), np.float32),
    )


def write_identity(folder: Path, name: str, seed: int) -> None:
    """Draw the four portraits and `identity.json` of one identity into folder/name.

    The portraits are framed as the face crop frames a photo; poses are in the normal placement.
    """
    renderer = Renderer(Identity(seed), studio(), size_px=256, supersampling=2)
    place = placement(renderer)
    pose = np.concatenate([np.zeros(3, np.float32), place])
    at_rest = np.zeros(52, np.float32)
    portraits = [renderer.render(weights, pose) for weights in (at_rest, _TEETH_AND_LIDS)]
    side_poses = [pose + np.array([0, yaw, 0, 0, 0, 0]) for yaw in (-_SIDE_YAW_DEG, _SIDE_YAW_DEG)]
    sides = [renderer.render(at_rest, side_pose) for side_pose in side_poses]
    target = folder / name
    target.mkdir(parents=True, exist_ok=True)
    for i, portrait in enumerate(portraits + sides):
        _write_png(target / f"portrait_{i}.png", through_lens(portrait.image))
    facts = {
        "name": name,
        "reference_pose": [round(float(value), 4) for value in normal_pose(pose, place)],
        "side_poses": [round(float(value), 4) for side in side_poses for value in normal_pose(side, place)],
        "crop_origin": [value for portrait in portraits for value in _crop_origin(portrait)],
        "licence": LICENCE,
        "seed": seed,
    }
    (target / "identity.json").write_text(json.dumps(facts, indent=2) + "\n")


def write_driver_clip(path: Path, rng: np.random.Generator) -> None:
    """Film the built-in driver in a room, speaking, with lively head motion."""
    speech = join_speech(
        [speak(text, _DRIVER_VOICE) for text, _ in _DRIVER_LINES], [pause_s for _, pause_s in _DRIVER_LINES]
    )
    frame_count = int(np.ceil((speech.duration_s + 0.3) * FPS))
    performance = perform_speech(rng, speech, frame_count, moods=("happy", "surprised", "happy"))
    scene = replace(studio(), background=room())
    renderer = Renderer(Identity(DRIVER_SEED), scene, size_px=_DRIVER_PX, supersampling=2, background="scene")
    path.parent.mkdir(parents=True, exist_ok=True)
    with (
        replacing(path) as temporary,
        ClipWriter(
            temporary,
            size_px=_DRIVER_PX,
            fps=FPS,
            samples=performance.samples,
            sample_rate=performance.sample_rate,
            quality_crf=27,
            sound_kbps=48,
        ) as writer,
    ):
        for weights, pose in zip(performance.weights_T52, performance.pose_T6, strict=True):
            writer.write(renderer.render(weights, pose).image)


def room(side_px: int = 512) -> NDArray[np.float32]:
    """An out-of-focus room (side, side, 3) in [0, 1]: a lit wall, a window, a shelf and a plant."""
    down = np.linspace(0, 1, side_px, dtype=np.float32)[:, None, None]
    wall = np.array([0.46, 0.42, 0.37], np.float32) * (1.05 - 0.35 * down)
    image = np.ascontiguousarray(np.broadcast_to(wall, (side_px, side_px, 3)))

    def box(x0: float, y0: float, x1: float, y1: float, colour: tuple[float, float, float]) -> None:
        corners = [round(value * side_px) for value in (x0, y0, x1, y1)]
        cv2.rectangle(image, tuple(corners[:2]), tuple(corners[2:]), colour, -1)

    box(0.03, 0.06, 0.27, 0.60, (0.34, 0.27, 0.21))  # window frame
    for x in (0.05, 0.16):
        for y in (0.08, 0.34):
            box(x, y, x + 0.09, y + 0.24, (0.74, 0.82, 0.88))
    box(0.72, 0.30, 1.0, 0.325, (0.28, 0.19, 0.13))  # shelves with books
    box(0.72, 0.58, 1.0, 0.605, (0.28, 0.19, 0.13))
    books = (
        (0.42, 0.16, 0.13),
        (0.16, 0.26, 0.36),
        (0.55, 0.45, 0.24),
        (0.20, 0.32, 0.22),
        (0.5, 0.48, 0.44),
    )
    for shelf_y, first in ((0.30, 0), (0.58, 2)):
        for k in range(6):
            left, height = 0.735 + 0.042 * k, 0.13 + 0.03 * ((k * 7 + first) % 3)
            box(left, shelf_y - height, left + 0.034, shelf_y, books[(k + first) % len(books)])
    for k in range(7):  # leaves
        centre = (round((0.12 + 0.03 * (k - 3)) * side_px), round((0.78 - 0.02 * (k % 3)) * side_px))
        axes = (round(0.022 * side_px), round(0.11 * side_px))
        cv2.ellipse(image, centre, axes, 18.0 * (k - 3), 0, 360, (0.13, 0.28 + 0.02 * k, 0.13), -1)
    return np.clip(cv2.GaussianBlur(image, (0, 0), side_px * 0.016), 0, 1)


def _crop_origin(portrait: Render) -> tuple[int, int]:
    points = landmarks_68_from_478(truth.landmarks(portrait))
    return portrait_crop_origin(points, EditReposeGeneratorConfig())


def _write_png(path: Path, image_HW3: NDArray[np.uint8]) -> None:
    if not cv2.imwrite(str(path), image_HW3[..., ::-1], [cv2.IMWRITE_PNG_COMPRESSION, 9]):
        raise OSError(f"cannot write {path}")


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description="draw the identity bank and the built-in driver clip")
    parser.add_argument("--out", type=Path, default=PRETRAINED)
    parser.add_argument("--only", choices=("identities", "clip"), help="draw only these")
    parser.add_argument("--names", nargs="+", choices=IDENTITIES, default=[*IDENTITIES], help="default: all")
    args = parser.parse_args(argv)
    if args.only != "clip":
        for name in args.names:
            write_identity(args.out / "lite" / "identities", name, IDENTITIES[name])
    if args.only != "identities":
        write_driver_clip(args.out / "clips" / "demo.mp4", np.random.default_rng(_DRIVER_MOTION_SEED))


if __name__ == "__main__":
    main()
