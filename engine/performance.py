"""One live performance: its sources, its patch bay, the puppet, its sinks."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, cast

import cv2
import numpy as np

from engine.clock import NS_PER_MS, NS_PER_S, MediaClock, Ticker
from engine.codes import SOCKETS, Code, DrivingCodes, Socket
from engine.compositor import BLACK, Compositor, background_from_description
from engine.config import PerformanceConfig
from engine.drivers import FaceDriver, VoiceDriver
from engine.mailbox import BoundedQueue, LatestFrame
from engine.media import AudioChunk
from engine.metrics import PerformanceMetrics, StageTimes
from engine.model_worker import ModelWorker
from engine.patch_bay import IDLE, PatchBay, SocketFade, check_name
from engine.sinks.sink import AvatarFrame, CutOut, Sink
from engine.sinks.webrtc import SmoothedLatency
from engine.sources.remote import RemoteSource
from engine.sources.source import Arrival, HearSound, Source

if TYPE_CHECKING:
    from engine.face_tracker import FaceTracker
    from engine.puppeteer import IdentityState, Puppeteer

logger = logging.getLogger(__name__)

MAX_SOUND_DELAY_NS = 500 * NS_PER_MS
MAX_WAITING_CHUNKS = 100
"""Two seconds of 20 ms chunks."""
MAX_REMEMBERED_PICTURES = 5000
"""Codes of three minutes of clip: 10 MB."""

ClipMemory = dict[int, dict[Socket, Code]]
"""What was read from the built-in clip, by picture: shared by all sessions, used in the encoding thread."""


@dataclass(frozen=True)
class Cue:
    """Everything that one tick found."""

    tick_ns: int
    bay: PatchBay
    pictures: Mapping[str, Arrival]
    """The newest of every source that feeds a socket and has shown something since."""
    voice: list[AudioChunk]
    """What was said since by the source whose sound moves the mouth."""
    connections: Mapping[str, int]
    """All connected sources by name; another number means another source of the same name."""


@dataclass(frozen=True)
class Reading:
    """What the drivers said at one tick: a code for every socket that heard anything."""

    tick_ns: int
    bay: PatchBay
    codes: dict[Socket, Code]
    capture_time_ns: int


class Reader:
    """The encoding thread's side of a performance: from a cue to codes."""

    def __init__(
        self,
        open_tracker: Callable[[], FaceTracker],
        clip_memory: ClipMemory,
        config: PerformanceConfig,
        clock: MediaClock,
        stages: StageTimes,
    ) -> None:
        self._open_tracker = open_tracker
        self._clip_memory = clip_memory
        self._fps = config.fps
        self._look_every = config.look_every
        self._clock = clock
        self._stages = stages
        self._look_ahead_ms = config.look_ahead_ms
        self._faces: dict[str, FaceDriver] = {}
        self._voice: tuple[str, VoiceDriver] = ("", VoiceDriver(config.look_ahead_ms))
        self._connections: Mapping[str, int] = {}
        self._last_capture_ns = clock.now_ns()

    def read(self, puppeteer: Puppeteer, cue: Cue) -> Reading:
        """Track and encode what came in; each picture once, however many sockets it feeds."""
        self._forget_replaced(cue.connections)
        codes: dict[Socket, Code] = {}
        for source, arrival in cue.pictures.items():
            codes |= self._read_face(puppeteer, source, arrival, cue.bay)
        voice_ns = None
        if cue.voice and (heard := self._hear(puppeteer, cue)) is not None:
            codes["mouth"], voice_ns = heard
        return Reading(cue.tick_ns, cue.bay, codes, self._capture_time_ns(cue, voice_ns))

    def close(self) -> None:
        for face in self._faces.values():
            face.close()
        self._faces.clear()

    def _forget_replaced(self, connections: Mapping[str, int]) -> None:
        """What was followed in a source that is gone says nothing about the next of that name."""
        for name, number in self._connections.items():
            if connections.get(name) != number and name in self._faces:
                self._faces.pop(name).close()
        self._connections = connections

    def _hear(self, puppeteer: Puppeteer, cue: Cue) -> tuple[Code, int] | None:
        speaker, driver = self._voice
        if speaker != cue.bay.voice_source:
            driver = VoiceDriver(self._look_ahead_ms)
            self._voice = (cue.bay.voice_source, driver)
        return driver.hear(puppeteer, cue.voice, self._stages)

    def _read_face(
        self, puppeteer: Puppeteer, source: str, arrival: Arrival, bay: PatchBay
    ) -> dict[Socket, Code]:
        self._stages.add("decode_wait", self._clock.now_ns() - arrival.arrival_ns)
        sockets = bay.sockets_fed_by(source)
        if source != "clip" or arrival.clip_index is None:
            return self._follow(puppeteer, source, arrival, sockets)
        known = self._clip_memory.get(arrival.clip_index)
        if known is None:
            known = self._follow(puppeteer, source, arrival, frozenset(SOCKETS))
            if len(self._clip_memory) < MAX_REMEMBERED_PICTURES:
                self._clip_memory[arrival.clip_index] = known
        return {socket: code for socket, code in known.items() if socket in sockets}

    def _follow(
        self, puppeteer: Puppeteer, source: str, arrival: Arrival, sockets: frozenset[Socket]
    ) -> dict[Socket, Code]:
        if source not in self._faces:
            self._faces[source] = FaceDriver(self._open_tracker(), self._fps, every=self._look_every)
        return self._faces[source].read(puppeteer, arrival.to_video_frame(), sockets, self._stages)

    def _capture_time_ns(self, cue: Cue, voice_ns: int | None) -> int:
        """When what is shown happened: what moves the mouth decides, for the lips must fit the sound."""
        leading = cue.bay.leading
        period_ns = round(NS_PER_S / self._fps)
        if leading == IDLE:
            self._last_capture_ns = cue.tick_ns
        elif leading.is_sound and voice_ns is not None:
            self._last_capture_ns = voice_ns
        elif not leading.is_sound and leading.source in cue.pictures:
            self._last_capture_ns = cue.pictures[leading.source].capture_time_ns
        else:  # nothing new from there: time goes on as before
            self._last_capture_ns = min(cue.tick_ns, self._last_capture_ns + period_ns)
        return self._last_capture_ns


class Puppet:
    """The generating thread's side of a performance: from codes to the finished picture."""

    def __init__(self, config: PerformanceConfig, clock: MediaClock, stages: StageTimes) -> None:
        self.compositor = Compositor(BLACK)
        self._stages = stages
        self._start_ns = clock.now_ns()
        self._fades: dict[Socket, SocketFade] = {
            socket: SocketFade(
                crossfade_ms=config.crossfade_ms, hold_ms=config.hold_ms, ease_ms=config.ease_ms
            )
            for socket in SOCKETS
        }

    def render(self, puppeteer: Puppeteer, identity: IdentityState, reading: Reading) -> AvatarFrame:
        """Mix the codes, generate, and lay the picture out for the encoders."""
        time_s = (reading.tick_ns - self._start_ns) / NS_PER_S
        codes = self._mixed(reading, puppeteer.idle_codes(time_s, identity))
        with self._stages.measure("generate"):
            cut_out = CutOut(
                *puppeteer.generate(identity, codes["pose"], codes["expression"], codes["mouth"])
            )
        with self._stages.measure("deliver"):
            image_HWC = self.compositor.compose(cut_out.image_HWC, cut_out.mask_HW)
            yuv420p = np.asarray(cv2.cvtColor(image_HWC, cv2.COLOR_RGB2YUV_I420), np.uint8)
        return AvatarFrame(yuv420p, reading.capture_time_ns, reading.tick_ns, cut_out)

    def _mixed(self, reading: Reading, idle: DrivingCodes) -> dict[Socket, Code]:
        return {
            socket: fade.step(
                str(reading.bay.route_of(socket)),
                reading.codes.get(socket),
                idle.of(socket),
                reading.tick_ns,
            )
            for socket, fade in self._fades.items()
        }


class Performance:
    """On the event loop: takes the newest of every source at each tick, hands it to the threads, delivers.

    Nothing queues anywhere: while one picture is generated the next is read, and no further one until that
    is taken; ticks that go by meanwhile are skipped, and the next one takes what is newest then.
    """

    def __init__(
        self,
        *,
        clock: MediaClock,
        config: PerformanceConfig,
        encoder: ModelWorker,
        generator: ModelWorker,
        open_tracker: Callable[[], FaceTracker],
        open_clip: Callable[[HearSound], Source],
        find_identity: Callable[[str], Awaitable[IdentityState]],
        clip_memory: ClipMemory,
        identity_name: str,
        identity: IdentityState,
    ) -> None:
        self.metrics = PerformanceMetrics.started(clock)
        self.bay = PatchBay()
        self.identity_name = identity_name
        self.failure: str | None = None
        self._identity = identity
        self._clock = clock
        self._config = config
        self._encoder = encoder
        self._generator = generator
        self._reader = Reader(open_tracker, clip_memory, config, clock, self.metrics.stages)
        self._puppet = Puppet(config, clock, self.metrics.stages)
        self._readings: LatestFrame[Reading] = LatestFrame()
        self._reading_taken = asyncio.Event()
        self._reading_taken.set()
        self._open_clip = open_clip
        self._find_identity = find_identity
        self._background: object = {}
        self._sources: dict[str, Source] = {}
        self._connections: dict[str, int] = {}
        self._connected = 0
        self._sinks: list[Sink] = []
        self._voice: BoundedQueue[AudioChunk] = BoundedQueue(MAX_WAITING_CHUNKS)
        self._sound: BoundedQueue[AudioChunk] = BoundedQueue(MAX_WAITING_CHUNKS)
        self._latency = SmoothedLatency()
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        self._task = asyncio.create_task(self._run())

    async def close(self) -> None:
        """Stop, and close all sources and sinks."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        for sink in self._sinks:
            await sink.close()
        for source in self._sources.values():
            await source.close()
        self._sinks.clear()
        self._sources.clear()
        await self._encoder.run(lambda _: self._reader.close())

    async def patch(self, changes: Mapping[str, object]) -> None:
        """Change what is named: sockets, `identity`, `background`.

        Raises UnknownSourceError or BadMediaError and leaves everything as it was.
        """
        rest = dict(changes)
        name, background = rest.pop("identity", self.identity_name), rest.pop("background", self._background)
        bay = self.bay.patched(rest, self._carried())
        compositor = self._puppet.compositor
        if background != self._background:
            compositor = Compositor(background_from_description(background))
        identity = self._identity
        if name != self.identity_name:
            identity = await self._find_identity(cast(str, name))
        if bay.uses("clip") and "clip" not in self._sources:
            await self._connect("clip", self._open_clip(self.hearer("clip")))
        self.bay = bay
        self._puppet.compositor, self._background = compositor, background
        self.set_identity(cast(str, name), identity)
        if not bay.uses("clip"):
            await self.disconnect("clip")

    def set_identity(self, name: str, identity: IdentityState) -> None:
        self.identity_name = name
        self._identity = identity

    def hearer(self, source: str) -> HearSound:
        """Where the source of this name has to deliver its sound."""
        return lambda chunk: self._hear(source, chunk)

    @property
    def sources(self) -> Mapping[str, Source]:
        """What is connected, by name."""
        return self._sources

    async def connect(self, name: str, source: Source) -> None:
        """Take a source in, in place of an earlier one of that name, and start it.

        Raises UnknownSourceError for a name that cannot be used; the source is then left alone.
        """
        check_name(name)
        await self._connect(name, source)

    async def disconnect(self, name: str) -> None:
        """Close a source; no error if there is none. What it fed stays routed, should it come again."""
        source = self._sources.pop(name, None)
        self._connections.pop(name, None)
        if source is not None:
            await source.close()

    async def drop_lost_sources(self) -> None:
        """Let go of publishers whose connection has failed."""
        for name, source in list(self._sources.items()):
            if isinstance(source, RemoteSource) and source.is_over:
                await self.disconnect(name)

    def watch(self, sink: Sink) -> None:
        self._sinks.append(sink)

    async def unwatch(self, sink: Sink) -> None:
        if sink in self._sinks:
            self._sinks.remove(sink)
            await sink.close()

    @property
    def is_attended(self) -> bool:
        """Somebody watches or publishes."""
        return bool(self._sinks) or any(isinstance(s, RemoteSource) for s in self._sources.values())

    def state(self) -> dict[str, Any]:
        """What GET /sessions/{id} tells, in JSON types."""
        absent = {"video": False, "audio": False, "live": False, "kind": "none"}
        sources = {name: dict(absent) for name in ("camera", "clip")}
        sources |= {name: {**source.state, "kind": source.kind} for name, source in self._sources.items()}
        return {
            "identity": self.identity_name,
            "sockets": {socket: str(self.bay.route_of(socket)) for socket in SOCKETS},
            "sources": sources,
            "background": self._background,
            "fps": self.metrics.rate.fps(),
            "frames": self.metrics.frames,
            "dropped": sum(self.metrics.dropped.values()),
            "dropped_by": dict(self.metrics.dropped),
            "stage_ms": self.metrics.stages.percentiles_ms(),
            "watchers": len(self._sinks),
            "failure": self.failure,
        }

    async def _connect(self, name: str, source: Source) -> None:
        await self.disconnect(name)
        self._connected += 1
        self._sources[name], self._connections[name] = source, self._connected
        source.start()

    def _carried(self) -> dict[str, dict[str, bool]]:
        return {name: source.state for name, source in self._sources.items()}

    @property
    def _sound_source(self) -> str:
        """Whose sound goes with the picture: that of what moves the mouth, else the camera's, else any."""
        audible = [name for name, source in self._sources.items() if source.state["audio"]]
        wanted = (self.bay.mouth.source, "camera", *audible)
        return next((name for name in wanted if name in audible), "")

    def _hear(self, source: str, chunk: AudioChunk) -> None:
        if not self._sinks:
            return
        if source == self.bay.voice_source:
            self._voice.put(chunk)
        if source == self._sound_source:
            self._sound.put(chunk)

    async def _run(self) -> None:
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._read_drivers())
                tasks.create_task(self._make_pictures())
                tasks.create_task(self._play_sound())
        except ExceptionGroup as errors:
            self.failure = "The performance stopped because of an internal error; see the server's log."
            logger.error("performance stopped", exc_info=errors)

    async def _read_drivers(self) -> None:
        ticker = Ticker(self._clock, self._config.fps)
        while True:
            await self._reading_taken.wait()
            tick_ns = await ticker.next_tick()
            if not self._sinks:
                ticker.missed = 0
                continue
            await self._await_late_pictures(tick_ns)
            cue = self._cue(tick_ns)
            reading = await self._encoder.run(partial(self._reader.read, cue=cue))
            self._reading_taken.clear()
            self._readings.put(reading)
            self._count_drops(ticker)

    async def _make_pictures(self) -> None:
        while True:
            reading = await self._readings.get()
            self._reading_taken.set()
            render = partial(self._puppet.render, identity=self._identity, reading=reading)
            self._deliver(await self._generator.run(render))

    async def _await_late_pictures(self, tick_ns: int) -> None:
        """Give a steady source half a period's grace.

        A camera at about our own rate, in about our phase, would else be missed at one tick and have two
        pictures at the next, of which one is dropped.
        """
        deadline_ns = tick_ns + round(NS_PER_S / self._config.fps / 2)
        for source in self._routed_sources().values():
            if source.pictures.has_item or not source.state["live"]:
                continue
            try:
                async with asyncio.timeout(max(0, deadline_ns - self._clock.now_ns()) / NS_PER_S):
                    await source.pictures.wait()
            except TimeoutError:
                continue

    def _routed_sources(self) -> dict[str, Source]:
        return {name: source for name, source in self._sources.items() if self.bay.sockets_fed_by(name)}

    def _cue(self, tick_ns: int) -> Cue:
        pictures = {}
        for name, source in self._routed_sources().items():
            if (arrival := source.pictures.take()) is not None:
                pictures[name] = arrival
        return Cue(tick_ns, self.bay, pictures, self._voice.take_all(), dict(self._connections))

    def _deliver(self, frame: AvatarFrame) -> None:
        self._latency.add(self._clock.now_ns() - frame.capture_time_ns)
        self.metrics.frames += 1
        self.metrics.rate.count()
        for sink in self._sinks:
            sink.show(frame)

    def _count_drops(self, ticker: Ticker) -> None:
        dropped = self.metrics.dropped
        dropped["late"] = dropped.get("late", 0) + ticker.missed
        ticker.missed = 0
        for name, source in self._sources.items():
            dropped[name] = source.pictures.dropped

    async def _play_sound(self) -> None:
        while True:
            chunk = await self._sound.get()
            if self._config.delay_sound:
                delay_ns = min(self._latency.value_ns(), MAX_SOUND_DELAY_NS)
                await self._clock.sleep_until(chunk.capture_time_ns + delay_ns)
            for sink in self._sinks:
                sink.play(chunk)
