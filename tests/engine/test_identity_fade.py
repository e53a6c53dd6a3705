"""One face passes into another: on tensors that are numbers, and on a scripted clock."""

import numpy as np
import pytest

from engine.identity_fade import NATURAL_CHANGE, IdentityFade
from engine.puppeteer import IdentityState

MS = 1_000_000
CROSSFADE_MS = 200


def identity(name: str, value: float, grey: int = 0) -> IdentityState:
    return IdentityState(
        name=name,
        portrait_HWC=np.full((4, 4, 3), grey, np.uint8),
        tensors={"identity_code": np.full((1, 2), value, np.float32)},
        rest=None,
    )


class Script:
    """A fade that is asked 25 times a second."""

    def __init__(self) -> None:
        self.fade = IdentityFade()
        self.time_ms = 0

    def show(self, target: IdentityState, frames: int = 1) -> list[float]:
        shown = []
        for _ in range(frames):
            drawn = self.fade.step(target, self.time_ms * MS, CROSSFADE_MS)
            assert drawn.tensors["identity_code"].dtype == np.float32
            shown.append(float(drawn.tensors["identity_code"][0, 0]))
            self.time_ms += 40
        return shown


def test_the_first_identity_is_there_at_once() -> None:
    assert Script().show(identity("lena", 3), 2) == [3, 3]


def test_faces_that_look_alike_take_as_long_as_was_asked() -> None:
    script = Script()
    script.show(identity("lena", 0))
    shown = script.show(identity("amara", 1), 6)
    assert shown == pytest.approx([0.2, 0.4, 0.6, 0.8, 1, 1])


def test_faces_that_look_different_take_as_long_as_a_natural_change() -> None:
    script = Script()
    script.show(identity("lena", 0))
    steps = 20
    shown = script.show(identity("amara", 1, grey=round(steps * NATURAL_CHANGE)), steps + 2)
    assert np.diff(shown[:steps]) == pytest.approx(np.full(steps - 1, 1 / steps), rel=1e-3)
    assert shown[-3:] == pytest.approx([1, 1, 1])


def test_when_it_is_over_the_identity_itself_is_drawn() -> None:
    script = Script()
    script.show(identity("lena", 0))
    amara = identity("amara", 1)
    script.show(amara, 10)
    assert script.fade.step(amara, script.time_ms * MS, CROSSFADE_MS) is amara


def test_a_second_switch_in_the_middle_starts_from_what_is_shown() -> None:
    script = Script()
    script.show(identity("lena", 0))
    halfway = script.show(identity("amara", 1), 3)[-1]
    shown = script.show(identity("zola", 5), 5)
    assert shown[0] == pytest.approx(halfway + (5 - halfway) / 5)
    assert shown[-1] == pytest.approx(5)


def test_where_nobody_watched_meanwhile_it_is_over() -> None:
    script = Script()
    script.show(identity("lena", 0))
    amara = identity("amara", 1)
    script.show(amara)
    script.time_ms += 10_000
    assert script.show(amara) == [1]


def test_a_face_waits_while_its_head_moves_fast() -> None:
    script = Script()
    script.show(identity("lena", 0))
    amara = identity("amara", 1)
    script.show(amara, 2)
    drawn = script.fade.step(amara, script.time_ms * MS, CROSSFADE_MS, pace=0.5)
    assert drawn.tensors["identity_code"][0, 0] == pytest.approx(0.5)


def test_pictures_that_fail_to_come_are_not_made_up_for() -> None:
    script = Script()
    script.show(identity("lena", 0))
    amara = identity("amara", 1)
    script.show(amara)
    script.time_ms += 200
    assert script.show(amara) == pytest.approx([0.4])
