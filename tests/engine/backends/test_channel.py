"""Messages through memory that two ends map."""

from __future__ import annotations

import multiprocessing
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from engine.backends import channel as module
from engine.backends.channel import Channel


@pytest.fixture
def ends(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Channel, Channel]]:
    monkeypatch.setattr(module, "SHARED_DIR", tmp_path)
    here, there = multiprocessing.Pipe()
    channels = Channel(here), Channel(there)
    yield channels
    for channel in channels:
        channel.close()
    assert list(tmp_path.iterdir()) == []


def test_arrays_of_all_kinds_arrive_as_they_were(ends: tuple[Channel, Channel]) -> None:
    here, there = ends
    frozen = np.arange(6, dtype=np.float32)
    frozen.setflags(write=False)
    sent = {"code": np.ones((1, 4), np.float32), "frozen": frozen, "turned": np.arange(12).reshape(3, 4).T}
    here.send(("run", [sent, None], "text"))
    method, (received, nothing), text = there.recv()
    assert (method, nothing, text) == ("run", None, "text")
    for name, array in sent.items():
        np.testing.assert_array_equal(received[name], array)


def test_what_was_received_belongs_to_the_receiver(ends: tuple[Channel, Channel]) -> None:
    here, there = ends
    kept = []
    for value in range(3):
        here.send(np.full(1000, value, np.float32))
        kept.append(there.recv())
        there.send(None)
        here.recv()
    kept[1][0] = 7
    assert [array[1] for array in kept] == [0, 1, 2]


def test_messages_may_grow_and_shrink(ends: tuple[Channel, Channel]) -> None:
    here, there = ends
    for size in (10, 100_000, 0, 1_000_000, 3):
        here.send(np.arange(size))
        np.testing.assert_array_equal(there.recv(), np.arange(size))
        there.send(np.arange(size) + 1)
        np.testing.assert_array_equal(here.recv(), np.arange(size) + 1)


def test_the_shared_files_have_no_name_for_long(ends: tuple[Channel, Channel], tmp_path: Path) -> None:
    here, there = ends
    for _ in range(2):
        here.send(np.zeros(100))
        there.recv()
        there.send(np.zeros(100))
        here.recv()
    here.send(None)
    there.recv()
    assert len(list(tmp_path.iterdir())) == 0


def test_an_end_that_is_gone_is_noticed(ends: tuple[Channel, Channel]) -> None:
    here, there = ends
    there.close()
    with pytest.raises((EOFError, OSError)):
        here.send(None)
        here.recv()


def test_an_end_that_is_killed_leaves_nothing(ends: tuple[Channel, Channel], tmp_path: Path) -> None:
    here, there = ends
    there.send(np.zeros(100))
    here.recv()
    assert len(list(tmp_path.iterdir())) == 1
    here.close()
    assert list(tmp_path.iterdir()) == []
