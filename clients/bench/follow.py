"""`gcavt bench follow`: does the avatar do what the person in a clip does? Read off both by MediaPipe."""

from __future__ import annotations

import argparse
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from clients import cli
from clients.bench.report import json_line, table
from engine.assets import face_landmarker_path
from engine.errors import BadMediaError
from engine.face_tracker import FaceTracker
from engine.media_files import MediaFile, pictures_at_25_fps
from training.metrics.follow import READINGS, correlations, face_readings


@dataclass(frozen=True)
class Reading:
    """Frame by frame readings of one film."""

    values: NDArray[np.float32]
    """(frames, len(READINGS)), NaN where no face was found."""

    @property
    def found(self) -> float:
        """Share of frames with a face."""
        return float(np.isfinite(self.values[:, 0]).mean())


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.description = (
        "Drive an avatar with each clip, then read head and face off the clip and off the avatar, and\n"
        "correlate: per clip where the clip moves at all, and pooled over all clips' frames."
    )
    parser.add_argument("clips", nargs="+", type=Path, metavar="VIDEO")
    parser.add_argument("--identity", default=None, help="who is driven (default: the model's first)")
    parser.add_argument("--model", default="lite", metavar="NAME|PATH")
    parser.add_argument("--keep", type=Path, metavar="DIR", help="keep the avatars' films here")


def run(args: argparse.Namespace) -> int:
    rows, pairs = [], []
    with tempfile.TemporaryDirectory() as temporary, FaceTracker(face_landmarker_path()) as tracker:
        folder = args.keep or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        for clip in args.clips:
            film = folder / f"{clip.stem}_avatar.mp4"
            _drive(clip, film, args)
            driver, avatar = read_film(clip, tracker), read_film(film, tracker)
            pairs.append((driver.values, avatar.values))
            rows.append([clip.stem, f"{avatar.found:.3f}", *map(_shown, correlations(*pairs[-1]))])
    drivers, avatars = (_joined(side) for side in zip(*pairs, strict=True))
    pooled = correlations(drivers, avatars)
    centred = correlations(
        *(_joined([v - np.nanmean(v, 0) for v in side]) for side in zip(*pairs, strict=True))
    )
    found = float(np.isfinite(avatars[:, 0]).mean())
    rows += [["pooled", f"{found:.3f}", *map(_shown, pooled)]]
    rows += [["pooled, clip means removed", "", *map(_shown, centred)]]
    print(table(["clip", "face found", *READINGS], rows))
    values = {
        "clips": len(args.clips),
        "face_found": round(found, 4),
        "pooled": dict(zip(READINGS, map(_number, pooled), strict=True)),
        "pooled_clip_means_removed": dict(zip(READINGS, map(_number, centred), strict=True)),
        "model": str(args.model),
    }
    print(json_line("follow", values))
    return 0


def read_film(path: Path, tracker: FaceTracker) -> Reading:
    """Head and face of every frame of a film at 25 fps. Raises BadMediaError for an empty film."""
    tracker.reset()
    rows = []
    for number, image in enumerate(pictures_at_25_fps(MediaFile.probe(path))):
        rows.append(face_readings(tracker.track(image, number * 40)))
    if not rows:
        raise BadMediaError(f"{path} has no pictures.")
    return Reading(np.stack(rows))


def _drive(clip: Path, film: Path, args: argparse.Namespace) -> None:
    words = ["drive", "--out", str(film), "--model", str(args.model)]
    for socket in ("pose", "expression", "mouth"):
        words += [f"--{socket}", str(clip)]
    if args.identity:
        words += ["--identity", args.identity]
    if cli.main(words):
        raise BadMediaError(f"gcavt {' '.join(words)} failed.")


def _joined(parts: list[NDArray[np.float32]] | tuple[NDArray[np.float32], ...]) -> NDArray[np.float32]:
    return np.concatenate(list(parts))


def _shown(value: float) -> str:
    return "still" if np.isnan(value) else f"{value:.2f}"


def _number(value: float) -> float | None:
    return None if np.isnan(value) else round(value, 3)
