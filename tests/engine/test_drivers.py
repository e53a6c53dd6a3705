"""The voice's timing, and when a face is looked for. Real faces are followed in test_live.py."""

from typing import cast

import numpy as np
import pytest
from numpy.typing import NDArray

from engine.clock import MediaClock
from engine.codes import Socket
from engine.drivers import FaceDriver, VoiceDriver
from engine.face_tracker import FaceTracker
from engine.media import AudioChunk, VideoFrame
from engine.metrics import StageTimes
from engine.puppeteer import Puppeteer
from gcavt.audio import LOOK_AHEADS_MS
from gcavt.preprocessing import Face, face_from_landmarks

MS = 1_000_000
RATE = 48_000


class Listener:
    """Says how loud the middle of a mel window is, in place of the audio encoder."""

    def content_code_from_mel(self, window_80x20: NDArray[np.float32]) -> NDArray[np.float32]:
        return np.asarray(window_80x20[:, 8:12].mean(keepdims=True)[0], np.float32)


class Loudest:
    """Says how loud a mel window is at most, in place of the audio encoder."""

    def content_code_from_mel(self, window_80x20: NDArray[np.float32]) -> NDArray[np.float32]:
        return np.asarray([window_80x20.max()], np.float32)


def puppeteer() -> Puppeteer:
    return cast(Puppeteer, Listener())


def chunks(start_ms: int, count: int, rng: np.random.Generator) -> list[AudioChunk]:
    return [
        AudioChunk(rng.normal(0, 0.1, RATE // 50).astype(np.float32), RATE, (start_ms + 20 * i) * MS)
        for i in range(count)
    ]


@pytest.mark.parametrize("look_ahead_ms", LOOK_AHEADS_MS)
def test_a_mouth_code_belongs_to_the_look_ahead_before_the_newest_sound(look_ahead_ms: int) -> None:
    voice, stages = VoiceDriver(look_ahead_ms), StageTimes(MediaClock())
    delays_ms = []
    for chunk in chunks(1000, 100, np.random.default_rng(0)):
        heard = voice.hear(puppeteer(), [chunk], stages)
        if heard is not None:
            delays_ms.append((chunk.end_time_ns - heard[1]) / MS)
    assert 45 <= len(delays_ms) <= 50
    assert np.all(np.diff(np.round(delays_ms, 3)) < 1e-3)
    # up to a chunk of 20 ms, and what the resampler holds back
    assert look_ahead_ms - 2 <= delays_ms[-1] <= look_ahead_ms + 30


@pytest.mark.parametrize("look_ahead_ms", LOOK_AHEADS_MS)
def test_an_onset_moves_the_mouth_when_the_look_ahead_says(look_ahead_ms: int) -> None:
    """Silence, then a click: the first code that hears it belongs to the last frame that may."""
    voice, stages = VoiceDriver(look_ahead_ms), StageTimes(MediaClock())
    sound = np.zeros(RATE, np.float32)
    onset_ms = 510
    sound[onset_ms * RATE // 1000 :][:48] = 0.9
    loudest = Loudest()
    belongs_ms = []
    for start in range(0, RATE, RATE // 50):
        chunk = AudioChunk(sound[start : start + RATE // 50], RATE, start * 1000 // RATE * MS)
        heard = voice.hear(cast(Puppeteer, loudest), [chunk], stages)
        if heard is not None and heard[0][0] > 0:
            belongs_ms.append(heard[1] / MS)
    assert belongs_ms
    assert onset_ms - look_ahead_ms - 2 <= belongs_ms[0] <= onset_ms - look_ahead_ms + 40


def test_many_chunks_at_once_give_the_newest_code() -> None:
    voice, stages = VoiceDriver(), StageTimes(MediaClock())
    sound = chunks(1000, 50, np.random.default_rng(0))
    heard = voice.hear(puppeteer(), sound, stages)
    assert heard is not None
    assert (sound[-1].end_time_ns - heard[1]) / MS == pytest.approx(120, abs=41)


def test_after_a_pause_the_voice_starts_afresh() -> None:
    voice, stages = VoiceDriver(), StageTimes(MediaClock())
    rng = np.random.default_rng(0)
    voice.hear(puppeteer(), chunks(0, 50, rng), stages)
    assert voice.hear(puppeteer(), chunks(5000, 3, rng), stages) is None
    heard = voice.hear(puppeteer(), chunks(5060, 10, rng), stages)
    assert heard is not None
    assert 5_000 * MS < heard[1] < 5_260 * MS


class GlidingTracker:
    """A face that moves 3 px to the right per frame; counts how often it is looked for."""

    def __init__(self) -> None:
        self.looks = 0
        self.is_gone = False

    def track(self, image_HWC: NDArray[np.uint8], timestamp_ms: int) -> Face | None:
        self.looks += 1
        if self.is_gone:
            return None
        points = np.random.default_rng(0).uniform(100, 200, (478, 2)).astype(np.float32)
        return face_from_landmarks(points + np.array([3.0 * timestamp_ms / 40, 0], np.float32))

    def close(self) -> None:
        return None


class Echo:
    """Returns what it was given, in place of the image encoders."""

    def __init__(self) -> None:
        self.calls: dict[Socket, int] = {"pose": 0, "expression": 0, "mouth": 0}

    def codes_in_picture(
        self, image: object, crop: object, landmarks: object, sockets: frozenset[Socket]
    ) -> dict[Socket, NDArray[np.float32]]:
        for socket in sockets:
            self.calls[socket] += 1
        return {socket: np.full(4, self.calls[socket], np.float32) for socket in sockets}


SOCKETS: frozenset[Socket] = frozenset({"pose", "expression", "mouth"})


def run_frames(driver: FaceDriver, echo: Echo, numbers: range) -> list[dict[Socket, NDArray[np.float32]]]:
    stages = StageTimes(MediaClock())
    image = np.zeros((300, 300, 3), np.uint8)
    frames = [VideoFrame(image, number * 40 * MS) for number in numbers]
    return [driver.read(cast(Puppeteer, echo), frame, SOCKETS, stages) for frame in frames]


def test_every_frame_is_looked_at_unless_told_otherwise() -> None:
    tracker, echo = GlidingTracker(), Echo()
    run_frames(FaceDriver(cast(FaceTracker, tracker), 25), echo, range(1, 11))
    assert tracker.looks == 10
    assert echo.calls == {"pose": 10, "expression": 10, "mouth": 10}


def test_looking_every_other_frame_reads_the_mouth_on_each_and_the_rest_between_looks() -> None:
    tracker, echo = GlidingTracker(), Echo()
    codes = run_frames(FaceDriver(cast(FaceTracker, tracker), 25, every=2), echo, range(1, 22))
    assert tracker.looks <= 12
    assert echo.calls["mouth"] == 21
    assert echo.calls["pose"] == echo.calls["expression"] <= 11
    assert all(set(c) == SOCKETS for c in codes)


def test_the_pose_goes_on_at_its_own_pace_while_it_is_not_read() -> None:
    driver = FaceDriver(cast(FaceTracker, GlidingTracker()), 25, every=2)
    poses = [codes["pose"][0] for codes in run_frames(driver, Echo(), range(1, 82))]
    steps = np.diff(poses[60:])  # Echo's pose rises by 1 per reading: by 1/2 per frame once it is steady
    assert np.allclose(steps, 0.5, atol=0.02)


def test_a_lost_face_leaves_nothing_behind() -> None:
    tracker = GlidingTracker()
    driver, echo = FaceDriver(cast(FaceTracker, tracker), 25, every=2), Echo()
    run_frames(driver, echo, range(1, 12))
    tracker.is_gone = True
    assert run_frames(driver, echo, range(12, 14))[-1] == {}
    tracker.is_gone = False
    readings = dict(echo.calls)
    run_frames(driver, echo, range(14, 15))
    assert all(echo.calls[name] == readings[name] + 1 for name in readings)


def test_between_looks_the_face_moves_on_as_it_moved() -> None:
    tracker = GlidingTracker()
    driver = FaceDriver(cast(FaceTracker, tracker), 25, every=2)
    run_frames(driver, Echo(), range(1, 42))
    moved_on = [
        n for n in range(42, 52) if (run_frames(driver, Echo(), range(n, n + 1)), driver._frames_since)[1]
    ]
    assert moved_on
    assert driver._step_K2 is not None
    np.testing.assert_allclose(driver._step_K2[:, 0], 3, atol=0.3)


def test_a_face_that_goes_gives_no_code_and_is_looked_for_at_once() -> None:
    tracker, echo = GlidingTracker(), Echo()
    driver = FaceDriver(cast(FaceTracker, tracker), 25, every=2)
    run_frames(driver, echo, range(1, 11))
    tracker.is_gone = True
    gone = run_frames(driver, echo, range(11, 15))
    assert gone[-1] == {} and gone[-2] == {}
    tracker.is_gone = False
    assert set(run_frames(driver, echo, range(15, 16))[0]) == SOCKETS
