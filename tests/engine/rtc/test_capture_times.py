"""Capture times from a sink to a source, over a real connection within this process."""

import asyncio
from collections.abc import AsyncIterator

import numpy as np
import pytest
from aiortc import RTCPeerConnection, RTCSessionDescription

from engine.clock import NS_PER_MS, NS_PER_S, MediaClock
from engine.config import VideoEncodingConfig
from engine.media import AudioChunk
from engine.metrics import PerformanceMetrics
from engine.rtc.negotiation import answer, new_connection
from engine.sinks.sink import AvatarFrame
from engine.sinks.webrtc import WebRtcSink
from engine.sources.remote import RemoteSource

SECONDS = 5
PICTURE_LATE_NS = 180 * NS_PER_MS
SOUND_LATE_NS = 20 * NS_PER_MS
SAMPLES = 960
LEVELS, DARKEST, STEP = 25, 30, 8


class Pair:
    """A sink and the source that receives what it sends."""

    def __init__(self) -> None:
        self.clock = MediaClock()
        self.heard: list[AudioChunk] = []
        self.sending, self.receiving = new_connection(()), new_connection(())
        metrics = PerformanceMetrics.started(self.clock)
        kinds = frozenset({"video", "audio"})
        self.sink = WebRtcSink(self.sending, kinds, self.clock, VideoEncodingConfig(), metrics)
        self.source = RemoteSource(self.receiving, self.clock, self.heard.append)

    async def connect(self) -> None:
        await self.sending.setLocalDescription(await self.sending.createOffer())
        sdp = await answer(self.receiving, self.sending.localDescription.sdp)
        await self.sending.setRemoteDescription(RTCSessionDescription(sdp, "answer"))
        async with asyncio.timeout(10):
            while not _is_connected(self.sending, self.receiving):  # noqa: ASYNC110 - aiortc has no event
                await asyncio.sleep(0.01)


def _is_connected(*connections: RTCPeerConnection) -> bool:
    return all(connection.connectionState == "connected" for connection in connections)


@pytest.fixture
async def pair() -> AsyncIterator[Pair]:
    pair = Pair()
    await pair.connect()
    yield pair
    await pair.sink.close()
    await pair.source.close()


async def test_picture_and_sound_of_one_moment_arrive_with_one_capture_time(pair: Pair) -> None:
    """Each picture's brightness tells which it is; at one moment it gets loud.

    A picture is sent 160 ms later than the sound of the same moment.
    """
    start_ns = pair.clock.now_ns()
    flash_ns = start_ns + (SECONDS - 1) * NS_PER_S
    errors_ns: list[int] = []

    async def send_pictures() -> None:
        for index in range(25 * SECONDS):
            capture_ns = start_ns + index * 40 * NS_PER_MS
            await pair.clock.sleep_until(capture_ns + PICTURE_LATE_NS)
            planes = np.full((96, 64), DARKEST + STEP * (index % LEVELS), np.uint8)
            pair.sink.show(AvatarFrame(planes, capture_ns, capture_ns + PICTURE_LATE_NS))

    async def send_sound() -> None:
        for index in range(50 * SECONDS):
            capture_ns = start_ns + index * 20 * NS_PER_MS
            await pair.clock.sleep_until(capture_ns + SOUND_LATE_NS)
            level = 0.5 if capture_ns >= flash_ns else 0.001
            tone = level * np.sin(2 * np.pi * 500 * np.arange(SAMPLES) / 48_000)
            pair.sink.play(AudioChunk(tone.astype(np.float32), 48_000, capture_ns))

    async def see() -> None:
        while True:
            arrival = await pair.source.pictures.get()
            level = round((int(arrival.frame.to_ndarray()[20, 20]) - DARKEST) / STEP)
            captured_ns = start_ns + level * 40 * NS_PER_MS
            turn_ns = LEVELS * 40 * NS_PER_MS
            error_ns = (arrival.capture_time_ns - captured_ns + turn_ns // 2) % turn_ns - turn_ns // 2
            if arrival.capture_time_ns > flash_ns:
                errors_ns.append(error_ns)

    seeing = asyncio.create_task(see())
    await asyncio.gather(send_pictures(), send_sound())
    await asyncio.sleep(1)
    seeing.cancel()
    loud = next(chunk for chunk in pair.heard if np.abs(chunk.samples).max() > 0.2)
    loud_ns = loud.capture_time_ns + int(np.argmax(np.abs(loud.samples) > 0.1)) * NS_PER_S // 48_000
    assert abs(np.median(errors_ns) - (loud_ns - flash_ns)) <= 40 * NS_PER_MS
