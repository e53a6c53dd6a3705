"""Rendered people enough to hold twelve out (three of them, each under five names), and some seen seldom."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from tests.training.conftest import SEEDS
from training.datasets.faces import render_chunk
from training.datasets.triples import Triples
from training.prepare.track import open_landmarker

NAMES_EACH = 5


@pytest.fixture(scope="session")
def many(rendered: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("many")
    for k in range(NAMES_EACH):
        part = folder / f"part_{k:02d}"
        shutil.copytree(rendered / "part_00", part)
        name = part / "reference_identity.npy"
        np.save(name, np.load(name) + 10 * k)
        info = json.loads((part / "done.json").read_text())
        (part / "done.json").write_text(json.dumps(info | {"seeds": [seed + 10 * k for seed in SEEDS]}))
    return folder


@pytest.fixture(scope="session")
def triples(many: Path) -> Triples:
    return Triples(many)


@pytest.fixture(scope="session")
def faces_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("faces")
    with open_landmarker() as landmarker:
        render_chunk(folder / "people_020000.npz", 20_000, 3, 4, landmarker)
    return folder
