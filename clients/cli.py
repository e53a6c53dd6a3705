"""`gcavt`: one command line for everything. Only the module of the chosen command is imported."""

from __future__ import annotations

import argparse
import importlib
import logging
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version

from engine.errors import EngineError

OUR_PACKAGES = ("engine", "gcavt", "trt_build", "training", "clients")

EXIT_USER_ERROR = 2
EXIT_INTERRUPTED = 130


@dataclass(frozen=True)
class Command:
    """A subcommand: `module` holds its `add_arguments(parser)` and `run(args) -> exit code`."""

    words: str
    module: str
    help: str
    extra: str | None = None
    """The extra of pyproject.toml that brings what the command needs beyond the base install."""


EXTRA_OF = {"nncf": "int8"}
"""Packages that only some of a command's options need, and which extra brings them."""

COMMANDS = (
    Command("serve", "engine.server", "serve the page and the live avatar on http://127.0.0.1:8080"),
    Command("drive", "clients.drive", "drive an avatar from files into a video file"),
    Command(
        "desktop",
        "clients.desktop.command",
        "show the avatar on a virtual camera, out of this machine's webcam and microphone",
        "desktop",
    ),
    Command("doctor", "clients.doctor", "say what works on this machine, and how to mend what does not"),
    Command(
        "bench live", "clients.bench.live", "measure the live path: milliseconds per stage, frames per second"
    ),
    Command(
        "bench transport",
        "clients.bench.transport",
        "measure pictures and sound through the engine and through stock aiortc, in turns",
    ),
    Command("bench loss", "clients.bench.loss", "measure freezes and delays while packets are lost"),
    Command("bench lipsync", "clients.bench.lipsync", "measure how far lips and voice are apart in Chromium"),
    Command(
        "bench startup", "clients.bench.startup", "measure from the start of the server to the first picture"
    ),
    Command(
        "bench voice", "clients.bench.voice", "measure how the lips follow a voice, and how soon they close"
    ),
    Command(
        "bench switch",
        "clients.bench.switch",
        "measure jumps and missing pictures where something is switched",
    ),
    Command(
        "bench faults", "clients.bench.faults", "measure how long the face stands still when something breaks"
    ),
    Command("bench overload", "clients.bench.overload", "measure what a model that is too slow does"),
    Command("bench follow", "clients.bench.follow", "correlate the avatar's head and face with its driver's"),
    Command(
        "bench model", "clients.bench.model", "measure every network on every backend that runs here", "train"
    ),
    Command(
        "bench accuracy",
        "clients.bench.accuracy",
        "compare every backend and precision with PyTorch",
        "train",
    ),
    Command("bench render", "clients.bench.render", "measure how fast synthetic people are drawn", "train"),
    Command("synth", "training.synthetic.command", "render synthetic talking heads to train on", "train"),
    Command("train", "training.command", "train a model by a named recipe", "train"),
    Command("evaluate", "training.evaluate", "score a checkpoint on a held-out set", "train"),
    Command("build", "clients.build", "build TensorRT engines of a bundle's networks", "train"),
    Command("export", "trt_build.export", "turn a checkpoint into the bundle that the engine loads", "train"),
)

DESCRIPTION = """\
GC-AVT Live: an avatar whose identity, pose, expression and mouth each come from where you like.

  gcavt serve                                     then open http://127.0.0.1:8080
  gcavt drive --pose me.mp4 --mouth speech.wav --out avatar.mp4
  gcavt doctor                                    what works here, and how to mend the rest
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command. Returns its exit code; an error that the user can act on is one line and code 2."""
    words = list(sys.argv[1:] if argv is None else argv)
    command = _chosen(words)
    try:
        parser = _parser(command)
        args = parser.parse_args(words)
        if command is None:
            parser.print_help()
            return EXIT_USER_ERROR
        _set_up_logging(args.verbose)
        return int(importlib.import_module(command.module).run(args))
    except EngineError as error:
        print(f"gcavt: {error.message}", file=sys.stderr)
        return EXIT_USER_ERROR
    except ModuleNotFoundError as error:
        missing = (error.name or "").partition(".")[0]
        if command is None or command.extra is None or missing in OUR_PACKAGES:
            raise
        extra = EXTRA_OF.get(missing, command.extra)
        print(
            f"gcavt: {command.words} needs {missing}. Run: pip install 'gcavt-live[{extra}]'",
            file=sys.stderr,
        )
        return EXIT_USER_ERROR
    except KeyboardInterrupt:
        return EXIT_INTERRUPTED


def _chosen(words: Sequence[str]) -> Command | None:
    """The command that the leading words name, or None."""
    names = [word for word in words if not word.startswith("-")]
    for command in COMMANDS:
        parts = command.words.split()
        if names[: len(parts)] == parts:
            return command
    return None


def _parser(chosen: Command | None) -> argparse.ArgumentParser:
    """The whole command line; only the chosen command's own options are filled in."""
    parser = argparse.ArgumentParser(
        prog="gcavt", description=DESCRIPTION, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--version", action="version", version=f"gcavt {_version()}")
    parser.add_argument("--verbose", action="store_true", help="log more")
    subcommands = parser.add_subparsers(title="commands", metavar="COMMAND")
    groups: dict[str, argparse._SubParsersAction[argparse.ArgumentParser]] = {}
    for command in COMMANDS:
        *group, name = command.words.split()
        target = subcommands
        if group:
            if group[0] not in groups:
                group_parser = subcommands.add_parser(group[0], help=f"gcavt {group[0]} --help lists them")
                groups[group[0]] = group_parser.add_subparsers(metavar="WHAT", required=True)
            target = groups[group[0]]
        subparser = target.add_parser(name, help=command.help, description=_sentence(command.help))
        if command is chosen:
            importlib.import_module(command.module).add_arguments(subparser)
    return parser


def _version() -> str:
    try:
        return version("gcavt-live")
    except PackageNotFoundError:
        return "(run from a source tree that is not installed)"


def _sentence(text: str) -> str:
    return text[0].upper() + text[1:] + "."


def _set_up_logging(verbose: bool) -> None:
    """Our own packages speak at INFO; libraries only when something is wrong."""
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    for package in OUR_PACKAGES:
        logging.getLogger(package).setLevel(logging.DEBUG if verbose else logging.INFO)


if __name__ == "__main__":
    sys.exit(main())
