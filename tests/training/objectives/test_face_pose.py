from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from engine.errors import BadMediaError
from gcavt.config import FacePoseEncoderConfig, GcavtConfig
from gcavt.model import Gcavt
from gcavt.preprocessing import MESH_OF_IBUG_68, pose_landmarks
from training.datasets.faces import Faces
from training.datasets.real_frames import MIRRORED_LANDMARK, RealFrame, varied
from training.objectives.build import build_objective
from training.objectives.face_pairs import FacePairs
from training.objectives.face_pose import WINDOW_UNIT_PX, FacePoseStage
from training.recipes import RECIPES, TrainConfig
from training.synthetic.head_pack import load_head_pack

SMALL = replace(
    GcavtConfig.tiny(), name="lite", pose=FacePoseEncoderConfig(widths=(4, 4, 8, 8), input_px=48, features=16)
)
CONFIG: TrainConfig = replace(RECIPES["pose_encoder"](), batch_size=8)


@pytest.fixture
def stage(faces_folder: Path) -> FacePoseStage:
    torch.manual_seed(0)
    return FacePoseStage(FacePairs(Faces(faces_folder), None, 0.25), SMALL)


def test_a_batch_holds_pairs_of_one_person_who_is_not_held_out(stage: FacePoseStage) -> None:
    batch = stage.draw(np.random.default_rng(0), 8)
    assert batch["image"].shape == (8, 3, 48, 48)
    assert batch["landmarks"].shape == batch["exact"].shape == (8, 136)
    assert len(stage.pairs.people) == 2 and len(stage.pairs.held_out) == 1
    assert not set(np.concatenate(stage.pairs.people)) & set(np.concatenate(stage.pairs.held_out))


def test_an_average_head_in_the_true_pose_lies_where_the_landmarks_are(stage: FacePoseStage) -> None:
    pack = load_head_pack()
    fine = pack.subdivision_FV @ pack.vertices_V3
    at = fine[pack.landmark_vertices_468[MESH_OF_IBUG_68]] - np.array([0, 6.75, 0.25])
    stage.points = torch.from_numpy(at.astype(np.float32))
    rng = np.random.default_rng(1)
    for row in range(len(stage.pairs.faces)):
        frame = varied(stage.pairs.faces.frame(row), rng, 15.0)
        sample = stage._sample(frame, None)
        projected = stage.projected(torch.from_numpy(sample[2])[None])[0].numpy() + 127.5
        assert frame.exact_68 is not None
        assert np.abs(projected - frame.exact_68).mean() < 6
        assert np.isfinite(sample[3]).all()
        assert np.abs(sample[3]).max() * WINDOW_UNIT_PX < 48


def test_exact_landmarks_vary_with_the_picture(stage: FacePoseStage) -> None:
    frame = stage.pairs.faces.frame(0)
    same = RealFrame(
        frame.image, frame.landmarks_68, frame.pose_6, frame.expression_52, frame.mouth_52, frame.landmarks_68
    )
    for seed in range(4):  # mirrored and not
        moved = varied(same, np.random.default_rng(seed), 10.0)
        assert moved.exact_68 is not None
        np.testing.assert_array_equal(moved.exact_68, moved.landmarks_68)
    assert sorted(MIRRORED_LANDMARK) == list(range(68))


class Oracle(nn.Module):
    """Knows the code of every picture by its landmarks."""

    def __init__(self, codes: dict[bytes, NDArray[np.float32]], off: float) -> None:
        super().__init__()
        self.codes, self.off = codes, off

    def forward(self, image: Tensor, landmarks: Tensor) -> Tensor:
        code = torch.from_numpy(np.stack([self.codes[row.tobytes()] for row in landmarks.numpy()]))
        return code + self.off


@pytest.mark.parametrize("off", [0.0, 0.1])
def test_figures_of_one_who_knows_and_of_one_who_is_always_wrong_by_the_same(
    stage: FacePoseStage, off: float
) -> None:
    faces = stage.pairs.faces
    codes = {
        pose_landmarks(faces.tracked[row]).tobytes(): stage._sample(faces.frame(row), None)[2]
        for row in range(len(faces))
    }
    model = Gcavt(SMALL)
    model.pose_encoder = Oracle(codes, off)  # type: ignore[assignment]
    figures = stage.evaluate(model)
    assert figures["pitch"] == pytest.approx(8 * off, abs=1e-3)
    assert figures["z"] == pytest.approx(0.6 * off, abs=1e-3)
    assert figures["pitch_within"] == pytest.approx(0, abs=1e-3)
    assert figures["px_within"] < (0.01 if off == 0 else 2)


def test_it_learns_the_frames_that_it_is_shown(stage: FacePoseStage) -> None:
    model = Gcavt(SMALL).train()
    batch = stage.draw(np.random.default_rng(2), 8)
    parameters = [p for module in stage.trained_modules(model) for p in module.parameters()]
    optimizer = torch.optim.Adam(parameters, 3e-3)
    losses = []
    for _ in range(25):
        loss, figures = stage.loss(model, batch)
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        losses.append(float(loss.detach()))
        assert set(figures) == {"px", "landmarks"}
    assert losses[-1] < 0.5 * losses[0]


def test_without_many_people_it_says_where_to_get_them(tmp_path: Path, faces_folder: Path) -> None:
    with pytest.raises(BadMediaError, match="training.datasets.faces"):
        build_objective(CONFIG, SMALL, tmp_path)
    assert isinstance(build_objective(CONFIG, SMALL, tmp_path, faces=faces_folder), FacePoseStage)
    with pytest.raises(ValueError, match="does not see the face"):
        FacePoseStage(FacePairs(Faces(faces_folder), None, 0), GcavtConfig.tiny())
