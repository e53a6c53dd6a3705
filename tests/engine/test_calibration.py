import numpy as np
import pytest

from engine.calibration import Calibrations, RouteCalibration
from engine.codes import Code
from engine.patch_bay import Route
from engine.socket_fade import Spoken
from gcavt import code_space
from gcavt.code_space import COEFFICIENTS, coefficient_vector

MS = 1_000_000
CAMERA = Route("camera")


def yaw(degrees: float) -> Code:
    return code_space.pose_code([0, degrees, 0, 0, 0, 0])


def degrees(code: Code) -> float:
    return float(code_space.pose_from_code(code)[1])


def test_the_neutral_is_the_middle_of_one_second_whatever_happens_in_a_part_of_it() -> None:
    calibration = RouteCalibration()
    calibration.begin("neutral")
    for frame in range(30):
        calibration.observe("pose", yaw(40 if 5 <= frame < 12 else 7), frame * 40 * MS)
    assert not calibration.is_running
    assert round(degrees(calibration.neutral["pose"])) == 7
    assert calibration.version == 1


def test_a_neutral_code_is_as_long_as_the_codes_it_was_made_of() -> None:
    calibration = RouteCalibration()
    calibration.begin("neutral")
    rng = np.random.default_rng(0)
    for frame in range(30):
        weights = coefficient_vector(jawOpen=0.1 + 0.05 * rng.random(), mouthClose=rng.random())
        calibration.observe("mouth", code_space.content_code(weights), frame * 40 * MS)
    assert np.isclose(np.linalg.norm(calibration.neutral["mouth"]), 16, rtol=1e-4)


def test_nothing_is_learned_without_a_command() -> None:
    calibration = RouteCalibration()
    for frame in range(60):
        calibration.observe("pose", yaw(7), frame * 40 * MS)
    assert not calibration.neutral


def test_the_range_stretches_what_was_tried_and_leaves_the_rest() -> None:
    calibration = RouteCalibration()
    calibration.begin("range")
    for frame in range(150):
        weights = coefficient_vector(
            mouthSmileLeft=0.8 * (frame % 2), browInnerUp=0.1, jawOpen=0.4 * (frame % 2)
        )
        calibration.observe("expression", code_space.expression_code(weights), frame * 40 * MS)
    tried = ("mouthSmileLeft", "jawOpen", "browInnerUp")
    reach = [float(calibration.reach["expression"][COEFFICIENTS.index(name)]) for name in tried]
    assert reach == pytest.approx([1.25, 1.6, 1.0], rel=1e-4)


def test_a_relative_pose_finds_its_neutral_in_its_first_second() -> None:
    calibration = RouteCalibration()
    for frame in range(60):
        calibration.follow_first_second(Spoken(yaw(5 if frame < 25 else 40), 1), frame * 40 * MS)
    assert round(degrees(calibration.neutral["pose"])) == 5


def test_the_first_code_is_at_rest_already() -> None:
    calibration = RouteCalibration()
    calibration.follow_first_second(Spoken(yaw(12), 1), 0)
    assert round(degrees(calibration.neutral["pose"])) == 12


def test_another_take_is_listened_to_afresh_unless_its_neutral_was_asked_for() -> None:
    calibration = RouteCalibration()
    for take, angle in ((1, 5), (2, 20)):
        for frame in range(30):
            calibration.follow_first_second(Spoken(yaw(angle), take), (take * 100 + frame) * 40 * MS)
        assert round(degrees(calibration.neutral["pose"])) == angle
    calibration.begin("neutral")
    for frame in range(30):
        calibration.observe("pose", yaw(-3), (400 + frame) * 40 * MS)
    calibration.follow_first_second(Spoken(yaw(30), 3), 500 * 40 * MS)
    assert round(degrees(calibration.neutral["pose"])) == -3


def test_each_command_counts_once_and_can_be_taken_back() -> None:
    calibrations = Calibrations()
    for frame in range(60):
        calibrations.command(1, "neutral", {CAMERA})
        calibrations.of(CAMERA).observe("pose", yaw(7 if frame < 30 else 50), frame * 40 * MS)
    assert round(degrees(calibrations.of(CAMERA).neutral["pose"])) == 7
    calibrations.command(2, None, {CAMERA})
    assert not calibrations.of(CAMERA).neutral
