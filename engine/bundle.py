"""A model bundle on disk: opened, checked, and its parts found."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

import gcavt
from engine.errors import BundleError
from gcavt.config import GcavtConfig
from trt_build.manifest import FILE_NAME, Manifest, ManifestError, file_sha256, shape_mismatches

PRETRAINED_DIR: Final = Path(gcavt.__file__).parent / "pretrained"
"""The models that come with the package: a name given for a model is looked up here."""

DEFAULT_MODEL: Final = "lite"
CHECK_CACHE: Final = Path.home() / ".cache" / "gcavt" / "checked.json"
"""Which files were hashed already, by path, size and time of change."""


@dataclass(frozen=True, kw_only=True)
class BankIdentity:
    """One identity that comes with a bundle."""

    name: str
    portrait_paths: tuple[Path, ...]
    """256 px RGB crops on black; the first is the most frontal and neutral. With side_poses there are four:
    the third and fourth are the head turned to the picture's left and right."""
    reference_pose: NDArray[np.float32] | None
    """(6,) pitch, yaw, roll in degrees, then translation in head units; None where it must be estimated."""
    crop_origin: NDArray[np.float32] | None
    """(4,) x, y of the first portrait's face crop, then of the second's; None where landmarks must tell."""
    side_poses: NDArray[np.float32] | None
    """(12,) as reference_pose, of the third portrait, then of the fourth; None without those."""
    licence: str


@dataclass(frozen=True, kw_only=True)
class Bundle:
    """A checked bundle. Everything that a run time reads of a model is found through it."""

    directory: Path
    manifest: Manifest

    @classmethod
    def open(cls, path_or_name: str | Path, *, check_cache: Path = CHECK_CACHE) -> Bundle:
        """Open a bundle by its directory, or by the name of one that comes with the package.

        Shapes and the SHA-256 of every network are checked; a file already checked is not read again until
        its size or time of change differs. Raises BundleError: missing, damaged, or of another version.
        """
        directory = _find(path_or_name)
        try:
            manifest = Manifest.load(directory / FILE_NAME)
        except ManifestError as error:
            raise BundleError(f"{directory} is not a model bundle: {error}") from error
        mismatches = shape_mismatches(manifest)
        if mismatches:
            raise BundleError(f"{directory} does not fit this version: {mismatches[0]}")
        _check_files(directory, manifest, check_cache)
        return cls(directory=directory, manifest=manifest)

    @property
    def name(self) -> str:
        return self.manifest.name

    @property
    def config(self) -> GcavtConfig:
        return self.manifest.config

    @property
    def identities_dir(self) -> Path:
        return self.directory / "identities"

    def identity_names(self) -> list[str]:
        """Names of the identities that come with the bundle, sorted."""
        return sorted(path.parent.name for path in self.identities_dir.glob("*/identity.json"))

    def identity(self, name: str) -> BankIdentity:
        """One of `identity_names`. Raises BundleError for another name or an incomplete folder."""
        names = self.identity_names()
        if name not in names:
            known = ", ".join(names) or "none"
            raise BundleError(f"model {self.name} has no identity {name!r}; it has: {known}")
        return _read_identity(self.identities_dir / name)


def _find(path_or_name: str | Path) -> Path:
    path = Path(path_or_name)
    if path.is_dir():
        return path
    if isinstance(path_or_name, str) and path.name == path_or_name:
        shipped = PRETRAINED_DIR / path_or_name
        if (shipped / FILE_NAME).is_file():
            return shipped
        names = ", ".join(sorted(p.parent.name for p in PRETRAINED_DIR.glob(f"*/{FILE_NAME}"))) or "none"
        raise BundleError(f"no model called {path_or_name!r} here and no such directory; models: {names}")
    raise BundleError(f"model directory {path} does not exist")


def _check_files(directory: Path, manifest: Manifest, cache_path: Path) -> None:
    cache = _read_cache(cache_path)
    checked = {}
    for network, entry in manifest.networks.items():
        path = directory / entry.file
        if path.name != entry.file or not path.is_file():
            raise BundleError(f"{path} ({network}) is missing; export the bundle again")
        key, stamp = str(path.resolve()), _stamp(path)
        if cache.get(key) != [entry.sha256, *stamp] and file_sha256(path) != entry.sha256:
            raise BundleError(
                f"{path} is damaged: its SHA-256 is not the manifest's; export the bundle again"
            )
        checked[key] = [entry.sha256, *stamp]
    if any(cache.get(key) != value for key, value in checked.items()):
        _write_cache(cache_path, cache | checked)


def _stamp(path: Path) -> list[int]:
    status = path.stat()
    return [status.st_size, status.st_mtime_ns]


def _read_cache(path: Path) -> dict[str, Any]:
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}  # nothing was checked yet, as far as is known
    return values if isinstance(values, dict) else {}


def _write_cache(path: Path, values: Mapping[str, Any]) -> None:
    existing = {key: value for key, value in values.items() if Path(key).is_file()}
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(existing), encoding="utf-8")
    except OSError:
        return  # a read-only home: files are hashed again next time


def _read_identity(directory: Path) -> BankIdentity:
    portraits = tuple(sorted(directory.glob("portrait_*.png")))
    if not portraits:
        raise BundleError(f"{directory} holds no portrait_0.png")
    try:
        values = json.loads((directory / "identity.json").read_text(encoding="utf-8"))
        side_poses = _numbers(values.get("side_poses"), 12)
        if side_poses is not None and len(portraits) != 4:
            raise ValueError(f"side_poses are given, so there must be 4 portraits, not {len(portraits)}")
        return BankIdentity(
            name=directory.name,
            portrait_paths=portraits,
            reference_pose=_numbers(values.get("reference_pose"), 6),
            crop_origin=_numbers(values.get("crop_origin"), 4),
            side_poses=side_poses,
            licence=str(values.get("licence", "")),
        )
    except (OSError, ValueError, TypeError, AttributeError) as error:
        raise BundleError(f"{directory / 'identity.json'} is not readable: {error}") from error


def _numbers(values: Any, count: int) -> NDArray[np.float32] | None:
    if values is None:
        return None
    array = np.asarray(values, np.float32)
    if array.shape != (count,):
        raise ValueError(f"expected {count} numbers, got {values!r}")
    return array
