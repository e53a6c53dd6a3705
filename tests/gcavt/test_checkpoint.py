import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from gcavt.checkpoint import CheckpointError, load_checkpoint, load_model, read_checkpoint, save_checkpoint
from gcavt.config import GcavtConfig
from gcavt.model import Gcavt

PROVENANCE = {"recipe": "smoke", "step": 12, "trained": ["generator"]}


@pytest.fixture(scope="module")
def model() -> Gcavt:
    torch.manual_seed(0)
    return Gcavt(GcavtConfig.tiny()).eval()


@pytest.fixture(scope="module")
def path(model: Gcavt, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("checkpoint") / "runs" / "last.safetensors"
    save_checkpoint(path, model, model.config, PROVENANCE)
    return path


def test_model_config_and_provenance_come_back_as_saved(model: Gcavt, path: Path) -> None:
    loaded, provenance = load_checkpoint(path)
    assert provenance == PROVENANCE
    assert loaded.config == model.config
    assert not loaded.training
    read_back = loaded.state_dict()
    for name, tensor in model.state_dict().items():
        assert torch.equal(read_back[name], tensor), name
    assert not path.with_name(path.name + ".partial").exists()


def test_half_precision_halves_the_file_and_loads_as_float32(
    model: Gcavt, path: Path, tmp_path: Path
) -> None:
    half = tmp_path / "half.safetensors"
    save_checkpoint(half, model, model.config, PROVENANCE, dtype=torch.float16)
    assert half.stat().st_size < 0.55 * path.stat().st_size
    loaded = load_model(half)
    assert all(p.dtype == torch.float32 for p in loaded.parameters())
    read_back = loaded.state_dict()
    for name, tensor in model.state_dict().items():
        assert torch.allclose(read_back[name], tensor, atol=1e-4, rtol=1e-3), name
    running = read_checkpoint(half).tensors["pose_encoder.backbone.features.0.1.running_var"]
    assert running.dtype == torch.float32


def test_value_beyond_half_precision_is_refused_and_nothing_written(tmp_path: Path) -> None:
    model = Gcavt(GcavtConfig.tiny())
    model.get_submodule("pose_encoder.backbone.head").get_parameter("weight").data[0, 0] = 1e6
    path = tmp_path / "half.safetensors"
    with pytest.raises(CheckpointError, match="pose_encoder.backbone.head.weight"):
        save_checkpoint(path, model, model.config, {}, dtype=torch.float16)
    assert not list(tmp_path.iterdir())


def test_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="no checkpoint at .*nowhere.safetensors"):
        load_checkpoint(tmp_path / "nowhere.safetensors")


@pytest.mark.parametrize("kept", [0, 5, 1000, -1])
def test_truncated_file_is_refused(path: Path, tmp_path: Path, kept: int) -> None:
    cut = tmp_path / "cut.safetensors"
    cut.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(CheckpointError, match="cut short"):
        load_checkpoint(cut)


def test_pickle_is_refused(tmp_path: Path) -> None:
    pickled = tmp_path / "model.pth"
    torch.save({"weight": torch.zeros(3)}, pickled)
    with pytest.raises(CheckpointError, match="not a safetensors file"):
        load_checkpoint(pickled)


def test_safetensors_of_another_program_is_refused(tmp_path: Path) -> None:
    other = tmp_path / "other.safetensors"
    save_file({"weight": torch.zeros(3)}, other)
    with pytest.raises(CheckpointError, match="not a checkpoint of format gcavt-1"):
        load_checkpoint(other)


def test_damaged_config_is_refused(tmp_path: Path) -> None:
    damaged = tmp_path / "damaged.safetensors"
    for config in ("{", json.dumps({"generator": {"kind": "adain"}}), "[]"):
        save_file(
            {"weight": torch.zeros(3)}, damaged, {"format": "gcavt-1", "config": config, "provenance": "{}"}
        )
        with pytest.raises(CheckpointError, match="unreadable metadata"):
            load_checkpoint(damaged)


def test_weights_that_do_not_fit_are_named(model: Gcavt, path: Path) -> None:
    tensors = read_checkpoint(path).tensors
    name = "audio_encoder.backbone.head.bias"
    save_file(
        {
            k: v[:5] if k.endswith("pose_encoder.backbone.head.bias") else v
            for k, v in tensors.items()
            if k != name
        }
        | {"surplus": torch.zeros(1)},
        path.with_name("misfit.safetensors"),
        {"format": "gcavt-1", "config": json.dumps(model.config.to_dict()), "provenance": "{}"},
    )
    with pytest.raises(CheckpointError) as error:
        load_model(path.with_name("misfit.safetensors"))
    assert f"{name} missing" in str(error.value)
    assert "surplus unknown" in str(error.value)
    assert "pose_encoder.backbone.head.bias of another shape" in str(error.value)
