"""A data set on disk, made here with known numbers."""

from pathlib import Path

import numpy as np
import pytest

from engine.errors import BadMediaError
from training.datasets.placement import normal_pose
from training.datasets.triples import TRACKED, Triples, create_part, finish_part


def write_part(folder: Path, seeds: list[int], **info: object) -> None:
    part = create_part(folder, len(seeds), 2 * len(seeds))
    part.references["reference_identity"][:] = seeds
    part.triples["reference"][:] = np.repeat(np.arange(len(seeds)), 2)
    part.triples["pose"][:] = np.arange(6)
    finish_part(folder, part, {"seeds": seeds, **info})


def test_poses_are_normal_about_the_place_that_the_writer_noted(tmp_path: Path) -> None:
    places = [[0.1, -0.2, 0.5], [0.0, 0.3, -0.4]]
    write_part(tmp_path / "part_00", [7, 9], places=places)
    triples = Triples(tmp_path)
    expected = normal_pose(np.tile(np.arange(6, dtype=np.float32), (2, 1)), np.array(places, np.float32))
    np.testing.assert_allclose(triples.pose(np.array([0, 3])), expected, rtol=1e-6)


def test_a_part_without_places_is_refused(tmp_path: Path) -> None:
    write_part(tmp_path / "part_00", [7])
    with pytest.raises(BadMediaError, match="part 0 .* no places"):
        Triples(tmp_path)


def test_tracked_landmarks_are_there_once_every_part_has_them(tmp_path: Path) -> None:
    for number, seed in enumerate((7, 9)):
        write_part(tmp_path / f"part_0{number}", [seed], places=[[0, 0, 0]])
        assert Triples(tmp_path).tracked_landmarks(np.array([0])) is None
    for number in range(2):
        np.save(tmp_path / f"part_0{number}" / TRACKED, np.full((2, 68, 2), number, np.float32))
    tracked = Triples(tmp_path).tracked_landmarks(np.array([1, 2]))
    assert tracked is not None and tracked[:, 0, 0].tolist() == [0, 1]


def test_the_last_people_of_all_parts_are_held_out(tmp_path: Path) -> None:
    write_part(tmp_path / "part_00", [40, 41], places=[[0, 0, 0]] * 2)
    write_part(tmp_path / "part_01", [2, 3], places=[[0, 0, 0]] * 2)
    trained, held_out = Triples(tmp_path).split(1)
    assert Triples(tmp_path).identity[held_out].tolist() == [41, 41]
    assert set(Triples(tmp_path).identity[trained]) == {2, 3, 40}
