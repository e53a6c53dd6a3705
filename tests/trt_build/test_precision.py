from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from engine.bundle import PRETRAINED_DIR
from trt_build.accuracy import EmulatedEngines
from trt_build.manifest import FILE_NAME, Manifest
from trt_build.precision import folded_constants, half_nodes, typed_graph
from trt_build.quantise import quantised_products, quantiser
from trt_build.specs import engine_specs
from trt_build.verify import largest_difference, onnx_outputs, sample_inputs

LITE = PRETRAINED_DIR / "lite"
SPECS = engine_specs(Manifest.load(LITE / FILE_NAME).config)
NETWORKS = ("audio_encoder", "generator")
Arrays = dict[str, NDArray[np.float32]]


def _graph(network: str) -> onnx.ModelProto:
    return onnx.load(LITE / f"{network}.onnx")


def _types(model: onnx.ModelProto) -> dict[str, int]:
    inferred = onnx.shape_inference.infer_shapes(model).graph
    values = (*inferred.value_info, *inferred.input, *inferred.output)
    types = {value.name: value.type.tensor_type.elem_type for value in values}
    return types | {tensor.name: tensor.data_type for tensor in inferred.initializer}


def _wide_layers() -> tuple[onnx.ModelProto, Arrays]:
    """Four convolutions: the outer two must be left alone by quantisation."""
    rng = np.random.default_rng(0)
    channels = (3, 16, 32, 16, 3)
    names = ["image", "a", "b", "c", "result"]
    nodes, weights = [], []
    for index in range(4):
        weight = rng.standard_normal((channels[index + 1], channels[index], 3, 3))
        weight /= np.sqrt(9 * channels[index])
        weights.append(numpy_helper.from_array(weight.astype(np.float32), f"w{index}"))
        names_here = [names[index], f"w{index}"]
        nodes.append(
            helper.make_node("Conv", names_here, [names[index + 1]], name=f"conv{index}", pads=[1] * 4)
        )
    shape: list[str | int | None] = ["batch", 3, 16, 16]
    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name in ("image", "result")]
    graph = helper.make_graph(nodes, "wide", values[:1], values[1:], weights)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    return model, {"image": rng.random((2, 3, 16, 16), np.float32)}


def _run(model: onnx.ModelProto, inputs: Arrays) -> Any:
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    return ort.InferenceSession(model.SerializeToString(), options).run(None, inputs)[0]


@pytest.mark.parametrize("network", NETWORKS)
def test_folding_constants_leaves_the_outputs_alone(network: str) -> None:
    graph = _graph(network)
    folded = folded_constants(graph)
    assert not any(t.data_type == TensorProto.FLOAT16 for t in folded.graph.initializer)
    inputs = sample_inputs(SPECS[network], batch=1)
    outputs = [onnx_outputs(g.SerializeToString(), SPECS[network], inputs) for g in (graph, folded)]
    assert largest_difference(*outputs) < 1e-4


@pytest.mark.parametrize("network", NETWORKS)
@pytest.mark.parametrize(
    ("precision", "type_"), [("fp16", TensorProto.FLOAT16), ("bf16", TensorProto.BFLOAT16)]
)
def test_products_go_to_half_and_inputs_and_outputs_stay(network: str, precision: Any, type_: int) -> None:
    typed = typed_graph(_graph(network), precision)
    onnx.checker.check_model(typed, full_check=True)
    types = _types(typed)
    products = [node for node in typed.graph.node if node.op_type == "Conv"]
    assert products
    assert {types[name] for node in products for name in (*node.input, *node.output)} == {type_}
    spec = SPECS[network]
    assert {types[name] for name in (*spec.input_names, *spec.output_names)} == {TensorProto.FLOAT}


def test_statistics_and_sampling_positions_stay_in_full() -> None:
    typed = typed_graph(_graph("generator"), "fp16")
    types = _types(typed)
    exact = [node for node in typed.graph.node if node.op_type in ("InstanceNormalization", "GridSample")]
    assert {node.op_type for node in exact} == {"InstanceNormalization", "GridSample"}
    assert {types[name] for node in exact for name in (*node.input, *node.output)} == {TensorProto.FLOAT}
    producers = {name: node for node in typed.graph.node for name in node.output}
    for node in exact:
        if node.op_type == "GridSample":
            assert types[producers[node.input[1]].input[0]] == TensorProto.FLOAT


def test_light_operators_follow_what_flows_into_them() -> None:
    model, _ = _wide_layers()
    model.graph.node.append(helper.make_node("Relu", ["result"], ["shown"]))
    model.graph.output[0].name = "shown"
    assert half_nodes(model) == {0, 1, 2, 3, 4}
    model.graph.node.append(helper.make_node("Softmax", ["b"], ["share"]))
    assert 5 not in half_nodes(model)


@pytest.mark.parametrize(("precision", "bits"), [("fp16", 11), ("bf16", 8)])
def test_emulation_rounds_as_the_type_does(precision: Any, bits: int) -> None:
    model, inputs = _wide_layers()
    exact, rounded = _run(model, inputs), _run(typed_graph(model, precision, emulated=True), inputs)
    relative = np.abs(rounded - exact).max() / np.abs(exact).max()
    assert 2.0 ** -(bits + 3) < relative < 2.0 ** -(bits - 2)


def test_emulated_fp16_is_what_a_half_kernel_computes() -> None:
    model, inputs = _wide_layers()
    emulated = _run(typed_graph(model, "fp16", emulated=True), inputs)
    native = _run(typed_graph(model, "fp16"), inputs)
    np.testing.assert_allclose(emulated, native, atol=2e-3)


def test_only_inner_wide_products_are_quantised() -> None:
    model, _ = _wide_layers()
    assert [node.name for node in quantised_products(model)] == ["conv1", "conv2"]


def test_the_last_products_are_left_alone_however_wide() -> None:
    model, _ = _wide_layers()
    del model.graph.node[3]
    model.graph.node.append(helper.make_node("Relu", ["c"], ["result"]))
    assert [node.name for node in quantised_products(model)] == ["conv1"]


def test_products_of_codes_as_they_come_in_are_left_alone() -> None:
    rng = np.random.default_rng(0)
    sides = {"first": (32, 32), "second": (16, 32), "third": (16, 16)}
    weights = [
        numpy_helper.from_array(rng.random(shape, np.float32), f"{name}_w") for name, shape in sides.items()
    ]
    nodes = [helper.make_node("Concat", ["pose_code", "content_code"], ["codes"], axis=1)]
    source = "codes"
    for name in sides:
        target = "result" if name == "third" else name
        nodes.append(helper.make_node("Gemm", [source, f"{name}_w"], [target], name=name, transB=1))
        source = target
    codes = [
        helper.make_tensor_value_info(n, TensorProto.FLOAT, [1, 16]) for n in ("pose_code", "content_code")
    ]
    result = helper.make_tensor_value_info("result", TensorProto.FLOAT, [1, 16])
    graph = helper.make_graph(nodes, "codes", codes, [result], weights)
    assert [node.name for node in quantised_products(helper.make_model(graph))] == ["second"]


@pytest.mark.parametrize("kind", ["int8", "fp8"])
def test_quantised_layers_read_eight_bits_and_stay_near(kind: Any) -> None:
    model, inputs = _wide_layers()
    quantised = typed_graph(model, kind, quantised=quantiser(kind, [inputs]))
    onnx.checker.check_model(quantised, full_check=True)
    producers = {name: node for node in quantised.graph.node for name in node.output}
    sources = [
        {producers[name].op_type for name in node.input[:2] if name in producers}
        for node in quantised.graph.node
        if node.op_type == "Conv"
    ]
    assert sources[1] == sources[2] == {"DequantizeLinear"}
    assert "DequantizeLinear" not in sources[0] | sources[3]
    types = _types(quantised)
    eight = TensorProto.INT8 if kind == "int8" else TensorProto.FLOAT8E4M3FN
    written = [node for node in quantised.graph.node if node.op_type == "QuantizeLinear"]
    assert {types[node.output[0]] for node in written} == {eight}
    assert {types[node.input[0]] for node in written} == {TensorProto.FLOAT16}
    emulated = typed_graph(model, kind, emulated=True, quantised=quantiser(kind, [inputs]))
    exact = _run(model, inputs)
    assert np.abs(_run(emulated, inputs) - exact).max() < 0.1 * np.abs(exact).max()


def test_a_channel_of_small_weights_keeps_its_own_scale() -> None:
    model, inputs = _wide_layers()
    weight = numpy_helper.to_array(model.graph.initializer[1]).copy()
    weight[0] *= 0.05
    model.graph.initializer[1].CopyFrom(numpy_helper.from_array(weight, "w1"))
    quantised = typed_graph(model, "int8", emulated=True, quantised=quantiser("int8", [inputs]))
    stored = next(t for t in quantised.graph.initializer if t.name == "w1_int8")
    assert np.abs(numpy_helper.to_array(stored)).reshape(32, -1).max(1).min() > 100


def test_quantisation_and_precision_must_fit_together() -> None:
    model, inputs = _wide_layers()
    with pytest.raises(ValueError, match="int8 needs quantisation"):
        typed_graph(model, "int8")
    with pytest.raises(ValueError, match="fp16 takes no quantisation"):
        typed_graph(model, "fp16", quantised=quantiser("int8", [inputs]))


def test_calibration_needs_frames() -> None:
    model, _ = _wide_layers()
    with pytest.raises(ValueError, match="at least one frame"):
        typed_graph(model, "int8", quantised=quantiser("int8", []))


def test_emulated_engines_run_networks_by_name() -> None:
    graph = typed_graph(_graph("pose_encoder"), "fp16", emulated=True)
    engines = EmulatedEngines({"pose_encoder": graph}, SPECS)
    inputs = sample_inputs(SPECS["pose_encoder"], batch=2)
    exact = onnx_outputs(LITE / "pose_encoder.onnx", SPECS["pose_encoder"], inputs)
    assert 0 < largest_difference(engines.run("pose_encoder", inputs), exact) < 0.05
