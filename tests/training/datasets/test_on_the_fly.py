from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from training.datasets.on_the_fly import FreshConfig, FreshRing, FreshTriples, OnTheFly
from training.datasets.render import TripleCounts, write_part
from training.datasets.triples import Triples

_FIRST_SEED = 2_000_000
_CONFIG = FreshConfig(processes=1, live=1, ahead=1, references=1, triples=2, uses=1.0, first_seed=_FIRST_SEED)
"""One person with two triples, each drawn once: the next person is due after two draws."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The first two fresh people as a data set on disk, by the code that writes data sets."""
    folder = tmp_path_factory.mktemp("people")
    counts = TripleCounts(identities=2, references=1, triples=2)
    write_part(folder / "part_00", [_FIRST_SEED, _FIRST_SEED + 1], counts, show_progress=False)
    return folder


@pytest.fixture
def ring() -> Iterator[FreshRing]:
    ring = FreshRing(_CONFIG)
    yield ring
    ring.close()


class _Stage:
    """Draws rows as the generator's stages do."""

    train_index = np.arange(0)

    def draw(self, rng: np.random.Generator, batch_size: int) -> dict[str, object]:
        return {"index": rng.choice(self.train_index, batch_size)}


def test_fresh_people_are_those_of_their_seeds_and_come_in_order(ring: FreshRing, folder: Path) -> None:
    on_disk = Triples(folder)
    fresh = FreshTriples(folder, ring)
    objective = OnTheFly(_Stage(), fresh)
    objective.start(0, batch_size=2)
    for person in range(2):
        rows = objective.draw(np.random.default_rng(person), 2)["index"]
        assert set(fresh.identity[rows]) == {_FIRST_SEED + person}
        same = 2 * person + np.asarray(rows) % 2
        for key in ("target", "depth", "landmarks"):
            assert np.array_equal(fresh.triple(key, rows), on_disk.triple(key, same))
        assert np.array_equal(fresh.pose(rows), on_disk.pose(same))
        references = fresh.reference_of[rows]
        assert np.array_equal(fresh.reference_pose(references), on_disk.reference_pose(same // 2))
    assert ring.draws == 2 and ring.waits <= 1
    _, held_out = fresh.split(2)
    assert np.array_equal(fresh.triple("target", held_out), on_disk.triple("target", np.arange(4)))


def test_a_resumed_ring_goes_on_where_the_draws_had_got(ring: FreshRing, folder: Path) -> None:
    fresh = FreshTriples(folder, ring)
    objective = OnTheFly(_Stage(), fresh)
    objective.start(1, batch_size=2)
    rows = objective.draw(np.random.default_rng(0), 2)["index"]
    assert set(fresh.identity[rows]) == {_FIRST_SEED + 1}


def test_a_rendering_process_that_dies_stops_the_training(ring: FreshRing) -> None:
    ring.start()
    for worker in ring._workers:
        worker.kill()
        worker.join()
    with pytest.raises(RuntimeError, match="render-ahead-0 ended with exit code -9"):
        for _ in range(4):
            ring.advance(2)


def test_an_impossible_ring_is_refused() -> None:
    with pytest.raises(ValueError, match="live must be at least 1, got 0"):
        FreshConfig(live=0)
    with pytest.raises(ValueError, match="uses must be positive, got 0.0"):
        FreshConfig(uses=0.0)
