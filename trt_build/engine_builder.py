"""One ONNX graph -> one serialised TensorRT engine, with the listing of what is in it."""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass
from typing import Any

from trt_build.flavours import ComputeCapability, Flavour
from trt_build.inspection import HEADING, EngineReport, InspectionError, read_listing
from trt_build.specs import EngineSpec


class EngineBuildError(RuntimeError):
    """TensorRT could not build an engine; the message holds its reasons."""


@dataclass(frozen=True, kw_only=True)
class BuiltEngine:
    content: bytes
    report: EngineReport
    seconds: float


def build_engine(
    flavour: Flavour,
    graph: bytes,
    spec: EngineSpec,
    targets: tuple[ComputeCapability, ...],
    *,
    timing_cache: bytearray | None = None,
) -> BuiltEngine:
    """Build the network of `spec` out of a serialised ONNX model, with batches of 1 to 32.

    targets: compute capabilities the engine is to run on; empty for the GPU of this machine.
    timing_cache: measured kernels of former builds, replaced by what this one added. Not for RTX, which
    measures nothing at build time and would ask for a GPU because of it.
    Raises EngineBuildError and FlavourMissingError.
    """
    trt, log = flavour.load(), flavour.log()
    started = time.perf_counter()
    log.listen()
    builder = trt.Builder(log.receiver)
    network = builder.create_network(1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
    parser = trt.OnnxParser(network, log.receiver)
    if not parser.parse(graph):
        reasons = "; ".join(parser.get_error(i).desc() for i in range(parser.num_errors))
        raise EngineBuildError(f"{spec.name}: {flavour.product} does not take the graph: {reasons}")
    config = _config(trt, builder, network, spec, targets)
    if timing_cache is not None:
        measured = _timing_cache(config, bytes(timing_cache))  # kept until the engine is built
    plan = builder.build_serialized_network(network, config)
    heard = log.heard()
    if plan is None:
        reasons = "; ".join(message for level, message in heard if level >= logging.ERROR)
        raise EngineBuildError(f"{spec.name}: {flavour.product} built no engine: {reasons}")
    if timing_cache is not None:
        timing_cache[:] = b"" if measured is None else bytes(measured.serialize())
    return BuiltEngine(
        content=bytes(plan), report=_report(heard, spec), seconds=time.perf_counter() - started
    )


def _timing_cache(config: Any, content: bytes) -> Any:
    """What was measured before, or nothing, if that is of another driver or damaged; the build adds to it."""
    for start in (content, b""):
        cache = config.create_timing_cache(start)
        if cache is not None and config.set_timing_cache(cache, ignore_mismatch=False):
            return cache
    return None


def _config(
    trt: Any, builder: Any, network: Any, spec: EngineSpec, targets: tuple[ComputeCapability, ...]
) -> Any:
    config = builder.create_builder_config()
    config.profiling_verbosity = trt.ProfilingVerbosity.DETAILED  # names and types in the listing
    if targets:
        config.num_compute_capabilities = len(targets)
        for index, target in enumerate(targets):
            config.set_compute_capability(_capability(trt, target), index)
    profile = builder.create_optimization_profile()
    inputs = {network.get_input(index).name for index in range(network.num_inputs)}
    for tensor in spec.inputs:
        if tensor.name not in inputs:
            raise EngineBuildError(f"{spec.name}: the graph has no input {tensor.name}")
        profile.set_shape(tensor.name, *spec.profile(tensor))
    config.add_optimization_profile(profile)
    return config


def _capability(trt: Any, target: ComputeCapability) -> Any:
    name = f"SM{target[0]}{target[1]}"
    known = trt.ComputeCapability.__members__
    if name not in known:
        choices = ", ".join(
            f"{key[2:-1]}.{key[-1]}" for key in sorted(known, key=len) if key.startswith("SM")
        )
        raise EngineBuildError(
            f"cannot build for compute capability {target[0]}.{target[1]}; choices: {choices}"
        )
    return known[name]


def _report(heard: list[tuple[int, str]], spec: EngineSpec) -> EngineReport:
    listings = [message for _, message in heard if message.startswith(HEADING)]
    if not listings:
        raise InspectionError(f"{spec.name}: the builder printed no listing of its engine")
    return read_listing(listings[-1])
