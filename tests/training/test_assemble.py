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


def test_parts_that_no_run_has_touched_are_named(tmp_path: Path) -> None:
    only = checkpoint(tmp_path / "only.safetensors", 0, "joint", ["generator", "identity_encoder"])
    assemble([only], tmp_path / "out.safetensors")
    missing = read_checkpoint(tmp_path / "out.safetensors").provenance["untrained"]
    assert missing == [f"{part}_encoder" for part in ("pose", "expression", "content", "audio")]
