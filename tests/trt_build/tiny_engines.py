"""Engines of the tiny bundle, for the tests of the backend that runs them."""

from __future__ import annotations

from pathlib import Path

import onnx

from tests.bundles import TinyBundles
from trt_build.engine_builder import build_engine
from trt_build.flavours import FLAVOURS, ComputeCapability, FlavourName
from trt_build.manifest import FILE_NAME, Manifest
from trt_build.precision import typed_graph
from trt_build.specs import engine_specs
from trt_build.store import EngineKey, EngineStore


def build_tiny_engines(
    bundles: TinyBundles, flavour: FlavourName, target: ComputeCapability, root: Path
) -> EngineStore:
    """All networks in fp16, in a store under `root`. TensorRT itself builds for this machine's GPU."""
    directory = bundles.path("edit_repose")
    manifest = Manifest.load(directory / FILE_NAME)
    chosen = FLAVOURS[flavour]
    contents, layers = {}, {}
    for name, spec in engine_specs(manifest.config).items():
        graph = typed_graph(onnx.load(directory / f"{name}.onnx"), "fp16").SerializeToString()
        built = build_engine(chosen, graph, spec, (target,) if chosen.builds_without_gpu else ())
        contents[name], layers[name] = built.content, built.report.layers_by_type()
    store = EngineStore(root)
    store.publish(EngineKey.of(manifest, flavour, "fp16", chosen.version(), (target,)), contents, layers, {})
    return store
