"""Built engines on disk: found by what they were made of, never run when any of it differs.

A set of engines is a directory `<model>-<flavour>-<precision>-<key>` with one file per network and a
manifest. It appears whole or not at all. Beside the sets lie caches that only save time and may be lost.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Final

from trt_build.flavours import FLAVOURS, ComputeCapability, FlavourName, Precision, targets_text
from trt_build.manifest import Manifest, file_sha256
from trt_build.specs import engine_specs

DEFAULT_ROOT: Final = Path.home() / ".cache" / "gcavt" / "engines"
FILE_NAME: Final = "engines.json"
FORMAT: Final = "gcavt-engines-1"
RECIPE: Final = 3
"""Counted up when graphs are made for engines otherwise: older engines are then built again."""


class StoreError(RuntimeError):
    """Engines are missing, damaged or not the ones asked for; the message says what to do."""


@dataclass(frozen=True, kw_only=True)
class EngineKey:
    """Everything that a set of engines is made of."""

    model: str
    flavour: FlavourName
    precision: Precision
    version: str
    """Of the flavour's run time."""
    targets: tuple[ComputeCapability, ...]
    weights: Mapping[str, str]
    """SHA-256 of each network's ONNX file."""
    spec: str
    """SHA-256 of all tensor names, shapes and batches."""
    recipe: int = RECIPE

    @classmethod
    def of(
        cls,
        manifest: Manifest,
        flavour: FlavourName,
        precision: Precision,
        version: str,
        targets: tuple[ComputeCapability, ...],
    ) -> EngineKey:
        """The key of a bundle's engines."""
        specs = engine_specs(manifest.config)
        shapes = {name: asdict(spec) for name, spec in specs.items()}
        return cls(
            model=manifest.name,
            flavour=flavour,
            precision=precision,
            version=version,
            targets=targets,
            weights={name: manifest.networks[name].sha256 for name in specs},
            spec=_digest(shapes),
        )

    @property
    def id(self) -> str:
        """Hexadecimal SHA-256 of the whole key."""
        return _digest(asdict(self))

    @property
    def folder(self) -> str:
        return f"{self.model}-{self.flavour}-{self.precision}-{self.id[:12]}"

    @property
    def build_command(self) -> str:
        """What builds these engines."""
        target = f" --target {targets_text(self.targets)}" if self.targets else ""
        return f"gcavt build {self.model} --flavour {self.flavour} --precision {self.precision}{target}"


@dataclass(frozen=True, kw_only=True)
class EngineFile:
    file: str
    sha256: str
    bytes: int
    layers: Mapping[str, int] = field(default_factory=dict)
    """How many of the engine's layers read or write tensors of each type."""


@dataclass(frozen=True, kw_only=True)
class EngineSet:
    """One verified set of engines."""

    directory: Path
    key: EngineKey
    engines: Mapping[str, EngineFile]
    accuracy: Mapping[str, Any]
    """What the gate found, and on what it ran."""

    def read(self, network: str) -> bytes:
        """The engine's bytes. Raises StoreError: cut short, changed or gone."""
        entry = self.engines[network]
        path = self.directory / entry.file
        command = self.key.build_command
        try:
            size = path.stat().st_size
            if size != entry.bytes:
                raise StoreError(
                    f"{path} is cut short or grown: {size} of {entry.bytes} bytes; run: {command}"
                )
            content = path.read_bytes()
        except OSError as error:
            raise StoreError(f"{path} cannot be read ({error.strerror}); run: {command}") from error
        if hashlib.sha256(content).hexdigest() != entry.sha256:
            raise StoreError(f"{path} is damaged: its SHA-256 is not the manifest's; run: {command}")
        return content


class EngineStore:
    """The sets under one directory. Several processes may use it at once."""

    def __init__(self, root: Path = DEFAULT_ROOT) -> None:
        self.root = root

    @contextlib.contextmanager
    def lock(self, key: EngineKey) -> Iterator[None]:
        """Hold what belongs to a key: who comes second waits, and then finds what the first one made."""
        self.root.mkdir(parents=True, exist_ok=True)
        with (self.root / f".{key.folder}.lock").open("w") as stream:
            fcntl.flock(stream, fcntl.LOCK_EX)
            yield  # closing the file releases it, and so does the end of the process

    def publish(
        self,
        key: EngineKey,
        contents: Mapping[str, bytes],
        layers: Mapping[str, Mapping[str, int]],
        accuracy: Mapping[str, Any],
    ) -> EngineSet:
        """Write a set, in place of an older one of the same key. Call it with the key's lock held."""
        self.root.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=self.root, prefix=".building-") as temporary:
            building = Path(temporary) / "set"
            building.mkdir()
            entries = {}
            for network, content in contents.items():
                path = building / f"{network}.engine"
                _write_through(path, content)
                entries[network] = EngineFile(
                    file=path.name, sha256=file_sha256(path), bytes=len(content), layers=layers[network]
                )
            _write_through(building / FILE_NAME, _signed(key, entries, accuracy))
            final = self.root / key.folder
            if final.exists():
                final.rename(Path(temporary) / "previous")
            building.rename(final)
        return self.open(key)

    def open(self, key: EngineKey) -> EngineSet:
        """The set of exactly this key. Raises StoreError, whose message says in what a near one differs."""
        directory = self.root / key.folder
        if not directory.is_dir():
            raise StoreError(self._why_missing(key))
        found = read_set(directory)
        if found.key != key:
            raise StoreError(f"{directory} holds engines of another key; run: {key.build_command}")
        return found

    def find(self, key: EngineKey, target: ComputeCapability) -> EngineSet:
        """The set of this key, whatever its targets, that runs on a GPU of compute capability `target`."""
        for directory in self._folders(key):
            found = read_set(directory)
            if replace(found.key, targets=key.targets) == key and target in found.key.targets:
                return found
        raise StoreError(self._why_missing(replace(key, targets=(target,))))

    def _folders(self, key: EngineKey) -> list[Path]:
        """Directories of the same model, flavour and precision."""
        return sorted(self.root.glob(f"{key.model}-{key.flavour}-{key.precision}-*/"))

    def _why_missing(self, key: EngineKey) -> str:
        product = FLAVOURS[key.flavour].product
        for directory in self._folders(key):
            near = read_set(directory).key
            if near.version != key.version:
                reason = f"were built by {product} {near.version}, this is {key.version}"
            elif near.weights != key.weights:
                reason = "were built from other weights"
            elif (near.spec, near.recipe) != (key.spec, key.recipe):
                reason = "were built by another version of this engine"
            else:
                reason = f"are for {targets_text(near.targets)}, not for {targets_text(key.targets)}"
            return f"the engines in {directory} {reason}; run: {key.build_command}"
        return (
            f"there are no {product} engines of {key.model} in {key.precision} in {self.root}; "
            f"run: {key.build_command}"
        )

    # -- caches --------------------------------------------------------------------------------------------

    def read_cache(self, name: str) -> bytes:
        """A cache that was kept, or nothing."""
        try:
            return (self.root / "caches" / name).read_bytes()
        except FileNotFoundError:
            return b""

    def write_cache(self, name: str, content: bytes) -> None:
        """Keep a cache in place of the former one; of two writers the later one wins, whole."""
        folder = self.root / "caches"
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=folder, prefix=f".{name}-", delete=False) as stream:
            stream.write(content)
        os.replace(stream.name, folder / name)


def read_set(directory: Path) -> EngineSet:
    """A set with its manifest checked; its engines are checked as they are read. Raises StoreError."""
    path = directory / FILE_NAME
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        signature = values.pop("signature")
        if values["format"] != FORMAT:
            raise StoreError(f"{path} is of the format {values['format']!r}, this version reads {FORMAT!r}")
        key = _key(values["key"])
        engines = {name: EngineFile(**entry) for name, entry in values["engines"].items()}
        accuracy = values["accuracy"]
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise StoreError(f"{path} is no manifest of engines ({error!r}); delete {directory}") from error
    if signature != _digest(values):
        raise StoreError(f"{path} was changed after it was written; delete {directory} and build again")
    is_whole = set(engines) == set(key.weights) or (
        FLAVOURS[key.flavour].may_be_partial and set(engines) <= set(key.weights)
    )
    if directory.name != key.folder or not is_whole:
        raise StoreError(f"{path} belongs to other engines, those of {key.folder}; delete {directory}")
    if any(Path(entry.file).name != entry.file for entry in engines.values()):
        raise StoreError(f"{path} names files outside of its directory; delete {directory}")
    return EngineSet(directory=directory, key=key, engines=engines, accuracy=accuracy)


def _key(values: dict[str, Any]) -> EngineKey:
    targets = tuple((int(major), int(minor)) for major, minor in values["targets"])
    return EngineKey(**values | {"targets": targets})


def _signed(key: EngineKey, engines: Mapping[str, EngineFile], accuracy: Mapping[str, Any]) -> bytes:
    entries = {name: asdict(entry) for name, entry in engines.items()}
    values = {"format": FORMAT, "key": asdict(key), "engines": entries, "accuracy": dict(accuracy)}
    return (json.dumps(values | {"signature": _digest(values)}, indent=1) + "\n").encode()


def _digest(values: Any) -> str:
    return hashlib.sha256(json.dumps(values, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def _write_through(path: Path, content: bytes) -> None:
    with path.open("wb") as stream:
        stream.write(content)
        stream.flush()
        os.fsync(stream.fileno())
