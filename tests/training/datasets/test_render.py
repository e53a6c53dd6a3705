from pathlib import Path

import numpy as np
import pytest

from gcavt.code_space import COEFFICIENTS
from training.datasets.render import TripleCounts, posed_face, write_part
from training.datasets.triples import Triples

SMILE = COEFFICIENTS.index("mouthSmileLeft")


@pytest.fixture(scope="module")
def at_rest_and_posed(tmp_path_factory: pytest.TempPathFactory) -> tuple[Triples, Triples]:
    def rendered(posed_share: float) -> Triples:
        folder: Path = tmp_path_factory.mktemp("triples")
        counts = TripleCounts(identities=1, references=1, triples=2, posed_share=posed_share)
        write_part(folder / "part_00", [1003], counts, show_progress=False)
        return Triples(folder)

    return rendered(0.0), rendered(1.0)


def test_a_posed_portrait_is_of_the_same_person_in_the_same_pose(
    at_rest_and_posed: tuple[Triples, Triples],
) -> None:
    at_rest, posed = at_rest_and_posed
    row = np.array([0])
    assert np.array_equal(at_rest.reference("reference_pose", row), posed.reference("reference_pose", row))
    first, second = (np.asarray(t.reference("reference_image", row)[0], np.int16) for t in at_rest_and_posed)
    changed = np.abs(first - second).max(2) > 8
    assert changed.any()
    assert changed.mean() < 0.15  # the face, not hair, clothes or background


def test_what_is_to_be_shown_is_the_same_whether_portraits_are_posed(
    at_rest_and_posed: tuple[Triples, Triples],
) -> None:
    at_rest, posed = at_rest_and_posed
    rows = np.arange(2)
    for key in ("target", "edited", "expression", "mouth", "pose"):
        assert np.array_equal(at_rest.triple(key, rows), posed.triple(key, rows)), key
    assert not np.array_equal(at_rest.triple("flow", rows), posed.triple("flow", rows))


def test_most_posed_faces_smile() -> None:
    rng = np.random.default_rng(0)
    faces = np.stack([posed_face(rng) for _ in range(200)])
    assert faces.min() >= 0
    assert faces.max() <= 1
    assert 0.5 < (faces[:, SMILE] > 0.3).mean() < 0.9
