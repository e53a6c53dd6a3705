from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from trt_build.weights import halve_weights


@pytest.fixture
def graph() -> onnx.ModelProto:
    """image + positions, then a convolution whose weight is one slice of a larger tensor."""
    rng = np.random.default_rng(0)
    tensors = {
        "weight": rng.standard_normal((2, 16, 16, 3, 3), np.float32),
        "bias": rng.standard_normal(16, np.float32),
        "positions": np.arange(16 * 64, dtype=np.float32).reshape(1, 16, 8, 8) + np.float32(0.3),
        "index": np.array(1, np.int64),
    }
    nodes = [
        helper.make_node("Add", ["image", "positions"], ["moved"]),
        helper.make_node("Gather", ["weight", "index"], ["slice"], axis=0),
        helper.make_node("Conv", ["moved", "slice", "bias"], ["out"], pads=[1, 1, 1, 1]),
    ]
    shape: list[str | int | None] = ["batch", 16, 8, 8]
    return helper.make_model(
        helper.make_graph(
            nodes,
            "test",
            [helper.make_tensor_value_info("image", TensorProto.FLOAT, shape)],
            [helper.make_tensor_value_info("out", TensorProto.FLOAT, shape)],
            [numpy_helper.from_array(values, name) for name, values in tensors.items()],
        ),
        opset_imports=[helper.make_opsetid("", 18)],
        ir_version=10,
    )


def _run(model: onnx.ModelProto) -> np.typing.NDArray[np.float32]:
    import onnxruntime as ort

    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    image = np.ones((1, 16, 8, 8), np.float32)
    return np.asarray(session.run(["out"], {"image": image})[0], np.float32)


def _types(model: onnx.ModelProto) -> dict[str, int]:
    return {tensor.name: tensor.data_type for tensor in model.graph.initializer}


def _parameters(model: onnx.ModelProto) -> dict[str, np.typing.NDArray[np.float32]]:
    """All of them but the positions, which a module would hold as a buffer."""
    arrays = {t.name: numpy_helper.to_array(t) for t in model.graph.initializer}
    return {name: np.asarray(arrays[name], np.float32) for name in ("weight", "bias")}


def test_only_parameters_of_several_axes_are_halved(graph: onnx.ModelProto) -> None:
    assert halve_weights(graph, _parameters(graph)) == 1
    types = _types(graph)
    assert types["weight_half"] == TensorProto.FLOAT16
    assert types["positions"] == types["bias"] == TensorProto.FLOAT


def test_the_halved_graph_is_valid_and_computes_nearly_the_same(graph: onnx.ModelProto) -> None:
    before = _run(graph)
    halve_weights(graph, _parameters(graph))
    onnx.checker.check_model(graph, full_check=True)
    after = _run(graph)
    assert 0 < np.abs(after - before).max() < 1e-3 * np.abs(before).max()


def test_a_weight_that_half_precision_cannot_hold_stays_full(graph: onnx.ModelProto) -> None:
    weight = next(t for t in graph.graph.initializer if t.name == "weight")
    weight.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(weight) * np.float32(1e6), "weight"))
    assert halve_weights(graph, _parameters(graph)) == 0
    assert _types(graph)["weight"] == TensorProto.FLOAT


def test_a_folded_norm_is_stored_as_a_factor_beside_the_parameter_itself() -> None:
    rng = np.random.default_rng(0)
    parameter = rng.standard_normal((16, 16, 3, 3)).astype(np.float32)
    factor = rng.uniform(0.1, 3, (16, 1, 1, 1)).astype(np.float32)
    shape: list[str | int | None] = ["batch", 16, 8, 8]
    model = helper.make_model(
        helper.make_graph(
            [helper.make_node("Conv", ["image", "weight"], ["out"], pads=[1, 1, 1, 1])],
            "test",
            [helper.make_tensor_value_info("image", TensorProto.FLOAT, shape)],
            [helper.make_tensor_value_info("out", TensorProto.FLOAT, shape)],
            [numpy_helper.from_array(parameter * factor, "weight")],
        ),
        opset_imports=[helper.make_opsetid("", 18)],
        ir_version=10,
    )
    assert halve_weights(model, {"weight": parameter}) == 1
    onnx.checker.check_model(model, full_check=True)
    stored = {t.name: numpy_helper.to_array(t) for t in model.graph.initializer}
    np.testing.assert_array_equal(stored["weight_half"], parameter.astype(np.float16))
    np.testing.assert_allclose(stored["weight_factor"], factor, rtol=1e-5)
