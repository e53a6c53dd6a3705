"""Three rendered people and an untrained tiny model: enough for every part of the evaluation to run."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from gcavt.checkpoint import save_checkpoint
from gcavt.model import Gcavt
from tests.bundles import tiny_config
from training.datasets.render import TripleCounts, write_part
from training.metrics.actor import Actor, opened
from training.metrics.held_out import HeldOut

SEEDS = [1000, 1001, 1002]


@pytest.fixture(scope="session")
def rendered(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("rendered")
    counts = TripleCounts(identities=len(SEEDS), references=1, triples=3, posed_share=0.0)
    write_part(folder / "part_00", SEEDS, counts, show_progress=False)
    return folder


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    config = tiny_config("edit_repose")
    path = tmp_path_factory.mktemp("model") / "tiny.safetensors"
    save_checkpoint(path, Gcavt(config), config, {"code_space": "exact"})
    return path


@pytest.fixture(scope="session")
def held_out(rendered: Path) -> HeldOut:
    return HeldOut(rendered)


@pytest.fixture(scope="session")
def actor(checkpoint: Path) -> Iterator[Actor]:
    with opened(str(checkpoint)) as actor:
        yield actor
