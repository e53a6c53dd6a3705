from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from engine.bundle import Bundle
from engine.errors import BundleError
from tests.bundles import TinyBundles
from trt_build.manifest import FILE_NAME


@pytest.fixture
def check_cache(tmp_path: Path) -> Path:
    return tmp_path / "checked.json"


def test_a_bundle_opens_by_its_directory(tiny_bundles: TinyBundles, check_cache: Path) -> None:
    bundle = Bundle.open(tiny_bundles.path("edit_repose"), check_cache=check_cache)
    assert bundle.name == "tiny-edit_repose"
    assert bundle.identity_names() == ["astronaut"]
    assert bundle.identity("astronaut").reference_pose is not None


def test_an_unknown_name_lists_what_there_is(check_cache: Path) -> None:
    with pytest.raises(BundleError, match="no model called 'gigantic'"):
        Bundle.open("gigantic", check_cache=check_cache)


def test_a_missing_directory_is_named(tmp_path: Path, check_cache: Path) -> None:
    with pytest.raises(BundleError, match="no/such does not exist"):
        Bundle.open(tmp_path / "no" / "such", check_cache=check_cache)


def test_a_directory_without_manifest_is_no_bundle(tmp_path: Path, check_cache: Path) -> None:
    with pytest.raises(BundleError, match="is not a model bundle"):
        Bundle.open(tmp_path, check_cache=check_cache)


def test_a_missing_network_file_is_named(tiny_bundle: Path, check_cache: Path) -> None:
    (tiny_bundle / "generator.onnx").unlink()
    with pytest.raises(BundleError, match=r"generator\.onnx \(generator\) is missing"):
        Bundle.open(tiny_bundle, check_cache=check_cache)


def test_a_truncated_file_is_found_even_after_it_was_checked(tiny_bundle: Path, check_cache: Path) -> None:
    Bundle.open(tiny_bundle, check_cache=check_cache)
    file = tiny_bundle / "generator.onnx"
    file.write_bytes(file.read_bytes()[:-100])
    with pytest.raises(BundleError, match=r"generator\.onnx is damaged"):
        Bundle.open(tiny_bundle, check_cache=check_cache)


def test_a_checked_file_is_not_hashed_again(
    tiny_bundle: Path, check_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Bundle.open(tiny_bundle, check_cache=check_cache)

    def refuse(path: Path) -> str:
        raise AssertionError(f"{path} was hashed again")

    monkeypatch.setattr("engine.bundle.file_sha256", refuse)
    Bundle.open(tiny_bundle, check_cache=check_cache)


def test_a_touched_file_is_hashed_again_and_accepted(tiny_bundle: Path, check_cache: Path) -> None:
    Bundle.open(tiny_bundle, check_cache=check_cache)
    os.utime(tiny_bundle / "generator.onnx")
    Bundle.open(tiny_bundle, check_cache=check_cache)


def test_a_damaged_cache_only_costs_time(tiny_bundle: Path, check_cache: Path) -> None:
    check_cache.write_text("{")
    assert Bundle.open(tiny_bundle, check_cache=check_cache).name == "tiny-edit_repose"


def test_a_bundle_of_other_shapes_is_refused(tiny_bundle: Path, check_cache: Path) -> None:
    path = tiny_bundle / FILE_NAME
    values = json.loads(path.read_text())
    values["networks"]["generator"]["inputs"]["pose_code"] = ["batch", 6]
    path.write_text(json.dumps(values))
    with pytest.raises(BundleError, match=r"does not fit this version: generator\.pose_code"):
        Bundle.open(tiny_bundle, check_cache=check_cache)


def test_a_file_outside_the_bundle_is_refused(tiny_bundle: Path, check_cache: Path) -> None:
    path = tiny_bundle / FILE_NAME
    values = json.loads(path.read_text())
    values["networks"]["generator"]["file"] = "../generator.onnx"
    path.write_text(json.dumps(values))
    with pytest.raises(BundleError, match="is missing"):
        Bundle.open(tiny_bundle, check_cache=check_cache)


def test_an_unknown_identity_lists_the_known_ones(tiny_bundles: TinyBundles, check_cache: Path) -> None:
    bundle = Bundle.open(tiny_bundles.path("adain"), check_cache=check_cache)
    with pytest.raises(BundleError, match="no identity 'nobody'; it has: astronaut"):
        bundle.identity("nobody")


@pytest.mark.parametrize("text", ["{", '{"reference_pose": [1, 2]}', "[]"])
def test_a_damaged_identity_is_named(tiny_bundle: Path, check_cache: Path, text: str) -> None:
    (tiny_bundle / "identities" / "astronaut" / "identity.json").write_text(text)
    with pytest.raises(BundleError, match=r"identity\.json' is not readable|identity\.json is not readable"):
        Bundle.open(tiny_bundle, check_cache=check_cache).identity("astronaut")
