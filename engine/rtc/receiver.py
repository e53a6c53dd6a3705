"""Makes one aiortc receiver fit for live use: early frames, repeated NACKs, bounded queues.

aiortc 1.16 offers no seam here, so the parts are put in the place of the receiver's own before it starts.
Only that one receiver is touched: the package itself is not patched.
"""

from __future__ import annotations

import asyncio
import queue
from typing import Any

from aiortc import RTCRtpReceiver
from aiortc.jitterbuffer import JitterFrame

from engine.clock import NS_PER_MS, MediaClock
from engine.rtc.frame_assembler import EncodedFrame, FrameAssembler, MediaPacket
from engine.rtc.nack import NackSchedule

VIDEO_GIVE_UP_MS = 150.0
AUDIO_GIVE_UP_MS = 60.0
NACK_RETRY_MS = 30.0
MAX_UNDECODED_FRAMES = 25
"""A decoder this far behind (one second) gets nothing more until it has caught up."""
MAX_UNREAD_FRAMES = {"video": 1, "audio": 50}


class NewestQueue(asyncio.Queue[Any]):
    """A full queue loses its oldest entry instead of making the writer wait."""

    async def put(self, item: Any) -> None:
        if self.full():
            self.get_nowait()
        self.put_nowait(item)


class _AssemblerSeat:
    """Sits where the receiver expects its jitter buffer and passes whole frames on to the decoder itself."""

    def __init__(self, receiver: RTCRtpReceiver, assembler: FrameAssembler) -> None:
        self._receiver = receiver
        self._assembler = assembler

    def add(self, packet: MediaPacket) -> tuple[bool, None]:
        """(a key frame should be asked for, nothing for the caller to decode)."""
        assembled = self._assembler.add(packet)
        decoder_queue: queue.Queue[Any] = _part(self._receiver, "decoder_queue")
        room = MAX_UNDECODED_FRAMES - decoder_queue.qsize()
        for frame in assembled.frames[: max(0, room)]:
            self._decode(frame, decoder_queue)
        return assembled.wants_keyframe or room < len(assembled.frames), None

    def _decode(self, frame: EncodedFrame, decoder_queue: queue.Queue[Any]) -> None:
        codec = _part(self._receiver, "codecs")[frame.payload_type]
        timestamp = _part(self._receiver, "timestamp_mapper").map(frame.timestamp)
        decoder_queue.put((codec, JitterFrame(frame.data, timestamp)))


def make_low_latency(receiver: RTCRtpReceiver, clock: MediaClock) -> None:
    """Call it on the "track" event, before the connection starts.

    Raises AttributeError if aiortc no longer has the parts that this puts others in the place of.
    """

    def now_ms() -> float:
        return clock.now_ns() / NS_PER_MS

    track = receiver.track
    is_video = track.kind == "video"
    give_up_ms = VIDEO_GIVE_UP_MS if is_video else AUDIO_GIVE_UP_MS
    assembler = FrameAssembler(is_video=is_video, give_up_ms=give_up_ms, now_ms=now_ms)
    _replace(receiver, "jitter_buffer", _AssemblerSeat(receiver, assembler))
    if is_video:
        nack = NackSchedule(retry_ms=NACK_RETRY_MS, give_up_ms=VIDEO_GIVE_UP_MS, now_ms=now_ms)
        _replace(receiver, "nack_generator", nack)
    if not hasattr(track, "_queue"):
        raise AttributeError("aiortc's RemoteStreamTrack has no _queue: this version is not supported")
    track._queue = NewestQueue(maxsize=MAX_UNREAD_FRAMES[track.kind])


def _part(receiver: RTCRtpReceiver, name: str) -> Any:
    return getattr(receiver, f"_RTCRtpReceiver__{name}")


def _replace(receiver: RTCRtpReceiver, name: str, value: object) -> None:
    _part(receiver, name)
    setattr(receiver, f"_RTCRtpReceiver__{name}", value)
