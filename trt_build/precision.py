"""A network's graph in the precision that an engine is to compute in.

TensorRT's networks are strongly typed: what the ONNX graph says is what is computed. Convolutions and matrix
products, and the light operators between them, go to half precision. Statistics of instance norms, norms,
softmax, and every coordinate that a picture is sampled at stay in float32.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Final

import ml_dtypes
import numpy as np
import onnx
import onnx.version_converter
from numpy.typing import NDArray
from onnx import NodeProto, TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator

from trt_build.flavours import Precision

HALF_OF: Final[dict[Precision, TensorProto.DataType]] = {
    "fp16": TensorProto.FLOAT16,
    "bf16": TensorProto.BFLOAT16,
    "int8": TensorProto.FLOAT16,
    "fp8": TensorProto.FLOAT16,
}
"""What is computed between quantised operators, or everywhere."""

PRODUCTS: Final = frozenset({"Conv", "ConvTranspose", "Gemm", "MatMul"})
FOLLOWERS: Final = frozenset(
    "Relu Clip Sigmoid Tanh Add Sub Mul Concat Split Reshape Transpose Pad Slice Gather Unsqueeze Squeeze "
    "Resize MaxPool AveragePool DepthToSpace Identity Flatten Expand QuantizeLinear".split()
)
"""Half where all that flows into them is half already."""

OPSET: Final = 22
"""The first in which convolutions know bfloat16, and which has quantisation in half precision."""

_DATA_ONLY: Final = frozenset(
    {"Resize", "Reshape", "Slice", "Gather", "Expand", "Unsqueeze", "Squeeze", "Split"}
)
"""Of these only the first input has the type of the output."""
_NUMPY_OF: Final = {
    TensorProto.FLOAT16: np.dtype(np.float16),
    TensorProto.BFLOAT16: np.dtype(ml_dtypes.bfloat16),
}


def folded_constants(model: onnx.ModelProto) -> onnx.ModelProto:
    """The graph with everything computed that depends on weights alone, such as casts of halved weights."""
    result = onnx.ModelProto()
    result.CopyFrom(model)
    graph = result.graph
    values = {tensor.name: tensor for tensor in graph.initializer}
    kept = []
    for node in graph.node:
        if not node.input or any(name and name not in values for name in node.input):
            kept.append(node)
            continue
        for name, array in zip(node.output, _evaluated(node, values, result.opset_import), strict=True):
            values[name] = numpy_helper.from_array(array, name)
    _replace_nodes(graph, kept, values)
    return result


def _evaluated(
    node: NodeProto, values: dict[str, TensorProto], opsets: Iterable[onnx.OperatorSetIdProto]
) -> list[NDArray[Any]]:
    outputs = [helper.make_tensor_value_info(name, TensorProto.UNDEFINED, None) for name in node.output]
    constants = [values[name] for name in dict.fromkeys(node.input) if name]
    graph = helper.make_graph([node], "constant", [], outputs, constants)
    results = ReferenceEvaluator(helper.make_model(graph, opset_imports=list(opsets))).run(None, {})
    return [np.asarray(array) for array in results]


def _replace_nodes(graph: onnx.GraphProto, nodes: list[NodeProto], values: dict[str, TensorProto]) -> None:
    used = {name for node in nodes for name in node.input} | {output.name for output in graph.output}
    constants = [tensor for name, tensor in values.items() if name in used]
    del graph.node[:], graph.initializer[:]
    graph.node.extend(nodes)
    graph.initializer.extend(constants)


def half_nodes(model: onnx.ModelProto) -> set[int]:
    """Indices of the nodes that go to half precision (see the module's first lines)."""
    graph = model.graph
    constants = {tensor.name for tensor in graph.initializer}
    exact = geometry_nodes(graph)
    floats = _float_tensors(model)
    half: set[int] = set()
    half_tensors: set[str] = set()
    for index, node in enumerate(graph.node):
        flowing = [name for name in _typed_inputs(node) if name in floats and name not in constants]
        follows = node.op_type in FOLLOWERS and bool(flowing) and half_tensors.issuperset(flowing)
        leads = node.op_type in PRODUCTS or node.op_type == "DequantizeLinear"
        if index not in exact and (leads or follows):
            half.add(index)
            half_tensors.update(node.output)
    return half


def geometry_nodes(graph: onnx.GraphProto) -> set[int]:
    """Indices of nodes between the last convolutions and the coordinates that pictures are sampled at.

    Half precision would put a sampling position of a 256 px picture wrong by up to half a pixel.
    """
    producer = {name: index for index, node in enumerate(graph.node) for name in node.output}
    waiting = [node.input[1] for node in graph.node if node.op_type == "GridSample"]
    found: set[int] = set()
    while waiting:
        index = producer.get(waiting.pop())
        if index is None or index in found or graph.node[index].op_type == "Conv":
            continue
        found.add(index)
        waiting.extend(graph.node[index].input)
    return found


def _float_tensors(model: onnx.ModelProto) -> set[str]:
    inferred = onnx.shape_inference.infer_shapes(model, data_prop=True).graph
    values = [*inferred.value_info, *inferred.input, *inferred.output]
    floats = {value.name for value in values if value.type.tensor_type.elem_type == TensorProto.FLOAT}
    return floats | {t.name for t in model.graph.initializer if t.data_type == TensorProto.FLOAT}


def _typed_inputs(node: NodeProto) -> list[str]:
    inputs = node.input[:1] if node.op_type in _DATA_ONLY else node.input
    return [name for name in inputs if name]


class _Halver:
    """Rewrites one graph; `emulated` keeps float32 kernels and rounds every half tensor instead."""

    def __init__(self, model: onnx.ModelProto, half_type: TensorProto.DataType, *, emulated: bool) -> None:
        self._graph = model.graph
        self._type = half_type
        self._emulated = emulated
        self._floats = _float_tensors(model)
        self._constants = {tensor.name: tensor for tensor in self._graph.initializer}
        self._new_constants: dict[str, TensorProto] = {}
        self._halves: set[str] = set()
        self._nodes: list[NodeProto] = []

    def rewrite(self, half: set[int]) -> None:
        needed = self._needed_in_full(half)
        for index, node in enumerate(self._graph.node):
            if index not in half:
                self._nodes.append(node)
                continue
            typed = set(_typed_inputs(node))
            for position, name in enumerate(node.input):
                if name in typed and name in self._floats:
                    node.input[position] = self._half_of(name)
            self._halve_outputs(node, needed)
        _replace_nodes(self._graph, self._nodes, self._constants | self._new_constants)

    def _needed_in_full(self, half: set[int]) -> set[str]:
        names = {output.name for output in self._graph.output}
        for index, node in enumerate(self._graph.node):
            typed = set(_typed_inputs(node)) if index in half else set()
            names |= {name for name in node.input if name not in typed}
        return names

    def _halve_outputs(self, node: NodeProto, needed: set[str]) -> None:
        originals = list(node.output)
        self._nodes.append(node)
        for position, name in enumerate(originals):
            if name not in self._floats:
                continue  # the integers of a QuantizeLinear
            node.output[position] = f"{name}_exact" if self._emulated else f"{name}_half"
            if self._emulated:
                self._round(f"{name}_exact", f"{name}_half")
            self._halves.add(name)
            if name in needed:
                self._cast(f"{name}_half", name, TensorProto.FLOAT)

    def _half_of(self, name: str) -> str:
        half = f"{name}_half"
        if name in self._halves:
            return half
        self._halves.add(name)
        if name in self._constants:
            rounded = numpy_helper.to_array(self._constants[name]).astype(_NUMPY_OF[self._type])
            if self._emulated:
                rounded = rounded.astype(np.float32)
            self._new_constants[half] = numpy_helper.from_array(rounded, half)
        elif self._emulated:
            self._round(name, half)
        else:
            self._cast(name, half, self._type)
        return half

    def _round(self, source: str, target: str) -> None:
        self._cast(source, f"{target}_bits", self._type)
        self._cast(f"{target}_bits", target, TensorProto.FLOAT)

    def _cast(self, source: str, target: str, to: int) -> None:
        self._nodes.append(helper.make_node("Cast", [source], [target], name=f"{target}_cast", to=to))


def typed_graph(
    model: onnx.ModelProto,
    precision: Precision,
    *,
    emulated: bool = False,
    quantised: Callable[[onnx.ModelProto], onnx.ModelProto] | None = None,
) -> onnx.ModelProto:
    """The graph computing in `precision`; names and types of its inputs and outputs stay as they are.

    quantised puts Q/DQ nodes into the float32 graph, for int8 and fp8.
    emulated: float32 kernels whose results are rounded to half, so that a CPU shows what a GPU would compute.
    """
    if (quantised is None) == (precision in ("int8", "fp8")):
        raise ValueError(f"precision {precision} {'needs' if quantised is None else 'takes no'} quantisation")
    result = folded_constants(onnx.version_converter.convert_version(model, OPSET))
    if quantised is not None:
        result = quantised(result)
    if precision != "fp32":
        half = half_nodes(result)
        _Halver(result, HALF_OF[precision], emulated=emulated).rewrite(half)
    del result.graph.value_info[:]  # they state the former types
    return result
