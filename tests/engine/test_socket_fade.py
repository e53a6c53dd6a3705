"""Transitions of a socket on codes and a scripted clock: nothing jumps, nothing stands still."""

from collections.abc import Mapping

import numpy as np
import pytest

from engine.codes import Code, Socket
from engine.idle import idle_codes
from engine.patch_bay import Route
from engine.socket_fade import FADE_SHARE, NATURAL_STEP, SocketFade, Spoken, between, distance, stepped
from gcavt import code_space

MS = 1_000_000
CAMERA, CLIP, VOICE = Route("camera"), Route("clip"), Route("camera", is_sound=True)
CROSSFADE_MS = 200


class Script:
    """One socket, shown 25 times a second; remembers all it has shown."""

    def __init__(self, natural_step: float = 100.0, idle: Code | None = None) -> None:
        self.fade = SocketFade(natural_step, hold_ms=160, ease_ms=600)
        self.idle = np.zeros(4, np.float32) if idle is None else idle
        self.is_gentle = False
        self.pace = 1.0
        self.time_ms = 0
        self.shown: list[Code] = []

    def show(
        self,
        chain: tuple[Route, ...],
        said: Mapping[str, Code | float] | None = None,
        *,
        frames: int = 1,
        take: int = 0,
    ) -> list[float]:
        """The first coordinate of what is shown while the named routes say the same thing all the time."""
        named = {"camera": CAMERA, "clip": CLIP, "voice": VOICE}
        spoken = {
            named[n]: Spoken(c if isinstance(c, np.ndarray) else np.full(4, c, np.float32), take)
            for n, c in (said or {}).items()
        }
        for _ in range(frames):
            self.fade.aim(chain, spoken, Spoken(self.idle, None), self.time_ms * MS, CROSSFADE_MS)
            self.fade.stride(self.time_ms * MS, is_gentle=self.is_gentle)
            self.shown.append(self.fade.move(self.time_ms * MS, pace=self.pace))
            self.time_ms += 40
        return [float(code[0]) for code in self.shown[-frames:]]

    @property
    def largest_step(self) -> float:
        return max(distance(*pair) for pair in zip(self.shown, self.shown[1:], strict=False))


def test_a_repatched_socket_crosses_over_in_200_ms() -> None:
    script = Script()
    script.show((CAMERA,), {"camera": 1}, frames=10)
    shares = script.show((CLIP,), {"clip": 2}, frames=7)
    assert 1 < shares[0] < 1.2
    assert shares == sorted(shares)
    assert 1.3 < shares[1] < shares[2] < 1.7
    assert shares[4] == 2


def test_a_source_that_starts_slowly_is_waited_for_instead_of_idle() -> None:
    script = Script()
    script.show((CAMERA,), {"camera": 1}, frames=10)
    assert script.show((CLIP,), frames=3) == [1, 1, 1]
    assert script.show((CLIP,), {"clip": 1}, frames=6) == pytest.approx([1] * 6)


def test_a_lost_face_is_held_and_then_eases_to_idle() -> None:
    script = Script()
    script.show((CAMERA,), {"camera": 1}, frames=10)
    lost = script.show((CAMERA,), frames=24)
    assert lost[:4] == [1, 1, 1, 1]
    assert 0.2 < lost[11] < 0.8
    assert lost[-1] == 0
    assert script.fade.effective is None


def test_a_camera_of_four_pictures_a_second_is_not_taken_for_lost() -> None:
    script = Script()
    effective = []
    for _ in range(20):
        script.show((CAMERA,), {"camera": 1})
        for _ in range(5):
            script.show((CAMERA,))
            effective.append(script.fade.effective)
    assert effective[-50:] == [CAMERA] * 50
    script.show((CAMERA,), frames=13)
    assert script.fade.effective is None


def test_a_held_head_goes_on_breathing_within_200_ms() -> None:
    pose = code_space.pose_code([5, 20, 0, 0, 0, 0])
    script = Script(NATURAL_STEP["pose"])
    for frame in range(30):
        script.idle = idle_codes(10 + frame / 25).pose_code
        said = {"camera": pose} if frame < 10 else {}
        script.show((CAMERA,), said)
    steps = np.linalg.norm(np.diff(np.stack(script.shown), axis=0), axis=1)
    assert np.all(steps[13:] > 0)
    assert np.linalg.norm(script.shown[13] - pose) < 0.05


def test_a_face_that_comes_back_fades_in_from_idle() -> None:
    script = Script()
    script.show((CAMERA,), frames=3)
    shown = script.show((CAMERA,), {"camera": 1}, frames=6)
    assert 0 < shown[0] < 0.2
    assert 0 < shown[2] < 1
    assert shown[-1] == 1


def test_a_patch_during_a_fade_starts_from_what_is_shown() -> None:
    script = Script()
    script.show(())
    script.show((CLIP,), {"clip": 2}, frames=3)
    shown = script.show((CLIP,), {"clip": 2})[0]
    assert 0 < shown < 2
    assert script.show(()) == pytest.approx([shown], abs=0.2)


def test_a_mouth_goes_from_camera_to_voice_to_idle_and_back() -> None:
    script = Script()
    chain = (CAMERA, VOICE)
    effective = []
    for camera, voice in ((1, 2), (None, 2), (None, None), (None, 2), (1, 2)):
        said = {"camera": camera, "voice": voice}
        script.show(chain, {name: code for name, code in said.items() if code is not None}, frames=25)
        effective.append((script.fade.effective, float(script.shown[-1][0])))
    assert effective == [(CAMERA, 1), (VOICE, 2), (None, 0), (VOICE, 2), (CAMERA, 1)]


def test_a_voice_out_of_silence_is_not_faded_in() -> None:
    script = Script()
    script.show((VOICE,), frames=5)
    assert script.show((VOICE,), {"voice": 3}) == [3]


@pytest.mark.parametrize("socket", ["pose", "expression", "mouth"])
def test_no_step_of_any_transition_is_larger_than_natural_motion(socket: Socket) -> None:
    """Each source stands still, so that all that moves is the transition."""
    idle = idle_codes(0).of(socket)
    far = {
        "pose": (
            code_space.pose_code([15, 25, 10, 0.1, 0, 0]),
            code_space.pose_code([-15, -30, 0, 0, 0, 0.2]),
        ),
        "expression": (
            code_space.expression_code(code_space.coefficient_vector(mouthSmileLeft=1, eyeWideLeft=1)),
            code_space.expression_code(code_space.coefficient_vector(browDownLeft=1, eyeBlinkLeft=1)),
        ),
        "mouth": (
            code_space.content_code(code_space.coefficient_vector(jawOpen=1)),
            code_space.content_code(code_space.coefficient_vector(mouthPucker=1, mouthFunnel=1)),
        ),
    }[socket]
    script = Script(NATURAL_STEP[socket], idle)
    for frames, take, chain, said in (
        (80, 0, (CAMERA, VOICE), {"camera": far[0]}),
        (80, 0, (CLIP,), {"clip": far[1]}),
        (3, 0, (CAMERA, VOICE), {"camera": far[0]}),
        (3, 0, (CLIP,), {"clip": far[1]}),
        (30, 0, (), {}),
        (80, 0, (CAMERA, VOICE), {"voice": far[1]}),
        (80, 0, (CAMERA, VOICE), {"camera": far[0], "voice": far[1]}),
        (80, 0, (CAMERA, VOICE), {}),
        (80, 1, (CAMERA, VOICE), {"camera": far[1]}),
        (80, 2, (CAMERA, VOICE), {"camera": far[0]}),
    ):
        script.show(chain, said, frames=frames, take=take)
        if said:
            assert min(np.linalg.norm(script.shown[-1] - code) for code in far) < 1e-4 or frames < 10
    assert script.largest_step <= NATURAL_STEP[socket] * 1.02


def test_a_cross_fade_leaves_room_for_what_else_moves() -> None:
    script = Script(1.0)
    script.show((CAMERA,), {"camera": 0}, frames=10)
    shown = script.show((CLIP,), {"clip": 5}, frames=20)
    assert script.largest_step <= FADE_SHARE * 1.001
    assert shown[-1] == 5


def test_a_cut_in_the_same_source_is_crossed_at_natural_speed() -> None:
    script = Script(NATURAL_STEP["pose"])
    left, right = code_space.pose_code([0, -30, 0, 0, 0, 0]), code_space.pose_code([0, 30, 0, 0, 0, 0])
    script.show((CAMERA,), {"camera": left}, frames=60)
    script.shown.clear()
    script.show((CAMERA,), {"camera": left})
    script.show((CAMERA,), {"camera": right}, frames=30)
    assert script.largest_step <= NATURAL_STEP["pose"] * 1.001
    assert np.allclose(script.shown[-1], right)


def test_motion_without_a_transition_is_left_alone_however_fast() -> None:
    script = Script(1.0)
    script.show((CAMERA,), {"camera": 0}, frames=30)
    assert [script.show((CAMERA,), {"camera": x})[0] for x in (0.9, 0, 1.1)] == pytest.approx([0.9, 0, 1.1])


def test_while_something_is_switched_elsewhere_fast_motion_is_taken_gently() -> None:
    script = Script(1.0)
    script.show((CAMERA,), {"camera": 0}, frames=30)
    script.is_gentle = True
    shown = [script.show((CAMERA,), {"camera": x})[0] for x in (0.3, 1.3, 1.3, 1.3)]
    steps = 2 * np.diff([0, *shown])  # all four coordinates are equal: the distance is twice one of them
    assert steps == pytest.approx([0.6, 1, 1, 0], abs=1e-5)


def test_what_a_switch_held_back_comes_in_no_faster_than_natural_or_than_its_source() -> None:
    script = Script(1.0)
    script.show((CAMERA,), {"camera": 0}, frames=30)
    script.is_gentle = True
    start = script.show((CAMERA,), {"camera": 1.2})[0]
    script.is_gentle = False
    said = (2.0, 2.8, 2.8, 2.8, 2.8)
    shown = [script.show((CAMERA,), {"camera": x})[0] for x in said]
    own, steps = 2 * np.diff([1.2, *said]), 2 * np.diff([start, *shown])
    assert np.all(steps <= np.maximum(own, 1) + 1e-5)
    assert shown[-1] == pytest.approx(2.8)
    assert script.show((CAMERA,), {"camera": 4.0}) == [4.0]  # and from then on nothing is held back


def test_a_fade_is_over_when_it_has_caught_up_however_slowly_all_may_go() -> None:
    script = Script(1.0)
    script.show((CAMERA,), {"camera": 0}, frames=10)
    script.is_gentle, script.pace = True, 0.8
    script.show((CLIP,), {"clip": 0.3}, frames=8)
    assert not script.fade.is_fading
    assert script.shown[-1][0] < 0.3


def test_codes_of_one_length_keep_it_on_the_way() -> None:
    start, end = np.zeros((2, 256), np.float32)
    start[3], end[7] = 16, 16
    for share in (0, 0.25, 0.5, 1):
        assert np.linalg.norm(between(start, end, share)) == pytest.approx(16, rel=1e-5)


@pytest.mark.parametrize("longest", [0.0, 1e-9, 1e-3])
def test_a_step_that_is_lost_in_rounding_is_none(longest: float) -> None:
    start, end = np.zeros((2, 256), np.float32)
    start[3], end[7] = 16, 16
    assert 0 <= distance(start, stepped(start, end, longest)) <= longest + 2e-5
