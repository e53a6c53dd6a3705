import pytest

from engine.codes import Socket
from engine.motion_budget import pace


def test_what_moves_alone_within_nature_may_go_all_its_way() -> None:
    assert pace({"pose": 0.5, "expression": 0.1, "mouth": 0.1}, changes_identity=False) == 1
    assert pace({"pose": 0.0, "expression": 0.0, "mouth": 0.85}, changes_identity=False) == 1


def test_what_moves_together_shares_one_budget() -> None:
    one = pace({"pose": 0.6, "expression": 0.0, "mouth": 0.0}, changes_identity=False)
    two = pace({"pose": 0.6, "expression": 0.0, "mouth": 1.0}, changes_identity=False)
    three = pace({"pose": 0.6, "expression": 1.0, "mouth": 1.0}, changes_identity=False)
    assert one > two > three > 0.3


def test_another_face_takes_its_part_of_the_budget() -> None:
    strides: dict[Socket, float] = {"pose": 0.6, "expression": 0.0, "mouth": 0.0}
    assert pace(strides, changes_identity=True) < pace(strides, changes_identity=False)


def test_a_stride_twice_as_long_is_gone_at_half_the_pace() -> None:
    fast = pace({"pose": 2.0, "expression": 0.0, "mouth": 0.0}, changes_identity=False)
    faster = pace({"pose": 4.0, "expression": 0.0, "mouth": 0.0}, changes_identity=False)
    assert faster == pytest.approx(fast / 2)
