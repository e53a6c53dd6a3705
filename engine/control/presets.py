"""Presets: what PATCH would say, kept as JSON files in one directory."""

from __future__ import annotations

import json
import os
import re
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from engine.codes import SOCKETS
from engine.compositor import background_from_description
from engine.errors import BadMediaError, ControlError, UnknownPresetError
from engine.patch_bay import PatchBay, Route, is_name

SETTINGS: Final = ("gains", "pose_mode", "crossfade_ms")
KEYS: Final = (*SOCKETS, "identity", *SETTINGS, "background")
MAX_BYTES: Final = 20_000_000
"""A background picture may be inside."""
_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9 _-]{0,63}")


class Presets:
    """The presets of one directory, which is made when the first one is saved."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def names(self) -> list[str]:
        """Sorted."""
        return sorted(path.stem for path in self._directory.glob("*.json") if _NAME.fullmatch(path.stem))

    def load(self, name: str) -> dict[str, Any]:
        """The changes to hand to `Performance.patch`.

        Raises UnknownPresetError naming those that there are, ControlError for a file that is no preset.
        """
        path = self._path(name)
        if not path.is_file():
            there_are = ", ".join(self.names()) or "none yet"
            raise UnknownPresetError(f"There is no preset {name!r}; there are: {there_are}.")
        if path.stat().st_size > MAX_BYTES:
            raise ControlError(f"The preset {name!r} is larger than {MAX_BYTES // 1_000_000} MB.")
        try:
            changes = json.loads(path.read_bytes())
        except ValueError as error:
            raise ControlError(f"The preset {name!r} is not JSON: {error}.") from error
        return checked(changes, name)

    def expand(self, message: Mapping[str, object]) -> dict[str, object]:
        """The changes of a message that may name a `preset`: what it says itself goes before that.

        Raises UnknownPresetError, ControlError.
        """
        said = dict(message)
        if "preset" not in said:
            return said
        name = said.pop("preset")
        if not isinstance(name, str):
            raise ControlError(f"preset must be a name, got {name!r}.")
        return {**self.load(name), **said}

    def save(self, name: str, changes: object) -> None:
        """Keep `changes` under this name, in place of earlier ones. Raises ControlError and keeps nothing."""
        path = self._path(name)
        text = json.dumps(checked(changes, name), indent=2, sort_keys=True) + "\n"
        self._directory.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile("w", dir=self._directory, suffix=".new", delete=False) as unfinished:
            unfinished.write(text)
        os.replace(unfinished.name, path)

    def delete(self, name: str) -> None:
        """Raises UnknownPresetError."""
        path = self._path(name)
        if not path.is_file():
            raise UnknownPresetError(f"There is no preset {name!r}.")
        path.unlink()

    def _path(self, name: str) -> Path:
        """Raises ControlError for a name that could lead out of the directory."""
        if not _NAME.fullmatch(name):
            raise ControlError(
                f"{name!r} is no name for a preset: 1 to 64 letters, digits, spaces, '_' and '-'."
            )
        return self._directory / f"{name}.json"


def checked(changes: object, name: str) -> dict[str, Any]:
    """The changes, if they are of a kind that a session could take. Raises ControlError saying what is wrong.

    Whether sources and identities of these names are there is for the session to say when it is applied.
    """
    if not isinstance(changes, Mapping):
        raise ControlError(f'The preset {name!r} must be an object such as {{"pose": "camera"}}.')
    try:
        for key, value in changes.items():
            _check(key, value)
    except (ControlError, BadMediaError) as error:
        raise ControlError(f"The preset {name!r} cannot be used: {error.message}") from error
    return dict(changes)


def _check(key: object, value: object) -> None:
    if key not in KEYS:
        raise ControlError(f"It says {key!r}; a preset may say {', '.join(KEYS)}.")
    if key in SETTINGS:
        PatchBay().patched({str(key): value})
    elif key == "background":
        background_from_description(value)
    elif not isinstance(value, str):
        raise ControlError(f"{key} must be a name, got {value!r}.")
    elif key != "identity":
        route = Route.parse(value)
        if not (route.source == "" or is_name(route.source)) or (route.is_sound and key != "mouth"):
            raise ControlError(f"{key} cannot be fed by {value!r}.")
