"""Faults that a live session meets, one test each: the picture goes on, and what should live lives.

Here the performance runs in virtual time, so that the gaps between its pictures are the engine's own and no
busy machine's. Faults of the wire are in test_wire_faults.py.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from typing import Literal

import av
import numpy as np
import pytest
from numpy.typing import NDArray

from engine.clock import NS_PER_MS, NS_PER_S, MediaClock
from engine.config import EngineConfig, PerformanceConfig
from engine.errors import EngineError, NoFaceError, UnknownSourceError
from engine.mailbox import LatestFrame
from engine.media import AudioChunk
from engine.model_worker import LiveModel
from engine.performance import Performance
from engine.sinks.sink import AvatarFrame
from engine.sources.source import SOUND_RATE, Arrival, HearSound, Source
from engine.sources.tts import TtsSource
from tests.bundles import TinyBundles, astronaut
from tests.virtual_time import VirtualClock, run_virtually

FPS = 25
MAX_GAP_MS = 200
BEFORE_S, AFTER_S = 0.8, 1.2
BLOCK = SOUND_RATE // 50

Image = NDArray[np.uint8]
Tensors = dict[str, NDArray[np.float32]]


@pytest.fixture(scope="module")
def model(tiny_bundles: TinyBundles) -> Iterator[LiveModel]:
    opened = LiveModel.open(EngineConfig(model=str(tiny_bundles.path("edit_repose")), threads=1))
    yield opened
    opened.close()


class ScriptedCamera:
    """A face that wanders about and a voice, both of which can be made to fail."""

    kind = "scripted"

    def __init__(self, clock: MediaClock, on_sound: HearSound, *, side_px: int = 256) -> None:
        self.pictures: LatestFrame[Arrival] = LatestFrame()
        self.fps = float(FPS)
        self.sees: Literal["face", "wall", "nothing", "noise"] = "face"
        self.hears: Literal["voice", "silence", "nothing"] = "voice"
        self.side_px = side_px
        self.clock_ahead_ns = 0
        self.is_closed = False
        self._clock = clock
        self._on_sound = on_sound
        self._photo = astronaut()
        self._tasks: list[asyncio.Task[None]] = []

    @property
    def state(self) -> dict[str, bool]:
        return {"video": True, "audio": True, "live": self.sees != "nothing" and not self.is_closed}

    def start(self) -> None:
        self._tasks = [asyncio.create_task(self._film()), asyncio.create_task(self._listen())]

    async def close(self) -> None:
        self.is_closed = True
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def show(self) -> None:
        """One picture, now."""
        now_ns = self._clock.now_ns()
        frame = av.VideoFrame.from_ndarray(self._view(now_ns / NS_PER_S), format="rgb24")
        self.pictures.put(Arrival(frame, now_ns + self.clock_ahead_ns - 5 * NS_PER_MS, now_ns))

    async def _film(self) -> None:
        while True:
            if self.sees != "nothing":
                self.show()
            await asyncio.sleep(1 / self.fps)

    async def _listen(self) -> None:
        generator = np.random.default_rng(0)
        while True:
            await asyncio.sleep(0.02)
            if self.hears == "nothing":
                continue
            loudness = 0.1 if self.hears == "voice" else 0.0
            samples = (loudness * generator.standard_normal(BLOCK)).astype(np.float32)
            start_ns = self._clock.now_ns() + self.clock_ahead_ns - 20 * NS_PER_MS
            self._on_sound(AudioChunk(samples, SOUND_RATE, start_ns))

    def _view(self, time_s: float) -> Image:
        side = self.side_px
        if self.sees == "wall":
            return np.full((side, side, 3), 127, np.uint8)
        if self.sees == "noise":
            return np.random.default_rng(0).integers(0, 255, (side, side, 3)).astype(np.uint8)
        x, y = 60 + round(20 * np.sin(6 * time_s)), 10 + round(10 * np.cos(6 * time_s))
        view = self._photo[y : y + 256, x + 30 : x + 286]
        rows = np.linspace(0, 255, side).astype(int)
        return np.ascontiguousarray(view[rows][:, rows])


@dataclass
class Record:
    """A viewer that remembers."""

    clock: MediaClock
    times_ms: list[float] = field(default_factory=list)
    pictures: list[Image] = field(default_factory=list)
    sound_chunks: int = 0

    def show(self, frame: AvatarFrame) -> None:
        self.times_ms.append(self.clock.now_ns() / NS_PER_MS)
        self.pictures.append(frame.yuv420p.copy())

    def play(self, chunk: AudioChunk) -> None:
        self.sound_chunks += 1

    async def close(self) -> None: ...

    def longest_gap_ms(self) -> float:
        return float(np.diff(self.times_ms).max())

    def longest_standstill_ms(self) -> float:
        """How long the same picture was shown at most."""
        longest = start = 0
        for index in range(1, len(self.pictures)):
            if not np.array_equal(self.pictures[index], self.pictures[index - 1]):
                start = index
            longest = max(longest, index - start)
        return longest * 1000 / FPS

    def changes(self) -> NDArray[np.float64]:
        """Mean absolute difference of brightness from each picture to the next, 0 to 255."""
        brightness = np.array([p[: len(p) * 2 // 3] for p in self.pictures], np.float64)
        return np.asarray(np.abs(np.diff(brightness, axis=0)).mean(axis=(1, 2)), np.float64)


@dataclass
class Stage:
    """A running performance with a scripted camera at it and a viewer before it."""

    performance: Performance
    camera: ScriptedCamera
    viewer: Record
    clock: MediaClock
    fault_at: int = 0

    async def connect(self, name: str = "camera") -> ScriptedCamera:
        camera = ScriptedCamera(self.clock, self.performance.hearer(name))
        await self.performance.connect(name, camera)
        return camera


Fault = Callable[[Stage], Awaitable[None]]


def play(model: LiveModel, fault: Fault, *, mouth: str = "camera", after_s: float = AFTER_S) -> Stage:
    """Play for a while, let the fault happen, play on; then check what must always hold."""

    async def main() -> Stage:
        clock = VirtualClock(asyncio.get_running_loop())
        name = model.bundle.identity_names()[0]
        performance = Performance(
            clock=clock,
            config=PerformanceConfig(fps=FPS),
            encoder=model.encoder,
            generator=model.generator,
            open_tracker=model.open_tracker,
            open_clip=no_clip,
            find_identity=model.identity,
            clip_memory={},
            identity_name=name,
            identity=await model.identity(name),
        )
        camera = ScriptedCamera(clock, performance.hearer("camera"))
        stage = Stage(performance, camera, Record(clock), clock)
        performance.watch(stage.viewer)
        performance.start()
        await performance.connect("camera", camera)
        await performance.patch({"pose": "camera", "expression": "camera", "mouth": mouth})
        await asyncio.sleep(BEFORE_S)
        stage.fault_at = len(stage.viewer.pictures)
        await fault(stage)
        await asyncio.sleep(after_s)
        assert performance.failure is None
        await performance.close()
        return stage

    stage = run_virtually(main())
    assert stage.viewer.longest_gap_ms() <= MAX_GAP_MS
    assert stage.viewer.longest_standstill_ms() <= MAX_GAP_MS
    assert stage.viewer.times_ms[-1] >= (1000 + BEFORE_S + after_s) * 1000 - MAX_GAP_MS
    return stage


def no_clip(on_sound: HearSound) -> Source:
    raise EngineError("no clip is played here")


def effective(stage: Stage) -> dict[str, str]:
    sockets: dict[str, str] = stage.performance.state()["effective"]
    return sockets


def test_nothing_happens(model: LiveModel) -> None:
    async def nothing(stage: Stage) -> None: ...

    stage = play(model, nothing)
    assert effective(stage) == {"pose": "camera", "expression": "camera", "mouth": "camera"}
    assert len(stage.viewer.pictures) >= (BEFORE_S + AFTER_S) * FPS * 0.9


def test_the_camera_is_unplugged_and_comes_back(model: LiveModel) -> None:
    async def unplug(stage: Stage) -> None:
        await stage.performance.disconnect("camera")
        await asyncio.sleep(1)
        assert effective(stage)["pose"] == "idle"
        await stage.connect()

    assert effective(play(model, unplug))["pose"] == "camera"


def test_the_camera_freezes(model: LiveModel) -> None:
    async def freeze(stage: Stage) -> None:
        stage.camera.sees = "nothing"
        await asyncio.sleep(1)
        assert effective(stage)["expression"] == "idle"
        stage.camera.sees = "face"

    assert effective(play(model, freeze))["expression"] == "camera"


def test_the_face_is_lost_and_comes_back(model: LiveModel) -> None:
    async def turn_to_the_wall(stage: Stage) -> None:
        stage.camera.sees = "wall"
        await asyncio.sleep(1)
        assert effective(stage)["pose"] == "idle"
        stage.camera.sees = "face"

    assert effective(play(model, turn_to_the_wall))["pose"] == "camera"


def test_the_camera_sees_noise(model: LiveModel) -> None:
    async def break_down(stage: Stage) -> None:
        stage.camera.sees = "noise"

    assert effective(play(model, break_down))["pose"] == "idle"


def test_the_mouth_goes_on_by_voice_when_its_face_is_lost(model: LiveModel) -> None:
    async def turn_to_the_wall(stage: Stage) -> None:
        stage.camera.sees = "wall"

    assert effective(play(model, turn_to_the_wall))["mouth"] == "microphone"


def test_the_microphone_is_muted(model: LiveModel) -> None:
    async def mute(stage: Stage) -> None:
        stage.camera.hears = "silence"

    assert play(model, mute, mouth="microphone").viewer.sound_chunks > 40


def test_the_microphone_is_pulled(model: LiveModel) -> None:
    async def pull(stage: Stage) -> None:
        stage.camera.hears = "nothing"
        await asyncio.sleep(1)
        stage.camera.hears = "voice"

    play(model, pull, mouth="microphone")


def test_the_pictures_change_their_size(model: LiveModel) -> None:
    async def change_size(stage: Stage) -> None:
        for side_px in (720, 33, 1, 256):
            stage.camera.side_px = side_px
            await asyncio.sleep(0.2)

    assert effective(play(model, change_size))["pose"] == "camera"


@pytest.mark.parametrize("leap_s", [3600, -3600, 0.3, -0.3])
def test_the_cameras_clock_leaps(model: LiveModel, leap_s: float) -> None:
    async def leap(stage: Stage) -> None:
        stage.camera.clock_ahead_ns = round(leap_s * NS_PER_S)

    play(model, leap, mouth="microphone")


def test_the_camera_slows_down_to_two_pictures_a_second(model: LiveModel) -> None:
    async def slow_down(stage: Stage) -> None:
        stage.camera.fps = 2

    play(model, slow_down)


def test_pictures_come_all_at_once(model: LiveModel) -> None:
    async def burst(stage: Stage) -> None:
        for _ in range(200):
            stage.camera.show()

    stage = play(model, burst)
    assert stage.performance.metrics.dropped["camera"] >= 199


def test_another_camera_takes_the_name(model: LiveModel) -> None:
    async def replace(stage: Stage) -> None:
        await stage.connect()
        assert stage.camera.is_closed

    assert effective(play(model, replace))["pose"] == "camera"


def test_a_bad_photo_leaves_the_face_as_it_was(model: LiveModel) -> None:
    async def upload(stage: Stage) -> None:
        ok, wall = encoded(np.full((256, 256, 3), 127, np.uint8))
        assert ok
        with pytest.raises(NoFaceError):
            await model.identity_from_photos([wall])

    stage = play(model, upload)
    assert stage.performance.identity_name == model.bundle.identity_names()[0]


def encoded(image_HWC: Image) -> tuple[bool, bytes]:
    import cv2

    ok, data = cv2.imencode(".png", image_HWC)
    return ok, data.tobytes()


def test_an_impossible_patch_changes_nothing(model: LiveModel) -> None:
    async def patch(stage: Stage) -> None:
        for changes in ({"identity": "nobody"}, {"pose": "idle", "nose": "camera"}):
            with pytest.raises(EngineError):
                await stage.performance.patch(changes)
        with pytest.raises(UnknownSourceError):
            await stage.performance.connect("idle", stage.camera)

    assert effective(play(model, patch))["pose"] == "camera"


def test_speech_breaks_off_in_the_middle_of_a_word(model: LiveModel) -> None:
    async def speak(stage: Stage) -> None:
        voice = TtsSource(24_000, stage.clock, stage.performance.hearer("voice"))
        await stage.performance.connect("voice", voice)
        await stage.performance.patch({"mouth": "voice:audio"})
        word = (8000 * np.sin(np.arange(24_000) / 20)).astype("<i2").tobytes()
        voice.feed(word[:-1])
        await asyncio.sleep(0.5)
        await stage.performance.disconnect("voice")

    play(model, speak)


def test_sources_come_and_go_in_quick_succession(model: LiveModel) -> None:
    async def hurry(stage: Stage) -> None:
        for index in range(10):
            await stage.connect(f"guest{index % 3}")
            await stage.performance.patch({"pose": f"guest{index % 3}"})
            await asyncio.sleep(0.05)
            await stage.performance.disconnect(f"guest{index % 3}")

    play(model, hurry)


def test_sound_changes_its_sample_rate(model: LiveModel) -> None:
    async def change_rate(stage: Stage) -> None:
        stage.camera.hears = "nothing"
        hear = stage.performance.hearer("camera")
        for rate in (8_000, 44_100, 16_000):
            for _ in range(20):
                noise = 0.1 * np.random.default_rng(0).standard_normal(rate // 50)
                hear(AudioChunk(noise.astype(np.float32), rate, stage.clock.now_ns() - 20 * NS_PER_MS))
                await asyncio.sleep(0.02)
        stage.camera.hears = "voice"

    assert effective(play(model, change_rate, mouth="microphone"))["mouth"] == "microphone"


def test_sound_is_no_number(model: LiveModel) -> None:
    async def break_down(stage: Stage) -> None:
        hear = stage.performance.hearer("camera")
        for value in (np.nan, np.inf, -np.inf):
            hear(AudioChunk(np.full(BLOCK, value, np.float32), SOUND_RATE, stage.clock.now_ns()))
            await asyncio.sleep(0.02)

    stage = play(model, break_down, mouth="microphone")
    assert effective(stage)["mouth"] == "microphone"
    assert stage.performance.metrics.dropped.get("unreadable", 0) == 0


@pytest.mark.parametrize("network", ["pose_encoder", "expression_encoder", "content_encoder"])
def test_codes_are_no_numbers_for_a_while(
    model: LiveModel, network: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = model.encoder.backend.run
    broken = asyncio.Event()

    def overflow(name: str, inputs: Tensors) -> Tensors:
        outputs = run(name, inputs)
        is_broken = name == network and broken.is_set()
        return {key: np.full_like(value, np.nan) for key, value in outputs.items()} if is_broken else outputs

    monkeypatch.setattr(model.encoder.backend, "run", overflow)

    async def break_down(stage: Stage) -> None:
        broken.set()
        await asyncio.sleep(1)
        broken.clear()

    stage = play(model, break_down)
    assert effective(stage) == {"pose": "camera", "expression": "camera", "mouth": "camera"}
    assert all(picture.any() for picture in stage.viewer.pictures)


@pytest.mark.parametrize("failures", [1, 3])
@pytest.mark.parametrize("worker", ["encoder", "generator"])
def test_a_network_fails(
    model: LiveModel, worker: str, failures: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    backend = getattr(model, worker).backend
    run = backend.run
    left = [0]

    def fail(name: str, inputs: Tensors) -> Tensors:
        if left[0] > 0:
            left[0] -= 1
            raise RuntimeError("out of luck")
        return dict(run(name, inputs))

    monkeypatch.setattr(backend, "run", fail)

    async def break_down(stage: Stage) -> None:
        left[0] = failures

    stage = play(model, break_down)
    assert stage.performance.metrics.dropped["unreadable" if worker == "encoder" else "failed"] == failures


def test_a_network_that_never_works_again_ends_the_show_in_words(
    model: LiveModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def break_down(stage: Stage) -> None:
        def fail(name: str, inputs: Tensors) -> Tensors:
            raise RuntimeError("out of luck")

        monkeypatch.setattr(model.generator.backend, "run", fail)
        await asyncio.sleep(5)
        assert stage.performance.failure is not None and "fail" in stage.performance.failure
        await asyncio.sleep(10)
        assert stage.performance.failure is not None and "stopped" in stage.performance.failure
        raise _Enough

    with pytest.raises(_Enough):
        play(model, break_down)


class _Enough(Exception):
    pass
