"""What engines are built by: TensorRT and TensorRT for RTX, whose Python interfaces are one; OpenVINO."""

from __future__ import annotations

import functools
import logging
import threading
from dataclasses import dataclass
from importlib import import_module
from typing import Any, Final, Literal

logger = logging.getLogger(__name__)

FlavourName = Literal["rtx", "tensorrt", "openvino"]
Precision = Literal["fp32", "fp16", "bf16", "int8", "fp8"]
"""What convolutions and matrix products compute in; see trt_build.precision."""

ComputeCapability = tuple[int, int]


class FlavourMissingError(RuntimeError):
    """The run time of a flavour is not installed, or does not load; the message says how to get it."""


@dataclass(frozen=True, kw_only=True)
class Flavour:
    """One compiler of networks."""

    name: FlavourName
    product: str
    modules: tuple[str, ...]
    """Imported in this order; the last one has the interface."""
    install: str
    targets: tuple[ComputeCapability, ...]
    """Of GPUs, what it can build for on a machine without one, and does unless told otherwise."""

    release_digits: int | None = None
    """How many numbers of a version tell apart releases whose networks differ; None: all of it does."""
    may_be_partial: bool = False
    """Whether networks may be left out of a set, to be run as the bundle has them."""

    @property
    def builds_without_gpu(self) -> bool:
        return bool(self.targets)

    def load(self) -> Any:
        """The interface module. Raises FlavourMissingError."""
        try:
            return [import_module(module) for module in self.modules][-1]
        except (ImportError, OSError) as error:
            raise FlavourMissingError(
                f"{self.product} is not installed or does not load ({error}); install it with: {self.install}"
            ) from error

    def version(self) -> str:
        """Version of the run time, such as 1.7.1.116, or its release: what must have built the engines."""
        version = str(self.load().__version__)
        if self.release_digits is None:
            return version
        return ".".join(version.partition("-")[0].split(".")[: self.release_digits])

    def log(self) -> Log:
        """The one logger of this process: TensorRT keeps the first it is given."""
        return _log(self.name)


FLAVOURS: Final[dict[FlavourName, Flavour]] = {
    "rtx": Flavour(
        name="rtx",
        product="TensorRT for RTX",
        modules=("tensorrt_rtx_libs", "tensorrt_rtx_bindings"),
        install="pip install 'gcavt-live[rtx]'",
        targets=((8, 9), (12, 0)),
    ),
    "tensorrt": Flavour(
        name="tensorrt",
        product="TensorRT",
        modules=("tensorrt",),
        install="pip install 'gcavt-live[tensorrt]'",
        targets=(),
    ),
    "openvino": Flavour(
        name="openvino",
        product="OpenVINO",
        modules=("openvino",),
        install="pip install openvino",
        targets=(),
        release_digits=2,
        may_be_partial=True,
    ),
}


class Log:
    """What TensorRT said: warnings and errors go on to logging, once each; all is kept for who listens."""

    def __init__(self, trt: Any) -> None:
        levels = {
            trt.ILogger.Severity.INTERNAL_ERROR: logging.ERROR,
            trt.ILogger.Severity.ERROR: logging.ERROR,
            trt.ILogger.Severity.WARNING: logging.WARNING,
            trt.ILogger.Severity.INFO: logging.DEBUG,
            trt.ILogger.Severity.VERBOSE: logging.DEBUG,
        }
        self._lines: list[tuple[int, str]] | None = None
        self._passed_on: set[str] = set()
        self._lock = threading.Lock()
        receive = self._receive

        class Receiver(trt.ILogger):  # type: ignore[misc]
            def __init__(self) -> None:
                trt.ILogger.__init__(self)

            def log(self, severity: Any, message: str) -> None:
                receive(levels[severity], message)

        self.receiver = Receiver()
        """What TensorRT's constructors take."""

    def listen(self) -> None:
        """Keep everything from now on, including what is usually too much."""
        self._lines = []

    def heard(self) -> list[tuple[int, str]]:
        """Levels and messages since `listen`, which ends."""
        lines, self._lines = self._lines or [], None
        return lines

    def _receive(self, level: int, message: str) -> None:
        with self._lock:
            if self._lines is not None:
                self._lines.append((level, message))
            # a network in eight bits is warned of once per layer, in the same words
            is_new = level > logging.DEBUG and message not in self._passed_on
            if is_new:
                self._passed_on.add(message)
        if is_new:
            logger.log(level, "%s", message)


@functools.cache
def _log(name: FlavourName) -> Log:
    return Log(FLAVOURS[name].load())


def parse_targets(text: str) -> tuple[ComputeCapability, ...]:
    """Compute capabilities out of `8.9,12.0`. Raises ValueError naming what is none."""
    targets = []
    for part in text.split(","):
        major, _, minor = part.strip().partition(".")
        if not (major.isdigit() and minor.isdigit()):
            raise ValueError(f"a target is a compute capability such as 8.9, got {part.strip()!r}")
        targets.append((int(major), int(minor)))
    return tuple(sorted(set(targets)))


def targets_text(targets: tuple[ComputeCapability, ...]) -> str:
    """The inverse of `parse_targets`."""
    return ",".join(f"{major}.{minor}" for major, minor in targets)
