import shutil
from pathlib import Path

import numpy as np
import pytest

from engine.errors import BadMediaError
from training.datasets.faces import Faces, render_chunk
from training.prepare.track import open_landmarker


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("faces")
    with open_landmarker() as landmarker:
        render_chunk(folder / "people_020000.npz", 20_000, 2, 2, landmarker)
    return folder


def test_every_frame_comes_with_the_trackers_reading_and_the_truth(folder: Path) -> None:
    faces = Faces(folder)
    assert len(faces) == 4
    assert faces.image[0].shape == (256, 256, 3)
    assert faces.identity.tolist() == [20_000, 20_000, 20_001, 20_001]
    assert [rows.tolist() for rows in faces.people] == [[0, 1], [2, 3]]
    gap = np.linalg.norm(faces.tracked - faces.exact, axis=2)
    assert gap.shape == (4, 68)
    assert 0.3 < gap.mean() < 8


def test_the_same_seed_is_the_same_person(folder: Path, tmp_path: Path) -> None:
    faces = Faces(folder)
    with open_landmarker() as landmarker:
        render_chunk(tmp_path / "people_020001.npz", 20_001, 1, 1, landmarker)
    again = Faces(tmp_path)
    np.testing.assert_array_equal(again.image[0], faces.image[2])
    np.testing.assert_array_equal(again.pose[0], faces.pose[2])


def test_a_picture_whose_labels_are_not_written_is_rendered_again(folder: Path, tmp_path: Path) -> None:
    shutil.copy(folder / "people_020000.npy", tmp_path)
    with pytest.raises(BadMediaError, match="no people"):
        Faces(tmp_path)


def test_an_empty_folder_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(BadMediaError, match=r"python -m training\.datasets\.faces"):
        Faces(tmp_path)
