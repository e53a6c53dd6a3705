"""A real receiver of aiortc with its parts replaced, fed packet by packet; only the network is left out."""

import asyncio
import threading
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

import av
import numpy as np
import pytest
from aiortc import RTCRtpReceiver
from aiortc.codecs import get_encoder
from aiortc.mediastreams import VIDEO_TIME_BASE, MediaStreamError
from aiortc.rtcrtpparameters import (
    RTCRtpCodecParameters,
    RTCRtpDecodingParameters,
    RTCRtpReceiveParameters,
    RTCRtpRtxParameters,
)
from aiortc.rtcrtpreceiver import RemoteStreamTrack
from aiortc.rtp import (
    RTCP_PSFB_PLI,
    RTCP_RTPFB_NACK,
    RtcpByePacket,
    RtcpPacket,
    RtcpPsfbPacket,
    RtcpRtpfbPacket,
    RtcpSenderInfo,
    RtcpSrPacket,
    RtpPacket,
    wrap_rtx,
)

from engine.clock import NS_PER_MS, MediaClock
from engine.config import VideoEncodingConfig
from engine.rtc.capture_clock import CaptureClock
from engine.rtc.encoders import LiveH264Encoder, LiveVp8Encoder
from engine.rtc.receiver import MAX_UNDECODED_FRAMES, end_decoding, make_low_latency

OPUS = RTCRtpCodecParameters(mimeType="audio/opus", clockRate=48000, channels=2, payloadType=96)
PCMU = RTCRtpCodecParameters(mimeType="audio/PCMU", clockRate=8000, channels=1, payloadType=0)
VP8 = RTCRtpCodecParameters(mimeType="video/VP8", clockRate=90000, payloadType=97)
RTX = RTCRtpCodecParameters(mimeType="video/rtx", clockRate=90000, payloadType=98, parameters={"apt": 97})
H264 = RTCRtpCodecParameters(mimeType="video/H264", clockRate=90000, payloadType=99)
SSRC, RTX_SSRC = 1111, 2222
SOUND_TIME_BASE = Fraction(1, 48_000)


@dataclass
class Transport:
    """What a receiver asks of its DTLS transport: it only keeps what is sent."""

    state: str = "connected"
    _stats_id: str = "transport"
    sent: list[Any] = field(default_factory=list)

    def _register_rtp_receiver(self, receiver: object, parameters: object) -> None: ...

    def _unregister_rtp_receiver(self, receiver: object) -> None: ...

    async def _send_rtp(self, data: bytes) -> None:
        self.sent += RtcpPacket.parse(data)

    def nacks(self) -> list[list[int]]:
        return [p.lost for p in self.sent if isinstance(p, RtcpRtpfbPacket) and p.fmt == RTCP_RTPFB_NACK]

    def plis(self) -> int:
        return sum(isinstance(p, RtcpPsfbPacket) and p.fmt == RTCP_PSFB_PLI for p in self.sent)


class Line:
    """One receiver and the hand that feeds it."""

    def __init__(self, kind: str) -> None:
        self.transport = Transport()
        self.receiver: Any = RTCRtpReceiver(kind, self.transport)  # type: ignore[arg-type]
        self.receiver._track = RemoteStreamTrack(kind=kind)
        self.capture: CaptureClock = make_low_latency(self.receiver, MediaClock())
        self.frames: list[Any] = []
        self._reader = asyncio.create_task(self._read())

    async def start(self) -> None:
        self.receiver._set_rtcp_ssrc(3333)
        parameters = RTCRtpReceiveParameters(codecs=[OPUS, PCMU, VP8, RTX, H264])
        rtx = RTCRtpRtxParameters(ssrc=RTX_SSRC)
        parameters.encodings = [RTCRtpDecodingParameters(ssrc=SSRC, payloadType=97, rtx=rtx)]
        await self.receiver.receive(parameters)

    async def stop(self) -> None:
        await self.receiver.stop()
        self._reader.cancel()

    async def feed(self, *packets: RtpPacket) -> None:
        for packet in packets:
            await self.receiver._handle_rtp_packet(packet, arrival_time_ms=0)

    async def until(self, is_so: Callable[[], bool]) -> None:
        async with asyncio.timeout(10):
            while not is_so():  # noqa: ASYNC110 - what is waited for happens in aiortc's thread
                await asyncio.sleep(0.002)

    async def _read(self) -> None:
        try:
            while True:
                self.frames.append(await self.receiver.track.recv())
        except MediaStreamError:
            self.frames.append(None)


@pytest.fixture
async def video() -> AsyncIterator[Line]:
    line = Line("video")
    await line.start()
    yield line
    await line.stop()


@pytest.fixture
async def audio() -> AsyncIterator[Line]:
    line = Line("audio")
    await line.start()
    yield line
    await line.stop()


class PictureSender:
    """Encodes numbered pictures (their brightness tells which) and packs them as a sender does."""

    def __init__(
        self, codec: RTCRtpCodecParameters = VP8, sequence: int = 100, timestamp: int = 5000
    ) -> None:
        self._codec = codec
        self._encoder = (LiveVp8Encoder if codec is VP8 else LiveH264Encoder)(VideoEncodingConfig())
        self._noise = np.random.default_rng(0).integers(0, 40, (288, 192)).astype(np.uint8)
        self._sequence = sequence
        self._timestamp = timestamp
        self._index = 0

    def next(self, force_keyframe: bool = False) -> list[RtpPacket]:
        planes = np.roll(self._noise, 5 * self._index, 1) + np.uint8(100)
        frame = av.VideoFrame.from_ndarray(planes, format="yuv420p")
        frame.pts, frame.time_base = self._index * 3600, VIDEO_TIME_BASE
        payloads, ticks = self._encoder.encode(frame, force_keyframe)
        self._index += 1
        packets = []
        for place, payload in enumerate(payloads):
            packet = RtpPacket(
                payload_type=self._codec.payloadType or 0,
                sequence_number=self._sequence % 65536,
                timestamp=(self._timestamp + ticks) % 2**32,
                marker=int(place == len(payloads) - 1),
            )
            packet.ssrc = SSRC
            packet.payload = payload
            packets.append(packet)
            self._sequence += 1
        return packets


async def test_a_picture_comes_out_although_nothing_follows_it(video: Line) -> None:
    await video.feed(*PictureSender().next())
    await video.until(lambda: len(video.frames) == 1)
    assert (video.frames[0].width, video.frames[0].pts) == (192, 0)


async def test_sequence_and_time_stamps_may_wrap(video: Line) -> None:
    sender = PictureSender(sequence=65533, timestamp=2**32 - 5000)
    for index in range(5):
        await video.feed(*sender.next())
        await video.until(lambda count=index + 1: len(video.frames) == count)  # type: ignore[misc]
    assert [frame.pts for frame in video.frames] == [0, 3600, 7200, 10800, 14400]


async def test_a_lost_packet_is_asked_for_again_and_again_by_the_clock(video: Line) -> None:
    sender = PictureSender()
    first = sender.next()
    await video.feed(*first[:1], *first[2:])
    await video.until(lambda: len(video.transport.nacks()) >= 3)
    assert set(map(tuple, video.transport.nacks())) == {(101,)}
    lost = wrap_rtx(first[1], payload_type=98, sequence_number=7, ssrc=RTX_SSRC)
    await video.feed(lost)
    await video.until(lambda: len(video.frames) == 1)
    asked = len(video.transport.nacks())
    await asyncio.sleep(0.1)
    assert len(video.transport.nacks()) == asked


async def test_a_packet_that_never_comes_is_stepped_over_and_a_key_frame_asked_for_until_it_is_there(
    video: Line,
) -> None:
    sender = PictureSender()
    await video.feed(*sender.next())
    await video.feed(*sender.next()[1:])
    await video.feed(*sender.next())
    await video.until(lambda: len(video.frames) == 2)  # the third came out by the clock alone
    await video.until(lambda: video.transport.plis() >= 2)
    await video.feed(*sender.next(force_keyframe=True))
    await video.until(lambda: len(video.frames) == 3)
    asked = video.transport.plis()
    await asyncio.sleep(0.2)
    assert video.transport.plis() == asked


async def test_one_who_joins_late_waits_for_a_key_frame_and_asks_for_it(video: Line) -> None:
    sender = PictureSender()
    sender.next()
    await video.feed(*sender.next())
    await video.until(lambda: video.transport.plis() == 1)
    await video.feed(*sender.next(force_keyframe=True))
    await video.until(lambda: len(video.frames) == 1)


async def test_the_codec_may_change_while_it_runs(video: Line) -> None:
    vp8 = PictureSender(VP8)
    await video.feed(*vp8.next())
    await video.until(lambda: len(video.frames) == 1)
    h264 = PictureSender(H264, sequence=vp8._sequence, timestamp=5000 + 3600)
    await video.feed(*h264.next())
    await video.until(lambda: len(video.frames) == 2)
    assert video.frames[1].pts == 3600


async def test_the_event_loop_does_not_wait_for_what_is_being_decoded_at_the_end(
    video: Line, monkeypatch: pytest.MonkeyPatch
) -> None:
    is_decoding, may_end = threading.Event(), threading.Event()

    class Slow:
        def decode(self, encoded: object) -> list[object]:
            is_decoding.set()
            may_end.wait()
            return []

    monkeypatch.setattr("engine.rtc.decoding.open_decoder", lambda codec: Slow())
    await video.feed(*PictureSender().next())
    await video.until(is_decoding.is_set)
    ending = asyncio.create_task(end_decoding(video.receiver))
    for _ in range(10):
        await asyncio.sleep(0)
    assert not ending.done()
    may_end.set()
    await ending


async def test_a_picture_that_cannot_be_decoded_brings_one_request_and_no_end(video: Line) -> None:
    sender = PictureSender()
    await video.feed(*sender.next())
    await video.until(lambda: len(video.frames) == 1)
    damaged = sender.next()
    for packet in damaged:
        packet.payload = packet.payload[:4]
    damaged[0].payload += b"\x11\x00"
    await video.feed(*damaged)
    await video.until(lambda: video.transport.plis() == 1)
    await video.feed(*sender.next(force_keyframe=True))
    await video.until(lambda: len(video.frames) == 2)


async def test_bye_ends_the_track_and_later_packets_are_not_kept(video: Line) -> None:
    sender = PictureSender()
    await video.feed(*sender.next())
    await video.until(lambda: len(video.frames) == 1)
    await video.receiver._handle_rtcp_packet(RtcpByePacket(sources=[SSRC]))
    await video.until(lambda: video.frames[-1] is None)
    for _ in range(10):
        await video.feed(*sender.next())
    assert len(video.frames) == 2
    assert video.receiver._RTCRtpReceiver__decoder_queue.qsize() == 0


async def test_an_unread_picture_makes_room_for_the_next(video: Line) -> None:
    sender = PictureSender()
    video._reader.cancel()
    for _ in range(5):
        await video.feed(*sender.next())
    await asyncio.sleep(0.3)
    assert (await video.receiver.track.recv()).pts == 4 * 3600


async def test_a_decoder_that_is_far_behind_goes_on_from_a_key_frame(video: Line) -> None:
    sender = PictureSender()
    await video.feed(*sender.next())
    await video.until(lambda: len(video.frames) == 1)
    feed = video.receiver._RTCRtpReceiver__decoder_queue
    feed.qsize = lambda: MAX_UNDECODED_FRAMES  # as if the decoder had not come to it
    await video.feed(*sender.next())
    await video.until(lambda: video.transport.plis() == 1)
    del feed.qsize
    await video.feed(*sender.next())
    assert len(video.frames) == 1
    await video.feed(*sender.next(force_keyframe=True))
    await video.until(lambda: len(video.frames) == 2)
    assert video.frames[1].pts == 3 * 3600


def sound_packets(codec: RTCRtpCodecParameters, count: int, sequence: int, timestamp: int) -> list[RtpPacket]:
    """A tone in packets of 20 ms."""
    encoder = get_encoder(codec)
    packets: list[RtpPacket] = []
    for index in range(count + 2):
        time_N = (np.arange(960) + 960 * index) / 48_000
        tone_N = (10_000 * np.sin(2 * np.pi * 440 * time_N)).astype(np.int16)
        frame = av.AudioFrame.from_ndarray(tone_N[None], format="s16", layout="mono")
        frame.sample_rate, frame.pts, frame.time_base = 48_000, 960 * index, SOUND_TIME_BASE
        payloads, ticks = encoder.encode(frame)
        for payload in payloads:
            packet = RtpPacket(
                payload_type=codec.payloadType or 0,
                sequence_number=(sequence + len(packets)) % 65536,
                timestamp=(timestamp + ticks) % 2**32,
            )
            packet.ssrc, packet.payload = SSRC, payload
            packets.append(packet)
    return packets[:count]


async def test_lost_sound_is_concealed_in_its_place(audio: Line) -> None:
    packets = sound_packets(OPUS, 12, sequence=65530, timestamp=2**32 - 3 * 960)
    del packets[6]
    for packet in packets:
        await audio.feed(packet)
        await asyncio.sleep(0.02)
    await audio.until(lambda: len(audio.frames) == 12)
    assert [frame.pts for frame in audio.frames] == [960 * index for index in range(12)]
    levels = [np.abs(frame.to_ndarray().astype(float)).mean() for frame in audio.frames]
    assert levels[6] > 0.4 * levels[5]
    assert {frame.samples for frame in audio.frames} == {960}


async def test_the_sound_codec_may_change_while_it_runs(audio: Line) -> None:
    await audio.feed(*sound_packets(OPUS, 3, sequence=10, timestamp=1000))
    await audio.until(lambda: len(audio.frames) == 3)
    await audio.feed(*sound_packets(PCMU, 3, sequence=13, timestamp=77))
    await audio.until(lambda: len(audio.frames) == 6)
    assert [frame.sample_rate for frame in audio.frames] == [48_000] * 3 + [8_000] * 3


async def test_bye_ends_the_sound_and_its_timer(audio: Line) -> None:
    await audio.feed(*sound_packets(OPUS, 2, sequence=10, timestamp=1000))
    await audio.receiver._handle_rtcp_packet(RtcpByePacket(sources=[SSRC]))
    await audio.until(lambda: audio.frames[-1:] == [None])
    await audio.feed(*sound_packets(OPUS, 4, sequence=12, timestamp=1000 + 1920)[2:])
    assert audio.receiver._RTCRtpReceiver__decoder_queue.qsize() == 0


async def test_reports_put_frames_on_the_senders_clock(video: Line) -> None:
    sender = PictureSender()
    await video.feed(*sender.next())
    info = RtcpSenderInfo(ntp_timestamp=77 << 32, rtp_timestamp=5000, packet_count=1, octet_count=1)
    await video.receiver._handle_rtcp_packet(RtcpSrPacket(ssrc=SSRC, sender_info=info))
    await video.feed(*sender.next())
    assert video.capture._wall_from_media_ns == 77_000_000_000
    shift = video.capture.capture_time_ns(40 * NS_PER_MS) - video.capture.capture_time_ns(0)
    assert shift == 40 * NS_PER_MS
