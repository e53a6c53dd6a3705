"""What a built engine holds: its layers with their precisions, and its tensors with their profile.

Without a GPU an engine cannot be opened, but the builder prints the finished engine to its log; that is read
here. It is the engine's own listing, after fusion, not the graph it was made of.
"""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass
from typing import Final

from trt_build.specs import EngineSpec, Shape, TensorSpec

HEADING: Final = "Layers:\n"
_IO_HEADING: Final = "I/O Tensors:"
_LAYER: Final = re.compile(r"^Name: (?P<name>.*?), LayerType: (?P<kind>[^,]*), (?P<rest>.*)$")
_CONSTANTS: Final = re.compile(
    r"Constants: \[.*\], Outputs:"
)  # a convolution's alpha and beta are always Float
_TYPE: Final = re.compile(r"Datatype: (\w+)")
_TENSOR: Final = re.compile(
    r"^ ?Name: (?P<name>[^,]+), IOMode: (?P<mode>\w+), DataType: (?P<type>\w+), "
    r"Dimensions: \[(?P<shape>[-\d,]*)\]"
)
_SHAPE: Final = {key: re.compile(rf"{key}Shape: \[([-\d,]*)\]") for key in ("Min", "Opt", "Max")}

FLOAT: Final = "Float"
HALF_TYPES: Final = {"fp16": "Half", "bf16": "BFloat16", "int8": "Int8", "fp8": "FP8"}
"""How the listing spells the type that must show up in an engine of a precision."""


class InspectionError(RuntimeError):
    """An engine is not what its spec asks for."""


@dataclass(frozen=True, kw_only=True)
class LayerReport:
    name: str
    kind: str
    types: frozenset[str]
    """Types of the pictures and codes that it reads or writes, as TensorRT spells them: Float, Half, Int8."""


@dataclass(frozen=True, kw_only=True)
class TensorReport:
    name: str
    is_input: bool
    type: str
    shape: Shape
    """-1 is the dynamic axis."""
    profile: tuple[Shape, Shape, Shape] | None
    """Least, favoured and largest shape; None for an output."""


@dataclass(frozen=True, kw_only=True)
class EngineReport:
    layers: tuple[LayerReport, ...]
    tensors: tuple[TensorReport, ...]

    def layers_by_type(self) -> dict[str, int]:
        """How many layers read or write tensors of each type."""
        return dict(sorted(Counter(kind for layer in self.layers for kind in layer.types).items()))


def read_listing(text: str) -> EngineReport:
    """The engine's listing as the builder prints it. Raises InspectionError: it looks otherwise."""
    body, _, tensors = text.partition(_IO_HEADING)
    layers = [_layer(match) for line in body.splitlines() if (match := _LAYER.match(line))]
    found = [_tensor(match, line) for line in tensors.splitlines() if (match := _TENSOR.match(line))]
    if not layers or not found:
        raise InspectionError("the engine's listing is not of the form that this version reads")
    return EngineReport(layers=tuple(layers), tensors=tuple(found))


def _layer(match: re.Match[str]) -> LayerReport:
    return LayerReport(
        name=match["name"],
        kind=match["kind"],
        types=frozenset(_TYPE.findall(_CONSTANTS.sub("", match["rest"]))),
    )


def _tensor(match: re.Match[str], line: str) -> TensorReport:
    shapes = [pattern.search(line) for pattern in _SHAPE.values()]
    least, favoured, largest = (_shape(found[1]) if found else None for found in shapes)
    is_complete = least is not None and favoured is not None and largest is not None
    return TensorReport(
        name=match["name"],
        is_input=match["mode"] == "Input",
        type=match["type"],
        shape=_shape(match["shape"]),
        profile=(least, favoured, largest) if is_complete else None,  # type: ignore[arg-type]
    )


def _shape(text: str) -> Shape:
    return tuple(int(number) for number in text.split(",") if number)


def check_report(report: EngineReport, spec: EngineSpec, precision: str) -> None:
    """Raise InspectionError where the engine's tensors, profile or precision are not what was asked for."""
    tensors = {tensor.name: tensor for tensor in report.tensors}
    wanted = {tensor.name for tensor in (*spec.inputs, *spec.outputs)}
    if set(tensors) != wanted:
        raise InspectionError(f"{spec.name} has the tensors {sorted(tensors)}, its spec has {sorted(wanted)}")
    for group, is_input in ((spec.inputs, True), (spec.outputs, False)):
        for tensor in group:
            _check_tensor(tensors[tensor.name], tensor, spec, is_input=is_input)
    kind = HALF_TYPES.get(precision)
    # fp8 holds for matrix products alone, and a network may have none that is worth it
    if kind and precision != "fp8" and kind not in report.layers_by_type():
        raise InspectionError(f"{spec.name}: no layer of the engine computes in {precision}")


def _check_tensor(found: TensorReport, tensor: TensorSpec, spec: EngineSpec, *, is_input: bool) -> None:
    name = f"{spec.name}.{tensor.name}"
    if found.is_input != is_input:
        raise InspectionError(f"{name} is an {'input' if found.is_input else 'output'} of the engine")
    if found.type != FLOAT or found.shape != tensor.with_batch(-1):
        raise InspectionError(
            f"{name} is {found.type} {found.shape}, must be {FLOAT} {tensor.with_batch(-1)}"
        )
    if is_input and found.profile != (profile := spec.profile(tensor)):
        raise InspectionError(f"{name} has the profile {found.profile}, must have {profile}")
