"""A rewritten network computes what it did, in two batches, out of other operators."""

from __future__ import annotations

import numpy as np
import openvino as ov
import openvino.opset13 as ops
import pytest

from engine.bundle import Bundle
from trt_build.openvino_rewrites import rewrite
from trt_build.specs import EngineSpec, engine_specs
from trt_build.verify import Arrays, largest_difference, sample_inputs


def _outputs(model: ov.Model, inputs: Arrays) -> Arrays:
    # threads other than the reference's would add sums up in another order
    compiled = ov.Core().compile_model(
        model, "CPU", {"INFERENCE_NUM_THREADS": 1, "INFERENCE_PRECISION_HINT": "f32"}
    )
    results = compiled(inputs)
    return {output.get_any_name(): np.array(results[output]) for output in compiled.outputs}


def _kinds(model: ov.Model) -> list[str]:
    return [node.get_type_name() for node in model.get_ordered_ops()]


@pytest.mark.parametrize("batch", [1, 2])
def test_the_shipped_generator_draws_the_same_picture(batch: int) -> None:
    bundle = Bundle.open("lite")
    spec: EngineSpec = engine_specs(bundle.config)["generator"]
    inputs = sample_inputs(spec, batch)
    path = bundle.directory / bundle.manifest.networks["generator"].file
    pictures = []
    for rewritten in (False, True):
        model = ov.Core().read_model(path)
        model.reshape({tensor.name: tensor.with_batch(batch) for tensor in spec.inputs})
        if rewritten:
            assert rewrite(model) > 10
            assert rewrite(model) == 0  # once is all
        pictures.append(_outputs(model, inputs))
    assert set(pictures[0]) == set(spec.output_names)
    assert largest_difference(pictures[1], pictures[0]) < 5e-4  # of noise, sampled


@pytest.mark.parametrize("padding", ["reflection", "border", "zeros"])
def test_positions_are_scaled_and_mirrored_outside(padding: str) -> None:
    rng = np.random.default_rng(0)
    inputs: Arrays = {
        "picture": rng.random((2, 3, 9, 12), np.float32),
        "positions": rng.uniform(-30, 40, (2, 7, 5, 2)).astype(np.float32),
    }
    picture, positions = (ops.parameter(list(array.shape), name=name) for name, array in inputs.items())
    for node in (picture, positions):
        node.output(0).set_names({node.get_friendly_name()})
    per_pixel = np.array([2 / 12, 2 / 9], np.float32)
    grid = ops.subtract(ops.multiply(positions, per_pixel), np.float32(1))
    attributes = {"align_corners": False, "mode": "bilinear", "padding_mode": padding}
    sampled = ops.grid_sample(picture, grid, attributes)
    sampled.output(0).set_names({"sampled"})
    model = ov.Model([sampled], [picture, positions])
    before = _outputs(model, inputs)
    assert rewrite(model) == 1
    (left,) = (node for node in model.get_ops() if node.get_type_name() == "GridSample")
    assert left.get_attributes()["padding_mode"] == ("border" if padding == "reflection" else padding)
    assert largest_difference(_outputs(model, inputs), before) < 1e-5


def test_split_and_resized_channels_keep_their_names_and_numbers() -> None:
    inputs: Arrays = {"picture": np.random.default_rng(1).random((2, 5, 6, 8), np.float32)}
    picture = ops.parameter([2, 5, 6, 8], name="picture")
    picture.output(0).set_names({"picture"})
    parts = ops.variadic_split(picture, np.int64(1), np.array([2, 3], np.int64))
    size = np.array([12, 16], np.int64)
    large = ops.interpolate(parts.output(0), size, "linear_onnx", "sizes", axes=np.array([2, 3], np.int64))
    first = ops.slice(
        picture,
        *(np.array([value], np.int64) for value in (0, 2, 1, 1)),
    )
    for output, name in ((large.output(0), "large"), (parts.output(1), "rest"), (first.output(0), "first")):
        output.set_names({name})
    model = ov.Model([large.output(0), parts.output(1), first.output(0)], [picture])
    before = _outputs(model, inputs)
    assert rewrite(model) == 4  # the slice becomes a split, which is then rewritten too
    after = _outputs(model, inputs)
    assert set(after) == {"large", "rest", "first"}
    assert after["first"].shape == (2, 2, 6, 8)
    np.testing.assert_array_equal(after["rest"], inputs["picture"][:, 2:])
    assert largest_difference(after, before) < 1e-6


@pytest.mark.parametrize("size", [(12, 16), (24, 56), (18, 8), (6, 8), (7, 9), (12, 21)])
@pytest.mark.parametrize("batch", [1, 2])
def test_resized_channels_have_the_same_numbers(size: tuple[int, int], batch: int) -> None:
    shape = [batch, 3, 6, 7] if size[1] % 7 == 0 else [batch, 3, 6, 8]
    inputs: Arrays = {"picture": np.random.default_rng(4).random(shape, np.float32)}
    picture = ops.parameter(shape, name="picture")
    picture.output(0).set_names({"picture"})
    sizes, axes = np.array(size, np.int64), np.array([2, 3], np.int64)
    large = ops.interpolate(picture, sizes, "linear_onnx", "sizes", axes=axes)
    large.output(0).set_names({"large"})
    model = ov.Model([large], [picture])
    before = _outputs(model, inputs)
    assert rewrite(model) == 1
    assert before["large"].shape[2:] == size
    assert largest_difference(_outputs(model, inputs), before) < 1e-6


def test_slices_of_one_tensor_become_one_split_unless_they_overlap() -> None:
    inputs: Arrays = {"codes": np.random.default_rng(2).random((2, 6), np.float32)}
    codes = ops.parameter([2, 6], name="codes")
    codes.output(0).set_names({"codes"})

    def cut(start: int, stop: int, source: ov.Output) -> ov.Node:
        return ops.slice(source, *(np.array([value], np.int64) for value in (start, stop, 1, 1)))

    apart = [cut(1, 3, codes.output(0)), cut(-2, 6, codes.output(0))]
    copy = ops.multiply(codes, np.float32(2)).output(0)
    overlapping = [cut(0, 3, copy), cut(2, 9, copy)]
    parts = [part.output(0) for part in (*apart, *overlapping)]
    for index, output in enumerate(parts):
        output.set_names({f"part_{index}"})
    model = ov.Model(parts, [codes])
    before = _outputs(model, inputs)
    assert rewrite(model) == 2
    assert _kinds(model).count("Slice") == 2
    assert _kinds(model).count("VariadicSplit") == 1
    after = _outputs(model, inputs)
    assert {name: array.shape for name, array in after.items()} == {
        name: array.shape for name, array in before.items()
    }
    assert largest_difference(after, before) == 0


def test_what_is_no_picture_is_left_alone() -> None:
    codes = ops.parameter([1, 6], name="codes")
    parts = ops.split(codes, np.int64(1), 2)
    model = ov.Model(parts.outputs(), [codes])
    kinds = _kinds(model)
    assert rewrite(model) == 0
    assert _kinds(model) == kinds


def test_a_mirrored_picture_is_left_alone() -> None:
    inputs: Arrays = {"picture": np.random.default_rng(0).random((2, 3, 8, 8), np.float32)}
    picture = ops.parameter([2, 3, 8, 8], name="picture")
    picture.output(0).set_names({"picture"})
    ends = (np.array([value], np.int64) for value in (-1, np.iinfo(np.int64).min, -1, 3))
    mirrored = ops.slice(picture, *ends)
    mirrored.output(0).set_names({"mirrored"})
    model = ov.Model([mirrored], [picture])
    assert rewrite(model) == 0
    np.testing.assert_array_equal(_outputs(model, inputs)["mirrored"], inputs["picture"][..., ::-1])
