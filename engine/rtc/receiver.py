"""Makes one aiortc receiver fit for live use: early frames, repeated requests, timed sound, bounded queues.

aiortc 1.16 offers no seam here, so the parts are put in the place of the receiver's own before it starts.
Only that one receiver is touched: the package itself is not patched.
"""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable
from threading import Thread
from typing import Any

from aiortc import RTCRtpReceiver
from aiortc.rtcrtpparameters import RTCRtpCodecParameters
from aiortc.rtp import RtcpSrPacket

from engine.clock import NS_PER_MS, NS_PER_S, MediaClock
from engine.rtc.capture_clock import CaptureClock, QuickestWay, ns_from_ntp
from engine.rtc.decoding import DecoderFeed, Undecoded
from engine.rtc.frame_assembler import EncodedFrame, FrameAssembler, MediaPacket
from engine.rtc.keyframes import MIN_REPEAT_MS, KeyFrameRequests, is_key_frame
from engine.rtc.nack import NackSchedule
from engine.rtc.playout import PlayoutBuffer
from engine.rtc.rtp_time import RtpTimeline

VIDEO_GIVE_UP_MS = 150.0
KEY_FRAME_ROUND_TRIPS = 2.6
"""Between two requests: a key frame is large, and is sent after the picture that is being encoded."""
MAX_UNDECODED_FRAMES = 12
"""A decoder this far behind (half a second) goes on from the next key frame."""
MAX_UNREAD_FRAMES = {"video": 1, "audio": 50}


class NewestQueue(asyncio.Queue[Any]):
    """A full queue loses its oldest entry instead of making the writer wait."""

    def put_newest(self, item: Any) -> None:
        if self.full():
            self.get_nowait()
        self.put_nowait(item)

    async def put(self, item: Any) -> None:
        self.put_newest(item)


class _Silent:
    """Stands where the receiver expects its NACK generator; the video seat asks instead, on a timer."""

    def add(self, packet: MediaPacket) -> bool:
        return False


class _Seat(ABC):
    """Stands where the receiver expects its jitter buffer, and passes frames on to the decoder itself."""

    def __init__(self, receiver: RTCRtpReceiver, clock: MediaClock, capture: CaptureClock) -> None:
        self._receiver = receiver
        self._clock = clock
        self._capture = capture
        self._loop = asyncio.get_running_loop()
        self._timeline: RtpTimeline | None = None
        self._timer: asyncio.TimerHandle | None = None
        track: Any = receiver.track
        self.feed = DecoderFeed(self._loop, track._queue.put_newest, self._decoding_failed)

    def add(self, packet: Any) -> tuple[bool, None]:
        """Take one packet. (no key frame for the caller to ask for, nothing for it to decode)."""
        if not self.feed.is_closed:
            self._take(packet, self._codec(packet.payload_type))
            self._work()
        return False, None

    def note_report(self, report: RtcpSrPacket) -> None:
        info = report.sender_info
        if info.ntp_timestamp and self._timeline is not None:
            media_ns = self._timeline.media_time_ns(info.rtp_timestamp)
            self._capture.note_report(ns_from_ntp(info.ntp_timestamp), media_ns)

    def now_ms(self) -> float:
        return self._clock.now_ns() / NS_PER_MS

    @abstractmethod
    def _take(self, packet: Any, codec: RTCRtpCodecParameters) -> None: ...

    @abstractmethod
    def _serve(self) -> float | None:
        """Do what is due; returns when the next thing will be, in milliseconds, or None."""

    @abstractmethod
    def _decoding_failed(self) -> None:
        """One frame could not be decoded."""

    def _work(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self.feed.is_closed:
            return
        next_ms = self._serve()
        if next_ms is not None:
            self._timer = self._loop.call_later(max(0.0, next_ms - self.now_ms()) / 1000, self._work)

    def _codec(self, payload_type: int) -> RTCRtpCodecParameters:
        codec: RTCRtpCodecParameters = _part(self._receiver, "codecs")[payload_type]
        return codec

    def _timeline_of(self, codec: RTCRtpCodecParameters) -> RtpTimeline:
        if self._timeline is None or self._timeline.clock_rate != codec.clockRate:
            self._timeline = RtpTimeline(codec.clockRate)
        return self._timeline


class _VideoSeat(_Seat):
    def __init__(self, receiver: RTCRtpReceiver, clock: MediaClock, capture: CaptureClock) -> None:
        super().__init__(receiver, clock, capture)
        self._assembler = FrameAssembler(give_up_ms=VIDEO_GIVE_UP_MS, now_ms=self.now_ms)
        self._nack = NackSchedule(give_up_ms=VIDEO_GIVE_UP_MS, now_ms=self.now_ms)
        self._key_frames = KeyFrameRequests(self.now_ms)
        self._has_begun = False
        self._ssrc = 0
        self._sending: set[asyncio.Task[None]] = set()

    def _take(self, packet: Any, codec: RTCRtpCodecParameters) -> None:
        self._ssrc = packet.ssrc
        self._nack.add(packet.sequence_number, ends_frame=bool(packet.marker))
        self._assembler.give_up_ms = self._nack.give_up_ms
        self._key_frames.repeat_ms = max(
            MIN_REPEAT_MS, KEY_FRAME_ROUND_TRIPS * (self._nack.round_trip_ms or 0.0)
        )
        assembled = self._assembler.add(packet)
        self._pass_on(assembled.frames, assembled.is_torn)

    def _serve(self) -> float | None:
        assembled = self._assembler.step_over_lost()
        self._pass_on(assembled.frames, assembled.is_torn)
        if lost := self._nack.take_due():
            self._send(self._receiver._send_rtcp_nack(self._ssrc, lost))
        if self._key_frames.take_due():
            self._send(self._receiver._send_rtcp_pli(self._ssrc))
        waits = (self._assembler.give_up_at_ms, self._nack.due_at_ms, self._key_frames.due_at_ms)
        return min((at_ms for at_ms in waits if at_ms is not None), default=None)

    def _decoding_failed(self) -> None:
        self._key_frames.want()
        self._work()

    def _pass_on(self, frames: list[EncodedFrame], is_torn: bool) -> None:
        if is_torn:
            self._key_frames.want()
        for frame in frames:
            codec = self._codec(frame.payload_type)
            timeline = self._timeline_of(codec)
            ticks = timeline.ticks(frame.timestamp)
            self._capture.rtp_origin = timeline.origin
            self._capture.note_arrival(ticks * NS_PER_S // codec.clockRate, self._clock.now_ns())
            if self.feed.qsize() >= MAX_UNDECODED_FRAMES:
                self.feed.drop_waiting()
                self._has_begun = False
            if is_key_frame(codec.name, frame.data):
                self._has_begun = True
                self._key_frames.note_arrival()
            if self._has_begun:
                self.feed.put(Undecoded(codec, frame.data, ticks))
            else:  # late to the stream, or behind with it
                self._key_frames.want()

    def _send(self, sending: Awaitable[None]) -> None:
        task = asyncio.ensure_future(sending)
        self._sending.add(task)
        task.add_done_callback(self._sending.discard)


class _AudioSeat(_Seat):
    def __init__(self, receiver: RTCRtpReceiver, clock: MediaClock, capture: CaptureClock) -> None:
        super().__init__(receiver, clock, capture)
        self._codec_in_use: RTCRtpCodecParameters | None = None
        self.playout = PlayoutBuffer(self.now_ms)

    def _take(self, packet: Any, codec: RTCRtpCodecParameters) -> None:
        if self._codec_in_use is None or codec.name != self._codec_in_use.name:
            self._codec_in_use = codec
            self._timeline = None
            self.playout = PlayoutBuffer(self.now_ms)
        media_ms = self._timeline_of(codec).media_time_ns(packet.timestamp) / NS_PER_MS
        self.playout.add(packet, media_ms)
        # A packet leaves when its last sample is in, so it is its end that the arrival speaks of.
        end_ms = media_ms + self.playout.packet_ms
        self._capture.note_arrival(round(end_ms * NS_PER_MS), self._clock.now_ns())

    def _serve(self) -> float | None:
        for due in self.playout.take_due():
            assert self._codec_in_use is not None
            data = None if due.packet is None else due.packet._data
            ticks = round(due.media_ms * self._codec_in_use.clockRate / 1000)
            if data != b"":  # padding alone makes no sound
                self.feed.put(Undecoded(self._codec_in_use, data, ticks))
        return self.playout.due_at_ms

    def _decoding_failed(self) -> None:
        """Sound needs no key frame: the next packet is decoded as if nothing had been."""


def make_low_latency(
    receiver: RTCRtpReceiver, clock: MediaClock, sender_way: QuickestWay | None = None
) -> CaptureClock:
    """Call it on the "track" event, before the connection starts.

    sender_way: give the tracks of one sender the same one. Returns the clock that tells when the track's
    frames were captured. Raises AttributeError if aiortc no longer has the parts that this puts others in the
    place of.
    """
    track: Any = receiver.track
    if not hasattr(track, "_queue"):
        raise AttributeError("aiortc's RemoteStreamTrack has no _queue: this version is not supported")
    track._queue = NewestQueue(maxsize=MAX_UNREAD_FRAMES[track.kind])
    capture = CaptureClock(sender_way or QuickestWay())
    seat = (_VideoSeat if track.kind == "video" else _AudioSeat)(receiver, clock, capture)
    _replace(receiver, "jitter_buffer", seat)
    _replace(receiver, "decoder_queue", seat.feed)
    if track.kind == "video":
        _replace(receiver, "nack_generator", _Silent())
    _hear_reports(receiver, seat.note_report)
    return capture


async def end_decoding(receiver: RTCRtpReceiver) -> None:
    """Wait for what is being decoded, beside the event loop: aiortc's own `stop` would wait in it."""
    thread: Thread | None = _part(receiver, "decoder_thread")
    if thread is not None:
        _part(receiver, "decoder_queue").put(None)
        await asyncio.to_thread(thread.join)


def _hear_reports(receiver: RTCRtpReceiver, on_report: Callable[[RtcpSrPacket], None]) -> None:
    handle: Callable[[Any], Awaitable[None]] = receiver._handle_rtcp_packet

    async def handle_too(packet: Any) -> None:
        if isinstance(packet, RtcpSrPacket):
            on_report(packet)
        await handle(packet)

    setattr(receiver, "_handle_rtcp_packet", handle_too)  # noqa: B010 - a method is replaced on purpose


def _part(receiver: RTCRtpReceiver, name: str) -> Any:
    return getattr(receiver, f"_RTCRtpReceiver__{name}")


def _replace(receiver: RTCRtpReceiver, name: str, value: object) -> None:
    _part(receiver, name)
    setattr(receiver, f"_RTCRtpReceiver__{name}", value)
