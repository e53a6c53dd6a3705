"""`gcavt evaluate`: a model over rendered people it never saw and over real drivers, all figures at once."""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from engine.bundle import Bundle
from engine.errors import BadMediaError, BundleError, EngineError
from engine.puppeteer import IdentityState
from gcavt.checkpoint import CheckpointError
from training.datasets.render import TripleCounts, write_part
from training.metrics.actor import Actor, opened
from training.metrics.clips import follow_figures, play_clip, read_clip, sync_figures
from training.metrics.held_out import HeldOut
from training.metrics.performance import evaluate_performance
from training.metrics.playing import Driven
from training.metrics.reader import FaceReader
from training.metrics.rendered import MODES, evaluate_control, evaluate_modes
from training.metrics.report import markdown
from training.metrics.sheets import clips_sheet, control_sheet, identities_sheet, sound_strip
from training.metrics.showcase import (
    Character,
    bank_sheet,
    drivers_sheet,
    read_bank,
    three_source_sheet,
    words_sheet,
)
from training.metrics.turned import evaluate_turned

SHEET_ROWS = 8
TEST_COUNTS = TripleCounts(identities=12, references=2, triples=4, posed_share=0.0)
"""Of people rendered for a test: portraits each, triples per portrait. How many people is asked for."""


@dataclass(frozen=True, kw_only=True)
class Subjects:
    """What is measured, and on whom."""

    actor: Actor
    held_out: HeldOut
    clips: Sequence[Path] = ()
    bank: Sequence[Character] = ()
    """Ready identities for the sheets; none: sheets that need some are left out."""
    beside: tuple[str, Actor] | None = None
    """Another model, by name, whose control and leakage are measured too."""


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
    parser.add_argument(
        "--test-seeds",
        type=int,
        nargs=2,
        metavar=("FIRST", "COUNT"),
        help="measure on COUNT people of seeds from FIRST on, whom no training has seen: they are rendered "
        "into the folder of --data unless they are there already",
    )
    parser.add_argument(
        "--beside",
        metavar="MODEL",
        help="a second model, for instance of the recipe self_driven: its control and leakage stand beside",
    )
    parser.add_argument(
        "--bank", type=Path, metavar="DIR", help="identities for the sheets (default: the bundle's own)"
    )
    parser.add_argument(
        "--sheets-only",
        action="store_true",
        help="measure nothing; draw the bank's sheets: bank.png, sources.png, words.png, and with --clips "
        "drivers.png",
    )
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
    bank = _bank_folder(args)
    if args.test_seeds:
        first, count = args.test_seeds
        render_test_people(args.data, first, count)
        settings = replace(settings, people=count)
    try:
        held_out = HeldOut(args.data, settings.people)
    except FileNotFoundError as error:
        raise BadMediaError(str(error)) from error
    args.out.mkdir(parents=True, exist_ok=True)
    cv2.setNumThreads(1)
    try:
        with ExitStack() as stack:
            subjects = _subjects(args, held_out, bank, stack)
            if args.sheets_only:
                clips = [read_clip(subjects.actor, clip) for clip in tqdm(args.clips, desc="clips")]
                draw_bank(subjects, clips, args.out)
                return 0
            for figures in evaluate(subjects, settings, args.out):
                report = _write(args.out, {"model": args.model, **figures})
    except CheckpointError as error:
        raise BundleError(str(error)) from error
    tqdm.write(report)
    return 0


def _bank_folder(args: argparse.Namespace) -> Path | None:
    """Where the sheets' identities are, if there are any. Raises BadMediaError if they were asked for."""
    folder: Path | None = args.bank or own_bank(args.model)
    if args.sheets_only and folder is None:
        raise BadMediaError(f"{args.model} has no identities of its own: name some with --bank DIR")
    if folder and not any(folder.glob("*/identity.json")):
        raise BadMediaError(f"{folder} holds no identities (NAME/identity.json)")
    return folder


def _subjects(args: argparse.Namespace, held_out: HeldOut, bank: Path | None, stack: ExitStack) -> Subjects:
    actor = stack.enter_context(opened(args.model, backend=args.backend))
    beside = stack.enter_context(opened(args.beside, backend=args.backend)) if args.beside else None
    return Subjects(
        actor=actor,
        held_out=held_out,
        clips=args.clips,
        bank=read_bank(actor, bank) if bank else (),
        beside=(args.beside, beside) if beside else None,
    )


def own_bank(model: str) -> Path | None:
    """The identities that come with a bundle; None for a checkpoint."""
    if model.endswith(".safetensors"):
        return None
    folder = Bundle.open(model).directory / "identities"
    return folder if any(folder.glob("*/identity.json")) else None


def render_test_people(folder: Path, first_seed: int, count: int) -> None:
    """Render people of these seeds into `folder`; finished ones stay.

    Raises BadMediaError if the folder holds other people.
    """
    seeds = list(range(first_seed, first_seed + count))
    for done in folder.glob("part_*/done.json"):
        if json.loads(done.read_text())["seeds"] != seeds:
            raise BadMediaError(f"{folder} holds other people than seeds {first_seed} to {seeds[-1]}")
    write_part(folder / "part_00", seeds, TEST_COUNTS, show_progress=True)


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


def evaluate(subjects: Subjects, settings: Settings, out: Path) -> Iterator[dict[str, Any]]:
    """All figures so far, after each part; contact sheets go to `out`."""
    actor, held_out = subjects.actor, subjects.held_out
    people = ", ".join(map(str, held_out.identities))
    figures: dict[str, Any] = {
        "facts": {"inference": actor.provider, "people held out": people, "clips": len(subjects.clips)},
        "settings": {**asdict(settings), "people": len(held_out.identities)},
    }
    with FaceReader() as reader:
        figures["rendered"], rows = evaluate_modes(actor, held_out, reader, settings.frames)
        _write_png(out / "identities.png", identities_sheet(rows[:SHEET_ROWS]))
        yield figures
        figures["control"] = evaluate_control(actor, held_out, reader, settings.control)
        if subjects.beside:
            name, other = subjects.beside
            control = evaluate_control(other, held_out, reader, settings.control, ways=("encoders",))
            figures["beside"] = {"model": name, "control": control}
        _write_png(out / "control.png", control_sheet(actor, held_out, reader))
    figures["turned"], sheet = evaluate_turned(actor, held_out)
    _write_png(out / "turned.png", sheet)
    yield figures
    film = evaluate_performance(actor, held_out, settings.seconds)
    _write_png(out / "sound.png", sound_strip(film))
    figures["performance"] = film.figures
    yield figures
    played = [play_clip(actor, _stand_in(subjects), clip) for clip in tqdm(subjects.clips, desc="clips")]
    if played:
        _write_png(out / "clips.png", clips_sheet(played))
        yield figures | {"follow": follow_figures(played), "sync": sync_figures(played)}
    if subjects.bank:
        draw_bank(subjects, played, out)


def _stand_in(subjects: Subjects) -> IdentityState:
    """The held-out person whom real drivers drive for the figures."""
    return subjects.held_out.state(subjects.actor, subjects.held_out.sample(1, seed=2)[0])


def draw_bank(subjects: Subjects, clips: Sequence[Driven], out: Path) -> None:
    """The sheets of ready identities, driven by rendered people, by our speech and by the clips."""
    actor, bank = subjects.actor, subjects.bank
    _write_png(out / "bank.png", bank_sheet(actor, bank))
    with FaceReader() as reader:
        _write_png(out / "sources.png", three_source_sheet(actor, subjects.held_out, bank, reader))
    _write_png(out / "words.png", words_sheet(actor, bank[0]))
    if clips:
        _write_png(out / "drivers.png", drivers_sheet(actor, bank, clips))


def _write_png(path: Path, image: NDArray[np.uint8]) -> None:
    if not cv2.imwrite(str(path), image[:, :, ::-1]):
        raise BadMediaError(f"{path} cannot be written")
