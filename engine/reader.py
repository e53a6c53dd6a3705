"""The encoding thread's side of a performance: what came in since the last tick, read to codes."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from engine.clock import NS_PER_MS, NS_PER_S, MediaClock
from engine.codes import SOCKETS, Code, Socket
from engine.config import PerformanceConfig
from engine.drivers import FaceDriver, VoiceDriver
from engine.media import AudioChunk, VideoFrame
from engine.metrics import StageTimes
from engine.model_worker import ENCODING_NICENESS, yield_to_others
from engine.patch_bay import IDLE, PatchBay, Route
from engine.socket_fade import Spoken
from engine.sources.source import Arrival

if TYPE_CHECKING:
    from engine.face_tracker import FaceTracker
    from engine.puppeteer import Puppeteer

MAX_REMEMBERED_PICTURES = 5000
"""Codes of three minutes of clip: 10 MB."""
VOICE_STEPS_IN_NS = 80 * NS_PER_MS
"""A mouth that has not been seen for this long is read from the voice instead."""
COMPARED_EVERY_PX = 8

ClipMemory = dict[int, dict[Socket, Code]]
"""What was read from the built-in clip, by picture: shared by all sessions, used in the encoding thread."""


@dataclass(frozen=True)
class Cue:
    """Everything that one tick found."""

    tick_ns: int
    bay: PatchBay
    pictures: Mapping[str, Arrival]
    """The newest of every source that feeds a socket and has shown something since."""
    voice: list[tuple[AudioChunk, int]]
    """What was said since by the source that moves the mouth, and when it came in."""
    connections: Mapping[str, int]
    """All connected sources by name; another number means another source of the same name."""


@dataclass(frozen=True)
class Reading:
    """What the drivers said at one tick."""

    tick_ns: int
    bay: PatchBay
    spoken: Mapping[Socket, Mapping[Route, Spoken]]
    """By socket, what each route said that feeds it or may stand in; nothing from those that fell silent."""
    capture_time_ns: int
    wait_ns: int | None
    """How long before the tick that came in which decides the picture's moment; None: nothing came."""


@dataclass
class _Follower:
    """What is known about one connected source that shows pictures."""

    connection: int
    driver: FaceDriver
    memory: ClipMemory = field(default_factory=dict)
    loop: int = 0
    last_index: int = -1
    last_look: bytes = b""

    def note_index(self, index: int | None) -> None:
        """A clip that starts over does not go on from where it ended."""
        if index is not None:
            self.loop += index < self.last_index
            self.last_index = index

    def repeats(self, frame: VideoFrame) -> bool:
        """Whether this is the very same picture again: no camera gives that, a frozen one does."""
        image = frame.image_HWC
        look = image[::COMPARED_EVERY_PX, ::COMPARED_EVERY_PX].tobytes()
        is_same, self.last_look = look == self.last_look, look
        return is_same


class Reader:
    """Follows every source that feeds a socket. Used in the encoding thread only."""

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
        self._look_ahead_ms = config.look_ahead_ms
        self._clock = clock
        self._stages = stages
        self.aside = ThreadPoolExecutor(1, "tracker", initializer=partial(yield_to_others, ENCODING_NICENESS))
        """Where face trackers are opened and closed: that takes a picture's time, and longer under load."""
        self._followers: dict[str, _Follower] = {}
        self._lent: dict[int, FaceTracker] = {}
        self._voice: tuple[Hashable, VoiceDriver] = (None, VoiceDriver(config.look_ahead_ms))
        self._mouth_seen: tuple[Hashable, int] = (None, 0)
        self._last_capture_ns = clock.now_ns()

    def read(self, puppeteer: Puppeteer, cue: Cue) -> Reading:
        """Track and encode what came in; each picture once, however many sockets it feeds."""
        self._forget_replaced(cue.connections)
        spoken: dict[Socket, dict[Route, Spoken]] = {socket: {} for socket in SOCKETS}
        for source, arrival in cue.pictures.items():
            codes = self._read_face(puppeteer, source, arrival, cue)
            take = (cue.connections.get(source), self._followers[source].loop)
            for socket, code in codes.items():
                spoken[socket][Route(source)] = Spoken(code, take)
        moment = self._moment_of_picture(cue)
        heard = self._hear(puppeteer, cue, mouth_is_seen=bool(spoken["mouth"]))
        if heard is not None:
            spoken["mouth"][Route(cue.bay.mouth.source, is_sound=True)], moment = heard
        wait_ns = None if moment is None else cue.tick_ns - moment.arrival_ns
        return Reading(cue.tick_ns, cue.bay, spoken, self._capture_time_ns(cue, moment), wait_ns)

    def silence(self, cue: Cue) -> Reading:
        """What is said where nothing can be read. May be called from another thread, even while one reads."""
        spoken: dict[Socket, dict[Route, Spoken]] = {socket: {} for socket in SOCKETS}
        return Reading(cue.tick_ns, cue.bay, spoken, self._capture_time_ns(cue, None), None)

    def lend(self, connection: int, tracker: FaceTracker) -> None:
        """A face tracker for a source that is about to come: opening one takes most of a picture's time.

        May be called from another thread.
        """
        self._lent[connection] = tracker

    def close(self) -> None:
        """Does not wait until all is closed."""
        for follower in self._followers.values():
            self.aside.submit(follower.driver.close)
        for connection in list(self._lent):
            self.aside.submit(self._lent.pop(connection).close)
        self._followers.clear()
        self.aside.shutdown(wait=False)

    def _forget_replaced(self, connections: Mapping[str, int]) -> None:
        """What was followed in a source that is gone says nothing about the next of that name."""
        for name, follower in list(self._followers.items()):
            if connections.get(name) != follower.connection:
                self.aside.submit(self._followers.pop(name).driver.close)
        for connection in list(self._lent):
            if connection < max(connections.values(), default=0) and connection not in connections.values():
                self.aside.submit(self._lent.pop(connection).close)

    def _read_face(
        self, puppeteer: Puppeteer, source: str, arrival: Arrival, cue: Cue
    ) -> Mapping[Socket, Code]:
        self._stages.add("decode_wait", self._clock.now_ns() - arrival.arrival_ns)
        sockets = cue.bay.sockets_fed_by(source)
        follower = self._follower(source, cue.connections[source])
        follower.note_index(arrival.clip_index)
        if arrival.clip_index is None:
            frame = arrival.to_video_frame()
            return {} if follower.repeats(frame) else self._look(puppeteer, follower, frame, sockets)
        memory = self._clip_memory if source == "clip" else follower.memory
        known = memory.get(arrival.clip_index)
        if known is None:
            known = self._look(puppeteer, follower, arrival.to_video_frame(), frozenset(SOCKETS))
            if len(memory) < MAX_REMEMBERED_PICTURES:
                memory[arrival.clip_index] = known
        return {socket: code for socket, code in known.items() if socket in sockets}

    def _follower(self, source: str, connection: int) -> _Follower:
        if source not in self._followers:
            tracker = self._lent.pop(connection, None) or self._open_tracker()
            driver = FaceDriver(tracker, self._fps, every=self._look_every)
            self._followers[source] = _Follower(connection, driver)
        return self._followers[source]

    def _look(
        self, puppeteer: Puppeteer, follower: _Follower, frame: VideoFrame, sockets: frozenset[Socket]
    ) -> dict[Socket, Code]:
        return follower.driver.read(puppeteer, frame, sockets, self._stages)

    def _hear(self, puppeteer: Puppeteer, cue: Cue, *, mouth_is_seen: bool) -> tuple[Spoken, _Moment] | None:
        """The mouth that the voice makes, if it is wanted; its sound is followed in any case."""
        route = cue.bay.mouth
        take = (route.source, cue.connections.get(route.source))
        if mouth_is_seen:
            self._mouth_seen = (take, cue.tick_ns)
        if self._voice[0] != take:
            self._voice = (take, VoiceDriver(self._look_ahead_ms))
        seen_by, seen_ns = self._mouth_seen
        is_spare = not route.is_sound and seen_by == take and cue.tick_ns - seen_ns < VOICE_STEPS_IN_NS
        utterance = self._voice[1].listen([chunk for chunk, _ in cue.voice])
        if utterance is None or is_spare:
            return None
        with self._stages.measure("encode"):
            code = puppeteer.content_code_from_mel(utterance.mel_80x20)
        if not np.isfinite(code).all():
            return None
        return Spoken(code, take), _Moment(utterance.time_ns, cue.voice[utterance.chunk_index][1])

    def _moment_of_picture(self, cue: Cue) -> _Moment | None:
        arrival = None if cue.bay.leading.is_sound else cue.pictures.get(cue.bay.leading.source)
        return None if arrival is None else _Moment(arrival.capture_time_ns, arrival.arrival_ns)

    def _capture_time_ns(self, cue: Cue, moment: _Moment | None) -> int:
        """When what is shown happened: what moves the mouth decides, for the lips must fit the sound."""
        period_ns = round(NS_PER_S / self._fps)
        if moment is not None:
            self._last_capture_ns = moment.capture_time_ns
        elif cue.bay.leading == IDLE:
            self._last_capture_ns = cue.tick_ns
        else:  # nothing new from there: time goes on as before
            self._last_capture_ns = min(cue.tick_ns, self._last_capture_ns + period_ns)
        return self._last_capture_ns


@dataclass(frozen=True)
class _Moment:
    """When something happened, and when we came to know."""

    capture_time_ns: int
    arrival_ns: int
