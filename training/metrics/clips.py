"""Real people as drivers: does the avatar follow, is it in sync, is its face still a face?"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from engine.media_files import SOUND_RATE, MediaFile, pictures_at_25_fps, read_sound
from engine.puppeteer import IdentityState
from gcavt.audio import resample_to_16k_mono
from training.metrics.actor import Actor
from training.metrics.follow import READINGS, Readings, correlations, pooled_correlations
from training.metrics.playing import Driven, Played, drive, play
from training.metrics.sync import sync_of


def play_clip(actor: Actor, identity: IdentityState, path: Path) -> Played:
    """One clip and its avatars. Raises BadMediaError, NoFaceError."""
    return play(actor, identity, path.stem, *_film(path))


def read_clip(actor: Actor, path: Path) -> Driven:
    """One clip and its codes. Raises BadMediaError, NoFaceError."""
    return drive(actor, path.stem, *_film(path))


def _film(path: Path) -> tuple[Iterator[NDArray[np.uint8]], NDArray[np.float32] | None]:
    """Pictures at 25 fps and 16 kHz sound, if there is any."""
    media = MediaFile.probe(path)
    if not media.has_sound:
        return pictures_at_25_fps(media), None
    samples = read_sound(media).samples.mean(axis=0)
    return pictures_at_25_fps(media), resample_to_16k_mono(samples, SOUND_RATE)


def follow_figures(played: Sequence[Played]) -> dict[str, Any]:
    """Correlations of driver and avatar per clip and pooled, by video and with the mouth by sound."""
    by_video = [(p.driver.readings, p.by_video.watched.readings) for p in played]
    by_sound = [(p.driver.readings, p.by_sound.watched.readings) for p in played if p.by_sound]
    found = np.concatenate([np.isfinite(p.by_video.watched.readings[:, 0]) for p in played])
    return {
        "clips": {p.name: _named(correlations(*pair)) for p, pair in zip(played, by_video, strict=True)},
        "face_found": {p.name: p.by_video.watched.found for p in played},
        "face_found_in_all": float(found.mean()),
        "pooled": _pooled(by_video, clip_means_removed=False),
        "pooled_clip_means_removed": _pooled(by_video, clip_means_removed=True),
        "moving_clips": {
            name: sum(bool(np.isfinite(correlations(*pair)[column])) for pair in by_video)
            for column, name in enumerate(READINGS)
        },
        "by_sound_pooled": _pooled(by_sound, clip_means_removed=False),
        "by_sound_pooled_clip_means_removed": _pooled(by_sound, clip_means_removed=True),
        "by_sound_clips": {
            p.name: _named(correlations(p.driver.readings, p.by_sound.watched.readings))
            for p in played
            if p.by_sound
        },
    }


def _pooled(pairs: list[tuple[Readings, Readings]], *, clip_means_removed: bool) -> dict[str, float | None]:
    return _named(pooled_correlations(pairs, clip_means_removed=clip_means_removed, moving_only=True))


def _named(values: Sequence[float]) -> dict[str, float | None]:
    return {
        name: None if np.isnan(value) else float(value) for name, value in zip(READINGS, values, strict=True)
    }


def sync_figures(played: Sequence[Played]) -> dict[str, Any]:
    """Offset and confidence of the sound with each mouth: of the mean curve, and by clip."""
    figures: dict[str, Any] = {}
    for key in ("driver", "by_video", "by_sound"):
        curves = [p.sync_curves[key] for p in played if key in p.sync_curves]
        if not curves:
            continue
        offsets = {p.name: sync_of(p.sync_curves[key]).offset_frames for p in played if key in p.sync_curves}
        together = sync_of(np.mean(curves, 0))
        figures[key] = {
            "offset_frames": together.offset_frames,
            "confidence": together.confidence,
            "correlation": together.correlation,
            "share_within_one_frame": float(np.mean([abs(offset) <= 1 for offset in offsets.values()])),
            "offsets": offsets,
        }
    return figures


_COMMANDS = {"b": "bin", "l": "lay", "p": "place", "s": "set"}
_COLOURS = {"b": "blue", "g": "green", "r": "red", "w": "white"}
_PREPOSITIONS = {"a": "at", "b": "by", "i": "in", "w": "with"}
_ADVERBS = {"a": "again", "n": "now", "p": "please", "s": "soon"}


def grid_sentence(name: str) -> str | None:
    """The words of a clip of the GRID corpus, which its file name abbreviates; None for another name.

    Source: Cooke et al. 2006, "An audio-visual corpus for speech perception and automatic speech
    recognition".
    """
    match = re.search(r"(?:^|_)([blps])([bgrw])([abiw])([a-z])([1-9z])([anps])$", name)
    if match is None:
        return None
    command, colour, preposition, letter, digit, adverb = match.groups()
    spoken = "zero" if digit == "z" else digit
    words = (
        _COMMANDS[command],
        _COLOURS[colour],
        _PREPOSITIONS[preposition],
        letter,
        spoken,
        _ADVERBS[adverb],
    )
    return " ".join(words)
