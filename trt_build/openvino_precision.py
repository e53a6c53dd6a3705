"""Which operators of a network keep float32 where OpenVINO computes in bf16.

bf16 has 8 bits of mantissa: a position in a picture of 256 px would be wrong by half a pixel. So everything
between the last convolutions and the positions that pictures are sampled at stays in float32. OpenVINO knows
an attribute for that (`DisablePrecisionConversion`), which its own transformations drop from operators that
they replace. Those are written here as what they would be replaced with.

On frames of rendered people the picture of `lite` had 31.2 dB with all of it in bf16, 57.8 dB this way, in
the same time.
"""

from __future__ import annotations

import math
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, NamedTuple
from xml.etree import ElementTree

import numpy as np
import openvino as ov
import openvino.opset13 as ops
from numpy.typing import NDArray

from trt_build.openvino_rewrites import constant, integers, numbers, replace, replace_output, shape_of

_ATTRIBUTE: Final = {"name": "DisablePrecisionConversion", "version": "0", "value": "dynamic:f16"}
"""As OpenVINO writes it; the CPU takes a ban of half precision for one of bf16 too."""
_RESHAPES: Final = frozenset({"Reshape", "Squeeze", "Unsqueeze"})
_MOVED_THROUGH: Final = _RESHAPES | {"Transpose"}


def has_native_bf16(core: ov.Core) -> bool:
    """Whether OpenVINO reports that this CPU computes in bf16 (AMX or AVX512-BF16)."""
    return "BF16" in core.get_property("CPU", "OPTIMIZATION_CAPABILITIES")


def has_vnni(cpuinfo: Path = Path("/proc/cpuinfo")) -> bool:
    """Whether this CPU multiplies and adds int8 in one instruction (VNNI); no, where Linux does not tell.

    OpenVINO reports int8 for any CPU with AVX2, where it is hardly faster than fp32.
    """
    try:
        lines = cpuinfo.read_text(encoding="utf-8").splitlines()
    except OSError:
        return False
    flags = next((line.split() for line in lines if line.startswith("flags")), [])
    return "avx512_vnni" in flags or "avx_vnni" in flags


def with_exact_geometry(core: ov.Core, model: ov.Model) -> ov.Model:
    """The network with its geometry marked to stay in float32; `model` itself where it samples nothing.

    model: of fixed shapes, as `rewrite` leaves it; is changed.
    """
    nodes = geometry(model)
    if not nodes:
        return model
    _make_lasting(nodes)
    names = {node.get_friendly_name() for node in geometry(model)}
    with tempfile.TemporaryDirectory(prefix="gcavt-openvino-") as folder:
        path = Path(folder) / "network.xml"
        ov.serialize(model, path)
        tree = ElementTree.parse(path)
        for layer in tree.iter("layer"):
            if layer.get("name") in names:
                info = layer.find("rt_info")
                info = ElementTree.SubElement(layer, "rt_info") if info is None else info
                ElementTree.SubElement(info, "attribute", _ATTRIBUTE)
        weights = np.fromfile(path.with_suffix(".bin"), np.uint8)
    return core.read_model(ElementTree.tostring(tree.getroot()), ov.Tensor(weights))


def geometry(model: ov.Model) -> list[ov.Node]:
    """The operators between convolutions and the positions that pictures are sampled at, in order."""
    waiting = [node.input_value(1) for node in model.get_ops() if node.get_type_name() == "GridSample"]
    found: set[str] = set()
    while waiting:
        node = waiting.pop().get_node()
        name = node.get_friendly_name()
        if name not in found and node.get_type_name() not in ("Constant", "Parameter", "Convolution"):
            found.add(name)
            waiting.extend(node.input_values())
    return [node for node in model.get_ordered_ops() if node.get_friendly_name() in found]


def inexact_geometry(compiled: ov.CompiledModel) -> list[str]:
    """What of the geometry a compiled network computes in less than float32.

    Also what merely is concatenated with positions on the way, as light and shares are in `lite`; of nothing
    else there should be any.
    """
    runtime = compiled.get_runtime_model()
    waiting = [node.input_value(1) for node in runtime.get_ops() if _told(node, "layerType") == "GridSample"]
    seen: set[str] = set()
    inexact = []
    while waiting:
        node = waiting.pop().get_node()
        name, kind = node.get_friendly_name(), _told(node, "layerType")
        if name in seen or kind in ("Convolution", "Input", "Const"):
            continue
        seen.add(name)
        waiting.extend(node.input_values())
        # what comes out of a convolution is bf16, and is converted once
        if kind != "Reorder" and _told(node, "runtimePrecision") in ("bf16", "f16"):
            inexact.append(f"{kind} {name}")
    return inexact


def _told(node: ov.Node, key: str) -> str:
    return str(node.get_rt_info()[key].astype(str))


def _make_lasting(nodes: list[ov.Node]) -> None:
    rules = (
        _keep_axis,
        _clamp,
        _reshape_later,
        _join_arithmetic,
        _plain_arithmetic,
        _concatenate,
        _product_by_matrix,
        _join_reshapes,
    )
    for node in nodes:
        any(rule(node) for rule in rules)


def _keep_axis(node: ov.Node) -> bool:
    """One entry of an axis, taken as an axis of one."""
    if node.get_type_name() != "Gather":
        return False
    index, axis = constant(node.input_value(1)), constant(node.input_value(2))
    if index is None or axis is None or index.ndim != 0:
        return False
    entry = ops.gather(node.input_value(0), integers(int(index)), int(axis))
    return replace(node, _reshaped(entry, node))


def _join_reshapes(node: ov.Node) -> bool:
    if node.get_type_name() not in _RESHAPES:
        return False
    source = node.input_value(0)
    while source.get_node().get_type_name() in _RESHAPES:
        source = source.get_node().input_value(0)
    if shape_of(source) == shape_of(node.output(0)):
        return replace_output(node.output(0), source)
    return replace(node, _reshaped(source, node))


def _clamp(node: ov.Node) -> bool:
    """Minimum and Maximum of numbers, one after the other; before a reshaping."""
    if node.get_type_name() != "Minimum":
        return False
    high, inner = _apart(node)
    if high is None or inner.get_node().get_type_name() != "Maximum":
        return False
    low, source = _apart(inner.get_node())
    if low is None or low.size != 1 or high.size != 1:
        return False
    is_reshaped = source.get_node().get_type_name() in _RESHAPES
    if is_reshaped:
        source = source.get_node().input_value(0)
    limited = ops.clamp(source, float(low.item()), float(high.item()))
    return replace(node, _reshaped(limited, node) if is_reshaped else limited)


def _reshape_later(node: ov.Node) -> bool:
    """Arithmetic on one number of each sample goes before the reshaping of its operands.

    The product of a row is written as one of matrices: in a network with operators in eight bits another one
    is taken for a dequantisation, and goes behind the reshaping after all.
    """
    kind = node.get_type_name()
    if kind not in (*_ARITHMETIC, "Negative") or math.prod(shape_of(node.output(0))[1:]) != 1:
        return False
    operands, shapes = [], set()
    for value in node.input_values():
        number = constant(value)
        if number is not None and number.size == 1:
            operands.append(ops.constant(np.float32(number.item())).output(0))
        elif value.get_node().get_type_name() in _RESHAPES:
            operands.append(value.get_node().input_value(0))
            shapes.add(shape_of(operands[-1]))
    if len(operands) != node.get_input_size() or len(shapes) != 1:
        return False
    result = _plain(kind, *operands)
    row = _row_of(result.output(0))
    if row.length > 1:
        column = ops.reshape(row.source, integers(shape_of(node.output(0))[0], 1), False)
        scaled = ops.matmul(numbers(row.factor.reshape(1, 1)), column, False, True)
        result = ops.add(scaled, numbers(row.offset.reshape(1, 1)))
    return replace(node, _reshaped(result, node))


def _join_arithmetic(node: ov.Node) -> bool:
    """Products and sums with constants in a row as one product and one sum.

    In a network with operators in eight bits a longer row is taken for the end of a dequantisation.
    """
    row = _row_of(node.output(0))
    if row.length < 2:
        return False
    scaled = ops.multiply(row.source, numbers(row.factor)) if np.any(row.factor != 1) else row.source
    has_offset = np.any(row.offset != 0) or scaled is row.source
    return replace(node, ops.add(scaled, numbers(row.offset)) if has_offset else scaled)


class _Row(NamedTuple):
    """Operators in a row that all compute with a constant: source * factor + offset."""

    source: ov.Output
    factor: NDArray[np.float64]
    offset: NDArray[np.float64]
    length: int


def _row_of(result: ov.Output) -> _Row:
    """All that lead to `result`."""
    source, factor, offset, length = result, np.ones(1), np.zeros(1), 0
    while (value := _number_of(source.get_node())) is not None:
        node, kind = source.get_node(), source.get_node().get_type_name()
        is_first = constant(node.input_value(0)) is not None
        if kind == "Subtract":
            offset = offset + factor * (value if is_first else -value)
            factor = -factor if is_first else factor
        elif kind == "Add":
            offset = offset + factor * value
        else:
            factor = factor * value if kind == "Multiply" else factor / value
        source, length = node.input_value(int(is_first)), length + 1
    return _Row(source, factor, offset, length)


def _number_of(node: ov.Node) -> NDArray[np.float64] | None:
    """The constant that an operator computes with; None of any other operator."""
    if node.get_type_name() not in _ARITHMETIC:
        return None
    value, _ = _apart(node)
    is_inverse = node.get_type_name() == "Divide" and constant(node.input_value(1)) is None
    return None if value is None or is_inverse else value.astype(np.float64)


def _plain_arithmetic(node: ov.Node) -> bool:
    """Division, subtraction and change of sign as products and sums; no single number after a reshape."""
    kind = node.get_type_name()
    if kind == "Negative":
        return replace(node, _plain(kind, node.input_value(0)))
    if kind not in _ARITHMETIC:
        return False
    value, source = _apart(node)
    is_second = constant(node.input_value(1)) is not None
    is_moved = source.get_node().get_type_name() in _MOVED_THROUGH
    if value is None or not (is_second or kind in ("Add", "Multiply")):
        return False
    if value.size == 1 and is_moved:
        shape = shape_of(node.output(0))
        value = np.full((1,) * (len(shape) - 1) + shape[-1:], value.item(), np.float32)
    elif kind in ("Add", "Multiply"):
        return False
    return replace(node, _plain(kind, source, numbers(value).output(0)))


def _plain(kind: str, first: ov.Output, second: ov.Output | None = None) -> ov.Node:
    """Arithmetic by addition and multiplication, where the second operand is a constant."""
    if second is None:
        return ops.multiply(first, numbers(-1))
    value = constant(second)
    if value is not None and kind == "Subtract":
        return ops.add(first, ops.constant(-value))
    if value is not None and kind == "Divide":
        return ops.multiply(first, ops.constant(np.reciprocal(value)))
    return _ARITHMETIC[kind](first, second)


def _concatenate(node: ov.Node) -> bool:
    """Zeros put at one end."""
    if node.get_type_name() != "Pad" or node.get_attributes()["pad_mode"] != "constant":
        return False
    before, after = (constant(node.input_value(index)) for index in (1, 2))
    if before is None or after is None or np.count_nonzero([before, after]) != 1:
        return False
    axis = int(np.flatnonzero(before if before.any() else after)[0])
    shape = list(shape_of(node.input_value(0)))
    shape[axis] = int(max(before[axis], after[axis]))
    parts = [numbers(np.zeros(shape, np.float32)).output(0), node.input_value(0)]
    return replace(node, ops.concat(parts if before.any() else parts[::-1], axis))


def _product_by_matrix(node: ov.Node) -> bool:
    """A vector times a matrix, the matrix first: the other way round it becomes a fully connected layer."""
    matrix = constant(node.input_value(1)) if node.get_type_name() == "MatMul" else None
    if matrix is None or matrix.ndim != 2 or node.get_attributes()["transpose_a"]:
        return False
    if not node.get_attributes()["transpose_b"]:
        matrix = matrix.T
    column = ops.matmul(numbers(matrix), node.input_value(0), False, True)
    if shape_of(node.output(0))[0] == 1:  # OpenVINO writes a transposition as a reshape there
        return replace(node, _reshaped(column, node))
    return replace(node, ops.transpose(column, integers(1, 0)))


def _reshaped(source: ov.Node | ov.Output, like: ov.Node) -> ov.Node:
    return ops.reshape(source, integers(*shape_of(like.output(0))), False)


def _apart(node: ov.Node) -> tuple[NDArray[Any] | None, ov.Output]:
    """The constant among two operands, or None, and the other one."""
    first, second = node.input_values()
    if (value := constant(second)) is not None:
        return value, first
    return constant(first), second


_ARITHMETIC: Final[dict[str, Callable[..., ov.Node]]] = {
    "Add": ops.add,
    "Subtract": ops.subtract,
    "Multiply": ops.multiply,
    "Divide": ops.divide,
}
