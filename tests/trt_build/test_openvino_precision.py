"""Positions that pictures are sampled at stay in float32 where a network is computed in bf16."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import openvino as ov
import openvino.opset13 as ops
import pytest

from engine.backends.openvino import has_native_bf16
from engine.bundle import Bundle
from trt_build.openvino_precision import geometry, inexact_geometry, with_exact_geometry
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


@pytest.mark.parametrize("batch", [1, 2])
def test_the_shipped_generator_keeps_its_geometry(core: ov.Core, batch: int) -> None:
    marked = with_exact_geometry(core, _generator(core, batch))
    for _ in range(2):  # compiled, then out of the cache
        compiled = core.compile_model(marked, "CPU", BF16)
        assert inexact_geometry(compiled) == []
    if has_native_bf16(core):
        assert inexact_geometry(core.compile_model(_generator(core, batch), "CPU", BF16)) != []
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
    assert largest_difference(*pictures) < 5e-4  # of noise, sampled


def test_a_network_that_samples_nothing_is_left_alone(core: ov.Core, tmp_path: Path) -> None:
    codes = ops.parameter([1, 6], name="codes")
    model = ov.Model([ops.relu(codes)], [codes])
    assert geometry(model) == []
    assert with_exact_geometry(core, model) is model
