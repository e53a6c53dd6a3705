"""The stages that train through the encoders, a few steps each on rendered people."""

from __future__ import annotations

import copy
import functools
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from engine.errors import BadMediaError
from gcavt import code_space
from gcavt.checkpoint import save_checkpoint
from gcavt.config import FacePoseEncoderConfig
from gcavt.edit_repose import EditReposeGenerator
from gcavt.model import Gcavt
from tests.bundles import Member, _model, tiny_config
from training.datasets.triples import Triples
from training.objectives.build import STAGES, build_objective
from training.objectives.counterfactual import CODE_KEYS, CounterfactualStage
from training.objectives.distil import DistilStage
from training.objectives.driving import DriverPeople, stored_frames, with_mouth_of
from training.objectives.gan import WINDOW_PX, GanStage, ReposerGanStage, face_windows, relative_pull
from training.objectives.objective import Objective
from training.objectives.self_driven import SelfDrivenStage
from training.recipes import RECIPES, TrainConfig
from training.trainer import Trainer

MEAN = "backbone.features.0.1.running_mean"
PORTRAIT = ("map_4", "map_8", "map_16", "depth", "light")
"""What the re-poser reads of a portrait."""
IMAGE_ENCODERS = ("pose_encoder", "expression_encoder", "content_encoder", "identity_encoder")


def recipe(name: str, **changes: object) -> TrainConfig:
    changes = {"steps": 2, "batch_size": 2, "feature_weight": 0.0, "driver_people": 1} | changes
    return replace(RECIPES[name](), **changes)  # type: ignore[arg-type]


@functools.cache
def random_model(member: Member) -> Gcavt:
    model: Gcavt = _model(tiny_config(member))
    return model


def untrained(member: Member = "edit_repose", seed: int = 0) -> Gcavt:
    """Random weights whose activations are of a trained network's size; other ones for every seed."""
    model = copy.deepcopy(random_model(member))
    torch.manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * seed * parameter.abs().mean() * torch.randn_like(parameter))
    return model


def losses_on_one_batch(stage: Objective, model: Gcavt, steps: int = 3) -> list[float]:
    """Down the gradient in short steps, so that a loss whose gradient is right must fall."""
    parameters = [p for module in stage.trained_modules(model) for p in module.parameters()]
    optimizer = torch.optim.SGD(parameters, 1.0)
    batch = stage.draw(np.random.default_rng(0), 2)
    losses = []
    for _ in range(steps):
        torch.manual_seed(0)
        loss, figures = stage.loss(model.train(), batch)
        assert np.isfinite([float(loss.detach()), *figures.values()]).all()
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(parameters, 0.001)
        optimizer.step()
        losses.append(float(loss.detach()))
    return losses


def test_drivers_act_what_they_are_told(triples: Triples) -> None:
    people = DriverPeople(triples, np.arange(9), count=3, seed=0)
    for i in (0, 4, 8):
        person = people.names.index(int(triples.identity[i]))
        expression, mouth = (
            np.asarray(triples.triple(key, np.array([i]))[0], np.float32) for key in ("expression", "mouth")
        )
        acted = people.act(person, triples.pose(np.array([i]))[0], expression, mouth)
        (stored,) = stored_frames(triples, np.array([i]))
        np.testing.assert_allclose(acted.landmarks_68, stored.landmarks_68, atol=0.05)
        assert np.abs(acted.image.astype(float) - stored.image).mean() < 6, "one sample a pixel, not four"


def test_a_lent_mouth_replaces_the_mouth_alone(triples: Triples) -> None:
    frame, other = stored_frames(triples, np.array([0, 1]))
    mixed = with_mouth_of(frame, other)
    changed = np.abs(mixed.image.astype(int) - frame.image).max(2) > 0
    x, y = np.round(frame.landmarks_68[62]).astype(int)
    assert changed[y - 2 : y + 3, x - 2 : x + 3].mean() > 0.5
    brow = int(frame.landmarks_68[17:27, 1].max())
    assert not changed[:brow].any()
    np.testing.assert_array_equal(with_mouth_of(frame, frame).landmarks_68, frame.landmarks_68)
    unchanged = np.abs(with_mouth_of(frame, frame).image.astype(int) - frame.image)
    assert unchanged.max() <= 2, "its own mouth"


def test_counterfactual_reads_other_peoples_frames_and_learns(triples: Triples) -> None:
    model = untrained()
    stage = CounterfactualStage(triples, recipe("counterfactual", encoder_code_share=1.0), model.config)
    batch = stage.draw(np.random.default_rng(0), 2)
    read, anchor = stage.read(model, batch)
    assert float(anchor.detach()) > 0
    for key in CODE_KEYS.values():
        assert not torch.allclose(read[key], batch[key])
    expression, content = stage.noisy_codes(read)
    torch.testing.assert_close(expression, read["expression_code"])
    torch.testing.assert_close(content, read["content_code"])
    losses = losses_on_one_batch(stage, model)
    assert losses[-1] < losses[0]


def test_counterfactual_without_drivers_is_the_joint_stage(triples: Triples) -> None:
    model = untrained()
    config = recipe("counterfactual", encoder_code_share=0.0, driver_people=1)
    stage = CounterfactualStage(triples, config, model.config)
    batch = stage.draw(np.random.default_rng(0), 2)
    torch.manual_seed(0)
    loss, _ = stage.loss(model, batch)
    torch.manual_seed(0)
    joint, _ = super(CounterfactualStage, stage).loss(model, batch)
    torch.testing.assert_close(loss, joint)


@pytest.mark.parametrize("member", ["edit_repose", "adain"])
def test_self_driven_learns_with_every_generator(member: Member, triples: Triples) -> None:
    model = untrained(member)
    stage = SelfDrivenStage(triples, recipe("self_driven"), model.config)
    losses = losses_on_one_batch(stage, model)
    assert losses[-1] < losses[0]
    moved = {
        name.split(".")[0] for name, p in model.named_parameters() if p.grad is not None and p.grad.any()
    }
    assert moved >= {*IMAGE_ENCODERS, "generator"}
    assert "audio_encoder" not in moved


def test_self_driven_wants_a_masked_head(triples: Triples) -> None:
    config = replace(untrained().config, pose=FacePoseEncoderConfig())
    with pytest.raises(ValueError, match="lite_masked"):
        SelfDrivenStage(triples, recipe("self_driven"), config)


def test_self_driven_encoders_see_pictures_alone_and_gather_statistics(triples: Triples) -> None:
    model = untrained()
    stage = SelfDrivenStage(triples, recipe("self_driven"), model.config)
    batch = stage.draw(np.random.default_rng(0), 2)
    mean = model.pose_encoder.state_dict()[MEAN].clone()
    stage.loss(model.train(), batch)
    assert all(batch[driver].shape[:2] == (2, 3) for driver in ("pose", "expression", "content"))
    assert not torch.equal(model.pose_encoder.state_dict()[MEAN], mean), "random weights need them"


def test_a_held_reposer_stays_as_it_came(triples: Triples) -> None:
    model = untrained()
    stage = SelfDrivenStage(triples, recipe("self_driven_face"), model.config)
    before = copy.deepcopy(model.state_dict())
    losses = losses_on_one_batch(stage, model)
    assert losses[-1] < losses[0]
    moved = {name for name, value in model.state_dict().items() if not torch.equal(value, before[name])}
    held = ("generator.reposer", "identity_encoder", *(f"generator.reference_encoder.{p}" for p in PORTRAIT))
    assert not [name for name in moved if name.startswith(held)]
    parts = {*IMAGE_ENCODERS, "generator"} - {"identity_encoder"}
    assert {name.split(".")[0] for name in moved} == parts


def test_generator_and_discriminators_do_not_teach_each_other_their_own_losses(triples: Triples) -> None:
    stage = GanStage(triples, recipe("gan"), untrained().config)
    output = torch.rand(2, 3, 256, 256, requires_grad=True)
    landmarks = np.asarray(triples.triple("landmarks", np.array([0, 1])), np.float32)
    adversarial, matching, judging = stage.gan_losses(output, torch.rand(2, 3, 256, 256), landmarks)
    (adversarial + matching).backward()  # type: ignore[no-untyped-call]
    assert output.grad is not None and output.grad.abs().sum() > 0
    assert all(p.grad is None for p in stage.discriminators.parameters())
    output.grad = None
    judging.backward()  # type: ignore[no-untyped-call]
    assert output.grad is None
    assert all(p.grad is not None for p in stage.discriminators.parameters())


def test_a_pull_is_compared_where_the_other_looks() -> None:
    image = torch.zeros(1, 3, 8, 8, requires_grad=True)
    everywhere, within = 6 * image.sum(), 2 * image[:, :, :4].sum()
    assert relative_pull(everywhere, within, image) == pytest.approx(3)
    assert relative_pull(everywhere, 0.1 * within, image) == pytest.approx(30)


def test_gan_windows_hold_the_lips_and_the_eyes_upright(triples: Triples) -> None:
    landmarks = np.asarray(triples.triple("landmarks", np.arange(9)), np.float32)
    windows = face_windows(landmarks)
    for region, points in (("mouth", slice(48, 68)), ("eyes", slice(36, 48))):
        for matrix, face in zip(windows[region], landmarks, strict=True):
            inside = face[points] @ matrix[:, :2].T + matrix[:, 2]
            assert (inside > 4).all() and (inside < WINDOW_PX - 4).all()
    corners = landmarks[:, [36, 45]] @ windows["eyes"][:, :, :2].transpose(0, 2, 1)
    np.testing.assert_allclose(np.diff(corners[:, :, 1], axis=1), 0, atol=1e-3)


@pytest.mark.parametrize("name", ["editor_gan", "reposer_gan"])
def test_each_half_can_be_sharpened_alone(triples: Triples, name: str) -> None:
    model, config = untrained(), recipe(name)
    stage = STAGES[name](triples, config, model.config)
    before = copy.deepcopy(model.state_dict())
    losses_on_one_batch(stage, model)
    moved = {key for key, value in model.state_dict().items() if not torch.equal(value, before[key])}
    assert any(key.startswith("generator.editor") for key in moved) == (name == "editor_gan")
    assert any(key.startswith("generator.reposer") for key in moved) == (name == "reposer_gan")


def test_a_reposer_is_fed_with_what_the_editor_makes_as_often_as_asked(triples: Triples) -> None:
    model = untrained()
    generator = model.generator
    assert isinstance(generator, EditReposeGenerator)
    torch.manual_seed(0)
    for share in (0.0, 0.5, 1.0):
        config = replace(recipe("reposer_behind_editor"), own_edit_share=share)
        stage = ReposerGanStage(triples, config, model.config)
        batch = stage.batch(np.arange(8), np.zeros(8, np.bool_))
        codes = batch["expression_code"], batch["content_code"]
        exact, own = stage.exact_edit(generator, batch), stage.edited(generator, batch, codes)[0]
        fed = stage.edit_to_repose(generator, batch, codes)
        is_own = [torch.allclose(fed[i], own[i], atol=1e-5) for i in range(8)]
        assert not fed.requires_grad
        assert all(torch.equal(fed[i], exact[i]) for i in range(8) if not is_own[i])
        assert {0.0: sum(is_own) == 0, 0.5: 0 < sum(is_own) < 8, 1.0: sum(is_own) == 8}[share]
    stage.evaluation_index = stage.evaluation_index[:2]
    with torch.no_grad():
        assert {"psnr", "psnr_behind_editor"} <= stage.evaluate(model).keys()


def test_a_gan_run_keeps_its_discriminators_and_ships_none(
    triples: Triples, many: Path, tmp_path: Path
) -> None:
    def trainer() -> Trainer:
        model, config = untrained(), recipe("gan", steps=2)
        stage = build_objective(config, model.config, many)
        stage.evaluation_index = stage.evaluation_index[:2]  # type: ignore[attr-defined]
        return Trainer(model, stage, config, tmp_path)

    first = trainer()
    first.run(until_step=1, evaluate_every=9)
    trained = {key: value.clone() for key, value in first.own.state_dict().items()}
    resumed = trainer()
    resumed._resume()
    assert trained and all(
        torch.equal(value, resumed.own.state_dict()[key]) for key, value in trained.items()
    )
    assert not any("discriminator" in name for name in resumed.trained)
    assert np.isfinite(list(resumed.run(evaluate_every=9).values())).all()
    assert resumed.step == 2


@pytest.mark.parametrize("space", ["exact", "free"])
def test_a_student_nears_its_teacher(space: str, triples: Triples, tmp_path: Path) -> None:
    teacher = untrained("edit_repose", seed=1)
    path = tmp_path / "teacher.safetensors"
    save_checkpoint(path, teacher, teacher.config, {"code_space": space})
    student = untrained("edit_repose", seed=2)
    stage = DistilStage(triples, recipe("distil"), student.config, path)
    trained = {id(module) for module in stage.trained_modules(student)}
    assert (id(student.pose_encoder) in trained) == (space == "free")
    losses = losses_on_one_batch(stage, student)
    assert losses[-1] < losses[0]


def test_a_teacher_of_other_codes_is_refused(triples: Triples, many: Path, tmp_path: Path) -> None:
    config = replace(tiny_config("adain"), pose_dim=6)
    save_checkpoint(tmp_path / "t.safetensors", Gcavt(config), config, {})
    with pytest.raises(ValueError, match="share codes"):
        DistilStage(triples, recipe("distil"), tiny_config("adain"), tmp_path / "t.safetensors")
    with pytest.raises(BadMediaError, match="--teacher"):
        build_objective(recipe("distil"), tiny_config("adain"), many)


@pytest.mark.parametrize("name", ["counterfactual", "self_driven"])
def test_each_recipe_runs_from_its_name_and_tells_its_figures(name: str, many: Path, tmp_path: Path) -> None:
    model, config = untrained(), recipe(name, steps=1)
    stage = build_objective(config, model.config, many)
    stage.evaluation_index = stage.evaluation_index[:3]  # type: ignore[attr-defined]
    figures = Trainer(model, stage, config, tmp_path).run()
    assert figures["psnr"] > 0
    assert np.isfinite(list(figures.values())).all()
    assert ("driven_psnr" in figures) == (name == "counterfactual")


def test_codes_count_in_their_own_spread() -> None:
    rng = np.random.default_rng(0)
    codes = code_space.expression_code(rng.uniform(0, 1, (200, 52)))
    assert np.sqrt((codes**2).mean()) == pytest.approx(1.0)
