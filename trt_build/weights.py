"""Half-size ONNX files: weights stored in half precision and cast back to float32 where they are used."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

Arrays = Mapping[str, NDArray[np.float32]]

_LAST_HALF: Final = float(np.finfo(np.float16).max)


def halve_weights(model: onnx.ModelProto, parameters: Arrays) -> int:
    """Store weights as float16 and cast them to float32 in the graph: those a half checkpoint stores so.

    parameters: the module's own, by their names in the graph; those of two or more axes are weights. One
    into which a batch norm was folded is its parameter times a factor per channel, and is stored as that:
    the graph then holds the very weights of a half-precision checkpoint, rounded once. Run times fold
    casts and factors when they load the file. Biases, norms and tables of pixel positions keep float32.
    Returns how many weights were changed.
    """
    graph = model.graph
    weights = [t for t in graph.initializer if t.name in parameters and len(t.dims) >= 2]
    restoring: list[onnx.NodeProto] = []
    changed = 0
    for tensor in weights:
        values = np.asarray(numpy_helper.to_array(tensor), np.float32)
        unscaled, factor = _without_factor(values, parameters[tensor.name])
        if np.abs(unscaled).max() > _LAST_HALF:
            continue
        restoring += _stored_half(graph, tensor, unscaled, factor)
        changed += 1
    nodes = [*restoring, *graph.node]
    del graph.node[:]
    graph.node.extend(nodes)
    return changed


def _without_factor(
    values: NDArray[np.float32], parameter: NDArray[np.float32]
) -> tuple[NDArray[np.float32], NDArray[np.float32] | None]:
    """The parameter and the factor per output channel that make `values`, or `values` and None."""
    if parameter.shape != values.shape or np.array_equal(parameter, values):
        return values, None
    axes = tuple(range(1, values.ndim))
    power = (parameter**2).sum(axes, keepdims=True)
    factor = (parameter * values).sum(axes, keepdims=True) / np.maximum(power, np.finfo(np.float32).tiny)
    if np.abs(parameter * factor - values).max() > 1e-5 * np.abs(values).max():
        return values, None
    return parameter, factor.astype(np.float32)


def _stored_half(
    graph: onnx.GraphProto,
    tensor: onnx.TensorProto,
    values: NDArray[np.float32],
    factor: NDArray[np.float32] | None,
) -> list[onnx.NodeProto]:
    """Put half the bits in the place of `tensor`; the nodes that make the tensor of its name out of them."""
    name = tensor.name
    half, cast = f"{name}_half", name if factor is None else f"{name}_unscaled"
    tensor.CopyFrom(numpy_helper.from_array(values.astype(np.float16), half))
    nodes = [helper.make_node("Cast", [half], [cast], name=f"{name}_cast", to=TensorProto.FLOAT)]
    if factor is not None:
        graph.initializer.append(numpy_helper.from_array(factor, f"{name}_factor"))
        nodes.append(helper.make_node("Mul", [cast, f"{name}_factor"], [name], name=f"{name}_scale"))
    return nodes
