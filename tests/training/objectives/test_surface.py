"""The surface stage and its exact normals, on a ball and on rendered people."""

from __future__ import annotations

import copy

import numpy as np
import torch

from gcavt.config import EditReposeGeneratorConfig
from gcavt.edit_repose import HeadGeometry
from tests.bundles import _model, tiny_config
from training.datasets.triples import NO_DEPTH, Triples
from training.objectives.exact_surface import exact_normals
from training.objectives.surface import SurfaceStage
from training.recipes import surface


def test_normals_of_a_ball_point_away_from_its_centre() -> None:
    geometry = HeadGeometry(EditReposeGeneratorConfig(), 256, 128)
    # a ball of radius 1 about (0, camera height, 0): the ray through a pixel meets it at depth z
    x, y = ((geometry.grid[0] - 128) / geometry.focal_px).unbind(0)
    y = -y
    per_depth, distance = 1 + x * x + y * y, geometry.distance
    root = distance**2 - per_depth * (distance**2 - 1)
    along = (distance - root.clamp_min(0).sqrt()) / per_depth
    depth = torch.where(root > 0, distance - along, torch.tensor(NO_DEPTH))
    truth = torch.stack([depth, torch.ones_like(depth)])[None]
    normal, whole = exact_normals(geometry, truth)
    points = torch.stack([x * along, y * along, distance - along])[None]
    expected = torch.nn.functional.avg_pool2d(points, 2)
    inside = (whole > 0) & (expected[:, 2:] > 0.5)
    assert inside.sum() > 100
    gap = (normal - expected).norm(dim=1, keepdim=True)[inside]
    assert gap.max() < 0.06


def test_the_surface_stage_learns_depth_normals_and_light_of_a_batch(triples: Triples) -> None:
    config = tiny_config("edit_repose")
    model = copy.deepcopy(_model(config))
    stage = SurfaceStage(triples, surface(), config)
    parameters = [p for module in stage.trained_modules(model) for p in module.parameters()]
    optimizer = torch.optim.Adam(parameters, 3e-3)
    batch = stage.draw(np.random.default_rng(0), 4)
    first, figures = stage.loss(model, batch)
    for _ in range(15):
        optimizer.zero_grad()
        loss, now = stage.loss(model, batch)
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    assert loss < first
    assert now["normal"] < figures["normal"] and now["depth"] < figures["depth"]
    assert set(stage.evaluate(model.eval())) == {"depth", "normal", "light", "unlit", "side"}
