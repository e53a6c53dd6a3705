"""The encoding thread's side: what is read, how often, and which moment a picture belongs to."""

from threading import Event
from typing import cast

import av
import numpy as np
import pytest
from numpy.typing import NDArray

from engine.clock import MediaClock
from engine.codes import Code, Socket
from engine.config import PerformanceConfig
from engine.face_tracker import FaceTracker
from engine.media import AudioChunk
from engine.metrics import StageTimes
from engine.patch_bay import PatchBay, Route
from engine.puppeteer import Puppeteer
from engine.reader import ClipMemory, Cue, Reader, Reading
from engine.sources.source import Arrival
from gcavt.preprocessing import Face, face_from_landmarks

MS = 1_000_000
NOBODY = cast(Puppeteer, None)
"""No face is ever found here, so nothing is encoded."""


class CountingTracker:
    """Sees no face, but counts how often it was asked."""

    def __init__(self) -> None:
        self.timestamps_ms: list[int] = []
        self.closed = 0

    def track(self, image_HWC: NDArray[np.uint8], timestamp_ms: int) -> Face | None:
        self.timestamps_ms.append(timestamp_ms)
        return None

    def close(self) -> None:
        self.closed += 1


@pytest.fixture
def tracker() -> CountingTracker:
    return CountingTracker()


@pytest.fixture
def reader(tracker: CountingTracker) -> Reader:
    return open_reader(tracker, {})


def open_reader(tracker: CountingTracker, memory: ClipMemory) -> Reader:
    clock = MediaClock()
    return Reader(lambda: cast(FaceTracker, tracker), memory, PerformanceConfig(), clock, StageTimes(clock))


def noise() -> NDArray[np.uint8]:
    return np.random.randint(0, 256, (32, 32, 3)).astype(np.uint8)


def cue(tick_ms: int, bay: PatchBay, clip_index: int | None = None, **captured_ms: int) -> Cue:
    frame = av.VideoFrame.from_ndarray(noise(), format="rgb24")
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


class Speaking:
    """Codes that tell where they came from, in place of the encoders."""

    seen: Code = np.full(4, 1, np.float32)
    heard: Code = np.full(4, 2, np.float32)

    def codes_in_picture(
        self, image: object, crop: object, landmarks: object, sockets: frozenset[Socket]
    ) -> dict[Socket, Code]:
        return dict.fromkeys(sockets, self.seen)

    def content_code_from_mel(self, window: object) -> Code:
        return self.heard


class SteadyTracker(CountingTracker):
    """Sees the same face wherever it is not told to see none."""

    is_gone = False

    def track(self, image_HWC: NDArray[np.uint8], timestamp_ms: int) -> Face | None:
        super().track(image_HWC, timestamp_ms)
        points = np.random.default_rng(0).uniform(8, 24, (478, 2)).astype(np.float32)
        return None if self.is_gone else face_from_landmarks(points)


SPEAKING = cast(Puppeteer, Speaking())
CAMERA, MICROPHONE = Route("camera"), Route("camera", is_sound=True)


def sound(end_ms: int, loudness: float = 0.1) -> list[tuple[AudioChunk, int]]:
    """40 ms of noise in two chunks that have just come in."""
    chunks = []
    for start_ms in (end_ms - 40, end_ms - 20):
        samples = (loudness * np.random.randn(960)).astype(np.float32)
        chunks.append((AudioChunk(samples, 48_000, start_ms * MS), (start_ms + 20) * MS))
    return chunks


class Scene:
    """A camera with a microphone, ticking 25 times a second."""

    def __init__(self, mouth: str) -> None:
        self.tracker = SteadyTracker()
        self.reader = open_reader(self.tracker, {})
        self.bay = PatchBay().patched({"pose": "camera", "mouth": mouth})
        self.tick_ms = 1000
        self.image = noise()

    def read(
        self,
        frames: int = 1,
        *,
        shows: str = "face",
        loudness: float = 0.1,
        connection: int = 1,
        is_speaking: bool = True,
    ) -> Reading:
        """shows: a face, nobody, the same picture all the time, or no picture at all."""
        self.tracker.is_gone = shows == "nobody"
        for _ in range(frames):
            self.image = self.image if shows == "same" else noise()
            frame = av.VideoFrame.from_ndarray(self.image, format="rgb24")
            arrival = Arrival(frame, (self.tick_ms - 15) * MS, (self.tick_ms - 5) * MS)
            pictures = {} if shows == "nothing" else {"camera": arrival}
            voice = sound(self.tick_ms, loudness) if is_speaking else []
            found = Cue(self.tick_ms * MS, self.bay, pictures, voice, {"camera": connection})
            reading = self.reader.read(SPEAKING, found)
            self.tick_ms += 40
        return reading


def test_a_mouth_that_is_seen_is_not_read_from_the_voice() -> None:
    reading = Scene("camera").read(20)
    assert reading.spoken["mouth"].keys() == {CAMERA}
    assert reading.spoken["pose"].keys() == {CAMERA}
    assert reading.capture_time_ns == reading.tick_ns - 15 * MS
    assert reading.wait_ns == 5 * MS


@pytest.mark.parametrize("shows", ["nobody", "same", "nothing"])
def test_a_lost_frozen_or_silent_camera_lets_the_voice_step_in_and_takes_over_again(shows: str) -> None:
    scene = Scene("camera")
    scene.read(20)
    stepping_in = [scene.read(shows=shows).spoken["mouth"].keys() for _ in range(10)]
    assert MICROPHONE not in stepping_in[0]
    assert all(spoken == {MICROPHONE} for spoken in stepping_in[3:])
    assert "camera" not in map(str, scene.read(shows=shows).spoken["pose"])
    assert scene.read(2).spoken["mouth"].keys() == {CAMERA}


def test_what_the_voice_moves_belongs_to_what_was_heard() -> None:
    reading = Scene("microphone").read(20)
    delay_ms = (reading.tick_ns - reading.capture_time_ns) / MS
    assert PerformanceConfig().look_ahead_ms - 2 <= delay_ms <= PerformanceConfig().look_ahead_ms + 50
    assert reading.wait_ns in (0, 20 * MS)


def test_a_muted_microphone_says_nothing_until_it_is_heard_again() -> None:
    scene = Scene("microphone")
    assert scene.read(20).spoken["mouth"]
    assert scene.read(12, loudness=0).spoken["mouth"] == {}
    assert scene.read(2).spoken["mouth"]


def test_sound_that_stops_coming_says_nothing() -> None:
    scene = Scene("microphone")
    scene.read(20)
    assert scene.read(is_speaking=False).spoken["mouth"] == {}


def test_a_lent_tracker_follows_its_source_and_is_closed_with_it(
    reader: Reader, tracker: CountingTracker
) -> None:
    lent, too_late = CountingTracker(), CountingTracker()
    reader.lend(1, cast(FaceTracker, lent))
    bay = PatchBay().patched({"pose": "camera"})
    reader.read(NOBODY, cue(1000, bay, camera=990))
    assert (lent.timestamps_ms, tracker.timestamps_ms) == ([990], [])
    reader.lend(2, cast(FaceTracker, too_late))
    reader.read(NOBODY, Cue(1040 * MS, bay, {}, [], {"camera": 3}))
    reader.aside.shutdown()
    assert (lent.closed, too_late.closed) == (1, 1)


def test_no_reading_waits_until_a_tracker_is_closed(reader: Reader) -> None:
    may_close, is_closed = Event(), Event()

    class Slow(CountingTracker):
        def close(self) -> None:
            may_close.wait()
            is_closed.set()

    reader.lend(1, cast(FaceTracker, Slow()))
    bay = PatchBay().patched({"pose": "camera"})
    reader.read(NOBODY, cue(1000, bay, camera=990))
    reader.read(NOBODY, Cue(1040 * MS, bay, {}, [], {}))
    reader.close()
    assert not is_closed.is_set()
    may_close.set()
    assert is_closed.wait(10)


def test_another_source_of_the_same_name_is_another_take() -> None:
    scene = Scene("camera")
    takes = [scene.read(5, connection=c).spoken["pose"][CAMERA].take for c in (1, 1, 2)]
    assert takes[0] == takes[1] != takes[2]
    scene.reader.aside.shutdown()
    assert scene.tracker.closed == 1


def test_a_clip_that_starts_over_is_another_take() -> None:
    scene = Scene("camera")
    bay = PatchBay().patched({"pose": "clip"})
    takes = [
        scene.reader.read(SPEAKING, cue(1000 + 40 * tick, bay, clip_index=tick % 5, clip=1000 + 40 * tick))
        .spoken["pose"][Route("clip")]
        .take
        for tick in range(10)
    ]
    assert len(set(takes)) == 2
    assert takes[4] != takes[5]


def test_a_still_is_looked_at_once_and_never_counts_as_frozen() -> None:
    scene = Scene("camera")
    bay = PatchBay().patched({"pose": "photo"}, {"photo": {"video": True, "audio": False}})
    for tick in range(10):
        reading = scene.reader.read(SPEAKING, cue(1000 + 80 * tick, bay, clip_index=0, photo=1000))
        assert reading.spoken["pose"].keys() == {Route("photo")}
    assert len(scene.tracker.timestamps_ms) == 1
