"""A whole performance in virtual time: sources come and go, all is switched, no picture is missing."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from typing import Any, cast

import av
import numpy as np
import pytest
from numpy.typing import NDArray

from engine.clock import NS_PER_MS, NS_PER_S, MediaClock
from engine.codes import SOCKETS, Code, Socket
from engine.config import BUILT_IN_CLIP, EngineConfig, PerformanceConfig
from engine.errors import EngineError, UnknownSourceError
from engine.face_tracker import FaceTracker
from engine.mailbox import LatestFrame
from engine.media import AudioChunk
from engine.model_worker import LiveModel, ModelWorker
from engine.performance import Performance
from engine.puppet import Puppet
from engine.puppeteer import IdentityState, Puppeteer
from engine.reader import Reader, Reading
from engine.sinks.sink import AvatarFrame
from engine.socket_fade import NATURAL_STEP, distance
from engine.sources.source import SOUND_RATE, Arrival, HearSound, Source
from tests.bundles import TinyBundles
from tests.virtual_time import VirtualClock, run_virtually

FPS = 25
BLOCK = SOUND_RATE // 50


class Footage:
    """A person in front of a camera: the built-in clip, forth and back, from any picture on."""

    kind = "scripted"

    def __init__(
        self,
        clock: MediaClock,
        on_sound: HearSound,
        *,
        start: int = 0,
        carries: str = "av",
        jitter_ms: float = 0,
    ) -> None:
        """jitter_ms: pictures come up to so much sooner or later than evenly."""
        self.pictures: LatestFrame[Arrival] = LatestFrame()
        self.is_seen = True
        self.is_closed = False
        self._clock = clock
        self._on_sound = on_sound
        self._index = start
        self._carries = carries
        self._jitter_ms = jitter_ms
        self._tasks: list[asyncio.Task[None]] = []

    @property
    def state(self) -> dict[str, bool]:
        return {"video": "v" in self._carries, "audio": "a" in self._carries, "live": not self.is_closed}

    def start(self) -> None:
        if "v" in self._carries:
            self._tasks.append(asyncio.create_task(self._film()))
        if "a" in self._carries:
            self._tasks.append(asyncio.create_task(self._speak()))

    async def close(self) -> None:
        self.is_closed = True
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _film(self) -> None:
        frames = clip_frames()
        rng = np.random.default_rng(1)
        due_ns = self._clock.now_ns()
        while True:
            due_ns += NS_PER_S // FPS
            await self._clock.sleep_until(due_ns + round(rng.uniform(-1, 1) * self._jitter_ms * NS_PER_MS))
            self._index += 1
            if self.is_seen:
                now_ns = self._clock.now_ns()
                frame = frames[self._index % len(frames)]
                self.pictures.put(Arrival(frame, now_ns - 5 * NS_PER_MS, now_ns))

    async def _speak(self) -> None:
        rng = np.random.default_rng(0)
        while True:
            await asyncio.sleep(0.02)
            samples = (0.1 * rng.standard_normal(BLOCK)).astype(np.float32)
            self._on_sound(AudioChunk(samples, SOUND_RATE, self._clock.now_ns() - 20 * NS_PER_MS))


def clip_frames(memory: list[av.VideoFrame] = []) -> list[av.VideoFrame]:  # noqa: B006
    """Two seconds of the built-in clip, decoded once."""
    if not memory:
        with av.open(str(BUILT_IN_CLIP)) as container:
            for frame in container.decode(video=0):
                memory.append(frame.reformat(width=256, height=256, format="yuv420p"))
                if len(memory) == 50:
                    break
        memory += memory[-2:0:-1]
    return memory


@dataclass
class Viewer:
    """Keeps when pictures came, and what was heard."""

    clock: MediaClock
    times_ms: list[float] = field(default_factory=list)
    ticks_ns: list[int] = field(default_factory=list)
    sound: list[AudioChunk] = field(default_factory=list)

    def show(self, frame: AvatarFrame) -> None:
        self.times_ms.append(self.clock.now_ns() / NS_PER_MS)
        self.ticks_ns.append(frame.tick_ns)

    def play(self, chunk: AudioChunk) -> None:
        self.sound.append(chunk)

    async def close(self) -> None: ...


@dataclass
class Stage:
    performance: Performance
    clock: MediaClock
    viewer: Viewer

    def source(self, name: str, **options: Any) -> Footage:
        return Footage(self.clock, self.performance.hearer(name), **options)

    async def connect(self, name: str, **options: Any) -> Footage:
        source = self.source(name, **options)
        await self.performance.connect(name, source)
        return source

    @property
    def state(self) -> dict[str, Any]:
        return self.performance.state()


@pytest.fixture(scope="module")
def tiny_model(tiny_bundles: TinyBundles) -> Iterator[LiveModel]:
    opened = LiveModel.open(EngineConfig(model=str(tiny_bundles.path("edit_repose")), threads=1))
    yield opened
    opened.close()


class Blind:
    """Sees no face in anything, at no cost."""

    def track(self, image_HWC: object, timestamp_ms: int) -> None:
        return None

    def close(self) -> None: ...


class SlowEncoder:
    """A model's encoding thread, in which a reading takes longer while `delay_s` is above 0."""

    def __init__(self, model: LiveModel) -> None:
        self.delay_s = 0.0
        self._encoder = model.encoder

    async def run(self, job: Callable[[Puppeteer], Any]) -> Any:
        delay_s, self.delay_s = self.delay_s, 0.0
        await asyncio.sleep(delay_s)
        return await self._encoder.run(job)


def play(
    model: LiveModel,
    script: Callable[[Stage], Awaitable[None]],
    *,
    is_blind: bool = False,
    encoder: SlowEncoder | None = None,
) -> Stage:
    """Run a script on a performance that one viewer watches."""

    async def main() -> Stage:
        clock = VirtualClock(asyncio.get_running_loop())
        name = model.bundle.identity_names()[0]
        performance = Performance(
            clock=clock,
            config=PerformanceConfig(fps=FPS),
            encoder=model.encoder if encoder is None else cast(ModelWorker, encoder),
            generator=model.generator,
            open_tracker=(lambda: cast(FaceTracker, Blind())) if is_blind else model.open_tracker,
            open_clip=partial(_open_clip, clock),
            find_identity=model.identity,
            clip_memory={},
            identity_name=name,
            identity=await model.identity(name),
        )
        stage = Stage(performance, clock, Viewer(clock))
        performance.watch(stage.viewer)
        performance.start()
        await script(stage)
        assert performance.failure is None
        await performance.close()
        return stage

    return run_virtually(main())


def _open_clip(clock: MediaClock, on_sound: HearSound) -> Source:
    return Footage(clock, on_sound, start=25)


def test_a_source_is_known_by_its_name_and_replaced_by_the_next_of_that_name(tiny_model: LiveModel) -> None:
    async def script(stage: Stage) -> None:
        first = await stage.connect("guest")
        second = await stage.connect("guest")
        assert (first.is_closed, second.is_closed) == (True, False)
        assert dict(stage.performance.sources) == {"guest": second}
        assert stage.state["sources"]["guest"] == {
            "video": True,
            "audio": True,
            "live": True,
            "kind": "scripted",
        }
        await stage.performance.disconnect("guest")
        await stage.performance.disconnect("guest")
        assert second.is_closed
        assert "guest" not in stage.state["sources"]

    play(tiny_model, script)


def test_a_source_takes_over_before_the_one_it_replaces_is_closed(tiny_model: LiveModel) -> None:
    async def script(stage: Stage) -> None:
        performance, closing = stage.performance, asyncio.Event()
        first, second, third = (stage.source("guest") for _ in range(3))
        close = first.close

        async def close_slowly() -> None:
            await closing.wait()
            await close()

        first.close = close_slowly  # type: ignore[method-assign]
        await performance.connect("guest", first)
        taking_over = asyncio.create_task(performance.connect("guest", second))
        while performance.sources["guest"] is not second:  # noqa: ASYNC110 - nobody tells
            await asyncio.sleep(0.01)
        assert not second._tasks
        await performance.connect("guest", third)
        closing.set()
        await taking_over
        assert (first.is_closed, second.is_closed, third.is_closed) == (True, True, False)
        assert third._tasks and not second._tasks

    play(tiny_model, script, is_blind=True)


def test_a_socket_waits_idle_for_the_source_that_it_is_routed_to(tiny_model: LiveModel) -> None:
    async def script(stage: Stage) -> None:
        await stage.performance.patch({"pose": "camera"})
        await asyncio.sleep(0.4)
        assert stage.state["effective"]["pose"] == "idle"
        await stage.connect("camera")
        await asyncio.sleep(0.4)
        assert stage.state["effective"]["pose"] == "camera"
        await stage.performance.disconnect("camera")
        await asyncio.sleep(0.4)
        assert stage.state["effective"]["pose"] == "idle"
        assert stage.state["sockets"]["pose"] == "camera"

    play(tiny_model, script)


def test_the_sound_is_that_of_what_moves_the_mouth(tiny_model: LiveModel) -> None:
    async def script(stage: Stage) -> None:
        heard = {}
        for name in ("radio", "camera", "guest"):
            await stage.connect(name, carries="a" if name == "radio" else "av")
        for mouth in ("guest", "radio:audio", "microphone", "idle"):
            await stage.performance.patch({"mouth": mouth})
            heard[mouth] = stage.performance._sound_source
        await stage.performance.disconnect("camera")
        heard["no camera"] = stage.performance._sound_source
        assert heard == {
            "guest": "guest",
            "radio:audio": "radio",
            "microphone": "camera",
            "idle": "camera",
            "no camera": "radio",
        }
        await asyncio.sleep(0.3)
        assert stage.viewer.sound

    play(tiny_model, script)


@pytest.mark.parametrize(
    "changes",
    [
        {"identity": "nobody"},
        {"identity": 3},
        {"mouth": "radio:audio"},
        {"gains": {"pose": 3}},
        {"calibrate": "sideways"},
        {"background": {"colour": "green"}},
        {"background": "green"},
        {"sideways": True},
    ],
)
def test_a_patch_that_cannot_be_made_whole_is_not_made_at_all(
    tiny_model: LiveModel, changes: dict[str, object]
) -> None:
    async def script(stage: Stage) -> None:
        before = stage.performance.settings()
        with pytest.raises(EngineError):
            await stage.performance.patch({"pose": "clip", "crossfade_ms": 7, **changes})
        assert stage.performance.settings() == before
        assert not stage.performance.sources

    play(tiny_model, script)


def test_the_settings_of_a_performance_bring_it_back(tiny_model: LiveModel) -> None:
    async def script(stage: Stage) -> None:
        changes = {
            "pose": "clip",
            "mouth": "microphone",
            "gains": {"pose": 1.5},
            "pose_mode": "relative",
            "background": {"colour": "#20a060"},
        }
        await stage.performance.patch(changes)
        kept = stage.performance.settings()
        await stage.performance.patch({"pose": "idle", "gains": {"pose": 1}, "background": {}})
        await stage.performance.patch(kept)
        assert stage.performance.settings() == kept
        assert kept["gains"] == {"pose": 1.5, "expression": 1.0, "mouth": 1.0}

    play(tiny_model, script)


def test_an_uploaded_identity_is_no_part_of_the_settings(tiny_model: LiveModel) -> None:
    async def script(stage: Stage) -> None:
        name = stage.performance.identity_name
        assert stage.performance.settings()["identity"] == name
        stage.performance.set_identity("uploaded", await tiny_model.identity(name))
        assert "identity" not in stage.performance.settings()

    play(tiny_model, script)


def test_calibration_is_told_while_it_runs_and_when_it_is_done(tiny_model: LiveModel) -> None:
    async def script(stage: Stage) -> None:
        await stage.connect("camera")
        await stage.performance.patch({"pose": "camera"})
        await asyncio.sleep(0.4)
        assert not stage.state["calibrated"]
        await stage.performance.patch({"calibrate": True})
        await asyncio.sleep(0.4)
        assert stage.state["calibrating"]
        await asyncio.sleep(1.2)
        assert stage.state["calibrated"] and not stage.state["calibrating"]
        await stage.performance.patch({"calibrate": False})
        await asyncio.sleep(0.2)
        assert not stage.state["calibrated"]

    play(tiny_model, script)


def test_a_name_that_cannot_be_used_leaves_the_source_alone(tiny_model: LiveModel) -> None:
    async def script(stage: Stage) -> None:
        source = stage.source("x")
        for name in ("idle", "clip", "a:audio"):
            with pytest.raises(UnknownSourceError):
                await stage.performance.connect(name, source)
        assert not source.is_closed

    play(tiny_model, script)


def test_pictures_soon_wait_a_few_milliseconds_for_their_tick(tiny_model: LiveModel) -> None:
    async def script(stage: Stage) -> None:
        await asyncio.sleep(0.017)
        await stage.connect("camera")
        await stage.performance.patch({"pose": "camera"})
        await asyncio.sleep(2.5)
        waits_ms = stage.performance.metrics.stages.values_ms("decode_wait")
        assert max(waits_ms[-10:]) <= 3
        assert stage.performance.metrics.dropped == {"late": 0, "camera": 0}

    play(tiny_model, script, is_blind=True)


def test_a_second_camera_in_about_the_same_phase_loses_no_picture(tiny_model: LiveModel) -> None:
    """The voice sets the pace or another camera does; this one comes a little before its tick or after."""

    async def script(stage: Stage) -> None:
        await stage.connect("camera")
        second = await stage.connect("guest", jitter_ms=3)
        await stage.performance.patch({"pose": "guest", "mouth": "camera"})
        await asyncio.sleep(2)
        second_dropped = second.pictures.dropped
        await asyncio.sleep(5)
        assert second.pictures.dropped == second_dropped
        assert stage.performance.metrics.dropped["late"] == 0

    play(tiny_model, script, is_blind=True)


SWITCHES: tuple[dict[str, object], ...] = (
    {"pose": "camera", "expression": "camera", "mouth": "camera"},
    {"mouth": "microphone"},
    {"pose": "guest", "expression": "clip"},
    {"mouth": "guest", "gains": {"pose": 0.8, "mouth": 0.7}},
    {"pose_mode": "relative", "expression": "guest"},
    {"pose": "idle", "mouth": "idle"},
    {"pose": "camera", "expression": "idle", "mouth": "clip:audio"},
    {"pose_mode": "absolute", "crossfade_ms": 80, "mouth": "clip", "calibrate": True},
)


async def watch_one_camera(stage: Stage) -> None:
    await stage.connect("camera")
    await stage.performance.patch({"pose": "camera", "expression": "camera", "mouth": "camera"})
    await asyncio.sleep(2)


async def switch_everything(stage: Stage, identities: list[str]) -> None:
    """Every socket and the identity in turn, and a camera that is lost in the middle of it."""
    camera = await stage.connect("camera")
    await stage.connect("guest", start=12)
    for index, changes in enumerate(SWITCHES):
        camera.is_seen = index != 4
        await stage.performance.patch({**changes, "identity": identities[index % len(identities)]})
        await asyncio.sleep(0.36 + 0.013 * index)


Steps = dict[Socket, NDArray[np.float64]]


def switched(model: LiveModel, monkeypatch: pytest.MonkeyPatch) -> tuple[Steps, Steps]:
    """Check that no picture was missing; from picture to picture, the steps of the codes that were shown, in
    front of one camera and while everything is switched."""
    shown: list[dict[Socket, Code]] = []
    mix = Puppet.mix

    def remember(
        self: Puppet, puppeteer: Puppeteer, identity: IdentityState, reading: Reading
    ) -> dict[Socket, Code]:
        shown.append(mix(self, puppeteer, identity, reading))
        return shown[-1]

    monkeypatch.setattr(Puppet, "mix", remember)
    found = []
    names = model.bundle.identity_names()[:3]
    for script in (watch_one_camera, partial(switch_everything, identities=names)):
        shown.clear()
        stage = play(model, script)
        intervals_ms = np.diff(stage.viewer.ticks_ns) / NS_PER_MS
        assert len(intervals_ms) >= 48
        assert np.all(np.abs(intervals_ms - 1000 / FPS) <= 1.001)
        assert stage.performance.metrics.dropped["late"] == 0
        found.append(
            {
                s: np.array([distance(a[s], b[s]) for a, b in zip(shown, shown[1:], strict=False)])
                for s in SOCKETS
            }
        )
    return found[0], found[1]


def test_switching_everything_drops_no_picture(
    tiny_model: LiveModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, switching = switched(tiny_model, monkeypatch)
    assert all(np.isfinite(steps).all() for steps in switching.values())


@pytest.mark.slow
def test_switching_everything_with_the_shipped_model_jumps_nowhere(monkeypatch: pytest.MonkeyPatch) -> None:
    model = LiveModel.open(EngineConfig())
    try:
        natural, switching = switched(model, monkeypatch)
    finally:
        model.close()
    for socket in SOCKETS:
        largest = max(float(natural[socket].max()), 1.02 * NATURAL_STEP[socket])
        assert switching[socket].max() <= largest


@pytest.mark.parametrize("is_broken", [False, True])
def test_a_reading_that_takes_long_keeps_no_picture_back(
    tiny_model: LiveModel, monkeypatch: pytest.MonkeyPatch, is_broken: bool
) -> None:
    encoder = SlowEncoder(tiny_model)

    def broken(*_: object, **__: object) -> Reading:
        raise ValueError

    async def script(stage: Stage) -> None:
        await stage.connect("camera")
        await stage.performance.patch({"pose": "camera"})
        await asyncio.sleep(0.5)
        stage.viewer.times_ms.clear()
        stage.viewer.ticks_ns.clear()
        with monkeypatch.context() as patched:
            if is_broken:
                patched.setattr(Reader, "read", broken)
            encoder.delay_s = 0.7
            await asyncio.sleep(0.6)
            assert stage.state["effective"]["pose"] == "idle"
            await asyncio.sleep(0.2)
        await asyncio.sleep(0.5)
        assert stage.state["effective"]["pose"] == "camera"

    viewer = play(tiny_model, script, encoder=encoder).viewer
    assert np.diff(viewer.times_ms).max() < 150
    assert np.diff(viewer.ticks_ns).min() > 0


def test_the_room_behind_a_camera_is_behind_the_avatar_while_it_is_wished(tiny_model: LiveModel) -> None:
    corners: list[float] = []

    class Corner(Viewer):
        def show(self, frame: AvatarFrame) -> None:
            corners.append(float(frame.yuv420p[:8, :8].mean()))

    async def script(stage: Stage) -> None:
        stage.performance.watch(Corner(stage.clock))
        await stage.connect("camera")
        await stage.performance.patch({"pose": "camera", "background": {"room": "camera", "blur": 0.05}})
        await asyncio.sleep(2)
        assert corners[-1] > corners[0] + 10
        assert stage.performance.settings()["background"] == {"room": "camera", "blur": 0.05}
        await stage.performance.patch({"background": {}})
        await asyncio.sleep(1)
        assert abs(corners[-1] - corners[0]) < 5

    play(tiny_model, script)
