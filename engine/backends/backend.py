"""One small interface to every inference run time: a network is run by tensor names."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Final, Protocol

import numpy as np
from numpy.typing import NDArray

from engine.errors import BackendMissingError

Tensors = Mapping[str, NDArray[np.float32]]


class Backend(Protocol):
    """An opened bundle. Use one backend from one thread at a time."""

    @property
    def name(self) -> str:
        """The name it was opened by, such as openvino."""
        ...

    @property
    def provider(self) -> str:
        """What really computes, such as `OpenVINO 2026.4.1 CPU f32, 2 threads`."""
        ...

    def run(self, network: str, inputs: Tensors) -> dict[str, NDArray[np.float32]]:
        """Outputs of `network` by tensor name; the first axis of every tensor is the batch.

        The arrays belong to the caller. Raises KeyError for an unknown network or a missing tensor.
        """
        ...

    def close(self) -> None:
        """Free the compiled networks."""
        ...


DEFAULT_BACKEND: Final = "openvino"

_OPENERS: Final[dict[str, tuple[str, str, dict[str, str]]]] = {
    "openvino": ("engine.backends.openvino", "OpenVinoBackend", {}),
    **{
        f"openvino-{precision}": ("engine.backends.openvino", "OpenVinoBackend", {"precision": precision})
        for precision in ("fp32", "bf16", "int8")
    },
    "onnxruntime": ("engine.backends.onnxruntime", "OnnxRuntimeBackend", {}),
    "pytorch": ("engine.backends.pytorch", "PyTorchBackend", {}),
} | {
    flavour if precision == "fp16" else f"{flavour}-{precision}": (
        "engine.backends.tensorrt",
        "TensorRtBackend",
        {"flavour": flavour, "precision": precision},
    )
    for flavour in ("rtx", "tensorrt")
    for precision in ("fp16", "bf16", "fp8", "int8")
}
BACKENDS: Final = tuple(_OPENERS)
"""Names that `open_backend` takes."""
CPU_BACKENDS: Final = ("openvino", "onnxruntime", "pytorch")
"""Those of them that run a bundle as it is, anywhere."""

INSTALL_COMMANDS: Final = {
    "openvino": "pip install openvino",
    "onnxruntime": "pip install onnxruntime",
    "pytorch": "pip install torch safetensors",
    "rtx": "pip install 'gcavt-live[rtx]'",
    "tensorrt": "pip install 'gcavt-live[tensorrt]'",
}

_PACKAGES: Final = ("openvino", "onnxruntime", "torch", "safetensors", "cuda")


def open_backend(name: str, bundle_dir: Path, *, threads: int | None = None) -> Backend:
    """Open the bundle in `bundle_dir` with the backend `name`; never another one in its place.

    threads: CPU threads per network, None for the run time's own choice.
    Raises BackendMissingError (unknown name or package not installed), BundleError, and GpuError.
    """
    return open_backends(name, bundle_dir, [threads])[0]


def open_backends(name: str, bundle_dir: Path, threads: Sequence[int | None]) -> list[Backend]:
    """As `open_backend`, one for each of several threads of this server, which then share a GPU's context."""
    if name not in _OPENERS:
        raise BackendMissingError(f"unknown backend {name!r}; choose one of {', '.join(BACKENDS)}")
    opened = partial(_opened, name, bundle_dir)
    try:
        if not name.startswith(("rtx", "tensorrt")):
            return [opened(count) for count in threads]
        from engine.backends.process import RemoteBackend, WorkerProcess
        from engine.backends.restarting import RestartingBackend

        process = WorkerProcess(opened)
        return [RestartingBackend(partial(RemoteBackend, process, count)) for count in threads]
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] not in _PACKAGES:
            raise
        command = INSTALL_COMMANDS[name.partition("-")[0]]
        raise BackendMissingError(
            f"backend {name} needs the package {error.name}; install it with: {command}"
        ) from error


def _opened(name: str, bundle_dir: Path, threads: int | None) -> Backend:
    module, factory, options = _OPENERS[name]
    opener: Callable[..., Backend] = getattr(import_module(module), factory)
    return opener(bundle_dir, threads, **options)
