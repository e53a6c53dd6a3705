"""One viewer over WebRTC (WHEP): the avatar's picture and sound as two tracks of one connection."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

import av
import numpy as np
from aiortc import MediaStreamTrack, RTCPeerConnection

from engine.clock import NS_PER_S, MediaClock
from engine.config import VideoEncodingConfig
from engine.mailbox import BoundedQueue, LatestFrame
from engine.media import AudioChunk
from engine.metrics import PerformanceMetrics, StageTimes
from engine.rtc.negotiation import send_track
from engine.rtc.playout_delay import show_at_once
from engine.rtc.repeats import repeat_while_lossy
from engine.rtc.sender import encode_apart
from engine.rtc.sender_reports import CaptureReports, report_capture_times
from engine.sinks.sink import AvatarFrame

VIDEO_TIME_BASE = Fraction(1, 90_000)
MAX_WAITING_CHUNKS = 25
"""Half a second of 20 ms chunks."""
SPLICE_NS = 40_000_000
"""Sound whose capture time is within this of where the last chunk ended goes on without a seam."""


class SmoothedLatency:
    """A running mean that follows within about 20 samples; 0 before the first."""

    def __init__(self, weight: float = 0.05) -> None:
        self._weight = weight
        self._value_ns: float | None = None

    def add(self, latency_ns: int) -> None:
        if self._value_ns is None:
            self._value_ns = float(latency_ns)
        self._value_ns += self._weight * (latency_ns - self._value_ns)

    def value_ns(self) -> int:
        return round(self._value_ns or 0)


class CaptureLine:
    """Which moment each place on a track belongs to, evened out over about 20 frames.

    Pictures are sent evenly though they were captured a little sooner or later, and sound is laid seamlessly
    though its capture times jitter; a report must not carry that jitter to the viewer.
    """

    def __init__(self) -> None:
        self._first_ns: int | None = None
        self._behind = SmoothedLatency()

    def note(self, place_ns: int, capture_time_ns: int) -> None:
        if self._first_ns is None:
            self._first_ns = place_ns
        self._behind.add(place_ns - capture_time_ns)

    def place_ns(self, elapsed_ns: int) -> int:
        """elapsed_ns: from the first place noted on."""
        return (self._first_ns or 0) + elapsed_ns

    def capture_time_ns(self, elapsed_ns: int) -> int:
        """elapsed_ns: as for `place_ns`."""
        return self.place_ns(elapsed_ns) - self._behind.value_ns()


@dataclass(frozen=True)
class ReportedPicture:
    """The picture that the last sender report spoke of: what lets a viewer date all others."""

    rtp_time: int
    capture_time_ns: int
    tick_ns: int
    """What it was drawn for; both on the media clock."""


class SoundTimeline:
    """Where chunks lie on the track's sample count: seamless while they follow each other, a jump if not."""

    def __init__(self, origin_ns: int) -> None:
        self._origin_ns = origin_ns
        self._next: int | None = None

    def place(self, chunk: AudioChunk) -> int | None:
        """The chunk's first sample number, or None if it lies before sound that was placed already."""
        nominal = (chunk.capture_time_ns - self._origin_ns) * chunk.sample_rate // NS_PER_S
        tolerance = SPLICE_NS * chunk.sample_rate // NS_PER_S
        if self._next is not None and abs(nominal - self._next) <= tolerance:
            start = self._next
        elif nominal < (self._next or 0):
            return None
        else:
            start = nominal
        self._next = start + len(chunk.samples)
        return start


class AvatarVideoTrack(MediaStreamTrack):
    """The newest picture whenever the encoder is ready for one."""

    kind = "video"

    def __init__(self, clock: MediaClock, stages: StageTimes) -> None:
        super().__init__()
        self.frames: LatestFrame[AvatarFrame] = LatestFrame()
        self.line = CaptureLine()
        self._clock = clock
        self._origin_ns: int | None = None
        self._stages = stages

    async def recv(self) -> av.VideoFrame:
        frame = await self.frames.get()
        self.line.note(frame.tick_ns, frame.capture_time_ns)
        self._stages.add("capture_to_send", self._clock.now_ns() - frame.capture_time_ns)
        # Each viewer's encoder writes into its own frame object, and only reads the samples, which all share.
        picture = av.VideoFrame.from_numpy_buffer(frame.yuv420p, format="yuv420p")
        if self._origin_ns is None:  # not when the viewer came: the first picture was begun before that
            self._origin_ns = frame.tick_ns
        picture.pts = (frame.tick_ns - self._origin_ns) * 90_000 // NS_PER_S
        picture.time_base = VIDEO_TIME_BASE
        return picture


class AvatarAudioTrack(MediaStreamTrack):
    """Sound in order, gaps kept as gaps."""

    kind = "audio"

    def __init__(self, clock: MediaClock) -> None:
        super().__init__()
        self.chunks: BoundedQueue[AudioChunk] = BoundedQueue(MAX_WAITING_CHUNKS)
        self.line = CaptureLine()
        self._timeline = SoundTimeline(clock.now_ns() - NS_PER_S)

    async def recv(self) -> av.AudioFrame:
        while True:
            chunk = await self.chunks.get()
            if (start := self._timeline.place(chunk)) is not None:
                break
        self.line.note(start * NS_PER_S // chunk.sample_rate, chunk.capture_time_ns)
        samples = np.clip(chunk.samples * 32767.0, -32768, 32767).astype(np.int16)
        sound = av.AudioFrame.from_ndarray(samples[None], format="s16", layout="mono")
        sound.sample_rate = chunk.sample_rate
        sound.pts = start
        sound.time_base = Fraction(1, chunk.sample_rate)
        return sound


class WebRtcSink:
    """Sends to one viewer. The sound's and the picture's reports both speak of capture times."""

    def __init__(
        self,
        connection: RTCPeerConnection,
        kinds: frozenset[str],
        clock: MediaClock,
        encoding: VideoEncodingConfig,
        metrics: PerformanceMetrics,
    ) -> None:
        """kinds: "audio" and "video", as far as the viewer asked for them."""
        self._connection = connection
        self._video = AvatarVideoTrack(clock, metrics.stages) if "video" in kinds else None
        self._audio = AvatarAudioTrack(clock) if "audio" in kinds else None
        self._video_reports = CaptureReports()
        if self._video is not None:
            sender = send_track(connection, self._video, encoding.codec)
            encode_apart(sender)
            repeat_while_lossy(sender)
            if self._audio is None:
                show_at_once(sender)
            self._video_reports = report_capture_times(sender, self._video.line.capture_time_ns, clock)
        if self._audio is not None:
            sender = send_track(connection, self._audio)
            encode_apart(sender)
            report_capture_times(sender, self._audio.line.capture_time_ns, clock)

    @property
    def is_over(self) -> bool:
        return self._connection.connectionState in ("failed", "closed")

    @property
    def dropped(self) -> int:
        """Pictures that the encoder was not ready for."""
        return self._video.frames.dropped if self._video is not None else 0

    @property
    def reported_picture(self) -> ReportedPicture | None:
        """None before the first report."""
        frame = self._video_reports.latest
        if frame is None or self._video is None:
            return None
        tick_ns = self._video.line.place_ns(frame.elapsed_ns)
        return ReportedPicture(frame.rtp_time, frame.capture_time_ns, tick_ns)

    def show(self, frame: AvatarFrame) -> None:
        if self._video is not None and self._connection.connectionState == "connected":
            self._video.frames.put(frame)

    def play(self, chunk: AudioChunk) -> None:
        if self._audio is not None and self._connection.connectionState == "connected":
            self._audio.chunks.put(chunk)

    async def close(self) -> None:
        await self._connection.close()
