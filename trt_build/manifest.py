"""The bundle's table of contents: which file holds which network, with shapes, hashes and origin."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final, Literal

from gcavt.config import GcavtConfig
from trt_build.specs import Dimension, EngineSpec, TensorSpec, engine_specs

FILE_NAME: Final = "manifest.json"
CHECKPOINT_NAME: Final = "model.safetensors"

CodeSpace = Literal["exact", "free"]
"""exact: the codes are those of gcavt.code_space; free: they mean whatever training made of them."""

Shapes = dict[str, tuple[Dimension, ...]]


class ManifestError(ValueError):
    """The manifest is missing, not JSON, or does not describe a bundle of this version."""


@dataclass(frozen=True, kw_only=True)
class NetworkEntry:
    """One exported network."""

    file: str
    sha256: str
    inputs: Shapes
    outputs: Shapes


@dataclass(frozen=True, kw_only=True)
class NeutralCodes:
    """Codes of a head that looks ahead, relaxed, with the mouth closed."""

    pose_code: tuple[float, ...]
    expression_code: tuple[float, ...]
    content_code: tuple[float, ...]


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """Everything a run time must know about a bundle before it opens a network."""

    name: str
    config: GcavtConfig
    networks: dict[str, NetworkEntry]
    code_space: CodeSpace
    neutral: NeutralCodes | None
    """None in a free code space: there, an identity's own portrait says what is neutral."""
    versions: dict[str, str] = field(default_factory=dict)
    provenance: dict[str, Any] = field(default_factory=dict)

    def save(self, path: Path) -> None:
        values = asdict(self) | {"config": self.config.to_dict()}
        path.write_text(json.dumps(values, indent=1) + "\n", encoding="utf-8")

    @classmethod
    def load(cls, path: Path) -> Manifest:
        """Read and check a manifest. Raises ManifestError, whose text names what is wrong."""
        try:
            values = json.loads(path.read_text(encoding="utf-8"))
        except FileNotFoundError as error:
            raise ManifestError(f"{path} does not exist") from error
        except (OSError, ValueError) as error:
            raise ManifestError(f"{path} is not a bundle manifest: {error}") from error
        try:
            return _from_json(values)
        except (KeyError, TypeError, AttributeError, ValueError) as error:
            raise ManifestError(f"{path} is not a bundle manifest of this version: {error!r}") from error


def _from_json(values: dict[str, Any]) -> Manifest:
    if values["code_space"] not in ("exact", "free"):
        raise ValueError(f"code_space must be exact or free, got {values['code_space']!r}")
    neutral = values["neutral"]
    return Manifest(
        name=values["name"],
        config=GcavtConfig.from_dict(values["config"]),
        networks={name: _network(entry) for name, entry in values["networks"].items()},
        code_space=values["code_space"],
        neutral=None if neutral is None else NeutralCodes(**{k: tuple(v) for k, v in neutral.items()}),
        versions=dict(values["versions"]),
        provenance=dict(values["provenance"]),
    )


def _network(entry: dict[str, Any]) -> NetworkEntry:
    return NetworkEntry(
        file=entry["file"],
        sha256=entry["sha256"],
        inputs={name: tuple(shape) for name, shape in entry["inputs"].items()},
        outputs={name: tuple(shape) for name, shape in entry["outputs"].items()},
    )


def shapes_of(tensors: tuple[TensorSpec, ...]) -> Shapes:
    """Tensor name -> shape, as a manifest stores it."""
    return {tensor.name: tensor.shape for tensor in tensors}


def network_entry(spec: EngineSpec, path: Path) -> NetworkEntry:
    """Describe the exported file at `path`, which holds the network of `spec`."""
    return NetworkEntry(
        file=path.name,
        sha256=file_sha256(path),
        inputs=shapes_of(spec.inputs),
        outputs=shapes_of(spec.outputs),
    )


def shape_mismatches(manifest: Manifest) -> list[str]:
    """Sentences saying where the manifest differs from what its config asks for; empty if nowhere."""
    found: list[str] = []
    for name, spec in engine_specs(manifest.config).items():
        entry = manifest.networks.get(name)
        if entry is None:
            found.append(f"network {name} is missing")
            continue
        found += _differences(name, entry.inputs, shapes_of(spec.inputs))
        found += _differences(name, entry.outputs, shapes_of(spec.outputs))
    return found


def _differences(network: str, stored: Mapping[str, object], wanted: Mapping[str, object]) -> list[str]:
    return [
        f"{network}.{tensor} is {stored.get(tensor, 'absent')}, must be {wanted.get(tensor, 'absent')}"
        for tensor in sorted(stored.keys() | wanted.keys())
        if stored.get(tensor) != wanted.get(tensor)
    ]


def file_sha256(path: Path) -> str:
    """Hexadecimal SHA-256 of a file's bytes."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
