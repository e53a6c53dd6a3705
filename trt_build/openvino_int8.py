"""OpenVINO networks in eight bits, by NNCF, calibrated on real frames; kept only where that is faster.

The last products before an output stay in full precision. In a network that samples pictures it is the other
way round, all convolutions and nothing else are quantised: the last ones there are large, what lies between
costs more in conversions than eight bits save, and coordinates must be exact.
"""

from __future__ import annotations

import io
import logging
import tempfile
import time
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import nncf
import numpy as np
import onnx
import openvino as ov
from nncf.quantization.advanced_parameters import AdvancedQuantizationParameters, OverflowFix

from trt_build.openvino_precision import geometry, has_native_bf16, with_exact_geometry
from trt_build.openvino_rewrites import rewrite
from trt_build.precision import folded_constants
from trt_build.quantise import Arrays, last_products
from trt_build.specs import EngineSpec

LEAST_GAIN: Final = 1.15
"""A network that eight bits do not make so many times faster is kept as it is."""
TIMED_RUNS: Final = 20
_UNTOUCHED: Final = frozenset({"MatMul", "InstanceNormalization"})
_CONFIG: Final[dict[str, Any]] = {
    "PERFORMANCE_HINT": "LATENCY",
    "NUM_STREAMS": 1,
    "INFERENCE_NUM_THREADS": 1,
    "ENABLE_CPU_PINNING": False,
}


@dataclass(frozen=True, kw_only=True)
class PackedNetwork:
    """One network in eight bits, as an archive, and what they gain."""

    content: bytes
    gain: float
    """Processor time in full precision over that in eight bits, medians of runs in turns on one thread."""

    @property
    def is_faster(self) -> bool:
        return self.gain >= LEAST_GAIN


def packed_network(path: Path, spec: EngineSpec, frames: Sequence[Arrays]) -> PackedNetwork:
    """The int8 form of an ONNX network.

    frames: its inputs, batch 1, to calibrate on.
    """
    core = ov.Core()
    graph = folded_constants(onnx.load(path))
    full, eight = _read(core, graph, spec), _quantised(_read(core, graph, spec), graph, frames)
    gain = _gain(core, full, eight, frames)
    return PackedNetwork(content=_packed(eight), gain=gain)


def _read(core: ov.Core, graph: onnx.ModelProto, spec: EngineSpec) -> ov.Model:
    model = core.read_model(graph.SerializeToString())
    model.reshape({tensor.name: tensor.with_batch(1) for tensor in spec.inputs})
    return model


def _quantised(model: ov.Model, graph: onnx.ModelProto, frames: Sequence[Arrays]) -> ov.Model:
    logging.getLogger("nncf").setLevel(logging.WARNING)
    inputs = [tensor.get_any_name() for tensor in model.inputs]
    return nncf.quantize(
        model,
        nncf.Dataset([{name: frame[name] for name in inputs} for frame in frames]),
        preset=nncf.QuantizationPreset.MIXED,
        subset_size=len(frames),
        ignored_scope=nncf.IgnoredScope(names=_kept(model, graph), validate=False),
        # without VNNI two products of eight bits may overflow the sixteen that they are added in
        advanced_parameters=AdvancedQuantizationParameters(overflow_fix=OverflowFix.ENABLE),
    )


def _kept(model: ov.Model, graph: onnx.ModelProto) -> list[str]:
    """Names of the operators that stay in full precision."""
    present = [op for op in model.get_ops() if op.get_type_name() != "Constant"]
    if geometry(model):
        return [op.get_friendly_name() for op in present if op.get_type_name() != "Convolution"]
    last = last_products(graph.graph)
    kept = {
        name
        for node in graph.graph.node
        if node.output[0] in last or node.op_type in _UNTOUCHED
        for name in (node.name, node.output[0])
    }
    names = [op.get_friendly_name() for op in present]
    # OpenVINO takes a bias apart from its product
    return [name for name in names if name.removesuffix("/WithoutBiases") in kept]


def _gain(core: ov.Core, full: ov.Model, eight: ov.Model, frames: Sequence[Arrays]) -> float:
    requests = []
    is_bf16 = has_native_bf16(core)
    config = _CONFIG | {"INFERENCE_PRECISION_HINT": "bf16" if is_bf16 else "f32"}
    for model in (full.clone(), eight.clone()):
        rewrite(model)
        ready = with_exact_geometry(core, model) if is_bf16 else model
        requests.append(core.compile_model(ready, "CPU", config).create_infer_request())
    inputs = [tensor.get_any_name() for tensor in full.inputs]
    times_s: list[list[float]] = [[], []]
    for run in range(TIMED_RUNS + 2):
        feed = {name: frames[run % len(frames)][name] for name in inputs}
        for request, spent_s in zip(requests, times_s, strict=True):
            started_s = time.process_time()
            request.infer(feed)
            spent_s.append(time.process_time() - started_s)
    in_full, in_eight = (float(np.median(spent_s[2:])) for spent_s in times_s)
    return in_full / in_eight


def _packed(model: ov.Model) -> bytes:
    buffer = io.BytesIO()
    with tempfile.TemporaryDirectory(prefix="gcavt-int8-") as folder:
        path = Path(folder) / "network.xml"
        ov.save_model(model, path, compress_to_fp16=True)  # as the ONNX file has the weights
        with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
            for part in (path, path.with_suffix(".bin")):
                entry = zipfile.ZipInfo(part.name)  # without the time: the same network is the same file
                entry.compress_type = zipfile.ZIP_DEFLATED
                archive.writestr(entry, part.read_bytes())
    return buffer.getvalue()
