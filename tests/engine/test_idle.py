from __future__ import annotations

import numpy as np

from engine.idle import BLINK_EVERY_S, GAZE_EVERY_S, blink, gaze, idle_codes, idle_pose
from gcavt import code_space

TIMES_S = np.arange(0, 60, 1 / 25)


def test_the_first_frame_looks_straight_ahead() -> None:
    np.testing.assert_array_equal(idle_pose(0.0), np.zeros(6, np.float32))


def test_the_head_sways_a_little_and_never_jerks() -> None:
    poses = np.stack([idle_pose(float(t)) for t in TIMES_S])
    assert 1.0 < np.abs(poses[:, 1]).max() < 4.0
    assert np.abs(np.diff(poses[:, :3], axis=0)).max() < 0.25


def test_every_interval_holds_one_whole_blink() -> None:
    lids = np.array([blink(float(t)) for t in TIMES_S])
    begins = np.flatnonzero((lids[1:] > 0) & (lids[:-1] == 0))
    assert abs(len(begins) - 60 / BLINK_EVERY_S) <= 1
    assert lids.max() > 0.9
    assert lids.min() == 0


def test_blinks_come_unevenly() -> None:
    lids = np.array([blink(float(t)) for t in TIMES_S])
    begins = np.flatnonzero((lids[1:] > 0) & (lids[:-1] == 0)) / 25
    assert np.diff(begins).std() > 0.3


def test_the_eyes_look_about_and_come_back_to_the_middle() -> None:
    points = np.array([gaze((interval + 0.5) * GAZE_EVERY_S) for interval in range(40)])
    assert np.all(points[::2] == 0)
    assert np.ptp(points[1::2], axis=0).min() > 0.1
    assert len(np.unique(points[1::2], axis=0)) == 20


def test_no_idle_step_is_larger_than_a_blink() -> None:
    codes = np.stack([idle_codes(float(t)).expression_code for t in TIMES_S])
    lids = np.array([blink(float(t)) for t in TIMES_S])
    steps = np.linalg.norm(np.diff(codes, axis=0), axis=1)
    assert steps[np.diff(lids) == 0].max() < 6
    assert steps.max() < 11


def test_codes_read_back_as_the_motion_with_a_closed_mouth() -> None:
    moment = next(float(t) for t in TIMES_S if blink(float(t)) > 0.9)
    codes = idle_codes(moment)
    weights = code_space.expression_weights(codes.expression_code)
    assert weights[code_space.COEFFICIENTS.index("eyeBlinkLeft")] > 0.85
    np.testing.assert_allclose(code_space.content_weights(codes.content_code), 0, atol=1e-5)
    np.testing.assert_allclose(code_space.pose_from_code(codes.pose_code), idle_pose(moment), atol=1e-5)
