"""Rewrites of a network for OpenVINO on the CPU: the same numbers, out of operators that it runs faster.

Bilinear interpolation of a few channels is slow in either of its layouts; a product with small matrices along
rows and a sum of neighbours along columns are not.
Arithmetic on sampling positions runs two numbers at a time, because x and y lie innermost; a row of positions
as one row of numbers fills the vector registers. Mirroring a position inside of GridSample costs more than
the sampling. Splitting channels copies number by number while they lie innermost.

The generator of `lite`, one thread, processor time with and without, in turns on a loaded machine: 24.4 and
28.3 ms with AVX512, 22.4 and 25.3 ms with OpenVINO held to AVX2; in bf16 15.1 and 20.1 ms. Without products
of whole rows and columns: 0.7 ms less.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any, Final

import numpy as np
import openvino as ov
import openvino.opset13 as ops
from numpy.typing import NDArray
from openvino.passes import ConstantFolding, Manager

MOST_CHANNELS: Final = 8
"""Interpolation of more channels fills a vector register as it is."""
MOST_PARTS: Final = 8
"""That a row is interpolated in."""


def rewrite(model: ov.Model) -> int:
    """Rewrite a network of fixed shapes in place; returns how many operators were replaced."""
    _fold_constants(model)
    count = _group_slices(model)
    for node in model.get_ordered_ops():
        replacement = _REWRITES.get(node.get_type_name())
        count += replacement is not None and replacement(node)
    count += _group_slices(model)  # of what was rewritten
    model.validate_nodes_and_infer_types()
    return count


def _fold_constants(model: ov.Model) -> None:
    """Compute arithmetic on shapes, and weights stored in half; weights in eight bits stay what they are."""
    aside = []
    for node in model.get_ops():
        if node.get_type_name() == "Constant" and node.get_element_type() in (ov.Type.i8, ov.Type.u8):
            stand_in = ops.parameter(node.get_shape(), node.get_element_type())
            replace_output(node.output(0), stand_in.output(0))
            aside.append((node, stand_in))
    model.add_parameters([stand_in for _, stand_in in aside])
    passes = Manager()
    passes.register_pass(ConstantFolding())
    passes.run_passes(model)
    for node, stand_in in aside:
        replace_output(stand_in.output(0), node.output(0))
        model.remove_parameter(stand_in)


def _interpolate_by_products(node: ov.Node) -> bool:
    """Along rows products with the weights of the interpolation; along columns a sum of neighbours."""
    source, result = node.input_value(0), node.output(0)
    attributes = node.get_attributes()
    shape, size = shape_of(source), shape_of(result)
    if attributes["coordinate_transformation_mode"] != "half_pixel" or "linear" not in attributes["mode"]:
        return False
    if len(shape) != 4 or size[:2] != shape[:2] or shape[1] > MOST_CHANNELS:
        return False
    if size[2] < shape[2] or size[3] < shape[3]:
        return False
    if size[2] % shape[2] == 0 and size[3] % shape[3] == 0:
        wide = _wider(source, size[3] // shape[3])
        return replace(node, _taller(wide.output(0), size[2] // shape[2]))
    # a matrix for each channel: a single one would make a fully connected layer, which is slower here
    columns = np.broadcast_to(_interpolation(shape[3], size[3]).T, (1, shape[1], shape[3], size[3]))
    rows = _interpolation(shape[2], size[2])[None, None]
    wide = ops.matmul(source, numbers(columns), False, False)
    return replace(node, ops.matmul(numbers(rows), wide, False, False))


def _wider(source: ov.Output, factor: int) -> ov.Node:
    """Bilinear interpolation to `factor` times the columns: parts of rows, each with a neighbour at both
    ends, times the weights of one part. For whole rows nearly all of the weights would be zero."""
    batch, channels, height, width = shape_of(source)
    count = next(count for count in range(MOST_PARTS, 0, -1) if width % count == 0)
    side = width // count
    columns = (np.arange(count)[:, None] * side + np.arange(-1, side + 1)).clip(0, width - 1)
    parts = ops.gather(source, ops.constant(columns.astype(np.int64)), 3)
    parts = ops.reshape(parts, integers(batch, channels, height * count, side + 2), False)
    middle = _interpolation(side + 2, factor * (side + 2))[factor:-factor].T
    # a matrix for each channel, as above
    weights = np.broadcast_to(middle, (1, channels, *middle.shape))
    wide = ops.matmul(parts, numbers(weights), False, False)
    return ops.reshape(wide, integers(batch, channels, height, factor * width), False)


def _taller(source: ov.Output, factor: int) -> ov.Node:
    """Bilinear interpolation to `factor` times the rows: each out of a row and the one above or below it."""
    batch, channels, height, width = shape_of(source)
    place = (np.arange(factor) + 0.5) / factor - 0.5
    above, below = np.maximum(-place, 0), np.maximum(place, 0)
    resized = None
    for step, weights in ((0, 1 - above - below), (-1, above), (1, below)):
        neighbours = source
        if step:
            nearest = (np.arange(height) + step).clip(0, height - 1)
            neighbours = ops.gather(source, integers(*nearest), 2).output(0)
        rows = ops.reshape(neighbours, integers(batch, channels, height, 1, width), False)
        part = ops.multiply(rows, numbers(weights.reshape(1, 1, 1, factor, 1)))
        resized = part if resized is None else ops.add(resized, part)
    return ops.reshape(resized, integers(batch, channels, factor * height, width), False)


def _interpolation(size: int, new_size: int) -> NDArray[np.float32]:
    """(new_size, size) weights of bilinear interpolation along one axis, pixel centres at halves."""
    position = (np.arange(new_size) + 0.5) * size / new_size - 0.5
    first = np.floor(position).astype(int)
    share = position - first
    weights = np.zeros((new_size, size), np.float32)
    for index, weight in ((first, 1 - share), (first + 1, share)):
        np.add.at(weights, (np.arange(new_size), index.clip(0, size - 1)), weight.astype(np.float32))
    return weights


def _sample_at_rows(node: ov.Node) -> bool:
    """Scaling and shifting of positions done on rows of numbers, and mirroring with it."""
    attributes = node.get_attributes()
    shifted = node.input_value(1).get_node()
    if attributes["align_corners"] or shifted.get_type_name() != "Subtract":
        return False
    scaled = shifted.input_value(0).get_node()
    if scaled.get_type_name() != "Multiply" or constant(scaled.input_value(1)) is None:
        return False
    one, scale = constant(shifted.input_value(1)), constant(scaled.input_value(1))
    if one is None or scale is None or one.size != 1 or scale.size != 2:
        return False
    batch, height, width, _ = shape_of(node.input_value(1))
    rows = ops.reshape(scaled.input_value(0), integers(batch, height, 2 * width), False)
    rows = ops.multiply(rows, numbers(np.tile(scale.reshape(-1), width)[None, None]))
    padding = attributes["padding_mode"]
    if padding == "reflection" and one.item() == 1:  # 0 to 2 across the picture, mirrored every 2
        padding = "border"
        periods = ops.round(ops.multiply(rows, numbers(0.25)), "half_to_even")
        rows = ops.absolute(ops.subtract(rows, ops.multiply(periods, numbers(4))))
    rows = ops.subtract(rows, numbers(one.item()))
    sampled = ops.grid_sample(
        node.input_value(0),
        ops.reshape(rows, integers(batch, height, width, 2), False),
        {"align_corners": False, "mode": attributes["mode"], "padding_mode": padding},
    )
    return replace(node, sampled)


def _split_planes(node: ov.Node) -> bool:
    """Channels of a picture told apart with its pixels in one row: that asks for planes, which lie apart."""
    source, results = node.input_value(0), node.outputs()
    shape = shape_of(source)
    sizes = [shape_of(result) for result in results]
    if len(shape) != 4 or shape[2] * shape[3] == 1:
        return False
    if any((size[0], *size[2:]) != (shape[0], *shape[2:]) for size in sizes):
        return False
    if node.get_type_name() == "Slice" and ((cut := _cut(node)) is None or cut[1] != 1):
        return False  # a mirrored picture has its shape, too
    rows = ops.reshape(source, integers(*shape[:2], shape[2] * shape[3]), False)
    if node.get_type_name() == "Slice":
        parts = ops.slice(rows, *node.input_values()[1:])
    else:
        parts = ops.variadic_split(rows, integers(1), integers(*(size[1] for size in sizes)))
    parts.set_friendly_name(node.get_friendly_name())
    for index, (result, size) in enumerate(zip(results, sizes, strict=True)):
        replace_output(result, ops.reshape(parts.output(index), integers(*size), False).output(0))
    return True


def _group_slices(model: ov.Model) -> int:
    """Slices that cut one tensor into parts, as one split; left to OpenVINO, it would lose its precision."""
    groups: dict[tuple[str, int, int], list[tuple[int, ov.Node]]] = defaultdict(list)
    for node in model.get_ordered_ops():
        if node.get_type_name() == "Slice" and (cut := _cut(node)) is not None:
            source = node.input_value(0)
            groups[source.get_node().get_friendly_name(), source.get_index(), cut[1]].append((cut[0], node))
    return sum(_as_split(axis, parts) for (_, _, axis), parts in groups.items())


def _cut(node: ov.Node) -> tuple[int, int] | None:
    """Where a slice of step 1 along one axis starts, and that axis."""
    values = [constant(value) for value in node.input_values()[1:]]
    if len(values) != 4:
        return None
    start, _, step, axis = (
        value.item() if value is not None and value.size == 1 else None for value in values
    )
    if start is None or axis is None or step != 1:
        return None
    size = shape_of(node.input_value(0))[axis]
    return max(0, start + size if start < 0 else min(start, size)), axis


def _as_split(axis: int, parts: Sequence[tuple[int, ov.Node]]) -> int:
    source = parts[0][1].input_value(0)
    ends = [start + shape_of(node.output(0))[axis] for start, node in parts]
    cuts = sorted({0, shape_of(source)[axis], *ends, *(start for start, _ in parts)})
    sizes = {start: end - start for start, end in pairwise(cuts)}
    if any(sizes.get(start) != shape_of(node.output(0))[axis] for start, node in parts):
        return 0  # they overlap
    split = ops.variadic_split(source, integers(axis), integers(*sizes.values()))
    for start, node in parts:
        replace_output(node.output(0), split.output(cuts.index(start)))
    return len(parts)


_REWRITES: Final[dict[str, Callable[[ov.Node], bool]]] = {
    "Interpolate": _interpolate_by_products,
    "GridSample": _sample_at_rows,
    "Slice": _split_planes,
    "Split": _split_planes,
    "VariadicSplit": _split_planes,
}


def replace(old: ov.Node, new: ov.Node) -> bool:
    """Put one operator in another's place, under its name. True."""
    new.set_friendly_name(old.get_friendly_name())
    return replace_output(old.output(0), new.output(0))


def replace_output(old: ov.Output, new: ov.Output) -> bool:
    """Let all that read one tensor read another. True."""
    names = old.get_names()
    for reader in old.get_target_inputs():
        reader.replace_source_output(new)
    new.add_names(names)  # an output of the network is found by its name
    return True


def shape_of(output: ov.Output) -> tuple[int, ...]:
    """Fixed sizes of a tensor."""
    return tuple(int(side) for side in output.get_shape())


def constant(output: ov.Output) -> NDArray[Any] | None:
    """The value of a constant, None of anything else."""
    node = output.get_node()
    return np.asarray(node.data) if node.get_type_name() == "Constant" else None


def integers(*values: int) -> ov.Node:
    """A constant vector, such as a shape."""
    return ops.constant(np.array(values, np.int64))


def numbers(values: NDArray[Any] | float) -> ov.Node:
    """A constant in float32."""
    return ops.constant(np.ascontiguousarray(values, np.float32))
