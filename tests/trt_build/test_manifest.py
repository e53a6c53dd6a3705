from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from gcavt.config import GcavtConfig
from trt_build.manifest import (
    Manifest,
    ManifestError,
    NetworkEntry,
    NeutralCodes,
    file_sha256,
    shape_mismatches,
    shapes_of,
)
from trt_build.specs import engine_specs


@pytest.fixture
def manifest() -> Manifest:
    config = GcavtConfig.lite()
    return Manifest(
        name="lite",
        config=config,
        networks={
            name: NetworkEntry(
                file=f"{name}.onnx",
                sha256="0" * 64,
                inputs=shapes_of(spec.inputs),
                outputs=shapes_of(spec.outputs),
            )
            for name, spec in engine_specs(config).items()
        },
        code_space="exact",
        neutral=NeutralCodes(pose_code=(0.0,) * 12, expression_code=(1.0,) * 256, content_code=(1.0,) * 256),
        versions={"torch": "2.13.0"},
        provenance={"steps": 5},
    )


def test_a_saved_manifest_reads_back_equal(manifest: Manifest, tmp_path: Path) -> None:
    manifest.save(tmp_path / "manifest.json")
    assert Manifest.load(tmp_path / "manifest.json") == manifest


def test_a_free_code_space_has_no_neutral_codes(manifest: Manifest, tmp_path: Path) -> None:
    free = replace(manifest, code_space="free", neutral=None)
    free.save(tmp_path / "manifest.json")
    assert Manifest.load(tmp_path / "manifest.json").neutral is None


def test_a_missing_manifest_is_named(tmp_path: Path) -> None:
    with pytest.raises(ManifestError, match=r"manifest\.json does not exist"):
        Manifest.load(tmp_path / "manifest.json")


@pytest.mark.parametrize(
    "change",
    [{"code_space": "odd"}, {"networks": None}, {"config": {}}, {"neutral": {"pose_code": 3}}],
    ids=lambda change: next(iter(change)),
)
def test_a_foreign_manifest_is_refused(manifest: Manifest, tmp_path: Path, change: dict[str, Any]) -> None:
    path = tmp_path / "manifest.json"
    manifest.save(path)
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(ManifestError, match="not a bundle manifest"):
        Manifest.load(path)


def test_text_that_is_no_json_is_refused(tmp_path: Path) -> None:
    (tmp_path / "manifest.json").write_text("hello")
    with pytest.raises(ManifestError, match="not a bundle manifest"):
        Manifest.load(tmp_path / "manifest.json")


def test_a_shape_of_another_config_is_reported(manifest: Manifest) -> None:
    assert shape_mismatches(manifest) == []
    other = replace(manifest, config=replace(manifest.config, content_dim=128))
    assert "content_encoder.content_code" in shape_mismatches(other)[0]


def test_a_missing_network_is_reported(manifest: Manifest) -> None:
    networks = {name: entry for name, entry in manifest.networks.items() if name != "generator"}
    assert shape_mismatches(replace(manifest, networks=networks)) == ["network generator is missing"]


def test_the_hash_is_sha256(tmp_path: Path) -> None:
    (tmp_path / "empty").touch()
    assert file_sha256(tmp_path / "empty").startswith("e3b0c44298fc1c14")
