from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import pytest

from engine.backends.backend import open_backend
from engine.backends.openvino import ENGINES_DIR, OpenVinoBackend
from engine.bundle import PRETRAINED_DIR
from engine.errors import BackendMissingError
from trt_build.accuracy import LEAST_PSNR_DB
from trt_build.flavours import FLAVOURS
from trt_build.manifest import FILE_NAME, Manifest
from trt_build.specs import engine_specs
from trt_build.store import EngineKey, EngineStore
from trt_build.verify import largest_difference, sample_inputs

LITE = PRETRAINED_DIR / "lite"
MANIFEST = Manifest.load(LITE / FILE_NAME)


@pytest.fixture
def processor(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """One without anything that is faster than fp32."""
    monkeypatch.setattr("engine.backends.openvino.has_native_bf16", lambda core: False)
    monkeypatch.setattr("engine.backends.openvino.has_vnni", lambda: False)
    return monkeypatch


def test_the_shipped_networks_in_eight_bits_are_those_of_the_shipped_weights() -> None:
    key = EngineKey.of(MANIFEST, "openvino", "int8", FLAVOURS["openvino"].version(), ())
    shipped = EngineStore(LITE / ENGINES_DIR).open(key)
    assert "generator" in shipped.engines
    assert shipped.accuracy["engines"]["picture_psnr_db"] >= LEAST_PSNR_DB["int8"]
    for network in shipped.engines:
        assert shipped.read(network)


@pytest.mark.parametrize(("vnni", "precision"), [(True, "int8"), (False, "f32")])
def test_a_processor_without_bf16_takes_eight_bits_where_that_is_faster(
    processor: pytest.MonkeyPatch, vnni: bool, precision: str
) -> None:
    processor.setattr("engine.backends.openvino.has_vnni", lambda: vnni)
    backend = open_backend("openvino", LITE, threads=1)
    assert f", {precision}, " in backend.provider
    assert backend.name == "openvino"


def test_one_that_computes_in_bf16_does(processor: pytest.MonkeyPatch) -> None:
    processor.setattr("engine.backends.openvino.has_native_bf16", lambda core: True)
    processor.setattr("engine.backends.openvino.has_vnni", lambda: True)
    assert ", bf16, " in open_backend("openvino", LITE, threads=1).provider
    assert ", f32, " in open_backend("openvino-fp32", LITE, threads=1).provider
    assert ", int8, " in open_backend("openvino-int8", LITE, threads=1).provider


def test_bf16_is_refused_where_it_would_be_emulated(processor: pytest.MonkeyPatch) -> None:
    with pytest.raises(BackendMissingError, match="does not compute in bf16"):
        open_backend("openvino-bf16", LITE)


def test_a_model_without_eight_bits_runs_without_and_the_log_says_how_to_get_them(
    processor: pytest.MonkeyPatch, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    processor.setattr("engine.backends.openvino.has_vnni", lambda: True)
    with caplog.at_level(logging.INFO):
        backend = OpenVinoBackend(LITE, threads=1, store=EngineStore(tmp_path))
    assert ", f32, " in backend.provider
    assert "gcavt build lite --flavour openvino --precision int8" in caplog.text


def test_eight_bits_are_near_but_not_the_same(processor: pytest.MonkeyPatch) -> None:
    specs = engine_specs(MANIFEST.config)
    exact, eight = (open_backend(name, LITE, threads=1) for name in ("openvino-fp32", "openvino-int8"))
    inputs = sample_inputs(specs["generator"], 1)  # noise: no face is so hard to draw
    picture, other = (backend.run("generator", inputs)["image"].ravel() for backend in (exact, eight))
    assert 0.97 < np.corrcoef(picture, other)[0, 1] < 1 - 1e-6
    left = sample_inputs(specs["content_encoder"], 1)  # its code would tremble
    assert largest_difference(exact.run("content_encoder", left), eight.run("content_encoder", left)) == 0
