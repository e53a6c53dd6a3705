"""The avatar into a file or a broadcast: encoded and sent in a thread of its own, which nobody waits for."""

from __future__ import annotations

import asyncio
import logging
import subprocess
import threading
from collections import deque
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any, Final, cast

import av
import numpy as np
from av.audio.stream import AudioStream
from av.container import OutputContainer
from av.video.stream import VideoStream
from numpy.typing import NDArray

from engine.clock import NS_PER_MS, NS_PER_S
from engine.media import AudioChunk
from engine.metrics import PerformanceMetrics
from engine.relay import running
from engine.retry import Backoff
from engine.sinks.sink import AvatarFrame
from engine.sinks.webrtc import SmoothedLatency

logger = logging.getLogger(__name__)

SOUND_RATE: Final = 48_000
MAX_WAITING: Final = 100
"""Pictures and stretches of sound that may wait for the encoder: over a second of both together."""
SPLICE_SAMPLES: Final = SOUND_RATE // 25
"""Sound this near to where the last ended goes on without a seam."""
SOUND_GRACE_NS: Final = 600 * NS_PER_MS
"""Where sound stays away this long behind the picture, silence is written: broadcasts want no gap."""
VIDEO_TIME_BASE: Final = Fraction(1, 90_000)
CLOSE_S: Final = 5.0
"""How long finishing may take; a receiver that takes nothing is left then."""


@dataclass(frozen=True, kw_only=True)
class MediaOutput:
    """Where to, and how it is encoded."""

    kind: str
    """As in a sink's description: file, rtmp, srt."""
    label: str
    """What messages call it."""
    address: str
    format: str
    """FFmpeg's name of the muxer."""
    options: Mapping[str, str] = field(default_factory=dict)
    video_codec: str = "libx264"
    pixel_format: str = "yuv420p"
    video_options: Mapping[str, str] = field(default_factory=dict)
    video_bps: int = 2_500_000
    audio_codec: str = "aac"
    fps: float = 25.0
    """What the pictures' rate is about; each keeps its own time."""
    keeps_alpha: bool = False
    """Write the cut-out with its transparency instead of the picture over its background."""
    reconnects: bool = False
    """Open it again when it breaks off; otherwise it is over then."""
    relay: tuple[str, ...] = ()
    """A command that sends what PyAV cannot, from its standard input."""


class FfmpegSink:
    """Writes to a MediaOutput. `problem` says in one sentence why nothing is written, or is None."""

    def __init__(self, output: MediaOutput, metrics: PerformanceMetrics) -> None:
        self.kind = output.kind
        self.problem: str | None = None
        self.dropped = 0
        """Pictures and sound that the encoder was too slow for, or that had nowhere to go."""
        self._output = output
        self._metrics = metrics
        self._waiting: deque[AvatarFrame | AudioChunk] = deque()
        self._news = threading.Condition()
        self._is_closing = False
        self._is_over = False
        self._writer: _Writer | None = None
        self._thread = threading.Thread(target=self._run, name=f"sink {output.kind}", daemon=True)
        self._thread.start()

    @property
    def is_over(self) -> bool:
        """It has failed for good."""
        return self._is_over

    @property
    def waiting(self) -> int:
        """Pictures and stretches of sound that are still to be encoded."""
        return len(self._waiting)

    def show(self, frame: AvatarFrame) -> None:
        self._hand_over(frame)

    def play(self, chunk: AudioChunk) -> None:
        self._hand_over(chunk)

    async def close(self) -> None:
        """Write what waits, and finish the file."""
        with self._news:
            self._is_closing = True
            self._news.notify()
        await asyncio.to_thread(self._thread.join, CLOSE_S)
        if self._thread.is_alive() and (writer := self._writer) is not None:
            writer.abandon()

    def _hand_over(self, item: AvatarFrame | AudioChunk) -> None:
        with self._news:
            self._waiting.append(item)
            if len(self._waiting) > MAX_WAITING or self._is_over:
                self._waiting.popleft()
                self._count_drops(1)
            self._news.notify()

    def _count_drops(self, count: int) -> None:
        self.dropped += count
        place = f"sink_{self.kind}"
        self._metrics.dropped[place] = self._metrics.dropped.get(place, 0) + count

    # -- the writing thread ---------------------------------------------------------------------------------

    def _run(self) -> None:
        backoff = Backoff()
        while not self._is_closing:
            try:
                self._write_until_closed(backoff)
            except (av.FFmpegError, OSError, ValueError) as error:
                self._report(error)
                if not self._output.reconnects:
                    self._is_over = True
                    return
            self._wait(backoff.next_s())

    def _write_until_closed(self, backoff: Backoff) -> None:
        """Raises FFmpegError or OSError where the output breaks."""
        with ExitStack() as stack:
            self._writer = None
            while (item := self._next()) is not None:
                if self._writer is None:
                    if not isinstance(item, AvatarFrame):
                        continue
                    self._writer = stack.enter_context(_Writer(self._output, item))
                self._writer.write(item)
                if self.problem is not None:
                    logger.info("%s is written again", self._output.label)
                    self.problem = None
                backoff.reset()

    def _next(self) -> AvatarFrame | AudioChunk | None:
        """The oldest that waits, waiting for one if need be; None when all is written and it is closing."""
        with self._news:
            while not self._waiting:
                if self._is_closing:
                    return None
                self._news.wait()
            return self._waiting.popleft()

    def _report(self, error: av.FFmpegError | OSError | ValueError) -> None:
        reason = getattr(error, "strerror", None) or str(error)
        problem = f"{self._output.label} cannot be written: {reason}."
        if problem != self.problem:
            logger.warning("%s", problem)
        self.problem = problem

    def _wait(self, seconds: float) -> None:
        with self._news:
            self._news.wait_for(lambda: self._is_closing, seconds)
            self._count_drops(len(self._waiting))
            self._waiting.clear()


class _Writer:
    """One opened output. Capture times become its times, so that lips stay in step with the sound."""

    def __init__(self, output: MediaOutput, first: AvatarFrame) -> None:
        """Raises FFmpegError or OSError if it cannot be opened."""
        self._output = output
        self._stack = ExitStack()
        self._relay: subprocess.Popen[bytes] | None = None
        self._offset = SmoothedLatency()
        self._origin_ns: int | None = None
        self._last_pts = -1
        self._samples = 0
        picture = _picture(first, output)
        self._size_px = picture.width, picture.height
        try:
            self._container = self._stack.enter_context(self._opened())
            self._video = self._add_video(self._container)
            self._audio = self._add_audio(self._container)
        except BaseException:
            self._stack.close()
            raise

    def __enter__(self) -> _Writer:
        return self

    def __exit__(self, kind: type[BaseException] | None, *rest: object) -> None:
        try:
            if kind is None:
                self._container.mux(self._video.encode(None))
                self._container.mux(self._audio.encode(None))
        finally:
            self._stack.close()

    def abandon(self) -> None:
        """From another thread: end a writing that waits for a receiver without end."""
        if self._relay is not None:
            self._relay.kill()

    def write(self, item: AvatarFrame | AudioChunk) -> None:
        if isinstance(item, AvatarFrame):
            self._write_picture(item)
        else:
            self._write_sound(item)

    def _opened(self) -> OutputContainer:
        output = self._output
        target: Any = output.address
        if output.relay:
            self._relay = self._stack.enter_context(running(output.relay, is_sending=True))
            target = self._relay.stdin
        return av.open(target, "w", format=output.format, options=dict(output.options))

    def _add_video(self, container: OutputContainer) -> VideoStream:
        output = self._output
        rate = Fraction(output.fps).limit_denominator(1001)
        stream = cast(VideoStream, container.add_stream(output.video_codec, rate=rate))
        stream.width, stream.height = self._size_px
        stream.pix_fmt = output.pixel_format
        stream.bit_rate = output.video_bps
        stream.codec_context.time_base = VIDEO_TIME_BASE
        stream.codec_context.gop_size = max(1, round(2 * output.fps))
        stream.options = dict(output.video_options)
        return stream

    def _add_audio(self, container: OutputContainer) -> AudioStream:
        codec = self._output.audio_codec
        return cast(AudioStream, container.add_stream(codec, rate=SOUND_RATE, layout="mono"))

    def _write_picture(self, frame: AvatarFrame) -> None:
        self._offset.add(frame.tick_ns - frame.capture_time_ns)
        time_ns = frame.tick_ns - self._offset.value_ns()  # evenly spaced, and on the sound's clock
        if self._origin_ns is None:
            self._origin_ns = time_ns
        pts = max(self._last_pts + 1, (time_ns - self._origin_ns) * VIDEO_TIME_BASE.denominator // NS_PER_S)
        self._last_pts = pts
        picture = _picture(frame, self._output)
        picture.pts, picture.time_base = pts, VIDEO_TIME_BASE
        self._container.mux(self._video.encode(picture))
        self._pad_sound((time_ns - self._origin_ns - SOUND_GRACE_NS) * SOUND_RATE // NS_PER_S)

    def _write_sound(self, chunk: AudioChunk) -> None:
        assert self._origin_ns is not None
        start = (chunk.capture_time_ns - self._origin_ns) * SOUND_RATE // NS_PER_S
        samples = chunk.samples
        if start > self._samples + SPLICE_SAMPLES:
            self._pad_sound(start)
        elif start < self._samples - SPLICE_SAMPLES:
            samples = samples[self._samples - start :]
        self._encode_sound(samples)

    def _pad_sound(self, until: int) -> None:
        while self._samples < until:
            self._encode_sound(np.zeros(min(SOUND_RATE, until - self._samples), np.float32))

    def _encode_sound(self, samples: NDArray[np.float32]) -> None:
        if not len(samples):
            return
        sound = av.AudioFrame.from_ndarray(samples[None], format="fltp", layout="mono")
        sound.sample_rate = SOUND_RATE
        sound.pts, sound.time_base = self._samples, Fraction(1, SOUND_RATE)
        self._container.mux(self._audio.encode(sound))
        self._samples += len(samples)


def _picture(frame: AvatarFrame, output: MediaOutput) -> av.VideoFrame:
    """What the encoder takes, which turns it into its own format and first size. Raises ValueError."""
    if not output.keeps_alpha:
        return av.VideoFrame.from_ndarray(frame.yuv420p, format="yuv420p")
    if frame.cut_out is None:
        raise ValueError("the avatar comes without its transparency")
    return av.VideoFrame.from_ndarray(frame.cut_out.straight_rgba(), format="rgba")
