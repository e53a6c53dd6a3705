"""The encoding thread's side: what is read, how often, and which moment a picture belongs to."""

from typing import cast

import av
import numpy as np
import pytest
from numpy.typing import NDArray

from engine.clock import MediaClock
from engine.config import PerformanceConfig
from engine.face_tracker import FaceTracker
from engine.metrics import StageTimes
from engine.patch_bay import PatchBay
from engine.performance import ClipMemory, Cue, Reader
from engine.puppeteer import Puppeteer
from engine.sources.source import Arrival

MS = 1_000_000
NOBODY = cast(Puppeteer, None)
"""No face is ever found here, so nothing is encoded."""


class CountingTracker:
    """Sees no face, but counts how often it was asked."""

    def __init__(self) -> None:
        self.timestamps_ms: list[int] = []

    def track(self, image_HWC: NDArray[np.uint8], timestamp_ms: int) -> None:
        self.timestamps_ms.append(timestamp_ms)

    def close(self) -> None: ...


@pytest.fixture
def tracker() -> CountingTracker:
    return CountingTracker()


@pytest.fixture
def reader(tracker: CountingTracker) -> Reader:
    return open_reader(tracker, {})


def open_reader(tracker: CountingTracker, memory: ClipMemory) -> Reader:
    clock = MediaClock()
    return Reader(lambda: cast(FaceTracker, tracker), memory, PerformanceConfig(), clock, StageTimes(clock))


def cue(tick_ms: int, bay: PatchBay, clip_index: int | None = None, **captured_ms: int) -> Cue:
    frame = av.VideoFrame.from_ndarray(np.zeros((32, 32, 3), np.uint8), format="rgb24")
    pictures = {
        source: Arrival(frame, capture_ms * MS, tick_ms * MS, clip_index)
        for source, capture_ms in captured_ms.items()
    }
    return Cue(tick_ms * MS, bay, pictures, [], {name: 1 for name in pictures})


def test_a_picture_that_feeds_three_sockets_is_tracked_once(reader: Reader, tracker: CountingTracker) -> None:
    bay = PatchBay().patched({"pose": "camera", "expression": "camera", "mouth": "camera"})
    for tick_ms in (1000, 1040, 1080):
        reader.read(NOBODY, cue(tick_ms, bay, camera=tick_ms - 10))
    assert tracker.timestamps_ms == [990, 1030, 1070]


def test_a_repeating_clip_is_tracked_once_for_all_sessions(tracker: CountingTracker) -> None:
    memory: ClipMemory = {}
    bay = PatchBay().patched({"pose": "clip"})
    for _ in range(2):
        reader = open_reader(tracker, memory)
        for tick in range(20):
            reader.read(NOBODY, cue(1000 + 40 * tick, bay, clip_index=tick % 5, clip=1000 + 40 * tick))
    assert len(tracker.timestamps_ms) == 5


def test_timestamps_rise_for_the_tracker_even_where_capture_times_do_not(
    reader: Reader, tracker: CountingTracker
) -> None:
    for capture_ms in (900, 880, 880):
        reader.read(NOBODY, cue(1000, PatchBay().patched({"pose": "camera"}), camera=capture_ms))
    assert tracker.timestamps_ms == [900, 901, 902]


def test_a_picture_belongs_to_the_moment_that_moves_its_mouth(reader: Reader) -> None:
    bay = PatchBay().patched({"pose": "clip", "mouth": "camera"})
    reading = reader.read(NOBODY, cue(1000, bay, clip_index=0, clip=995, camera=950))
    assert reading.capture_time_ns == 950 * MS


def test_without_news_time_goes_on_by_one_frame_but_not_beyond_now(reader: Reader) -> None:
    bay = PatchBay().patched({"pose": "camera"})
    times_ms = [
        reader.read(NOBODY, found).capture_time_ns // MS
        for found in (cue(1000, bay, camera=960), cue(1040, bay), cue(1080, bay), cue(1085, bay))
    ]
    assert times_ms == [960, 1000, 1040, 1080]


def test_an_idle_picture_belongs_to_its_own_tick(reader: Reader) -> None:
    assert reader.read(NOBODY, cue(1234, PatchBay())).capture_time_ns == 1234 * MS
