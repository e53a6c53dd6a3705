from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import openvino as ov
import pytest

from engine.backends.openvino import OpenVinoBackend, read_packed
from engine.bundle import PRETRAINED_DIR
from engine.errors import BundleError
from tests.trt_build.characters import psnr_db, turned_character
from trt_build.flavours import FLAVOURS
from trt_build.manifest import FILE_NAME, Manifest
from trt_build.openvino_precision import with_exact_geometry
from trt_build.openvino_rewrites import rewrite
from trt_build.precision import folded_constants
from trt_build.specs import engine_specs
from trt_build.store import EngineKey, EngineStore
from trt_build.verify import largest_difference, sample_inputs

openvino_int8 = pytest.importorskip("trt_build.openvino_int8", reason="needs nncf: pip install nncf")

LITE = PRETRAINED_DIR / "lite"
MANIFEST = Manifest.load(LITE / FILE_NAME)
SPEC = engine_specs(MANIFEST.config)["content_encoder"]
FRAMES = [sample_inputs(SPEC, 1, seed) for seed in range(2)]


@pytest.fixture(scope="module")
def packed():  # type: ignore[no-untyped-def]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(openvino_int8, "TIMED_RUNS", 2)
        return openvino_int8.packed_network(LITE / "content_encoder.onnx", SPEC, FRAMES)


def test_a_packed_network_computes_in_eight_bits_near_the_original(packed, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    model = read_packed(ov.Core(), packed.content)
    assert packed.gain > 0
    assert any(op.get_type_name() == "FakeQuantize" for op in model.get_ops())
    code = ov.Core().compile_model(model, "CPU")(FRAMES[0])["content_code"]
    backend = OpenVinoBackend(LITE, threads=1, cache_dir=tmp_path, precision="fp32")
    exact = backend.run("content_encoder", FRAMES[0])["content_code"]
    assert 0 < np.abs(code - exact).max() < 0.2 * np.abs(exact).max()


def test_the_last_product_before_an_output_keeps_its_precision(packed) -> None:  # type: ignore[no-untyped-def]
    model = read_packed(ov.Core(), packed.content)
    products = [op for op in model.get_ordered_ops() if op.get_type_name() == "MatMul"]
    sources = [value.get_node().get_type_name() for value in products[-1].input_values()]
    assert "FakeQuantize" not in sources


def test_rewriting_leaves_weights_in_eight_bits(packed) -> None:  # type: ignore[no-untyped-def]
    model = read_packed(ov.Core(), packed.content)
    kinds = [op.get_element_type() for op in model.get_ops() if op.get_type_name() == "Constant"]
    assert kinds.count(ov.Type.i8) > 10
    inputs = [tensor.get_any_name() for tensor in model.inputs]
    rewrite(model)
    after = [op.get_element_type() for op in model.get_ops() if op.get_type_name() == "Constant"]
    assert after.count(ov.Type.i8) == kinds.count(ov.Type.i8)
    assert [tensor.get_any_name() for tensor in model.inputs] == inputs


def test_the_generator_in_eight_bits_keeps_its_geometry() -> None:
    core, spec = ov.Core(), engine_specs(MANIFEST.config)["generator"]
    graph = folded_constants(onnx.load(LITE / "generator.onnx"))
    frames = [sample_inputs(spec, 1)]
    model = openvino_int8._quantised(openvino_int8._read(core, graph, spec), graph, frames)
    rewrite(model)
    hint = {"INFERENCE_PRECISION_HINT": "bf16", "INFERENCE_NUM_THREADS": 1}
    inputs = turned_character(25)
    exact = core.compile_model(model, "CPU", {**hint, "INFERENCE_PRECISION_HINT": "f32"})(inputs)["image"]
    compiled = core.compile_model(with_exact_geometry(core, model), "CPU", hint)
    assert psnr_db(compiled(inputs)["image"], exact) > 45
    kinds = {
        str(n.get_rt_info()["runtimePrecision"].astype(str)) for n in compiled.get_runtime_model().get_ops()
    }
    assert "u8" in kinds or "i8" in kinds


def test_the_backend_runs_what_the_store_holds_and_the_rest_as_the_bundle_has_it(  # type: ignore[no-untyped-def]
    packed, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("engine.backends.openvino.has_native_bf16", lambda core: False)
    key = EngineKey.of(MANIFEST, "openvino", "int8", FLAVOURS["openvino"].version(), ())
    store = EngineStore(tmp_path / "store")
    store.publish(key, {"content_encoder": packed.content}, {"content_encoder": {"int8": 1}}, {})
    backend = OpenVinoBackend(LITE, threads=1, cache_dir=tmp_path, precision="int8", store=store)
    assert backend.name == "openvino-int8"
    assert "int8" in backend.provider
    assert backend.run("content_encoder", FRAMES[0])["content_code"].shape == (1, MANIFEST.config.content_dim)
    two = {name: np.concatenate([array, array]) for name, array in FRAMES[0].items()}
    assert backend.run("content_encoder", two)["content_code"].shape[0] == 2
    exact = OpenVinoBackend(LITE, threads=1, cache_dir=tmp_path, precision="fp32")
    for network, is_same in (("content_encoder", False), ("pose_encoder", True)):
        inputs = sample_inputs(engine_specs(MANIFEST.config)[network], 1)
        difference = largest_difference(backend.run(network, inputs), exact.run(network, inputs))
        assert (difference == 0) == is_same


def test_what_was_not_built_names_the_command_that_builds_it(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="gcavt build lite --flavour openvino --precision int8"):
        OpenVinoBackend(LITE, precision="int8", store=EngineStore(tmp_path))


def test_engines_of_another_version_are_not_run(packed, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    key = EngineKey.of(MANIFEST, "openvino", "int8", FLAVOURS["openvino"].version(), ())
    older = replace(key, version="2020.1")
    EngineStore(tmp_path).publish(older, {"content_encoder": packed.content}, {"content_encoder": {}}, {})
    with pytest.raises(BundleError, match=r"were built by OpenVINO 2020\.1, this is 20"):
        OpenVinoBackend(LITE, precision="int8", store=EngineStore(tmp_path))
