"""Both arms of the comparison at test size: the same start, the same seconds, tables and pictures of both."""

from __future__ import annotations

import json
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch

from gcavt import code_space
from gcavt.checkpoint import load_model, read_checkpoint, save_checkpoint
from gcavt.config import EditReposeGeneratorConfig, GcavtConfig
from gcavt.model import Gcavt
from tests.training.objectives.conftest import many  # noqa: F401 - a fixture
from training.comparison import ARMS, BudgetedTrainer, beside_each_other, measure, report, short, start, train
from training.metrics.sheets import CONTROL_COLUMNS
from training.objectives.build import build_objective
from training.recipes import RECIPES
from training.trainer import model_from


def small_config() -> GcavtConfig:
    """`lite_masked` with the narrowest generator: the feature loss wants its expression encoder."""
    generator = EditReposeGeneratorConfig(
        editor_channels=(4, 4, 6, 8), reference_channels=(4, 6, 8), reposer_channels=(8, 8, 8, 6, 4)
    )
    return replace(GcavtConfig.lite_masked(), generator=generator)


@pytest.fixture
def out(tmp_path: Path) -> Path:
    torch.manual_seed(3)
    shipped = Gcavt(replace(small_config(), pose=GcavtConfig.lite().pose))
    with torch.no_grad():
        shipped.generator.get_submodule("editor.head").weight.normal_()  # type: ignore[operator]
    save_checkpoint(tmp_path / "shipped.safetensors", shipped, shipped.config, {})
    start(tmp_path / "shipped.safetensors", tmp_path / "start.safetensors")
    return tmp_path


@pytest.fixture
def small_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    for stages in ARMS.values():
        for stage in stages:
            config = replace(RECIPES[stage.recipe](), batch_size=2)
            monkeypatch.setitem(RECIPES, stage.recipe, partial(replace, config))


def test_the_start_keeps_geometry_and_knows_no_face(out: Path) -> None:
    shipped, begun = load_model(out / "shipped.safetensors"), load_model(out / "start.safetensors")
    kept = begun.state_dict()
    same = {key: torch.equal(value, kept[key]) for key, value in shipped.state_dict().items() if key in kept}
    assert same["generator.reposer.blocks.0.conv_1.weight"] and same["generator.reference_encoder.depth.mean"]
    assert not same["generator.editor.head.weight"] and not same["content_encoder.backbone.head.weight"]
    assert begun.config.pose == GcavtConfig.lite_masked().pose
    torch.manual_seed(0)
    portrait, origin = torch.rand(1, 3, 256, 256), torch.tensor([[56.0, 40.0, 56.0, 40.0]])
    pictures = []
    with torch.no_grad():
        state = begun.generator.reference_encoder(  # type: ignore[operator]
            portrait, portrait, origin, portrait.repeat(1, 2, 1, 1)
        )
        for jaw in (0.0, 1.0):
            face = torch.from_numpy(code_space.content_code(code_space.coefficient_vector(jawOpen=jaw)))[None]
            codes = (torch.zeros(1, 512), torch.zeros(1, 12), face, face)
            pictures.append(begun.generator(*codes, torch.zeros(1, 6), origin, torch.zeros(1, 12), *state)[0])
    torch.testing.assert_close(*pictures)


def test_a_budget_ends_a_run_for_good_and_brings_the_rate_down(out: Path, many: Path) -> None:  # noqa: F811
    def trainer() -> BudgetedTrainer:
        config = replace(short(RECIPES["editor"]()), batch_size=2, warmup_steps=1)
        model = model_from(small_config(), [out / "start.safetensors"])
        objective = build_objective(config, model.config, many)
        return BudgetedTrainer(model, objective, config, out / "editor", budget_s=1.5)

    first = trainer()
    assert first.finish()
    assert 1.5 <= first.cpu_s < 3
    rate = first.optimizer.param_groups[0]["lr"]
    assert rate < 0.5 * first.config.learning_rate
    resumed = trainer()
    assert resumed.finish()
    assert (resumed.step, resumed.cpu_s) == (first.step, first.cpu_s)


@pytest.mark.slow
@pytest.mark.usefixtures("small_batches")
def test_both_arms_are_trained_and_measured(out: Path, many: Path, rendered: Path) -> None:  # noqa: F811
    for arm in ARMS:
        train(arm, many, out, seconds=2.0)
    begun = load_model(out / "start.safetensors").state_dict()
    for arm in ARMS:
        model = load_model(out / f"{arm}.safetensors").state_dict()
        moved = {key.split(".")[0] for key, value in model.items() if not torch.equal(value, begun[key])}
        assert moved >= {"pose_encoder", "expression_encoder", "content_encoder", "generator"}
        assert "audio_encoder" not in moved
    correction = "expression_encoder.correction.4.weight"
    assert not read_checkpoint(out / "self_driven.safetensors").tensors[correction].any(), "pictures alone"
    for arm in ARMS:
        measure(arm, rendered, 3, out, frames=1, control=1)
    text = report(out)
    figures = json.loads((out / "comparison.json").read_text())["arms"]
    assert figures.keys() == ARMS.keys()
    assert list(figures["self_driven"]["control"]) == ["encoders"]
    assert "self_driven, encoders: mouth driven" in text and "counterfactual, exact: pose driven" in text
    assert (out / "comparison.png").stat().st_size > 0


def test_two_sheets_share_their_drivers() -> None:
    side, rows = 192, 6
    height = side + 18
    sheets = [np.full((rows * height, CONTROL_COLUMNS * side, 3), shade, np.uint8) for shade in (60, 120)]
    sheet = beside_each_other(sheets, ["one", "two"])
    assert sheet.shape == (9 * height, CONTROL_COLUMNS * side, 3)
    shades = [int(sheet[i * height, -1, 0]) for i in range(9)]
    assert shades == [60, 60, 120] * 3
