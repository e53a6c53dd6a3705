from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto

from gcavt import code_space
from gcavt.checkpoint import read_checkpoint, save_checkpoint
from gcavt.config import GcavtConfig
from gcavt.generator import AdainGenerator
from gcavt.model import Gcavt
from tests.bundles import MEMBERS, Member, TinyBundles, tiny_config
from trt_build import export
from trt_build.manifest import CHECKPOINT_NAME, FILE_NAME, Manifest, file_sha256, shape_mismatches
from trt_build.specs import engine_specs
from trt_build.verify import largest_difference, module_outputs, sample_inputs


@pytest.fixture(scope="module")
def tiny_model() -> Gcavt:
    torch.manual_seed(0)
    return Gcavt(tiny_config("adain")).eval()


@pytest.fixture
def generators(tiny_bundles: TinyBundles) -> list[onnx.ModelProto]:
    return [onnx.load(tiny_bundles.path(member) / "generator.onnx") for member in MEMBERS]


@pytest.mark.parametrize("member", MEMBERS)
def test_a_bundle_holds_every_network_of_its_config(tiny_bundles: TinyBundles, member: Member) -> None:
    directory = tiny_bundles.path(member)
    manifest = Manifest.load(directory / FILE_NAME)
    assert list(manifest.networks) == list(engine_specs(tiny_config(member)))
    assert shape_mismatches(manifest) == []
    for entry in manifest.networks.values():
        assert file_sha256(directory / entry.file) == entry.sha256


def test_provenance_and_versions_travel_with_the_bundle(tiny_bundles: TinyBundles) -> None:
    directory = tiny_bundles.path("edit_repose")
    manifest = Manifest.load(directory / FILE_NAME)
    assert manifest.provenance == {"steps": 0}
    assert manifest.versions["torch"] == torch.__version__
    assert read_checkpoint(directory / CHECKPOINT_NAME).config == manifest.config


def test_tensors_are_named_and_only_the_batch_is_dynamic(tiny_bundles: TinyBundles) -> None:
    for network, spec in engine_specs(tiny_config("edit_repose")).items():
        graph = onnx.load(tiny_bundles.path("edit_repose") / f"{network}.onnx").graph
        for values, tensors in ((graph.input, spec.inputs), (graph.output, spec.outputs)):
            shapes = {
                v.name: tuple(d.dim_param or d.dim_value for d in v.type.tensor_type.shape.dim)
                for v in values
            }
            assert shapes == {tensor.name: tensor.shape for tensor in tensors}


def test_graphs_hold_standard_operators_with_norms_folded(generators: list[onnx.ModelProto]) -> None:
    for model in generators:
        operators = {node.op_type for node in model.graph.node}
        assert {node.domain for node in model.graph.node} == {""}
        assert {opset.version for opset in model.opset_import} == {export.OPSET}
        assert "InstanceNormalization" in operators
        assert not operators & {"BatchNormalization", "Loop", "If"}


def test_grid_samples_are_two_dimensional(generators: list[onnx.ModelProto]) -> None:
    for model in generators:
        inferred = onnx.shape_inference.infer_shapes(model).graph
        ranks = {v.name: len(v.type.tensor_type.shape.dim) for v in inferred.value_info}
        samples = [node for node in inferred.node if node.op_type == "GridSample"]
        assert all(ranks[node.output[0]] == 4 for node in samples)


def test_half_weights_halve_the_file(tiny_bundles: TinyBundles) -> None:
    half, full = (
        (tiny_bundles.path("edit_repose", fp32_weights=fp32) / "pose_encoder.onnx").stat().st_size
        for fp32 in (False, True)
    )
    assert half < 0.6 * full


def test_no_weight_of_a_convolution_is_stored_in_full(generators: list[onnx.ModelProto]) -> None:
    for model in generators:
        large = [t for t in model.graph.initializer if len(t.dims) == 4 and np.prod(t.dims) > 1024]
        weights = {node.input[1] for node in model.graph.node if node.op_type == "Conv"}
        assert all(t.data_type == TensorProto.FLOAT16 for t in large if t.name in weights)


def test_no_path_of_the_exporting_machine_is_left_in_a_graph(tiny_bundles: TinyBundles) -> None:
    content = (tiny_bundles.path("adain") / "generator.onnx").read_bytes()
    assert b".py" not in content


def test_neutral_codes_of_the_exact_space_are_those_of_a_relaxed_face(tiny_bundles: TinyBundles) -> None:
    neutral = Manifest.load(tiny_bundles.path("edit_repose") / FILE_NAME).neutral
    assert neutral is not None
    relaxed = np.zeros(52, np.float32)
    np.testing.assert_allclose(neutral.expression_code, code_space.expression_code(relaxed), atol=1e-6)
    np.testing.assert_allclose(neutral.content_code, code_space.content_code(relaxed), atol=1e-6)
    assert neutral.pose_code == (0.0,) * 12


def test_a_free_space_states_no_neutral_codes(tiny_bundles: TinyBundles) -> None:
    assert Manifest.load(tiny_bundles.path("adain") / FILE_NAME).neutral is None


def test_folding_leaves_the_given_model_alone_and_its_picture_the_same(tiny_model: Gcavt) -> None:
    spec = engine_specs(tiny_model.config)["generator"]
    inputs = sample_inputs(spec, batch=1)
    folded = export.folded(tiny_model)
    before = module_outputs(tiny_model.generator, spec, inputs)
    assert largest_difference(module_outputs(folded.generator, spec, inputs), before) < 1e-5
    assert isinstance(tiny_model.generator, AdainGenerator)
    assert any("parametrizations" in name for name, _ in tiny_model.generator.named_parameters())
    assert not any("parametrizations" in name for name, _ in folded.generator.named_parameters())


@pytest.mark.parametrize(
    ("config", "provenance", "space"),
    [
        (tiny_config("edit_repose"), {}, "exact"),
        (tiny_config("adain"), {}, "free"),
        (tiny_config("adain"), {"code_space": "exact"}, "exact"),
    ],
)
def test_the_code_space_is_the_checkpoints_or_the_generators(
    tmp_path: Path, config: GcavtConfig, provenance: dict[str, str], space: str
) -> None:
    save_checkpoint(tmp_path / "c.safetensors", Gcavt(config), config, provenance)
    assert export.code_space_of(read_checkpoint(tmp_path / "c.safetensors")) == space


def test_a_directory_of_something_else_is_not_replaced(tmp_path: Path, tiny_model: Gcavt) -> None:
    (tmp_path / "thesis.txt").write_text("years of work")
    with pytest.raises(export.ExportError, match=r"holds thesis\.txt and no bundle"):
        export.export_bundle(tiny_model, tmp_path, name="tiny", space="free", provenance={})
    assert (tmp_path / "thesis.txt").read_text() == "years of work"


def test_a_new_export_keeps_identities_and_card(tiny_bundle: Path, tmp_path: Path) -> None:
    (tiny_bundle / "MODEL_CARD.md").write_text("card")
    building = tmp_path / "work" / "bundle"
    building.mkdir(parents=True)
    (building / FILE_NAME).write_text("new")
    export._replace(tiny_bundle, building)
    assert (tiny_bundle / "MODEL_CARD.md").read_text() == "card"
    assert (tiny_bundle / "identities" / "astronaut" / "portrait_0.png").is_file()
    assert (tiny_bundle / FILE_NAME).read_text() == "new"
    assert not (tiny_bundle / "generator.onnx").exists()


def test_a_failed_export_leaves_nothing_behind(tmp_path: Path, tiny_model: Gcavt) -> None:
    with pytest.raises(KeyError):
        export.write_bundle(tiny_model, {}, tmp_path / "out", name="tiny", space="free", provenance={})
    assert list(tmp_path.iterdir()) == []


def _arguments(*words: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    export.add_arguments(parser)
    return parser.parse_args(words)


def test_a_missing_checkpoint_is_one_line_and_exit_code_2(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert export.run(_arguments(str(tmp_path / "no.safetensors"), "--out", str(tmp_path / "out"))) == 2
    captured = capsys.readouterr()
    assert captured.err.startswith("gcavt export: no checkpoint at")
    assert captured.err.count("\n") == 1
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_the_command_exports_a_checkpoint(
    tmp_path: Path, tiny_model: Gcavt, capsys: pytest.CaptureFixture[str]
) -> None:
    checkpoint = tmp_path / "tiny.safetensors"
    save_checkpoint(checkpoint, tiny_model, tiny_model.config, {"steps": 7})
    assert export.run(_arguments(str(checkpoint), "--out", str(tmp_path / "out"), "--name", "mine")) == 0
    manifest = Manifest.load(tmp_path / "out" / FILE_NAME)
    assert (manifest.name, manifest.provenance) == ("mine", {"steps": 7})
    assert "6 networks" in capsys.readouterr().out
