"""Floating-point operations of an ONNX graph: two per multiplication in convolutions and matrix products."""

from __future__ import annotations

import math
from pathlib import Path

import onnx
from onnx import NodeProto

from trt_build.specs import EngineSpec

Shapes = dict[str, tuple[int, ...]]


def gflop(path: Path, spec: EngineSpec) -> float:
    """Of one run with a batch of 1. Raises ValueError: a product's shape is not known."""
    model = onnx.load(path)
    sizes = {tensor.name: tensor.with_batch(1) for tensor in (*spec.inputs, *spec.outputs)}
    for value in (*model.graph.input, *model.graph.output):
        for dimension, size in zip(value.type.tensor_type.shape.dim, sizes[value.name], strict=True):
            dimension.dim_value = size
    del model.graph.value_info[:]
    graph = onnx.shape_inference.infer_shapes(model, data_prop=True).graph
    shapes: Shapes = {tensor.name: tuple(tensor.dims) for tensor in graph.initializer}
    for value in (*graph.input, *graph.output, *graph.value_info):
        shapes[value.name] = tuple(d.dim_value for d in value.type.tensor_type.shape.dim)
    return sum(_flop(node, shapes) for node in graph.node) / 1e9


def _flop(node: NodeProto, shapes: Shapes) -> float:
    if node.op_type not in ("Conv", "ConvTranspose", "Gemm", "MatMul"):
        return 0.0
    needed = (*node.input[:2], node.output[0])
    if any(0 in shapes.get(name, (0,)) for name in needed):
        raise ValueError(f"the shapes about {node.name} are not known")
    source, weight, result = (shapes[name] for name in needed)
    if node.op_type == "Conv":
        return 2.0 * math.prod(result) * math.prod(weight[1:])
    if node.op_type == "ConvTranspose":
        return 2.0 * math.prod(source) * math.prod(weight[1:])
    return 2.0 * math.prod(result) * source[-1]
