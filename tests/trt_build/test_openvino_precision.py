"""Positions that pictures are sampled at stay in float32 where a network is computed in bf16."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import openvino as ov
import openvino.opset13 as ops
import pytest

from engine.bundle import Bundle
from tests.trt_build.characters import psnr_db, turned_character
from trt_build.openvino_precision import (
    geometry,
    has_native_bf16,
    has_vnni,
    inexact_geometry,
    with_exact_geometry,
)
from trt_build.openvino_rewrites import rewrite
from trt_build.specs import engine_specs
from trt_build.verify import largest_difference, sample_inputs

BF16 = {"INFERENCE_PRECISION_HINT": "bf16", "INFERENCE_NUM_THREADS": 1}
EXACT = {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": 1}


@pytest.fixture(scope="module")
def core(tmp_path_factory: pytest.TempPathFactory) -> ov.Core:
    found = ov.Core()
    found.set_property({"CACHE_DIR": str(tmp_path_factory.mktemp("compiled"))})
    return found


def _generator(core: ov.Core, batch: int) -> ov.Model:
    bundle = Bundle.open("lite")
    model = core.read_model(bundle.directory / bundle.manifest.networks["generator"].file)
    model.reshape({t.name: t.with_batch(batch) for t in engine_specs(bundle.config)["generator"].inputs})
    rewrite(model)
    return model


@pytest.mark.parametrize("turn_deg", [0, 25])
def test_the_shipped_generator_keeps_its_geometry(core: ov.Core, turn_deg: float) -> None:
    """Light and shares are enlarged together with positions and may be inexact; positions may not."""
    inputs = turned_character(turn_deg)
    exact = core.compile_model(_generator(core, 1), "CPU", EXACT)(inputs)["image"]
    marked = with_exact_geometry(core, _generator(core, 1))
    for _ in range(2):  # compiled, then out of the cache
        compiled = core.compile_model(marked, "CPU", BF16)
        assert psnr_db(compiled(inputs)["image"], exact) > 50
    if has_native_bf16(core):
        assert psnr_db(core.compile_model(_generator(core, 1), "CPU", BF16)(inputs)["image"], exact) < 45
        kinds = {
            str(n.get_rt_info()["runtimePrecision"].astype(str))
            for n in compiled.get_runtime_model().get_ops()
        }
        assert "bf16" in kinds


@pytest.mark.parametrize("batch", [1, 2])
def test_a_marked_network_computes_the_same(core: ov.Core, batch: int) -> None:
    inputs = sample_inputs(engine_specs(Bundle.open("lite").config)["generator"], batch)
    pictures = []
    for model in (_generator(core, batch), with_exact_geometry(core, _generator(core, batch))):
        results = core.compile_model(model, "CPU", EXACT)(inputs)
        pictures.append({output.get_any_name(): np.array(results[output]) for output in results})
    assert pictures[0].keys() == pictures[1].keys() == {"image", "mask"}
    assert largest_difference(*pictures) < 1e-3  # of noise, sampled


def test_arithmetic_is_written_as_sums_and_products_and_stays_the_same(core: ov.Core) -> None:
    rng = np.random.default_rng(3)
    inputs = {"flow": rng.random((2, 2, 4, 6), np.float32), "pose": rng.random((2, 1), np.float32)}
    inputs["picture"] = rng.random((2, 3, 4, 6), np.float32)
    matrix = rng.random((2, 2), np.float32)

    def sampled() -> ov.Model:
        flow, pose, picture = (
            ops.parameter(list(inputs[n].shape), name=n) for n in ("flow", "pose", "picture")
        )
        turn = ops.squeeze(pose, np.array([1]))
        shift = ops.unsqueeze(ops.negative(ops.divide(turn, np.float32(3))), np.int64(1))
        padded = ops.pad(shift, np.array([0, 1]), np.array([0, 0]), "constant", np.float32(0))
        mixed = ops.matmul(padded, matrix, False, True)
        moved = ops.add(flow, ops.reshape(mixed, np.array([2, 2, 1, 1]), False))
        scaled = ops.subtract(
            np.float32(0.4), ops.multiply(ops.multiply(moved, np.float32(0.3)), np.float32(2))
        )
        scaled = ops.divide(
            ops.subtract(ops.multiply(scaled, np.float32(1.1)), np.float32(0.1)), np.float32(0.9)
        )
        limited = ops.minimum(ops.maximum(scaled, np.float32(-0.9)), np.float32(0.9))
        grid = ops.transpose(limited, np.array([0, 2, 3, 1]))
        attributes = {"align_corners": False, "mode": "bilinear", "padding_mode": "border"}
        model = ov.Model([ops.grid_sample(picture, grid, attributes)], [flow, pose, picture])
        for parameter in (flow, pose, picture):
            parameter.output(0).set_names({parameter.get_friendly_name()})
        return model

    marked = with_exact_geometry(core, sampled())
    kinds = {node.get_type_name() for node in geometry(marked)}
    assert kinds.isdisjoint({"Divide", "Subtract", "Negative", "Minimum", "Maximum", "Pad", "Unsqueeze"})
    results = [core.compile_model(model, "CPU", EXACT)(inputs)[0] for model in (sampled(), marked)]
    np.testing.assert_allclose(results[1], results[0], atol=1e-5)
    assert inexact_geometry(core.compile_model(marked, "CPU", BF16)) == []


def test_a_network_that_samples_nothing_is_left_alone(core: ov.Core, tmp_path: Path) -> None:
    codes = ops.parameter([1, 6], name="codes")
    model = ov.Model([ops.relu(codes)], [codes])
    assert geometry(model) == []
    assert with_exact_geometry(core, model) is model


@pytest.mark.parametrize(
    ("cpuinfo", "expected"),
    [
        ("processor : 0\nflags\t: fpu avx2 avx512_vnni\n", True),
        ("flags : avx2 avx_vnni\n", True),
        ("flags : fpu avx2\n", False),
        ("Features : neon\n", False),
    ],
)
def test_linux_tells_whether_a_processor_has_vnni(tmp_path: Path, cpuinfo: str, expected: bool) -> None:
    (tmp_path / "cpuinfo").write_text(cpuinfo)
    assert has_vnni(tmp_path / "cpuinfo") == expected
    assert not has_vnni(tmp_path / "missing")
