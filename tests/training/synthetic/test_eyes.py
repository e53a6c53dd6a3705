import numpy as np

from training.synthetic.eyes import (
    EYE_DEG,
    GazeHabits,
    Glance,
    blink_times,
    blink_track,
    eye_weights,
    gaze_track,
    head_following,
)

FPS = 25


def test_gaze_rests_near_the_camera_and_jumps_within_two_frames() -> None:
    gaze, saccades = gaze_track(np.random.default_rng(1), 60 * FPS, FPS)
    assert np.median(np.hypot(gaze[:, 0], gaze[:, 1])) < 4
    speed = np.hypot(*np.diff(gaze, axis=0).T)
    assert np.median(speed) < 0.6, "fixations hold still"
    large = max(saccades, key=lambda saccade: saccade[1])
    frame = int(large[0] * FPS)
    assert speed[max(0, frame - 1) : frame + 2].sum() > 0.8 * large[1]


def test_saccades_have_the_amplitudes_of_conversation() -> None:
    _, saccades = gaze_track(np.random.default_rng(2), 300 * FPS, FPS)
    amplitudes = np.array([amplitude for _, amplitude in saccades])
    assert 1 < np.median(amplitudes) < 8
    assert 10 < np.percentile(amplitudes, 95) < 25
    assert 0.5 < len(saccades) / 300 < 2.5


def test_an_emotion_turns_the_eyes_away() -> None:
    glance = Glance(start_s=1.0, end_s=3.0, target_deg=(11.0, 7.0))
    gaze, _ = gaze_track(np.random.default_rng(3), 4 * FPS, FPS, GazeHabits(on_camera=1.0), [glance])
    during = gaze[int(1.2 * FPS) : int(2.9 * FPS)].mean(0)
    assert np.allclose(during, (11, 7), atol=2.5)
    assert np.hypot(*gaze[: int(0.9 * FPS)].mean(0)) < 4


def test_the_head_follows_large_shifts_late_and_in_part() -> None:
    gaze = np.zeros((3 * FPS, 2))
    gaze[FPS:, 0] = 20
    head = head_following(gaze, FPS)[:, 0]
    assert abs(head[FPS - 1]) < 1e-9 and head[FPS + 2] < 3
    assert 4 < head[-1] < 10
    gaze[FPS:, 0] = 3
    assert np.abs(head_following(gaze, FPS)).max() == 0


def test_eyes_stay_on_the_camera_while_the_head_turns() -> None:
    yaw, pitch = np.array([9.0]), np.array([-5.0])
    weights, _ = eye_weights(np.zeros((1, 2)), yaw, pitch)
    assert weights["eyeLookOutRight"][0] * EYE_DEG[0] == 9
    assert weights["eyeLookDownLeft"][0] * EYE_DEG[1] == 5
    assert weights["eyeLookOutLeft"][0] == 0


def test_blink_rate_is_as_asked_and_doubles_after_phrases() -> None:
    rng = np.random.default_rng(4)
    alone = len(blink_times(rng, 1200, 0.25)) / 1200
    assert 0.2 < alone < 0.28
    ends = list(np.arange(3.0, 1200, 3.0))
    near = np.array(blink_times(rng, 1200, 0.25, ends))
    since_end = (near - 3.0 + 0.1) % 3.0
    density_near = (since_end < 0.5).sum() / 0.5
    density_far = (since_end >= 0.5).sum() / 2.5
    assert 1.5 < density_near / density_far < 2.7


def test_lids_close_faster_than_they_open_and_shut_fully() -> None:
    track = blink_track(np.random.default_rng(5), 200, 200.0, [0.3])[:, 0]
    shut = np.nonzero(track > 0.98 * track.max())[0]
    closing = shut[0] - np.nonzero(track > 0.02)[0][0]
    opening = np.nonzero(track > 0.02)[0][-1] - shut[-1]
    assert track.max() > 0.98
    assert opening > 1.7 * closing


def test_a_blink_is_seen_shut_at_video_rate_whenever_it_comes() -> None:
    for start_s in np.linspace(0.5, 0.54, 9):
        closures = [blink_track(np.random.default_rng(k), 50, FPS, [start_s]).max() for k in (5, 6)]
        assert max(closures) > 0.95
