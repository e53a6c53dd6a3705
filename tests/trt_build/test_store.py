from __future__ import annotations

import json
import multiprocessing
import time
from dataclasses import replace
from pathlib import Path

import pytest

from gcavt.config import GcavtConfig
from trt_build.flavours import FlavourName
from trt_build.manifest import Manifest, NetworkEntry
from trt_build.specs import engine_specs
from trt_build.store import FILE_NAME, EngineKey, EngineSet, EngineStore, StoreError, read_set

CONTENT = b"engine " * 100


def _manifest(weights: str = "a") -> Manifest:
    config = GcavtConfig.tiny()
    entries = {
        name: NetworkEntry(file=f"{name}.onnx", sha256=weights * 64, inputs={}, outputs={})
        for name in engine_specs(config)
    }
    return Manifest(name="tiny", config=config, networks=entries, code_space="free", neutral=None)


def _key(weights: str = "a", version: str = "1.7.1") -> EngineKey:
    return EngineKey.of(_manifest(weights), "rtx", "fp16", version, ((8, 9), (12, 0)))


def _publish(root: Path, key: EngineKey, content: bytes = CONTENT) -> EngineSet:
    contents = dict.fromkeys(key.weights, content)
    return EngineStore(root).publish(key, contents, {name: {"Half": 3} for name in contents}, {"psnr": 50})


def _publish_slowly(root: Path) -> None:
    key, store = _key(), EngineStore(root)
    with store.lock(key):
        if (root / key.folder).is_dir():
            (root / "found").touch()
            return
        time.sleep(0.3)
        _publish(root, key)


def test_a_published_set_is_found_by_its_key_and_by_the_gpu(tmp_path: Path) -> None:
    key = _key()
    _publish(tmp_path, key)
    store = EngineStore(tmp_path)
    assert store.open(key).read("generator") == CONTENT
    assert store.find(replace(key, targets=((12, 0),)), (12, 0)).key == key
    assert store.open(key).accuracy == {"psnr": 50}
    assert store.open(key).engines["generator"].layers == {"Half": 3}


def test_every_part_of_the_key_makes_another_set() -> None:
    key = _key()
    others = [
        replace(key, version="1.7.2"),
        replace(key, targets=((8, 9),)),
        replace(key, precision="bf16"),
        replace(key, flavour="tensorrt"),
        replace(key, spec="0"),
        replace(key, recipe=key.recipe + 1),
        _key(weights="b"),
    ]
    assert len({key.folder, *(other.folder for other in others)}) == 8


def test_a_missing_set_names_the_command_that_builds_it(tmp_path: Path) -> None:
    with pytest.raises(
        StoreError, match=r"gcavt build tiny --flavour rtx --precision fp16 --target 8\.9,12\.0"
    ):
        EngineStore(tmp_path).open(_key())


@pytest.mark.parametrize(
    ("wanted", "reason"),
    [
        (_key(version="1.8.0"), r"were built by TensorRT for RTX 1\.7\.1, this is 1\.8\.0"),
        (_key(weights="b"), "were built from other weights"),
        (replace(_key(), spec="0"), "by another version of this engine"),
        (replace(_key(), targets=((8, 6),)), r"are for 8\.9,12\.0, not for 8\.6"),
    ],
)
def test_a_near_set_is_refused_with_what_differs(tmp_path: Path, wanted: EngineKey, reason: str) -> None:
    _publish(tmp_path, _key())
    with pytest.raises(StoreError, match=reason):
        EngineStore(tmp_path).open(wanted)
    with pytest.raises(StoreError, match=reason):
        EngineStore(tmp_path).find(wanted, wanted.targets[0])


def test_a_truncated_engine_is_refused(tmp_path: Path) -> None:
    found = _publish(tmp_path, _key())
    (found.directory / "generator.engine").write_bytes(CONTENT[:-1])
    with pytest.raises(StoreError, match=r"cut short or grown: 699 of 700 bytes; run: gcavt build"):
        EngineStore(tmp_path).open(_key()).read("generator")


def test_a_changed_engine_is_refused(tmp_path: Path) -> None:
    found = _publish(tmp_path, _key())
    (found.directory / "generator.engine").write_bytes(CONTENT.swapcase())
    with pytest.raises(StoreError, match="is damaged: its SHA-256 is not the manifest's"):
        EngineStore(tmp_path).open(_key()).read("generator")


def test_a_missing_engine_is_refused(tmp_path: Path) -> None:
    found = _publish(tmp_path, _key())
    (found.directory / "generator.engine").unlink()
    with pytest.raises(StoreError, match="cannot be read"):
        found.read("generator")


def test_a_changed_manifest_is_refused(tmp_path: Path) -> None:
    path = _publish(tmp_path, _key()).directory / FILE_NAME
    path.write_text(path.read_text().replace('"psnr": 50', '"psnr": 90'))
    with pytest.raises(StoreError, match="was changed after it was written"):
        EngineStore(tmp_path).open(_key())


def test_the_manifest_of_other_engines_is_refused(tmp_path: Path) -> None:
    ours, theirs = _publish(tmp_path, _key()), _publish(tmp_path, _key(weights="b"))
    (ours.directory / FILE_NAME).write_bytes((theirs.directory / FILE_NAME).read_bytes())
    with pytest.raises(StoreError, match="belongs to other engines"):
        read_set(ours.directory)


@pytest.mark.parametrize(
    "text", ["", "{}", "[1]", '{"signature": "x", "format": "gcavt-engines-1", "key": {}}']
)
def test_what_is_no_manifest_is_refused(tmp_path: Path, text: str) -> None:
    found = _publish(tmp_path, _key())
    (found.directory / FILE_NAME).write_text(text)
    with pytest.raises(StoreError, match="is no manifest of engines"):
        read_set(found.directory)


def test_the_manifest_of_a_later_format_is_refused(tmp_path: Path) -> None:
    path = _publish(tmp_path, _key()).directory / FILE_NAME
    path.write_text(json.dumps(json.loads(path.read_text()) | {"format": "gcavt-engines-9"}))
    with pytest.raises(StoreError, match="is of the format 'gcavt-engines-9'"):
        read_set(path.parent)


def test_a_set_is_replaced_as_a_whole(tmp_path: Path) -> None:
    _publish(tmp_path, _key())
    assert _publish(tmp_path, _key(), b"newer").read("generator") == b"newer"
    assert [path.name for path in tmp_path.iterdir() if path.is_dir()] == [_key().folder]


def test_a_failed_publication_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(KeyError):
        EngineStore(tmp_path).publish(_key(), {"generator": CONTENT}, {}, {})
    assert list(tmp_path.iterdir()) == []


def test_of_two_processes_the_second_finds_what_the_first_built(tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")
    processes = [context.Process(target=_publish_slowly, args=(tmp_path,)) for _ in range(2)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0, 0]
    assert (tmp_path / "found").exists()
    assert EngineStore(tmp_path).open(_key()).read("generator") == CONTENT


def test_caches_are_kept_and_replaced(tmp_path: Path) -> None:
    store = EngineStore(tmp_path)
    assert store.read_cache("kernels") == b""
    store.write_cache("kernels", b"one")
    store.write_cache("kernels", b"two")
    assert store.read_cache("kernels") == b"two"
    assert [path.name for path in (tmp_path / "caches").iterdir()] == ["kernels"]


def test_only_what_runs_without_them_may_leave_networks_out(tmp_path: Path) -> None:
    flavours: tuple[tuple[FlavourName, bool], ...] = (("openvino", True), ("rtx", False))
    for flavour, is_allowed in flavours:
        key = replace(_key(), flavour=flavour)
        store = EngineStore(tmp_path / flavour)
        if is_allowed:
            published = store.publish(key, {"generator": b"1"}, {"generator": {}}, {})
            assert set(published.engines) == {"generator"}
        else:
            with pytest.raises(StoreError, match="belongs to other engines"):
                store.publish(key, {"generator": b"1"}, {"generator": {}}, {})
