"""ONNX Runtime on the CPU: the portable backend."""

from __future__ import annotations

import logging
import threading
from pathlib import Path
from typing import Final

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from engine.backends.backend import Backend, Tensors
from engine.backends.networks import input_arrays
from trt_build.manifest import FILE_NAME, Manifest
from trt_build.specs import engine_specs

logger = logging.getLogger(__name__)

PROVIDER: Final = "CPUExecutionProvider"


class OnnxRuntimeBackend:
    """One session per network, opened on first use; a session may be run by several threads at once."""

    name = "onnxruntime"

    def __init__(self, bundle_dir: Path, threads: int | None = None) -> None:
        self._bundle_dir = bundle_dir
        self._manifest = Manifest.load(bundle_dir / FILE_NAME)
        self._specs = engine_specs(self._manifest.config)
        self._options = _session_options(threads)
        self._sessions: dict[str, ort.InferenceSession] = {}
        self._opening = threading.Lock()
        self.provider = f"ONNX Runtime {ort.__version__}, {PROVIDER}, {threads or 'all'} threads"
        logger.info("inference by %s", self.provider)

    def run(self, network: str, inputs: Tensors) -> dict[str, NDArray[np.float32]]:
        spec = self._specs[network]
        results = self._session(network).run(spec.output_names, input_arrays(spec, inputs))
        return dict(zip(spec.output_names, results, strict=True))

    def in_parallel(self, count: int) -> list[Backend]:
        """As of `RunsInParallel`: one for all, whose threads they share."""
        return [self] * count

    def close(self) -> None:
        self._sessions.clear()

    def _session(self, network: str) -> ort.InferenceSession:
        with self._opening:
            if network not in self._sessions:
                path = self._bundle_dir / self._manifest.networks[network].file
                self._sessions[network] = ort.InferenceSession(path, self._options, providers=[PROVIDER])
            return self._sessions[network]


def _session_options(threads: int | None) -> ort.SessionOptions:
    options = ort.SessionOptions()
    options.inter_op_num_threads = 1
    if threads is not None:
        options.intra_op_num_threads = threads
    # spinning workers would take the cores from face tracking and video encoding between two frames
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    return options
