from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from gcavt import code_space
from gcavt.code_space import COEFFICIENTS
from gcavt.config import GcavtConfig
from gcavt.model import Gcavt
from training.datasets.faces import Faces
from training.objectives.face_coefficients import (
    FaceCoefficientStage,
    displacements_px,
    explained,
    weights_of,
)
from training.objectives.face_pairs import FacePairs


@pytest.fixture(params=["expression", "content"])
def stage(request: pytest.FixtureRequest, faces_folder: Path) -> FaceCoefficientStage:
    return FaceCoefficientStage(FacePairs(Faces(faces_folder), None, 0), GcavtConfig.lite(), request.param)


def test_weights_are_read_off_a_code() -> None:
    weights = np.random.default_rng(0).uniform(0, 0.5, (3, 52)).astype(np.float32)
    read = weights_of(torch.from_numpy(code_space.expression_code(weights)))
    np.testing.assert_allclose(read.numpy(), weights, atol=1e-4)


def test_an_open_jaw_moves_the_chin_by_a_tenth_of_the_picture() -> None:
    size = displacements_px().norm(dim=2).amax(1)
    assert size.shape == (52,)
    assert 20 < size[COEFFICIENTS.index("jawOpen")] < 40
    assert 3 < size[COEFFICIENTS.index("browInnerUp")] < 8
    assert size[COEFFICIENTS.index("eyeLookInLeft")] > 2


def test_explained_share_of_what_is_right_and_of_the_mean() -> None:
    truth = torch.tensor([[0.0], [2.0]])
    assert explained(truth, truth) == 1
    assert explained(torch.ones(2, 1), truth) == 0


class Oracle(nn.Module):
    """Knows the code of every picture by its landmarks."""

    def __init__(self, codes: dict[bytes, NDArray[np.float32]]) -> None:
        super().__init__()
        self.codes = codes

    def forward(self, image: Tensor, landmarks: Tensor) -> Tensor:
        return torch.from_numpy(np.stack([self.codes[row.tobytes()] for row in landmarks.numpy()]))


def test_one_who_knows_explains_all_and_has_no_loss(stage: FaceCoefficientStage) -> None:
    faces = stage.pairs.faces
    batch = stage._batch([faces.frame(row) for row in range(len(faces))], None)
    codes = {
        row.tobytes(): code_space.expression_code(weights)
        for row, weights in zip(batch["inputs"][1].numpy(), batch["weights"].numpy(), strict=True)
    }
    model = Gcavt(GcavtConfig.lite())
    setattr(model, f"{stage.encoder}_encoder", Oracle(codes))
    figures = stage.evaluate(model)
    assert figures["shown"] == pytest.approx(1, abs=1e-3)
    assert figures["r2"] == pytest.approx(1, abs=1e-3)
    assert float(stage.loss(model, batch)[0]) == pytest.approx(0, abs=1e-3)


def test_it_learns_the_frames_that_it_is_shown(stage: FaceCoefficientStage) -> None:
    torch.manual_seed(0)
    model = Gcavt(GcavtConfig.lite()).train()
    batch = stage.draw(np.random.default_rng(2), 8)
    (encoder,) = stage.trained_modules(model)
    optimizer = torch.optim.Adam(encoder.parameters(), 1e-3)
    losses = []
    for _ in range(15):
        loss, figures = stage.loss(model, batch)
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        losses.append(float(loss.detach()))
        assert set(figures) == {"coefficients", "shown", "motion"}
    assert losses[-1] < 0.7 * losses[0]
