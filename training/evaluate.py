"""`gcavt evaluate`: a model over rendered people it never saw and over real drivers, all figures at once."""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from engine.errors import BadMediaError, BundleError, EngineError
from gcavt.checkpoint import CheckpointError
from training.metrics.actor import Actor, opened
from training.metrics.clips import follow_figures, play_clip, sync_figures
from training.metrics.held_out import HeldOut
from training.metrics.performance import evaluate_performance
from training.metrics.reader import FaceReader
from training.metrics.rendered import MODES, evaluate_control, evaluate_modes
from training.metrics.report import markdown
from training.metrics.sheets import clips_sheet, control_sheet, identities_sheet, sound_strip

SHEET_ROWS = 8


@dataclass(frozen=True, kw_only=True)
class Settings:
    """How much is measured."""

    frames: int = 48
    """Held-out triples for nearness."""
    control: int = 36
    """Samples for control and leakage; each takes seven renders and eight pictures."""
    seconds: float = 5.0
    """Length of the rendered film."""
    people: int = 12
    """How many of the data set's last identities are held out."""


QUICK = Settings(frames=2, control=1, seconds=1.6, people=12)
"""For a look, or for a machine that builds: every part runs, no figure means much."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.description = (
        "Measure a model over held-out rendered people (nearness, control, leakage, flicker, sync) and,\n"
        "with --clips, over real drivers (follow-correlations, sync). Writes evaluation.json, evaluation.md\n"
        "with all definitions, and contact sheets as PNG."
    )
    parser.epilog = "modes:\n" + "\n".join(f"  {mode:6s} {meaning}" for mode, meaning in MODES.items())
    parser.add_argument("model", help="a checkpoint (.safetensors), or a bundle: its folder or name")
    parser.add_argument(
        "--data", type=Path, required=True, help="rendered triples; the last identities are held out"
    )
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="where the report goes")
    parser.add_argument("--clips", type=Path, nargs="+", default=[], metavar="VIDEO", help="real drivers")
    parser.add_argument("--backend", help="for a bundle (default: openvino)")
    for name, kind in (("frames", int), ("control", int), ("seconds", float), ("people", int)):
        parser.add_argument(f"--{name}", type=kind, help=f"default: {getattr(Settings, name)}")
    parser.add_argument("--quick", action="store_true", help="as little of everything as will run")


def run(args: argparse.Namespace) -> int:
    """Measure and write. Raises EngineError, whose message is one line for the user."""
    settings = _settings(args)
    missing = [str(clip) for clip in args.clips if not clip.is_file()]
    if missing:
        raise BadMediaError(f"{missing[0]} does not exist")
    try:
        held_out = HeldOut(args.data, settings.people)
    except FileNotFoundError as error:
        raise BadMediaError(str(error)) from error
    args.out.mkdir(parents=True, exist_ok=True)
    cv2.setNumThreads(1)
    try:
        with opened(args.model, backend=args.backend) as actor:
            for figures in evaluate(actor, held_out, args.clips, settings, args.out):
                report = _write(args.out, {"model": args.model, **figures})
    except CheckpointError as error:
        raise BundleError(str(error)) from error
    tqdm.write(report)
    return 0


def _write(out: Path, figures: dict[str, Any]) -> str:
    (out / "evaluation.json").write_text(json.dumps(figures, indent=1) + "\n")
    report = markdown(figures)
    (out / "evaluation.md").write_text(report)
    return report


def _settings(args: argparse.Namespace) -> Settings:
    base = QUICK if args.quick else Settings()
    names = ("frames", "control", "seconds", "people")
    chosen = {name: getattr(base if getattr(args, name) is None else args, name) for name in names}
    if min(chosen.values()) <= 0:
        raise EngineError("frames, control, seconds and people must be above 0")
    return Settings(**chosen)


def evaluate(
    actor: Actor, held_out: HeldOut, clips: Sequence[Path], settings: Settings, out: Path
) -> Iterator[dict[str, Any]]:
    """All figures so far, after each part; contact sheets go to `out`."""
    people = ", ".join(map(str, held_out.identities))
    figures: dict[str, Any] = {
        "facts": {"inference": actor.provider, "people held out": people, "clips": len(clips)},
        "settings": {**asdict(settings), "people": len(held_out.identities)},
    }
    with FaceReader() as reader:
        figures["rendered"], rows = evaluate_modes(actor, held_out, reader, settings.frames)
        _write_png(out / "identities.png", identities_sheet(rows[:SHEET_ROWS]))
        yield figures
        figures["control"] = evaluate_control(actor, held_out, reader, settings.control)
    _write_png(out / "control.png", control_sheet(actor, held_out))
    yield figures
    film = evaluate_performance(actor, held_out, settings.seconds)
    _write_png(out / "sound.png", sound_strip(film))
    figures["performance"] = film.figures
    yield figures
    if clips:
        yield figures | _clip_figures(actor, held_out, clips, out)


def _clip_figures(actor: Actor, held_out: HeldOut, clips: Sequence[Path], out: Path) -> dict[str, Any]:
    identity = held_out.state(actor, held_out.sample(1, seed=2)[0])
    played = [play_clip(actor, identity, clip) for clip in tqdm(clips, desc="clips")]
    _write_png(out / "clips.png", clips_sheet(played))
    return {"follow": follow_figures(played), "sync": sync_figures(played)}


def _write_png(path: Path, image: NDArray[np.uint8]) -> None:
    if not cv2.imwrite(str(path), image[:, :, ::-1]):
        raise BadMediaError(f"{path} cannot be written")
