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
    (chunk,) = Faces(folder).chunks()
    assert chunk.image.shape == (4, 256, 256, 3)
    assert chunk.identity.tolist() == [20_000, 20_000, 20_001, 20_001]
    gap = np.linalg.norm(chunk.tracked - chunk.exact, axis=2)
    assert gap.shape == (4, 68)
    assert 0.3 < gap.mean() < 8


def test_the_same_seed_is_the_same_person(folder: Path, tmp_path: Path) -> None:
    (chunk,) = Faces(folder).chunks()
    with open_landmarker() as landmarker:
        render_chunk(tmp_path / "people_020001.npz", 20_001, 1, 1, landmarker)
    (again,) = Faces(tmp_path).chunks()
    np.testing.assert_array_equal(again.image[0], chunk.image[2])
    np.testing.assert_array_equal(again.pose[0], chunk.pose[2])


def test_an_empty_folder_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(BadMediaError, match=r"python -m training\.datasets\.faces"):
        Faces(tmp_path)
