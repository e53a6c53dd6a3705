"""A receiver at the end of a lossy line, in time that passes only when nothing else is left to do.

The receiver is aiortc's own, as it comes or with our parts in it. The sender is modelled: it sends again what
it is asked for, and a key frame on request. Minutes of it pass in seconds, the same way every time.
"""

from __future__ import annotations

import asyncio
import random
import selectors
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from typing import Any

from aiortc import RTCRtpReceiver
from aiortc.rtcrtpparameters import RTCRtpCodecParameters
from aiortc.rtcrtpreceiver import RemoteStreamTrack
from aiortc.rtp import (
    RTCP_PSFB_PLI,
    RTCP_RTPFB_NACK,
    RtcpPacket,
    RtcpPsfbPacket,
    RtcpRtpfbPacket,
    RtpPacket,
)

from engine.clock import NS_PER_S
from engine.rtc.receiver import make_low_latency

VP8 = RTCRtpCodecParameters(mimeType="video/VP8", clockRate=90000, payloadType=97)
OPUS = RTCRtpCodecParameters(mimeType="audio/opus", clockRate=48000, channels=2, payloadType=96)
VIDEO_SSRC, AUDIO_SSRC = 1, 2
FRAME_S, SOUND_S = 0.040, 0.020
KEY_FRAME_PACKETS = 20
HISTORY_PACKETS = 128


class VirtualLoop(asyncio.SelectorEventLoop):
    """Where asyncio would wait, its clock is set forward instead."""

    def __init__(self) -> None:
        self.now_s = 0.0
        loop = self

        class Selector(selectors.DefaultSelector):
            def select(self, timeout: float | None = None) -> Any:
                loop.now_s += timeout or 0.0
                return super().select(0)

        super().__init__(Selector())

    def time(self) -> float:
        return self.now_s


class VirtualClock:
    """A MediaClock that goes with the loop."""

    def __init__(self, loop: VirtualLoop) -> None:
        self._loop = loop

    def now_ns(self) -> int:
        return round(self._loop.now_s * NS_PER_S)


@dataclass
class Shown:
    """One frame on its way into the decoder."""

    at_s: float
    media_s: float
    is_lost: bool = False

    @property
    def latency_ms(self) -> float:
        return (self.at_s - self.media_s) * 1000


@dataclass
class DecoderInbox:
    """Stands for the queue of the decoder thread and notes what is put in, and when."""

    now_s: Callable[[], float]
    clock_rate: int
    shown: list[Shown] = field(default_factory=list)
    is_closed: bool = False

    def put(self, task: Any) -> None:
        ticks = task.ticks if hasattr(task, "ticks") else task[1].timestamp
        is_lost = hasattr(task, "data") and task.data is None
        self.shown.append(Shown(self.now_s(), ticks / self.clock_rate, is_lost))

    def drop_waiting(self) -> None: ...

    def qsize(self) -> int:
        return 0


class LossyLine:
    """One kind of media from a modelled sender to a real receiver."""

    def __init__(
        self, loop: VirtualLoop, kind: str, *, is_ours: bool, loss: float, delay_s: float, seed: int
    ) -> None:
        self.state = "connected"
        self.loss = loss
        self.frame_packets = 1
        self._loop = loop
        self._delay_s = delay_s
        self._random = random.Random(seed)
        self._is_video = kind == "video"
        codec = VP8 if self._is_video else OPUS
        receiver: Any = RTCRtpReceiver(kind, self)  # type: ignore[arg-type]
        self._receiver = receiver
        receiver._track = RemoteStreamTrack(kind=kind)
        self.inbox = DecoderInbox(loop.time, codec.clockRate)
        if is_ours:
            make_low_latency(receiver, VirtualClock(loop))  # type: ignore[arg-type]
            receiver._RTCRtpReceiver__jitter_buffer.feed = self.inbox
        else:
            receiver._RTCRtpReceiver__decoder_queue = self.inbox
            receiver._RTCRtpReceiver__decoder_thread = True
        receiver._RTCRtpReceiver__codecs[codec.payloadType] = codec
        self._receiver._set_rtcp_ssrc(9)
        self._codec = codec
        self._sequence = 65_000
        self._history: dict[int, RtpPacket] = {}
        self._wants_key_frame = True
        self._tasks: set[asyncio.Task[None]] = set()

    async def run(self, seconds: float) -> None:
        """Send for so long from now on."""
        start_s, period_s = self._loop.now_s, FRAME_S if self._is_video else SOUND_S
        for index in range(round(seconds / period_s)):
            await asyncio.sleep(max(0.0, start_s + index * period_s - self._loop.now_s))
            for packet in self._next_packets():
                self._transmit(packet)
        await asyncio.sleep(max(0.0, start_s + seconds - self._loop.now_s))

    def _next_packets(self) -> list[RtpPacket]:
        is_key, self._wants_key_frame = self._wants_key_frame, False
        count = (KEY_FRAME_PACKETS if is_key else self.frame_packets) if self._is_video else 1
        packets = []
        for place in range(count):
            packet = RtpPacket(
                payload_type=self._codec.payloadType or 0,
                sequence_number=self._sequence % 65536,
                timestamp=round(self._loop.now_s * self._codec.clockRate),
                marker=int(place == count - 1),
            )
            packet.ssrc = VIDEO_SSRC if self._is_video else AUDIO_SSRC
            # a VP8 descriptor without extensions; the frame's first bit is 0 in a key frame
            packet.payload = (b"\x10" + bytes([not is_key])) + bytes(20) if self._is_video else bytes(80)
            self._history[packet.sequence_number] = packet
            self._history.pop((self._sequence - HISTORY_PACKETS) % 65536, None)
            packets.append(packet)
            self._sequence += 1
        return packets

    def _transmit(self, packet: RtpPacket) -> None:
        if self._random.random() >= self.loss:
            self._later(lambda: self._receiver._handle_rtp_packet(packet, arrival_time_ms=0))

    async def _send_rtp(self, data: bytes) -> None:
        """What the receiver sends back: requests, which may be lost too."""
        if self._random.random() >= self.loss:
            self._later(lambda: self._answer(data))

    async def _answer(self, data: bytes) -> None:
        for packet in RtcpPacket.parse(data):
            if isinstance(packet, RtcpRtpfbPacket) and packet.fmt == RTCP_RTPFB_NACK:
                for sequence in packet.lost:
                    if sequence in self._history:
                        self._transmit(self._history[sequence])
            elif isinstance(packet, RtcpPsfbPacket) and packet.fmt == RTCP_PSFB_PLI:
                self._wants_key_frame = True

    def _later(self, what: Callable[[], Coroutine[Any, Any, None]]) -> None:
        def start() -> None:
            task = self._loop.create_task(what())
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

        self._loop.call_later(self._delay_s, start)


def transmitted(
    kind: str,
    *,
    is_ours: bool,
    delay_ms: float,
    seed: int,
    stretches_s: tuple[float, ...],
    loss: float = 0.05,
    frame_packets: int = 6,
) -> list[Shown]:
    """Everything that got through: stretches without and with losses in turns, without at first."""
    loop = VirtualLoop()

    async def send() -> list[Shown]:
        line = LossyLine(loop, kind, is_ours=is_ours, loss=0.0, delay_s=delay_ms / 1000, seed=seed)
        line.frame_packets = frame_packets
        for number, seconds in enumerate(stretches_s):
            line.loss = loss if number % 2 else 0.0
            await line.run(seconds)
        await asyncio.sleep(1.0)
        return line.inbox.shown

    try:
        return loop.run_until_complete(send())
    finally:
        loop.close()
