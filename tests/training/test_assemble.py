from pathlib import Path

import torch

from gcavt.checkpoint import read_checkpoint, save_checkpoint
from gcavt.model import Gcavt
from tests.bundles import tiny_config
from training.assemble import assemble

PARTS = ["generator", *(f"{part}_encoder" for part in ("identity", "pose", "expression", "content", "audio"))]


def checkpoint(path: Path, seed: int, name: str, trained: list[str]) -> Path:
    torch.manual_seed(seed)
    config = tiny_config("edit_repose")
    save_checkpoint(path, Gcavt(config), config, {"recipe": {"name": name}, "trained": trained})
    return path


def test_what_was_assembled_before_can_be_improved_part_by_part(tmp_path: Path) -> None:
    first = checkpoint(tmp_path / "first.safetensors", 0, "all", PARTS)
    assemble([first], tmp_path / "shipped.safetensors")
    better = checkpoint(tmp_path / "better.safetensors", 1, "generator", ["generator"])
    assemble([tmp_path / "shipped.safetensors", better], tmp_path / "both.safetensors")

    both = read_checkpoint(tmp_path / "both.safetensors")
    assert [run["recipe"]["name"] for run in both.provenance["runs"]] == ["all", "generator"]
    assert both.provenance["untrained"] == []
    for key, value in both.tensors.items():
        source = better if key.startswith("generator.") else first
        torch.testing.assert_close(value, read_checkpoint(source).tensors[key].to(value.dtype))


def test_parts_go_halfway_to_what_later_runs_made_of_them(tmp_path: Path) -> None:
    first = checkpoint(tmp_path / "first.safetensors", 0, "all", PARTS)
    tuned = [
        checkpoint(tmp_path / f"{part}.safetensors", seed, part, [f"{part}_encoder"])
        for seed, part in ((1, "content"), (2, "pose"))
    ]
    assemble([first], tmp_path / "out.safetensors", tuned)
    out = read_checkpoint(tmp_path / "out.safetensors")
    assert [run.get("halfway", False) for run in out.provenance["runs"]] == [False, True, True]
    base, content, pose = (read_checkpoint(path).tensors for path in (first, *tuned))
    for name, value in out.tensors.items():
        other = {"content_encoder": content, "pose_encoder": pose}.get(name.split(".")[0], base)[name]
        expected = (base[name] + other) / 2 if value.is_floating_point() else base[name]
        torch.testing.assert_close(value, expected.to(value.dtype), atol=1e-3, rtol=1e-3)


def test_parts_that_no_run_has_touched_are_named(tmp_path: Path) -> None:
    only = checkpoint(tmp_path / "only.safetensors", 0, "joint", ["generator", "identity_encoder"])
    assemble([only], tmp_path / "out.safetensors")
    missing = read_checkpoint(tmp_path / "out.safetensors").provenance["untrained"]
    assert missing == [f"{part}_encoder" for part in ("pose", "expression", "content", "audio")]
