"""One live performance: its sources, its patch bay, the puppet, its sinks."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from dataclasses import asdict, replace
from functools import partial
from typing import TYPE_CHECKING, Any, cast

import numpy as np
from numpy.typing import NDArray

from engine.arrival_forecast import ArrivalForecast
from engine.assets import selfie_segmentation_path
from engine.calibration import Subject
from engine.clock import NS_PER_MS, NS_PER_S, MediaClock
from engine.codes import SOCKETS
from engine.compositor import Compositor, background_from_description
from engine.config import PerformanceConfig
from engine.errors import ControlError, EngineError, GpuError
from engine.mailbox import BoundedQueue, LatestFrame
from engine.media import AudioChunk
from engine.metrics import PerformanceMetrics
from engine.model_worker import ModelWorker
from engine.pacing import PhaseLockedTicker
from engine.patch_bay import IDLE, PatchBay, check_name
from engine.puppet import CalibrationCommand, Puppet
from engine.reader import ClipMemory, Cue, Reader, Reading
from engine.room import Room
from engine.sinks.sink import AvatarFrame, Sink
from engine.sinks.webrtc import SmoothedLatency
from engine.sources.remote import RemoteSource
from engine.sources.source import Arrival, HearSound, Source, problem_of

if TYPE_CHECKING:
    from engine.face_tracker import FaceTracker
    from engine.portrait_mask import PortraitMask
    from engine.puppeteer import IdentityState

logger = logging.getLogger(__name__)

MAX_SOUND_DELAY_NS = 500 * NS_PER_MS
MAX_WAITING_CHUNKS = 100
"""Two seconds of 20 ms chunks."""
FOLLOWERS_GRACE_NS = 8 * NS_PER_MS
"""How long a tick waits for the picture of a second camera that is about to come."""
READING_PATIENCE_S = 0.08
"""A reading that takes longer is not waited for: the head moves on as a silent one does until it is there."""
ROOM_EVERY_S = 0.5
GIVE_UP_NS = 10 * NS_PER_S
MAX_TOLD_AGES = 250
MAX_AGE_MS = 10_000


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
        self.bay = PatchBay(crossfade_ms=config.crossfade_ms)
        self.identity_name = identity_name
        self.failure: str | None = None
        """What keeps pictures from being made, in words."""
        self.is_closed = False
        self._identity = identity
        self._identity_can_be_found = True
        self._clock = clock
        self._config = config
        self._encoder = encoder
        self._generator = generator
        self._reader = Reader(open_tracker, clip_memory, config, clock, self.metrics.stages)
        self._puppet = Puppet(config, clock, self.metrics.stages)
        self._readings: LatestFrame[Reading] = LatestFrame()
        self._reading_taken = asyncio.Event()
        self._reading_taken.set()
        self._open_tracker = open_tracker
        self._open_clip = open_clip
        self._find_identity = find_identity
        self._background: object = {}
        self._sources: dict[str, Source] = {}
        self._connections: dict[str, int] = {}
        self._connected = 0
        self._forecasts: dict[str, ArrivalForecast] = {}
        self._sinks: list[Sink] = []
        self._voice: BoundedQueue[tuple[AudioChunk, int]] = BoundedQueue(MAX_WAITING_CHUNKS)
        self._sound: BoundedQueue[AudioChunk] = BoundedQueue(MAX_WAITING_CHUNKS)
        self._latency = SmoothedLatency()
        self._task: asyncio.Task[None] | None = None
        self._failing_since_ns: int | None = None
        self._begun_ns = clock.now_ns()
        """Tick of the newest picture begun."""

    def start(self) -> None:
        self._task = asyncio.create_task(self._run())

    async def close(self) -> None:
        """Stop, and close all sources and sinks."""
        self.is_closed = True
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
        await self._generator.release()

    async def patch(self, changes: Mapping[str, object]) -> None:
        """Change what is named: sockets, settings, `identity`, `background`; `calibrate` listens or forgets.

        Raises UnknownSourceError, ControlError or BadMediaError and leaves everything as it was.
        """
        rest = dict(changes)
        background = rest.pop("background", self._background)
        name = rest.pop("identity", self.identity_name)
        subject = await self._subject(rest.pop("calibrate")) if "calibrate" in rest else None
        bay = self.bay.patched(rest, self._carried())
        compositor = self._puppet.compositor
        if background != self._background:
            # a large picture takes longer to decode than the event loop may be kept
            compositor = Compositor(await asyncio.to_thread(background_from_description, background))
        identity = self._identity
        if name != self.identity_name:
            identity = await self._find_identity(cast(str, name))
        if bay.uses("clip") and "clip" not in self._sources:
            await self._connect("clip", await asyncio.to_thread(self._open_clip, self.hearer("clip")))
        if bay.mouth.source != self.bay.mouth.source:
            self._voice.take_all()
        self.bay = self.bay.patched(rest, self._carried())  # others may have patched it meanwhile
        self._puppet.compositor, self._background = compositor, background
        if "calibrate" in changes:
            self._puppet.calibration = CalibrationCommand(self._puppet.calibration.serial + 1, subject)
        if name != self.identity_name:
            self.set_identity(cast(str, name), identity, can_be_found=True)
        if not self.bay.uses("clip"):
            await self.disconnect("clip")

    async def _subject(self, wanted: object) -> Subject | None:
        """What `calibrate` asks for. Raises ControlError."""
        if wanted is False:
            return None
        if wanted is True or wanted == "neutral":
            return "neutral"
        if wanted != "range":
            raise ControlError(f'calibrate must be true, false, "neutral" or "range", got {wanted!r}.')
        if not await self._generator.run(lambda puppeteer: puppeteer.has_exact_codes):
            raise ControlError(
                "This model's codes have no known range: only the neutral face can be calibrated."
            )
        return "range"

    def set_identity(self, name: str, identity: IdentityState, *, can_be_found: bool = False) -> None:
        """Show another identity from the next picture on."""
        self.identity_name = name
        self._identity = identity
        self._identity_can_be_found = can_be_found

    def settings(self) -> dict[str, Any]:
        """What `patch` would have to be told to come back to what is set now; an uploaded identity is not."""
        told: dict[str, Any] = {socket: str(self.bay.route_of(socket)) for socket in SOCKETS}
        identity = {"identity": self.identity_name} if self._identity_can_be_found else {}
        return {
            **told,
            **identity,
            "gains": asdict(self.bay.gains),
            "pose_mode": self.bay.pose_mode,
            "crossfade_ms": self.bay.crossfade_ms,
            "background": self._background,
        }

    def note_seen(self, ages_ms: object) -> None:
        """How old the pictures were that a viewer has just seen, by its own account. Raises ControlError."""
        if not isinstance(ages_ms, list) or len(ages_ms) > MAX_TOLD_AGES or not all(map(_is_age, ages_ms)):
            raise ControlError(
                f"seen_ms must be up to {MAX_TOLD_AGES} numbers of milliseconds from 0 to {MAX_AGE_MS}."
            )
        for age_ms in ages_ms:
            self.metrics.stages.add("glass_to_glass", round(age_ms * NS_PER_MS))

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
        self._forecasts.pop(name, None)
        if source is not None:
            await source.close()

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
        sources |= {name: _told(source) for name, source in self._sources.items()}
        return {
            "identity": self.identity_name,
            "sockets": {socket: str(self.bay.route_of(socket)) for socket in SOCKETS},
            "sources": sources,
            "background": self._background,
            "effective": {socket: str(self._puppet.effective.get(socket) or IDLE) for socket in SOCKETS},
            "gains": asdict(self.bay.gains),
            "pose_mode": self.bay.pose_mode,
            "crossfade_ms": self.bay.crossfade_ms,
            "calibrated": self._puppet.is_calibrated,
            "calibrating": self._puppet.is_calibrating,
            "fps": self.metrics.rate.fps(),
            "frames": self.metrics.frames,
            "dropped": sum(self.metrics.dropped.values()),
            "dropped_by": dict(self.metrics.dropped),
            "stage_ms": self.metrics.stages.percentiles_ms(),
            "watchers": len(self._sinks),
            "now_ms": self._clock.now_ns() / NS_PER_MS,
            "tick_ms": self._begun_ns / NS_PER_MS,
            "failure": self.failure,
        }

    async def _connect(self, name: str, source: Source) -> None:
        tracker = None
        if source.state["video"]:
            loop = asyncio.get_running_loop()
            tracker = await loop.run_in_executor(self._reader.aside, self._open_tracker)
        self._connected += 1
        if tracker is not None:
            self._reader.lend(self._connected, tracker)
        replaced = self._sources.get(name)
        self._sources[name], self._connections[name] = source, self._connected
        self._forecasts.pop(name, None)
        if replaced is not None:
            await replaced.close()  # a device must be free before it is opened again
        if self._sources.get(name) is source:  # nobody has replaced it meanwhile
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
        if not np.isfinite(chunk.samples).all():
            chunk = replace(chunk, samples=np.zeros_like(chunk.samples))
        if source == self.bay.mouth.source:
            self._voice.put((chunk, self._clock.now_ns()))
        if source == self._sound_source:
            self._sound.put(chunk)

    async def _run(self) -> None:
        """What goes wrong costs a picture or two; the show ends when none could be made for GIVE_UP_NS."""
        while not await self._breaks_down():
            self._reading_taken.set()

    async def _breaks_down(self) -> bool:
        """Perform until something fails; whether it did so for good."""
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._read_drivers())
                tasks.create_task(self._make_pictures())
                tasks.create_task(self._play_sound())
                tasks.create_task(self._watch_room())
        except ExceptionGroup as errors:
            now_ns = self._clock.now_ns()
            if self._failing_since_ns is None:
                self._failing_since_ns = now_ns
                logger.error("a picture failed; the next ones are tried", exc_info=errors)
            self.failure = "Pictures fail because of an internal error; see the server's log."
            self.metrics.dropped["failed"] = self.metrics.dropped.get("failed", 0) + 1
            if now_ns - self._failing_since_ns > GIVE_UP_NS:
                self.failure = "The performance stopped because of an internal error; see the server's log."
                logger.error("performance stopped", exc_info=errors)
                return True
        return False

    async def _read_drivers(self) -> None:
        ticker = PhaseLockedTicker(self._clock, self._config.fps)
        leading = IDLE
        while True:
            await self._reading_taken.wait()
            tick_ns = await ticker.next_tick()
            if not self._sinks:
                ticker.missed = 0
                continue
            await self._await_late_picture(tick_ns)
            await self._await_followers()
            cue = self._cue(tick_ns)
            try:
                reading = await self._read(cue, ticker)
            except GpuError as error:
                self._note_gpu_failure(error)
                continue
            if cue.bay.leading != leading:
                leading = cue.bay.leading
                ticker.forget()
            if reading.wait_ns is not None:
                ticker.follow(reading.wait_ns)
            self._reading_taken.clear()
            self._readings.put(reading)
            self._count_drops(ticker)

    async def _read(self, cue: Cue, ticker: PhaseLockedTicker) -> Reading:
        """What the drivers say; pictures are made meanwhile, should it take long to find out.

        Few of them: where processors are short, drawing more would keep the reading back even longer.
        """
        reading = asyncio.ensure_future(self._encoder.run(partial(self._reader.read, cue=cue)))
        try:
            first_ns = cue.tick_ns
            while not (await asyncio.wait({reading}, timeout=READING_PATIENCE_S))[0]:
                cue = self._postponed(cue, await ticker.next_tick())
                self._readings.put(self._reader.silence(cue))
            if cue.tick_ns != first_ns:
                cue = self._postponed(cue, await ticker.next_tick())
            return replace(reading.result(), tick_ns=cue.tick_ns)
        except GpuError:
            raise
        except Exception:  # whatever it was: a driver that cannot be read is one that says nothing
            if "unreadable" not in self.metrics.dropped:
                logger.exception("what drives the avatar could not be read")
            self.metrics.dropped["unreadable"] = self.metrics.dropped.get("unreadable", 0) + 1
            return self._reader.silence(cue)
        finally:
            reading.cancel()

    async def _make_pictures(self) -> None:
        while True:
            reading = await self._readings.get()
            self._reading_taken.set()
            render = partial(self._puppet.render, identity=self._identity, reading=reading)
            # later than half-way to the next tick a picture waits for nobody else's
            deadline_ns = reading.tick_ns + round(NS_PER_S / self._config.fps / 2)
            try:
                frame = await self._generator.run(render, deadline_ns=deadline_ns)
            except GpuError as error:
                self._note_gpu_failure(error)
                continue
            self.failure = self._failing_since_ns = None
            self._deliver(frame)

    def _note_gpu_failure(self, error: GpuError) -> None:
        """One picture is lost; the backend is opened anew for the next."""
        self.failure = error.message
        self.metrics.dropped["gpu"] = self.metrics.dropped.get("gpu", 0) + 1

    async def _await_late_picture(self, tick_ns: int) -> None:
        """Give the leading source half a period's grace.

        A camera at about our own rate, in about our phase, would else be missed at one tick and have two
        pictures at the next, of which one is dropped.
        """
        source = self._sources.get(self.bay.leading.source)
        if self.bay.leading.is_sound or source is None:
            return
        if source.pictures.has_item or not source.state["live"]:
            return
        deadline_ns = tick_ns + round(NS_PER_S / self._config.fps / 2)
        with suppress(TimeoutError):
            async with asyncio.timeout(max(0, deadline_ns - self._clock.now_ns()) / NS_PER_S):
                await source.pictures.wait()

    async def _await_followers(self) -> None:
        """Give the cameras that do not set the pace the few milliseconds that they are late now and then.

        A picture that comes just after its tick would be held back to the next, and there be dropped for
        the one after it.
        """
        now_ns = self._clock.now_ns()
        late = [
            source.pictures.wait()
            for name, source in self._routed_sources().items()
            if not source.pictures.has_item
            and name != self.bay.leading.source
            and name in self._forecasts
            and self._forecasts[name].is_due(now_ns, FOLLOWERS_GRACE_NS)
        ]
        if late:
            with suppress(TimeoutError):
                async with asyncio.timeout(FOLLOWERS_GRACE_NS / NS_PER_S):
                    await asyncio.gather(*late)

    async def _watch_room(self) -> None:
        """Keep the room behind the avatar, where one is wished, as its camera sees it."""
        room, name = Room(open_cutter), ""
        while True:
            await asyncio.sleep(ROOM_EVERY_S)
            background = self._puppet.compositor.background
            if background.room != name:
                await asyncio.to_thread(room.close)
                room, name = Room(open_cutter), background.room
            source = self._sources.get(name)
            arrival = None if source is None else source.pictures.newest
            if arrival is None or not self._sinks:
                continue
            try:
                seen = await asyncio.to_thread(_look_at, room, arrival)
            except EngineError as error:
                logger.warning("no room behind the avatar: %s", error.message)
                return
            if self._puppet.compositor.background is background:  # nobody has changed it meanwhile
                self._puppet.compositor = Compositor(replace(background, image_HWC=seen))

    def _routed_sources(self) -> dict[str, Source]:
        return {name: source for name, source in self._sources.items() if self.bay.sockets_fed_by(name)}

    def _cue(self, tick_ns: int) -> Cue:
        pictures = {}
        for name, source in self._routed_sources().items():
            if (arrival := source.pictures.take()) is not None:
                pictures[name] = arrival
                self._forecasts.setdefault(name, ArrivalForecast()).note(arrival.arrival_ns)
        self._begun_ns = tick_ns
        return Cue(tick_ns, self.bay, pictures, self._voice.take_all(), dict(self._connections))

    def _postponed(self, cue: Cue, tick_ns: int) -> Cue:
        self._begun_ns = tick_ns
        return replace(cue, tick_ns=tick_ns)

    def _deliver(self, frame: AvatarFrame) -> None:
        self._latency.add(self._clock.now_ns() - frame.capture_time_ns)
        self.metrics.frames += 1
        self.metrics.rate.count()
        for sink in self._sinks:
            sink.show(frame)

    def _count_drops(self, ticker: PhaseLockedTicker) -> None:
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


def open_cutter() -> PortraitMask:
    """Raises AssetError, EngineError."""
    from engine.portrait_mask import PortraitMask  # MediaPipe, which takes a while to import

    return PortraitMask(selfie_segmentation_path())


def _look_at(room: Room, arrival: Arrival) -> NDArray[np.uint8]:
    return room.look(arrival.to_video_frame().image_HWC)


def _is_age(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value <= MAX_AGE_MS


def _told(source: Source) -> dict[str, Any]:
    problem = problem_of(source)
    return {**source.state, "kind": source.kind, **({"problem": problem} if problem else {})}
