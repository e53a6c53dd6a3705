"""TensorRT for RTX for real: engines are built and inspected here, on a machine without a GPU."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from engine.bundle import Bundle
from gcavt.config import GcavtConfig
from trt_build.engine_builder import BuiltEngine, EngineBuildError, build_engine
from trt_build.flavours import FLAVOURS, Precision
from trt_build.inspection import InspectionError, check_report
from trt_build.manifest import Manifest, network_entry
from trt_build.precision import typed_graph
from trt_build.quantise import Arrays, quantiser
from trt_build.specs import EngineSpec, TensorSpec, engine_specs
from trt_build.store import FILE_NAME, EngineKey, EngineStore, StoreError
from trt_build.verify import sample_inputs

pytest.importorskip("tensorrt_rtx_bindings", reason="needs the extra rtx: pip install 'gcavt-live[rtx]'")

RTX = FLAVOURS["rtx"]
ADA = ((8, 9),)
SPEC = EngineSpec(
    name="small",
    inputs=(TensorSpec(name="image", shape=("batch", 16, 8, 8)),),
    outputs=(TensorSpec(name="result", shape=("batch", 16, 8, 8)),),
)
INPUTS: Arrays = {"image": np.random.default_rng(0).random((1, 16, 8, 8)).astype(np.float32)}


@pytest.fixture(scope="module")
def small() -> onnx.ModelProto:
    """Three convolutions, the middle one open to quantisation, with an instance norm."""
    rng = np.random.default_rng(0)
    constants = [
        numpy_helper.from_array(rng.standard_normal((16, 16, 3, 3)).astype(np.float32) / 12, f"w{index}")
        for index in range(3)
    ]
    constants += [
        numpy_helper.from_array(np.full(16, value, np.float32), name) for name, value in (("s", 1), ("b", 0))
    ]
    nodes = [
        helper.make_node("Conv", ["image", "w0"], ["a"], name="first", pads=[1] * 4),
        helper.make_node("InstanceNormalization", ["a", "s", "b"], ["n"], name="norm"),
        helper.make_node("Relu", ["n"], ["r"], name="relu"),
        helper.make_node("Conv", ["r", "w1"], ["c"], name="middle", pads=[1] * 4),
        helper.make_node("Conv", ["c", "w2"], ["result"], name="last", pads=[1] * 4),
    ]
    values = [
        helper.make_tensor_value_info(n, TensorProto.FLOAT, ["batch", 16, 8, 8]) for n in ("image", "result")
    ]
    graph = helper.make_graph(nodes, "small", values[:1], values[1:], constants)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)


def _built(model: onnx.ModelProto, precision: Precision, spec: EngineSpec = SPEC) -> BuiltEngine:
    quantised = quantiser(precision, [INPUTS]) if precision in ("int8", "fp8") else None
    graph = typed_graph(model, precision, quantised=quantised)
    return build_engine(RTX, graph.SerializeToString(), spec, ADA)


@pytest.fixture(scope="module")
def half(small: onnx.ModelProto) -> BuiltEngine:
    return _built(small, "fp16")


@pytest.mark.parametrize(("precision", "type_"), [("bf16", "BFloat16"), ("int8", "Int8")])
def test_the_engine_computes_in_the_precision_it_was_built_for(
    small: onnx.ModelProto, precision: Precision, type_: str
) -> None:
    built = _built(small, precision)
    check_report(built.report, SPEC, precision)
    assert type_ in built.report.layers_by_type()
    assert "Float" in built.report.layers_by_type()  # the instance norm's statistics


def test_statistics_stay_in_full_in_a_half_engine(half: BuiltEngine) -> None:
    check_report(half.report, SPEC, "fp16")
    assert {"Half", "Float"} <= set(half.report.layers_by_type())


def test_a_full_precision_engine_has_no_half_layer(small: onnx.ModelProto) -> None:
    report = _built(small, "fp32").report
    check_report(report, SPEC, "fp32")
    assert "Half" not in report.layers_by_type()
    with pytest.raises(InspectionError, match="no layer of the engine computes in fp16"):
        check_report(report, SPEC, "fp16")


def test_batches_of_1_to_32_fit_the_profile(half: BuiltEngine) -> None:
    tensors = {tensor.name: tensor for tensor in half.report.tensors}
    assert tensors["image"].profile == ((1, 16, 8, 8), (1, 16, 8, 8), (32, 16, 8, 8))
    assert not tensors["result"].is_input


def test_an_engine_of_other_tensors_is_noticed(half: BuiltEngine) -> None:
    report = half.report
    renamed = EngineSpec(
        name="small", inputs=SPEC.inputs, outputs=(TensorSpec(name="x", shape=("batch", 1)),)
    )
    with pytest.raises(
        InspectionError, match=r"has the tensors \['image', 'result'\], its spec has \['image', 'x'\]"
    ):
        check_report(report, renamed, "fp16")
    resized = EngineSpec(
        name="small", inputs=SPEC.inputs, outputs=(TensorSpec(name="result", shape=("batch", 3, 8, 8)),)
    )
    with pytest.raises(
        InspectionError, match=r"small\.result is Float \(-1, 16, 8, 8\), must be Float \(-1, 3"
    ):
        check_report(report, resized, "fp16")


def test_an_unknown_target_names_the_choices(small: onnx.ModelProto) -> None:
    with pytest.raises(EngineBuildError, match=r"compute capability 9\.0; choices: .*8\.9"):
        build_engine(RTX, typed_graph(small, "fp16").SerializeToString(), SPEC, ((9, 0),))


def test_what_is_no_graph_is_refused_with_the_reason() -> None:
    with pytest.raises(EngineBuildError, match="TensorRT for RTX does not take the graph"):
        build_engine(RTX, b"no graph", SPEC, ADA)


def test_a_graph_without_an_input_of_the_spec_is_refused(small: onnx.ModelProto) -> None:
    other = EngineSpec(
        name="small", inputs=(TensorSpec(name="mel", shape=("batch", 1)),), outputs=SPEC.outputs
    )
    with pytest.raises(EngineBuildError, match="the graph has no input mel"):
        build_engine(RTX, typed_graph(small, "fp16").SerializeToString(), other, ADA)


def _build_all(
    manifest: Manifest, graphs: dict[str, onnx.ModelProto], precision: Precision, root: Path
) -> EngineKey:
    """Build, inspect and publish every network; calibrated on random inputs, which build the same layers."""
    specs = engine_specs(manifest.config)
    built = {}
    for name, spec in specs.items():
        frames = [sample_inputs(spec, 1)]
        quantised = quantiser(precision, frames) if precision in ("int8", "fp8") else None
        graph = typed_graph(graphs[name], precision, quantised=quantised).SerializeToString()
        built[name] = build_engine(RTX, graph, spec, RTX.targets)
        check_report(built[name].report, spec, precision)
    key = EngineKey.of(manifest, "rtx", precision, RTX.version(), RTX.targets)
    store = EngineStore(root)
    with store.lock(key):
        store.publish(
            key,
            {name: engine.content for name, engine in built.items()},
            {name: engine.report.layers_by_type() for name, engine in built.items()},
            {},
        )
    return key


def _check_reloaded(root: Path, key: EngineKey) -> None:
    found = EngineStore(root).find(key, (12, 0))
    assert set(found.engines) == set(key.weights)
    for name, engine in found.engines.items():
        content = found.read(name)
        assert len(content) == engine.bytes
        # bytes 24 to 27 of a plan are the version of the run time that built it
        assert ".".join(map(str, content[24:28])) == key.version
    _check_refusals(EngineStore(root), key)


def _check_refusals(store: EngineStore, key: EngineKey) -> None:
    """What is not exactly what was asked for is never handed out; the message says why and what to run."""
    found = store.find(key, (12, 0))
    command = f"run: {key.build_command}"
    other_weights = {name: "0" * 64 for name in key.weights}
    for wanted, target, reason in (
        (replace(key, version="9.9"), (12, 0), f"were built by TensorRT for RTX {key.version}, this is 9.9"),
        (replace(key, weights=other_weights), (12, 0), "were built from other weights"),
        (replace(key, spec="0"), (12, 0), "were built by another version of this engine"),
        (key, (9, 0), "are for 8.9,12.0, not for 9.0"),
    ):
        with pytest.raises(StoreError, match=re.escape(reason)):
            store.find(wanted, target)
    path = found.directory / "generator.engine"
    content = path.read_bytes()
    path.write_bytes(content[:-1])
    with pytest.raises(StoreError, match=f"is cut short .*{re.escape(command)}"):
        found.read("generator")
    path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    with pytest.raises(StoreError, match=f"is damaged: .*{re.escape(command)}"):
        found.read("generator")
    path.write_bytes(content)
    manifest = found.directory / FILE_NAME
    text = manifest.read_text()
    manifest.write_text(text.replace('"version": "', '"version": "0'))
    with pytest.raises(StoreError, match="was changed after it was written"):
        store.find(key, (12, 0))
    manifest.write_text(text)
    foreign = found.directory.with_name(f"{found.directory.name[:-12]}{'0' * 12}")
    found.directory.rename(foreign)
    with pytest.raises(StoreError, match=f"belongs to other engines, those of {found.directory.name}"):
        store.find(key, (12, 0))


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["fp16", "int8"])
def test_all_networks_of_lite_build_and_reload(tmp_path: Path, precision: Precision) -> None:
    bundle = Bundle.open("lite")
    entries = bundle.manifest.networks
    graphs = {name: onnx.load(bundle.directory / entry.file) for name, entry in entries.items()}
    _check_reloaded(tmp_path, _build_all(bundle.manifest, graphs, precision, tmp_path))


@pytest.mark.slow
def test_all_networks_of_paper_build_and_reload(tmp_path: Path) -> None:
    """Random weights of the right shapes: no checkpoint of `paper` ships."""
    import torch

    from gcavt.model import Gcavt
    from trt_build.export import folded, onnx_graph
    from trt_build.modules import network_modules

    torch.manual_seed(0)
    config = GcavtConfig.paper()
    specs = engine_specs(config)
    modules = network_modules(folded(Gcavt(config)))
    graphs = {name: onnx_graph(modules[name], spec) for name, spec in specs.items()}
    entries = {}
    for name, spec in specs.items():
        onnx.save(graphs[name], tmp_path / f"{name}.onnx")
        entries[name] = network_entry(spec, tmp_path / f"{name}.onnx")
    manifest = Manifest(name="paper", config=config, networks=entries, code_space="free", neutral=None)
    _check_reloaded(tmp_path / "store", _build_all(manifest, graphs, "fp16", tmp_path / "store"))
