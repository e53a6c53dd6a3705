import numpy as np
import pytest

from engine.clock import MediaClock
from engine.media import AudioChunk
from engine.metrics import StageTimes
from engine.sinks.sink import AvatarFrame
from engine.sinks.webrtc import (
    AvatarAudioTrack,
    AvatarVideoTrack,
    CaptureLine,
    SmoothedLatency,
    SoundTimeline,
)

MS = 1_000_000


class ManualClock(MediaClock):
    def __init__(self) -> None:
        self.time_ns = 10_000 * MS

    def now_ns(self) -> int:
        return self.time_ns


def chunk(capture_ms: float, samples: int = 960) -> AudioChunk:
    return AudioChunk(np.full(samples, 0.5, np.float32), 48_000, round(capture_ms * MS))


def test_sound_that_jitters_is_laid_down_without_a_seam() -> None:
    timeline = SoundTimeline(0)
    starts = [timeline.place(chunk(20 * i + jitter)) for i, jitter in enumerate((0, 7, -9, 3))]
    assert starts == [0, 960, 1920, 2880]


def test_a_gap_stays_a_gap() -> None:
    timeline = SoundTimeline(0)
    timeline.place(chunk(0))
    assert timeline.place(chunk(500)) == 24_000


def test_sound_from_before_what_was_played_is_dropped() -> None:
    timeline = SoundTimeline(0)
    timeline.place(chunk(1000))
    assert timeline.place(chunk(500)) is None
    assert timeline.place(chunk(1020)) == 1020 * 48


def test_latency_follows_within_a_second_of_frames() -> None:
    latency = SmoothedLatency()
    assert latency.value_ns() == 0
    latency.add(50 * MS)
    assert latency.value_ns() == 50 * MS
    for _ in range(60):
        latency.add(190 * MS)
    assert latency.value_ns() == pytest.approx(190 * MS, rel=0.05)


def test_capture_times_along_a_track_are_even_though_those_of_its_frames_jitter() -> None:
    line = CaptureLine()
    for index in range(200):
        line.note(5_000 * MS + index * 40 * MS, 4_800 * MS + index * 40 * MS + (index % 3 - 1) * 15 * MS)
    assert line.capture_time_ns(400 * MS) == pytest.approx(5_200 * MS, abs=2 * MS)
    assert line.capture_time_ns(440 * MS) - line.capture_time_ns(400 * MS) == 40 * MS


def picture(tick_ns: int, luma: int = 0, age_ns: int = 15 * MS) -> AvatarFrame:
    return AvatarFrame(np.full((96, 64), luma, np.uint8), tick_ns - age_ns, tick_ns)


async def test_the_encoder_gets_the_newest_picture_with_its_place_in_time() -> None:
    clock = ManualClock()
    stages = StageTimes(clock)
    track = AvatarVideoTrack(clock, stages)
    origin_ns = clock.time_ns
    track.frames.put(picture(origin_ns))
    assert (await track.recv()).pts == 0
    for index in (1, 2):
        track.frames.put(picture(origin_ns + index * 40 * MS, luma=10 * index))
    clock.time_ns += 100 * MS
    frame = await track.recv()
    assert (frame.width, frame.height, frame.pts) == (64, 64, 80 * 90)
    assert frame.to_ndarray()[0, 0] == 20
    assert track.frames.dropped == 1
    assert stages.values_ms("capture_to_send") == [15.0, 35.0]


async def test_pictures_begun_before_the_viewer_came_keep_their_places_in_time() -> None:
    """A model of 150 ms shows a new viewer first what it began before; reports must not be off by that."""
    clock = ManualClock()
    track = AvatarVideoTrack(clock, StageTimes(clock))
    begun_ns = clock.time_ns - 150 * MS
    for index in range(6):
        tick_ns = begun_ns + index * 40 * MS
        track.frames.put(picture(tick_ns))
        frame = await track.recv()
        assert frame.pts == index * 40 * 90
        assert track.line.capture_time_ns(index * 40 * MS) == tick_ns - 15 * MS


async def test_sound_goes_out_as_16_bit_mono() -> None:
    clock = ManualClock()
    track = AvatarAudioTrack(clock)
    track.chunks.put(chunk(clock.time_ns / MS))
    frame = await track.recv()
    assert (frame.format.name, frame.layout.name, frame.samples, frame.pts) == ("s16", "mono", 960, 48_000)
    assert frame.to_ndarray()[0, 0] == 16383
