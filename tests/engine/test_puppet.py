"""What is shown, on a scripted clock: exact codes, so that they read back as degrees and weights."""

from dataclasses import replace
from typing import cast

import numpy as np

from engine.clock import MediaClock
from engine.codes import SOCKETS, Code, DrivingCodes, Socket
from engine.config import PerformanceConfig
from engine.idle import idle_codes
from engine.metrics import StageTimes
from engine.patch_bay import PatchBay, Route
from engine.puppet import CalibrationCommand, Puppet
from engine.puppeteer import IdentityState, Puppeteer
from engine.reader import Reading
from engine.socket_fade import FADE_SHARE, NATURAL_STEP, Spoken, distance
from gcavt import code_space
from gcavt.code_space import coefficient_vector

MS = 1_000_000
GUEST = {"guest": {"video": True, "audio": True}}


class StillClock(MediaClock):
    def now_ns(self) -> int:
        return 0


class Exact:
    """The part of a puppeteer that mixing asks."""

    has_exact_codes = True

    def idle_codes(self, time_s: float, identity: IdentityState) -> DrivingCodes:
        return idle_codes(time_s)


def identity(name: str, *, yaw: float = 0.0) -> IdentityState:
    reference_pose = np.array([[0, yaw, 0, 0, 0, 0]], np.float32)
    return IdentityState(
        name=name,
        portrait_HWC=np.zeros((256, 256, 3), np.uint8),
        tensors={"reference_pose": reference_pose},
        rest=None,
    )


class Stage:
    """A puppet that is told what each route says, 25 times a second."""

    def __init__(self) -> None:
        self.puppet = Puppet(PerformanceConfig(), StillClock(), StageTimes(StillClock()))
        self.bay = PatchBay()
        self.identity = identity("lena")
        self.tick = 0
        self.shown: list[dict[Socket, Code]] = []

    def patch(self, **changes: object) -> None:
        self.bay = self.bay.patched(changes, GUEST)

    def play(self, frames: int, **says: DrivingCodes) -> DrivingCodes:
        """The codes shown last, while these sources show and say the same thing all the time."""
        for _ in range(frames):
            spoken: dict[Socket, dict[Route, Spoken]] = {socket: {} for socket in SOCKETS}
            for name, codes in says.items():
                route = Route(name.removesuffix("_audio"), is_sound=name.endswith("_audio"))
                for socket in SOCKETS if not route.is_sound else ("mouth",):
                    spoken[socket][route] = Spoken(codes.of(socket), 1)
            reading = Reading(self.tick * 40 * MS, self.bay, spoken, 0, None)
            self.shown.append(self.puppet.mix(cast(Puppeteer, Exact()), self.identity, reading))
            self.tick += 1
        last = self.shown[-1]
        return DrivingCodes(last["pose"], last["expression"], last["mouth"])

    def largest_step(self, socket: Socket) -> float:
        shown = [codes[socket] for codes in self.shown]
        return max(distance(*pair) for pair in zip(shown, shown[1:], strict=False))


def looking(yaw: float, **weights: float) -> DrivingCodes:
    vector = coefficient_vector(**weights)
    return DrivingCodes(
        code_space.pose_code([0, yaw, 0, 0, 0, 0]),
        code_space.expression_code(vector),
        code_space.content_code(vector),
    )


def yaw(codes: DrivingCodes) -> float:
    return float(code_space.pose_from_code(codes.pose_code)[1])


def test_each_socket_shows_its_own_source() -> None:
    stage = Stage()
    stage.patch(pose="camera", expression="guest", mouth="clip:audio")
    camera, guest, clip = looking(10), looking(-20, mouthSmileLeft=0.5), looking(0, jawOpen=0.6)
    codes = stage.play(60, camera=camera, guest=guest, clip_audio=clip)
    assert np.allclose(codes.pose_code, camera.pose_code)
    assert np.allclose(codes.expression_code, guest.expression_code)
    assert np.allclose(codes.content_code, clip.content_code)
    assert {socket: str(route) for socket, route in stage.puppet.effective.items()} == {
        "pose": "camera",
        "expression": "guest",
        "mouth": "clip:audio",
    }


def test_a_gain_is_reached_step_by_step() -> None:
    stage = Stage()
    stage.patch(pose="camera")
    stage.play(60, camera=looking(20))
    stage.shown.clear()
    stage.play(1, camera=looking(20))
    stage.patch(gains={"pose": 0.5})
    assert abs(yaw(stage.play(20, camera=looking(20))) - 10) < 1e-4
    assert stage.largest_step("pose") < NATURAL_STEP["pose"]


def test_relative_pose_follows_the_avatars_rest_when_the_identity_changes() -> None:
    stage = Stage()
    stage.patch(pose="camera", pose_mode="relative")
    assert abs(yaw(stage.play(60, camera=looking(15)))) < 1e-4
    assert abs(yaw(stage.play(60, camera=looking(25))) - 10) < 1e-4
    stage.identity = identity("max", yaw=-4)
    assert abs(yaw(stage.play(60, camera=looking(25))) - 6) < 1e-4
    assert stage.largest_step("pose") < 1.01 * NATURAL_STEP["pose"]


def test_a_command_calibrates_what_the_camera_shows_and_tells_when_it_is_done() -> None:
    stage = Stage()
    stage.patch(pose="camera", expression="camera")
    stage.play(30, camera=looking(12, browDownLeft=0.3))
    assert not stage.puppet.is_calibrated
    stage.puppet.calibration = CalibrationCommand(1, "neutral")
    stage.play(10, camera=looking(12, browDownLeft=0.3))
    assert stage.puppet.is_calibrating
    codes = stage.play(80, camera=looking(12, browDownLeft=0.3))
    assert stage.puppet.is_calibrated and not stage.puppet.is_calibrating
    assert abs(yaw(codes)) < 1e-4
    assert np.allclose(code_space.expression_weights(codes.expression_code), 0, atol=1e-4)
    stage.puppet.calibration = CalibrationCommand(2, None)
    assert abs(yaw(stage.play(60, camera=looking(12))) - 12) < 1e-4


def test_lips_follow_natural_speech_at_once_but_while_something_is_switched() -> None:
    stage = Stage()
    stage.patch(pose="camera", expression="camera", mouth="camera")
    stage.play(60, camera=looking(0))
    quiet, loud = looking(0), looking(0, jawOpen=0.9)
    assert np.array_equal(stage.play(1, camera=loud).content_code, loud.content_code)
    assert np.array_equal(stage.play(1, camera=quiet).content_code, quiet.content_code)
    stage.patch(pose="guest")
    stage.shown.clear()
    for frame in range(14):
        stage.play(1, camera=loud if frame % 4 < 2 else quiet, guest=looking(20))
    assert stage.largest_step("mouth") <= NATURAL_STEP["mouth"] * 1.001
    assert stage.largest_step("pose") <= FADE_SHARE * NATURAL_STEP["pose"] * 1.001
    stage.play(60, camera=quiet, guest=looking(20))
    assert np.array_equal(stage.play(1, camera=loud, guest=looking(20)).content_code, loud.content_code)


def test_what_fades_together_fades_more_slowly_than_alone() -> None:
    def way(*sockets: Socket) -> float:
        """Degrees of yaw, of 40, within 200 ms."""
        stage = Stage()
        says = {"camera": looking(-20), "guest": looking(20, browDownLeft=1, eyeBlinkLeft=1, jawOpen=1)}
        stage.patch(**dict.fromkeys(SOCKETS, "camera"))
        stage.play(60, **says)
        stage.patch(**dict.fromkeys(sockets, "guest"))
        return yaw(stage.play(5, **says)) + 20

    assert 0.5 * way("pose") < way(*SOCKETS) < 0.9 * way("pose")


def test_everything_that_can_happen_at_once_jumps_nowhere() -> None:
    """A scripted scene of switches, losses, gains, modes and identities between heads that stand still."""
    stage = Stage()
    says = {
        "camera": looking(20, jawOpen=0.5, mouthSmileLeft=0.7),
        "guest": looking(-25, mouthPucker=0.9, eyeBlinkLeft=0.8, eyeBlinkRight=0.8),
        "camera_audio": looking(0, mouthFunnel=0.8),
    }
    rng = np.random.default_rng(0)
    for scene in range(40):
        stage.bay = replace(stage.bay, crossfade_ms=int(rng.choice([0, 100, 200])))
        choices = ("camera", "guest", "idle")
        stage.patch(**{socket: str(rng.choice(choices)) for socket in SOCKETS})
        stage.patch(gains={socket: float(rng.choice([0.5, 1, 1.5])) for socket in SOCKETS})
        stage.patch(pose_mode=str(rng.choice(["absolute", "relative"])))
        stage.identity = identity(f"person {scene % 3}", yaw=float(3 * (scene % 3)))
        if scene % 7 == 6:
            stage.puppet.calibration = CalibrationCommand(scene, "neutral" if scene % 2 else None)
        heard = {name: codes for name, codes in says.items() if rng.random() < 0.7}
        stage.play(int(rng.integers(1, 30)), **heard)
    blink = max(
        np.linalg.norm(idle_codes(t + 0.04).expression_code - idle_codes(t).expression_code)
        for t in np.arange(0, 40, 0.04)
    )
    assert stage.largest_step("pose") <= 1.01 * NATURAL_STEP["pose"]
    assert stage.largest_step("mouth") <= 1.01 * NATURAL_STEP["mouth"]
    assert stage.largest_step("expression") <= max(1.01 * NATURAL_STEP["expression"], float(blink))
