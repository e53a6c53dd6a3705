"""Half-size ONNX files: weights stored in half precision and cast back to float32 where they are used."""

from __future__ import annotations

from collections import defaultdict
from typing import Final

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

MIN_ELEMENTS: Final = 1024
"""Smaller tensors (biases, norms) are not worth a cast, and keep full precision."""

_LAST_HALF: Final = float(np.finfo(np.float16).max)
_VIEWS: Final = frozenset({"Gather", "Slice", "Squeeze", "Unsqueeze", "Reshape", "Transpose"})
_WEIGHT_INPUTS: Final = {"Conv": (1,), "ConvTranspose": (1,), "Gemm": (1,), "MatMul": (0, 1)}


def halve_weights(model: onnx.ModelProto) -> int:
    """Store the weights of convolutions and matrix products as float16 and cast them to float32 in the graph.

    Run times fold the casts when they load the file, so only storage is half. Tables of pixel positions and
    everything else keep float32. Returns how many tensors were changed.
    """
    graph = model.graph
    consumers = _consumers(graph)
    weights = [t for t in graph.initializer if _is_large_float(t) and _is_weight(t.name, consumers)]
    casts = []
    for tensor in weights:
        values = numpy_helper.to_array(tensor)
        if np.abs(values).max() > _LAST_HALF:
            continue
        name, stored = tensor.name, f"{tensor.name}_half"
        tensor.CopyFrom(numpy_helper.from_array(values.astype(np.float16), stored))
        casts.append(helper.make_node("Cast", [stored], [name], name=f"{name}_cast", to=TensorProto.FLOAT))
    nodes = [*casts, *graph.node]
    del graph.node[:]
    graph.node.extend(nodes)
    return len(casts)


def _consumers(graph: onnx.GraphProto) -> dict[str, list[tuple[onnx.NodeProto, int]]]:
    consumers = defaultdict(list)
    for node in graph.node:
        for position, name in enumerate(node.input):
            consumers[name].append((node, position))
    return consumers


def _is_large_float(tensor: onnx.TensorProto) -> bool:
    return tensor.data_type == TensorProto.FLOAT and int(np.prod(tensor.dims)) >= MIN_ELEMENTS


def _is_weight(name: str, consumers: dict[str, list[tuple[onnx.NodeProto, int]]]) -> bool:
    """Whether the tensor is read by convolutions and matrix products only, perhaps through views of it."""
    readers = consumers.get(name, [])
    return bool(readers) and all(
        position in _WEIGHT_INPUTS.get(node.op_type, ())
        or (node.op_type in _VIEWS and position == 0 and _is_weight(node.output[0], consumers))
        for node, position in readers
    )
