"""Whatever FFmpeg opens, read in a thread of its own: files, network streams, webcams.

A file is played in a loop, each picture and each stretch of sound at its own time. A live input is taken as
it comes; when it breaks off or falls silent it is opened again, with waits that double up to ten seconds.
"""

from __future__ import annotations

import asyncio
import heapq
import logging
import subprocess
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any, TypeVar

import av
import numpy as np
from av.container import InputContainer
from av.stream import Disposition
from av.video.stream import VideoStream

from engine.clock import NS_PER_S, MediaClock
from engine.mailbox import LatestFrame
from engine.media import AudioChunk
from engine.relay import running
from engine.retry import Backoff
from engine.rtc.capture_clock import QuickestWay
from engine.sources.source import SOUND_RATE, Arrival, HearSound

logger = logging.getLogger(__name__)

Item = TypeVar("Item")

CHUNK_SAMPLES = SOUND_RATE // 50
"""Sound is handed on in stretches of 20 ms, however it was packed."""
AHEAD_S = 1.0
"""How far apart a container may keep what belongs to the same moment: phones write stretches of a second."""
LATE_NS = NS_PER_S
"""Something this late will not be made up for: the rest is played later too."""
FRESH_NS = 2 * NS_PER_S
"""An input that gave something within this time is live."""
JOIN_S = 1.0


@dataclass(frozen=True, kw_only=True)
class MediaInput:
    """What to open, and how."""

    kind: str
    """As in a source's description: file, url, webcam."""
    label: str
    """What messages call it: `the webcam /dev/video0`."""
    address: str
    """What FFmpeg is given to open."""
    format: str | None = None
    """FFmpeg's name of the format or the device kind; None finds out."""
    options: Mapping[str, str] = field(default_factory=dict)
    has_video: bool
    has_sound: bool
    """What it is expected to carry; corrected when it is open."""
    loops: bool = False
    """From the beginning again at its end, without a gap."""
    numbers_pictures: bool = False
    """Tell each picture's place in the file, so that what was read from it can be remembered."""
    relay: tuple[str, ...] = ()
    """A command that receives what PyAV cannot, and writes it to its standard output."""
    timeout_s: float = 5.0
    """How long opening may take, and how long nothing may come."""


class FfmpegSource:
    """Plays a MediaInput once it is started. `problem` says in one sentence why nothing comes, or is None."""

    def __init__(self, media: MediaInput, clock: MediaClock, on_sound: HearSound) -> None:
        self.pictures: LatestFrame[Arrival] = LatestFrame()
        self.kind = media.kind
        self.problem: str | None = None
        self._media = media
        self._clock = clock
        self._on_sound = on_sound
        self._has_video, self._has_sound = media.has_video, media.has_sound
        self._last_media_ns: int | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._closing = threading.Event()
        self._relay: subprocess.Popen[bytes] | None = None

    @property
    def state(self) -> dict[str, bool]:
        last_ns = self._last_media_ns
        is_live = last_ns is not None and self._clock.now_ns() - last_ns < FRESH_NS
        return {
            "video": self._has_video,
            "audio": self._has_sound,
            "live": is_live and not self._closing.is_set(),
        }

    def start(self) -> None:
        if self._thread is None:
            self._loop = asyncio.get_running_loop()
            # a daemon: a read that hangs ends by its time-out, and the program's end need not wait for it
            self._thread = threading.Thread(target=self._run, name=self._media.kind, daemon=True)
            self._thread.start()

    async def close(self) -> None:
        self._closing.set()
        if (relay := self._relay) is not None:
            relay.kill()  # what is read from it ends, whether or not anything comes
        if self._thread is not None:
            await asyncio.to_thread(self._thread.join, JOIN_S)

    # -- the reading thread ---------------------------------------------------------------------------------

    def _run(self) -> None:
        backoff = Backoff()
        start_ns = self._clock.now_ns()
        while not self._closing.is_set():
            player = _Player(self._media, self._clock, self._closing, self._show, self._hear)
            try:
                with self._opened() as container:
                    self._has_video = bool(moving_streams(container))
                    self._has_sound = bool(container.streams.audio)
                    player.play(container, start_ns)
            except (av.FFmpegError, OSError) as error:
                self._report(f"{self._media.label} cannot be read: {_reason(error, self._media)}.")
            else:
                self._report(None if self._media.loops and player.has_played else self._ended())
            if player.has_played:
                backoff.reset()
            if player.has_played and self._media.loops:
                start_ns = player.end_ns
                continue
            if self._closing.wait(backoff.next_s()):
                return
            start_ns = self._clock.now_ns()

    @contextmanager
    def _opened(self) -> Iterator[InputContainer]:
        media = self._media
        with ExitStack() as stack:
            origin: Any = media.address
            timeout = None if media.relay else (media.timeout_s, media.timeout_s)
            if media.relay:
                self._relay = stack.enter_context(running(media.relay, is_sending=False))
                origin = self._relay.stdout
            yield stack.enter_context(
                av.open(origin, format=media.format, options=dict(media.options), timeout=timeout)
            )

    def _ended(self) -> str:
        return f"{self._media.label} has ended; it is tried again."

    def _report(self, problem: str | None) -> None:
        if problem is not None and problem != self.problem and not self._closing.is_set():
            logger.warning("%s", problem)
        self.problem = problem

    def _show(self, arrival: Arrival) -> None:
        self._note_media()
        self._on_loop(self.pictures.put, arrival)

    def _hear(self, chunk: AudioChunk) -> None:
        self._note_media()
        self._on_loop(self._on_sound, chunk)

    def _note_media(self) -> None:
        self.problem = None
        self._last_media_ns = self._clock.now_ns()

    def _on_loop(self, take: Callable[[Item], None], item: Item) -> None:
        if self._loop is not None and not self._closing.is_set() and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(take, item)


class _Player:
    """One playing of an opened input, from its beginning to its end."""

    def __init__(
        self,
        media: MediaInput,
        clock: MediaClock,
        closing: threading.Event,
        show: Callable[[Arrival], None],
        hear: Callable[[AudioChunk], None],
    ) -> None:
        self._media = media
        self._clock = clock
        self._closing = closing
        self._show = show
        self._hear = hear
        self._resampler = av.AudioResampler("flt", "mono", SOUND_RATE, CHUNK_SAMPLES)
        self._way = QuickestWay()
        self._count = 0
        self._period_s = 1 / 25
        self.has_played = False
        self.end_ns = 0
        """When the last picture and the last sound are over."""

    def play(self, container: InputContainer, start_ns: int) -> None:
        """Hand on everything until the end. Raises FFmpegError where the input breaks."""
        self._start_ns = self.end_ns = start_ns
        self._media_start_s = (container.start_time or 0) / av.time_base
        # live HLS has no end either, but comes in stretches of seconds that have to be spread out
        self._is_paced = bool(container.duration) or container.format.name == "hls"
        videos, sounds = moving_streams(container)[:1], container.streams.audio[:1]
        if videos and videos[0].average_rate:
            self._period_s = float(1 / videos[0].average_rate)
        packets = container.demux(*videos, *sounds)
        for packet in in_time_order(packets, AHEAD_S) if self._is_paced else packets:
            for frame in packet.decode():
                if self._closing.is_set():
                    return
                self._take(frame)
        if sounds:
            self._take_sound(None)

    def _take(self, frame: object) -> None:
        if isinstance(frame, av.VideoFrame):
            time_s = self._count * self._period_s if frame.time is None else self._since_start(frame.time)
            capture_ns = self._when(time_s, self._period_s)
            number = self._count if self._media.numbers_pictures else None
            self._show(Arrival(frame, capture_ns, self._clock.now_ns(), number))
            self._count += 1
        elif isinstance(frame, av.AudioFrame):
            self._take_sound(frame)

    def _take_sound(self, frame: av.AudioFrame | None) -> None:
        for chunk in self._resampler.resample(frame):
            if chunk.time is None or self._closing.is_set():
                continue
            capture_ns = self._when(self._since_start(chunk.time), chunk.samples / SOUND_RATE)
            samples = np.ascontiguousarray(chunk.to_ndarray()[0], np.float32)
            self._hear(AudioChunk(samples, SOUND_RATE, capture_ns))

    def _since_start(self, time_s: float) -> float:
        return time_s - self._media_start_s

    def _when(self, time_s: float, duration_s: float) -> int:
        """The capture time of what lies `time_s` after the beginning, waited for if that is to come."""
        self.has_played = True
        if not self._is_paced:
            return self._when_captured(round(time_s * NS_PER_S), round(duration_s * NS_PER_S))
        due_ns = self._start_ns + round(time_s * NS_PER_S)
        wait_ns = due_ns - self._clock.now_ns()
        if wait_ns < -LATE_NS:
            self._start_ns -= wait_ns
            due_ns -= wait_ns
        self._closing.wait(max(0, wait_ns) / NS_PER_S)
        self.end_ns = max(self.end_ns, due_ns + round(duration_s * NS_PER_S))
        return due_ns

    def _when_captured(self, media_ns: int, duration_ns: int) -> int:
        """Live: by the quickest arrival of picture or sound, which share one clock.

        Sound arrives when its last sample is in, a picture when the camera has read it out: a period later.
        """
        now_ns = self._clock.now_ns()
        self._way.note(media_ns + duration_ns, now_ns)
        capture_ns = self._way.here_ns(media_ns)
        return now_ns if capture_ns is None else capture_ns


def moving_streams(container: InputContainer) -> list[VideoStream]:
    """The video streams that are more than the cover picture of a sound file."""
    return [s for s in container.streams.video if not s.disposition & Disposition.attached_pic]


def in_time_order(packets: Iterator[av.Packet[Any]], ahead_s: float) -> Iterator[av.Packet[Any]]:
    """The packets of several streams by decoding time, where a container keeps them up to `ahead_s` apart.

    The empty packets with which PyAV flushes the decoders come last.
    """
    waiting: list[tuple[float, int, av.Packet[Any]]] = []
    flushing: list[av.Packet[Any]] = []
    newest_s = -float("inf")
    for number, packet in enumerate(packets):
        if packet.size == 0:
            flushing.append(packet)
            continue
        time_s = float(packet.dts * packet.time_base) if packet.dts is not None else newest_s
        newest_s = max(newest_s, time_s)
        heapq.heappush(waiting, (time_s, number, packet))
        while newest_s - waiting[0][0] > ahead_s:
            yield heapq.heappop(waiting)[2]
    while waiting:
        yield heapq.heappop(waiting)[2]
    yield from flushing


def _reason(error: av.FFmpegError | OSError, media: MediaInput) -> str:
    if isinstance(error, av.error.ExitError):  # PyAV's way to say that its time-out has struck
        return f"nothing came for {media.timeout_s:g} s"
    return error.strerror or str(error)
