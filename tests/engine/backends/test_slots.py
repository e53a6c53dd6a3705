"""Which row of a batch a request takes."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from engine.backends.slots import place


def identity() -> NDArray[np.float32]:
    array = np.zeros((1, 4), np.float32)
    array.setflags(write=False)
    return array


def request(of: NDArray[np.float32]) -> dict[str, NDArray[np.float32]]:
    return {"identity_code": of, "pose_code": np.zeros((1, 2), np.float32)}


def holding(*identities: NDArray[np.float32] | None) -> list[dict[str, NDArray[np.float32]]]:
    return [{} if held is None else {"identity_code": held} for held in identities]


def test_requests_take_the_first_rows_of_an_empty_batch() -> None:
    assert place([request(identity()) for _ in range(3)], holding(None, None, None, None)) == [0, 1, 2]


def test_an_identity_stays_in_its_row_whatever_the_order() -> None:
    ann, ben, cyd = identity(), identity(), identity()
    assert place([request(cyd), request(ann)], holding(ann, ben, cyd, None)) == [2, 0]


def test_a_newcomer_leaves_the_rows_of_who_only_missed_a_batch() -> None:
    ann, ben, new = identity(), identity(), identity()
    assert place([request(new), request(ben)], holding(ann, ben, None, None)) == [2, 1]


def test_in_a_full_batch_a_newcomer_takes_the_row_of_one_who_is_away() -> None:
    ann, ben, new = identity(), identity(), identity()
    assert place([request(ben), request(new)], holding(ann, ben)) == [1, 0]


def test_two_sessions_with_one_identity_take_two_rows() -> None:
    ann = identity()
    assert sorted(place([request(ann), request(ann)], holding(ann, None))) == [0, 1]


def test_arrays_that_can_be_written_never_count_as_held() -> None:
    code = np.zeros((1, 4), np.float32)
    assert place([request(code)], holding(code, None)) == [1]
