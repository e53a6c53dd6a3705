"""Explicit quantisation: Q/DQ nodes around the products that gain from eight bits, scaled by real frames.

Left in half precision: the first products (of picture, sound, landmarks or codes as they come in), depthwise
and thin convolutions, and the last products before an output or a sampling position, where an error of one
part in 127 would be seen.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final, Literal

import ml_dtypes
import numpy as np
import onnx
import onnxruntime as ort
from numpy.typing import NDArray
from onnx import NodeProto, TensorProto, helper, numpy_helper

from trt_build.precision import PRODUCTS

Arrays = dict[str, NDArray[np.float32]]
EightBits = Literal["int8", "fp8"]

LARGEST: Final = {"int8": 127.0, "fp8": 448.0}
"""Largest number of the type; both are used symmetrically, as TensorRT asks."""
QUANTILE: Final = 0.9999
"""Of the magnitudes of one frame: what lies beyond is clipped."""
LEAST_CHANNELS: Final = 16
_LIGHT: Final = frozenset(
    {"Concat", "Split", "Slice", "Gather", "Reshape", "Flatten", "Unsqueeze", "Squeeze", "Sub", "Mul", "Div"}
)
_TYPES: Final = {"int8": TensorProto.INT8, "fp8": TensorProto.FLOAT8E4M3FN}
_LEAST_SCALE: Final = float(np.finfo(np.float16).tiny)  # scales are stored in half


def quantiser(
    kind: EightBits, frames: Sequence[Arrays], *, products: frozenset[str] = PRODUCTS
) -> Callable[[onnx.ModelProto], onnx.ModelProto]:
    """What `typed_graph` takes as `quantised`: calibrates on the network's inputs in `frames`.

    products: operators to quantise; TensorRT for RTX knows fp8 in matrix products alone.
    """

    def quantised(model: onnx.ModelProto) -> onnx.ModelProto:
        chosen = quantised_products(model, products)
        largest = activation_ranges(model, sorted({node.input[0] for node in chosen}), frames)
        _insert(model.graph, chosen, largest, kind)
        return model

    return quantised


def quantised_products(model: onnx.ModelProto, products: frozenset[str] = PRODUCTS) -> list[NodeProto]:
    """The nodes that are worth eight bits and bear them."""
    graph = model.graph
    weights = {tensor.name: tensor for tensor in graph.initializer}
    kept = last_products(graph) | first_products(graph)
    return [
        node
        for node in graph.node
        if node.op_type in products
        and node.output[0] not in kept
        and node.input[1] in weights
        and node.input[0] not in weights
        and _is_wide(node, weights[node.input[1]])
    ]


def _is_wide(node: NodeProto, weight: TensorProto) -> bool:
    attributes = {a.name: helper.get_attribute_value(a) for a in node.attribute}
    if node.op_type == "Conv":
        return bool(attributes.get("group", 1) == 1 and min(weight.dims[:2]) >= LEAST_CHANNELS)
    if node.op_type == "Gemm" and not (attributes.get("transB", 0) and not attributes.get("transA", 0)):
        return False
    return len(weight.dims) == 2 and min(weight.dims) >= LEAST_CHANNELS and node.op_type == "Gemm"


def first_products(graph: onnx.GraphProto) -> set[str]:
    """Outputs of the products that only light operators part from the network's vectors, such as codes.

    Pictures and spectrograms do not count: their first product is a thin convolution anyway, and what is
    brought in per identity is a picture of features that bears eight bits as those within do.
    """
    vectors = {value.name for value in graph.input if len(value.type.tensor_type.shape.dim) == 2}
    found: set[str] = set()
    for node in graph.node:
        if not vectors.intersection(node.input):
            continue
        if node.op_type in PRODUCTS:
            found.add(node.output[0])
        elif node.op_type in _LIGHT:
            vectors.update(node.output)
    return found


def last_products(graph: onnx.GraphProto) -> set[str]:
    """Outputs of the products that only light operators part from an output or a sampling position."""
    producer = {name: node for node in graph.node for name in node.output}
    waiting = [output.name for output in graph.output]
    waiting += [node.input[1] for node in graph.node if node.op_type == "GridSample"]
    seen: set[str] = set()
    found: set[str] = set()
    while waiting:
        name = waiting.pop()
        node = producer.get(name)
        if node is None or name in seen:
            continue
        seen.add(name)
        if node.op_type in PRODUCTS:
            found.add(node.output[0])
        else:
            waiting.extend(node.input)
    return found


def activation_ranges(
    model: onnx.ModelProto, tensors: Sequence[str], frames: Sequence[Arrays]
) -> dict[str, float]:
    """The largest magnitude of each tensor over all frames, each frame's outliers left out."""
    if not frames:
        raise ValueError("calibration needs at least one frame")
    inputs = {value.name for value in model.graph.input}
    probe = onnx.ModelProto()
    probe.CopyFrom(model)
    inner = [name for name in tensors if name not in inputs]
    known = {output.name for output in probe.graph.output}
    probe.graph.output.extend(
        helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in inner if name not in known
    )
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    session = ort.InferenceSession(probe.SerializeToString(), options, providers=["CPUExecutionProvider"])
    largest = dict.fromkeys(tensors, 0.0)
    for frame in frames:
        feed = {name: frame[name] for name in inputs}
        values = dict(zip(inner, session.run(inner, feed), strict=True)) if inner else {}
        for name in tensors:
            magnitudes = np.abs(values[name] if name in values else feed[name])
            largest[name] = max(largest[name], float(np.quantile(magnitudes, QUANTILE)))
    return largest


def _insert(
    graph: onnx.GraphProto, chosen: Sequence[NodeProto], largest: dict[str, float], kind: EightBits
) -> None:
    weights = {tensor.name: tensor for tensor in graph.initializer}
    quantised = {node.output[0] for node in chosen}
    done: set[str] = set()
    nodes: list[NodeProto] = []
    for node in graph.node:
        if node.output[0] in quantised:
            source, weight = node.input[0], node.input[1]
            if source not in done:
                nodes += _quantised_activation(graph, source, largest[source], kind)
            if weight not in done:
                nodes.append(_quantised_weight(graph, weights[weight], kind))
            done |= {source, weight}
            node.input[0], node.input[1] = f"{source}_dequantised", f"{weight}_dequantised"
        nodes.append(node)
    copies = [onnx.NodeProto.FromString(node.SerializeToString()) for node in nodes]
    del graph.node[:]
    graph.node.extend(copies)


def _scale(largest: NDArray[np.float32] | float, kind: EightBits) -> NDArray[np.float32]:
    scale = np.maximum(np.asarray(largest, np.float32) / LARGEST[kind], _LEAST_SCALE)
    return np.asarray(scale.astype(np.float16), np.float32)


def _quantised_activation(
    graph: onnx.GraphProto, name: str, largest: float, kind: EightBits
) -> list[NodeProto]:
    graph.initializer.append(numpy_helper.from_array(_scale(largest, kind), f"{name}_scale"))
    graph.initializer.append(
        helper.make_tensor(f"{name}_zero", _TYPES[kind], [], [0.0 if kind == "fp8" else 0])
    )
    constants = [f"{name}_scale", f"{name}_zero"]
    bits, restored = f"{name}_{kind}", f"{name}_dequantised"
    return [
        helper.make_node("QuantizeLinear", [name, *constants], [bits], name=f"{name}_quantise"),
        helper.make_node("DequantizeLinear", [bits, *constants], [restored], name=f"{name}_dequantise"),
    ]


def _quantised_weight(graph: onnx.GraphProto, weight: TensorProto, kind: EightBits) -> NodeProto:
    """Stored in eight bits: int8 with a scale per output channel, fp8 with one for all."""
    values = np.asarray(numpy_helper.to_array(weight), np.float32)
    name = weight.name
    bits, restored = f"{name}_{kind}", f"{name}_dequantised"
    if kind == "int8":
        axes = tuple(range(1, values.ndim))
        scale = _scale(np.abs(values).max(axes), kind)
        whole = np.round(values / scale.reshape(-1, *(1,) * len(axes))).clip(-127, 127).astype(np.int8)
        graph.initializer.append(numpy_helper.from_array(whole, bits))
    else:
        scale = _scale(float(np.abs(values).max()), kind)
        eight = (values / scale).clip(-448, 448).astype(ml_dtypes.float8_e4m3fn)
        graph.initializer.append(numpy_helper.from_array(eight, bits))
    graph.initializer.append(numpy_helper.from_array(scale, f"{name}_scale"))
    attributes: dict[str, Any] = {"axis": 0} if kind == "int8" else {}
    return helper.make_node(
        "DequantizeLinear", [bits, f"{name}_scale"], [restored], name=f"{name}_dequantise", **attributes
    )
