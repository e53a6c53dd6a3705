"""The trainer on a few random triples: what is tested is the loop, not what it learns."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from gcavt.checkpoint import read_checkpoint, save_checkpoint
from gcavt.config import EditReposeGeneratorConfig, GcavtConfig
from training.assemble import assemble
from training.datasets.triples import NO_DEPTH, TRACKED, Triples, create_part, finish_part
from training.objectives.build import build_objective
from training.objectives.edit_repose import HELD_OUT_IDENTITIES, ReposerStage
from training.recipes import RECIPES, TrainConfig
from training.trainer import Trainer, learning_rate, model_from, names_of, warn_of_random_parts

IDENTITIES = HELD_OUT_IDENTITIES + 2


def small_config() -> GcavtConfig:
    generator = EditReposeGeneratorConfig(
        editor_channels=(4, 4, 6, 8), reference_channels=(4, 6, 8), reposer_channels=(8, 8, 8, 6, 4)
    )
    return replace(GcavtConfig.lite_masked(), generator=generator)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("triples")
    rng = np.random.default_rng(0)
    part = create_part(folder / "part_00", IDENTITIES, IDENTITIES)
    for name, array in (*part.references.items(), *part.triples.items()):
        if array.dtype == np.uint8:
            array[...] = rng.integers(0, 255, (1, *array.shape[1:]), dtype=np.uint8)
        elif name not in ("reference", "reference_identity"):
            array[...] = rng.uniform(0, 1, array.shape)
    part.references["reference_identity"][:] = np.arange(IDENTITIES)
    part.triples["reference"][:] = np.arange(IDENTITIES)
    part.references["reference_origin"][:] = (56, 60, 56, 60)
    for arrays in (part.references["reference_landmarks"], part.triples["landmarks"]):
        arrays[:] = rng.uniform(90, 170, (IDENTITIES, 68, 2))
    part.triples["depth"][:, :20] = NO_DEPTH
    info = {"seeds": list(range(IDENTITIES)), "places": [[0, 0, 0]] * IDENTITIES}
    finish_part(folder / "part_00", part, info)
    np.save(
        folder / "part_00" / TRACKED,
        np.asarray(part.triples["landmarks"], np.float32) + rng.normal(0, 1, (IDENTITIES, 68, 2)),
    )
    return folder


def trainer(recipe: str, data: Path, folder: Path, **changes: object) -> Trainer:
    config = replace(RECIPES[recipe](), **({"steps": 2, "batch_size": 2} | changes))  # type: ignore[arg-type]
    torch.manual_seed(0)
    model = model_from(small_config(), [])
    objective = build_objective(config, small_config(), data, fresh_model=model)
    return Trainer(model, objective, config, folder)


def test_held_out_identities_are_never_drawn(data: Path) -> None:
    triples = Triples(data)
    train, held_out = triples.split(HELD_OUT_IDENTITIES)
    assert not set(triples.identity[train]) & set(triples.identity[held_out])
    assert len(np.unique(triples.identity[held_out])) == HELD_OUT_IDENTITIES


@pytest.mark.parametrize(
    "recipe",
    ["editor", "reposer", "joint", "pose_encoder", "expression_encoder", "content_encoder"],
)
def test_each_image_recipe_trains_and_moves_only_its_own_parts(
    recipe: str, data: Path, tmp_path: Path
) -> None:
    run = trainer(recipe, data, tmp_path)
    before = {name: value.clone() for name, value in run.model.state_dict().items()}
    figures = run.run(evaluate_every=2)
    assert all(np.isfinite(list(figures.values())))
    moved = {name for name, value in run.model.named_parameters() if not torch.equal(value, before[name])}
    assert moved
    assert all(name.startswith(tuple(run.trained)) for name in moved)


def test_a_run_resumes_at_its_last_step(data: Path, tmp_path: Path) -> None:
    trainer("editor", data, tmp_path, steps=4).run(until_step=2)
    resumed = trainer("editor", data, tmp_path, steps=4)
    resumed.run()
    assert resumed.step == 4
    provenance = read_checkpoint(tmp_path / "last.safetensors").provenance
    assert provenance["step"] == 4
    assert provenance["recipe"]["name"] == "editor"


def test_assembling_takes_each_part_from_the_run_that_trained_it(data: Path, tmp_path: Path) -> None:
    for recipe in ("editor", "pose_encoder"):
        trainer(recipe, data, tmp_path / recipe).run()
    paths = [tmp_path / recipe / "last.safetensors" for recipe in ("editor", "pose_encoder")]
    assemble(paths, tmp_path / "joined.safetensors")
    joined = read_checkpoint(tmp_path / "joined.safetensors")
    editor, pose = (read_checkpoint(path).tensors for path in paths)
    for name, source in (("generator.editor.head.weight", editor), ("pose_encoder.", pose)):
        key = next(k for k in joined.tensors if k.startswith(name) and joined.tensors[k].ndim > 1)
        torch.testing.assert_close(joined.tensors[key].float(), source[key].half().float())
    assert "audio_encoder" in joined.provenance["untrained"]


@pytest.mark.parametrize("brings_all", [True, False])
def test_a_run_warns_of_parts_that_it_uses_and_nobody_trained(
    data: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture, brings_all: bool
) -> None:
    first = trainer("reposer", data, tmp_path)
    path = tmp_path / "init.safetensors"
    provenance = {} if brings_all else {"trained": first.trained}
    save_checkpoint(path, first.model, small_config(), provenance)
    model = model_from(small_config(), [path])
    stage = first.objective
    warn_of_random_parts(model, [path], names_of(model, list(stage.trained_modules(model))))
    assert isinstance(stage, ReposerStage)
    batch = stage.batch(np.arange(2), np.zeros(2, np.bool_))
    for _ in range(2):
        stage.loss(model, batch)
    warnings = [record.message.split(" has ")[0] for record in caplog.records]
    # the re-poser needs the light, and never the editor or an image encoder
    assert warnings == ([] if brings_all else ["generator.reference_encoder.light"])


def test_the_learning_rate_warms_up_holds_and_falls() -> None:
    config = TrainConfig(name="x", steps=1000, learning_rate=1.0, warmup_steps=10, hold_share=0.5)
    rates = [learning_rate(step, config) for step in (0, 9, 400, 750, 999)]
    assert rates[0] == pytest.approx(0.1)
    assert rates[1] == rates[2] == 1.0
    assert 0.4 < rates[3] < 0.6
    assert rates[4] == pytest.approx(0.03, abs=0.01)


def test_an_impossible_recipe_is_refused() -> None:
    with pytest.raises(ValueError, match="steps"):
        TrainConfig(name="x", steps=0)


def test_two_processes_step_as_one_does_whatever_the_layout(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The fused optimiser goes through weights and gradients as they lie in memory."""

    def weights(world: int) -> list[torch.Tensor]:
        config = replace(RECIPES["editor"](), steps=2, batch_size=2)
        torch.manual_seed(0)
        model = model_from(small_config(), [])
        model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        objective = build_objective(config, small_config(), data, fresh_model=model)
        one = Trainer(model, objective, config, tmp_path / str(world))
        one.world = world  # of which the other has the same gradients
        one.run()
        return [parameter.detach().clone() for parameter in one.parameters]

    monkeypatch.setattr(torch.distributed, "all_reduce", lambda tensor: tensor.mul_(2))
    for alone, together in zip(weights(1), weights(2), strict=True):
        torch.testing.assert_close(alone, together)
