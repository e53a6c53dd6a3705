"""A server that sends back what is published to it: once made of our parts, once of aiortc as it comes.

It stands for the engine with a model that changes nothing. Run as a process of its own, so that the stock
side is really stock: nothing in that process has been patched but the choice of 127.0.0.1 for an address and
the sending of packets, which a bad network is made of.
"""

from __future__ import annotations

import argparse
import asyncio
import time
from array import array
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import av
import numpy as np
import psutil
from aiohttp import web
from aiortc import MediaStreamTrack, RTCConfiguration, RTCPeerConnection, RTCSessionDescription
from aiortc.mediastreams import MediaStreamError

from clients.bench.impairment import Impairment
from clients.bench.marks import Moment, ToneListener, age_ms, luma, read_code
from engine.clock import MediaClock
from engine.config import RtcConfig, VideoEncodingConfig
from engine.mailbox import BoundedQueue
from engine.media import AudioChunk
from engine.metrics import PerformanceMetrics
from engine.native_memory import keep_giving_back
from engine.rtc import settings
from engine.rtc.negotiation import answer, new_connection, read_offer, with_start_bitrate
from engine.sinks.sink import AvatarFrame
from engine.sinks.webrtc import SmoothedLatency, WebRtcSink
from engine.sources.remote import RemoteSource
from engine.sources.source import Arrival

PAGE = Path(__file__).with_name("echo.html")
SIDES = ("ours", "stock")
LONGEST_AGE_MS = 60_000
MB = 1_000_000


@dataclass
class Model:
    """What the time of a generator would be. May be changed while it runs."""

    latency_ms: float = 0.0
    """How long each picture takes while others are worked on too."""
    busy_ms: float = 0.0
    """How long each picture takes while no other is worked on."""


@dataclass
class Received:
    """What came in: the age of every picture, and when each tone was heard."""

    listener: ToneListener = field(default_factory=ToneListener)
    _seen: array[float] = field(default_factory=lambda: array("d"))
    """Small enough not to look like a leak after half an hour."""

    @property
    def pictures(self) -> list[tuple[float, float]]:
        """(when it came, its age in milliseconds); seconds of the monotonic clock."""
        return list(zip(self._seen[::2], self._seen[1::2], strict=True))

    @property
    def tones(self) -> list[Moment]:
        return self.listener.heard

    def see(self, frame: av.VideoFrame) -> None:
        age = age_ms(read_code(luma(frame)))
        if age < LONGEST_AGE_MS:  # else it was misread
            self._seen.extend((time.monotonic(), age))

    def hear(self, frame: av.AudioFrame) -> None:
        samples = frame.to_ndarray().reshape(-1, len(frame.layout.channels))[:, 0]
        self.listener.hear(samples / 32768, time.monotonic())


class Echo(Protocol):
    """One publisher and, if anyone asks for it, one viewer."""

    received: Received
    model: Model

    async def publish(self, sdp: str) -> str: ...

    async def watch(self, sdp: str) -> str: ...

    async def close(self) -> None: ...


class OurEcho:
    """The engine's source and sink, with the sound held back by the picture's latency as the engine does."""

    def __init__(self, encoding: VideoEncodingConfig) -> None:
        self.received = Received()
        self.model = Model()
        self._encoding = encoding
        self._clock = MediaClock()
        self._latency = SmoothedLatency()
        self._sound: BoundedQueue[AudioChunk] = BoundedQueue(100)
        self._source: RemoteSource | None = None
        self._sinks: list[WebRtcSink] = []
        self._tasks = [asyncio.create_task(self._play()), asyncio.create_task(keep_giving_back())]

    async def publish(self, sdp: str) -> str:
        read_offer(sdp, "publish")
        connection = new_connection(())
        self._source = RemoteSource(connection, self._clock, self._hear)
        self._tasks.append(asyncio.create_task(self._generate(self._source)))
        return with_start_bitrate(await answer(connection, sdp), RtcConfig().camera_start_kbps)

    async def watch(self, sdp: str) -> str:
        kinds = read_offer(sdp, "watch")
        connection = new_connection(())
        metrics = PerformanceMetrics.started(self._clock)
        self._sinks.append(WebRtcSink(connection, kinds, self._clock, self._encoding, metrics))
        return await answer(connection, sdp)

    async def close(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for end in (*self._sinks, self._source):
            if end is not None:
                await end.close()

    async def _generate(self, source: RemoteSource) -> None:
        loop = asyncio.get_running_loop()
        while True:
            arrival = await source.pictures.get()
            self.received.see(arrival.frame)
            if self.model.busy_ms:
                await asyncio.sleep(self.model.busy_ms / 1000)
            if self.model.latency_ms:
                loop.call_later(self.model.latency_ms / 1000, self._show, arrival)
            else:
                self._show(arrival)

    def _show(self, arrival: Arrival) -> None:
        self._latency.add(self._clock.now_ns() - arrival.capture_time_ns)
        picture = np.asarray(arrival.frame.to_ndarray(format="yuv420p"), np.uint8)
        for sink in self._sinks:
            sink.show(AvatarFrame(picture, arrival.capture_time_ns, arrival.capture_time_ns))

    def _hear(self, chunk: AudioChunk) -> None:
        self.received.listener.hear(chunk.samples, time.monotonic())
        self._sound.put(chunk)

    async def _play(self) -> None:
        while True:
            chunk = await self._sound.get()
            await self._clock.sleep_until(chunk.capture_time_ns + self._latency.value_ns())
            for sink in self._sinks:
                sink.play(chunk)


class Relayed(MediaStreamTrack):
    """A received track sent on, each picture after the model's time."""

    def __init__(self, track: MediaStreamTrack, received: Received, model: Model) -> None:
        super().__init__()
        self.kind = track.kind
        self._track = track
        self._received = received
        self._model = model
        self._ripening: asyncio.Queue[tuple[float, Any]] = asyncio.Queue()
        self._reader: asyncio.Task[None] | None = None

    async def recv(self) -> Any:
        if self._reader is None and self._model.latency_ms and self.kind == "video":
            self._reader = asyncio.create_task(self._read_ahead())
        if self._reader is None:
            return await self._next()
        due_s, frame = await self._ripening.get()
        if frame is None:
            raise MediaStreamError
        await asyncio.sleep(max(0.0, due_s - time.monotonic()))
        return frame

    async def _next(self) -> Any:
        frame = await self._track.recv()
        if isinstance(frame, av.AudioFrame):
            self._received.hear(frame)
            return frame
        assert isinstance(frame, av.VideoFrame)
        self._received.see(frame)
        if self._model.busy_ms:
            await asyncio.sleep(self._model.busy_ms / 1000)
        return frame

    async def _read_ahead(self) -> None:
        try:
            while True:
                frame = await self._next()
                self._ripening.put_nowait((time.monotonic() + self._model.latency_ms / 1000, frame))
        except MediaStreamError:
            self._ripening.put_nowait((0.0, None))


class StockEcho:
    """What aiortc's own examples do: the received track is added to the other connection."""

    def __init__(self) -> None:
        self.received = Received()
        self.model = Model()
        self._tracks: dict[str, Relayed] = {}
        self._connections: list[RTCPeerConnection] = []
        self._drains: dict[str, asyncio.Task[None]] = {}

    async def publish(self, sdp: str) -> str:
        connection = self._new_connection()

        @connection.on("track")
        def take(track: MediaStreamTrack) -> None:
            relayed = Relayed(track, self.received, self.model)
            self._tracks[track.kind] = relayed
            self._drains[track.kind] = asyncio.create_task(_drain(relayed))

        return await self._answer(connection, sdp)

    async def watch(self, sdp: str) -> str:
        connection = self._new_connection()
        for kind, track in self._tracks.items():
            if f"m={kind}" in sdp:
                self._drains[kind].cancel()  # from now on the sender reads the track
                connection.addTrack(track)
        return await self._answer(connection, sdp)

    async def close(self) -> None:
        for drain in self._drains.values():
            drain.cancel()
        for connection in self._connections:
            await connection.close()

    def _new_connection(self) -> RTCPeerConnection:
        connection = RTCPeerConnection(RTCConfiguration(iceServers=[]))
        self._connections.append(connection)
        return connection

    async def _answer(self, connection: RTCPeerConnection, sdp: str) -> str:
        await connection.setRemoteDescription(RTCSessionDescription(sdp, "offer"))
        await connection.setLocalDescription(await connection.createAnswer())
        return connection.localDescription.sdp


async def _drain(track: Relayed) -> None:
    try:
        while True:
            await track.recv()
    except MediaStreamError:
        return


def app(open_echo: Callable[[], Echo], impairment: Impairment) -> web.Application:
    """POST /publish and /watch take offers, /model and /impairment settings; GET /received, /memory tell."""
    echo = open_echo()

    def answering(take: Callable[[str], Awaitable[str]]) -> Callable[[web.Request], Awaitable[web.Response]]:
        async def handle(request: web.Request) -> web.Response:
            return web.Response(text=await take(await request.text()), content_type="application/sdp")

        return handle

    def setting(target: object) -> Callable[[web.Request], Awaitable[web.Response]]:
        async def handle(request: web.Request) -> web.Response:
            vars(target).update(await request.json())
            return web.Response(status=204)

        return handle

    async def received(_: web.Request) -> web.Response:
        return web.json_response({"pictures": echo.received.pictures, "tones": echo.received.tones})

    async def memory(_: web.Request) -> web.Response:
        return web.json_response({"memory_mb": psutil.Process().memory_info().rss / MB})

    async def page(_: web.Request) -> web.FileResponse:
        return web.FileResponse(PAGE)

    async def close(_: web.Application) -> None:
        await echo.close()

    application = web.Application()
    application.add_routes(
        [
            web.get("/", page),
            web.post("/publish", answering(echo.publish)),
            web.post("/watch", answering(echo.watch)),
            web.post("/model", setting(echo.model)),
            web.post("/impairment", setting(impairment)),
            web.get("/received", received),
            web.get("/memory", memory),
        ]
    )
    application.on_cleanup.append(close)
    return application


def main() -> None:
    parser = argparse.ArgumentParser(description="The other end of the transport benchmarks.")
    parser.add_argument("--side", choices=SIDES, required=True)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--codec", choices=("vp8", "h264"), default="vp8")
    args = parser.parse_args()
    settings.offer_loopback_candidates(only=True)
    encoding = VideoEncodingConfig(codec=args.codec)
    if args.side == "ours":
        settings.install(RtcConfig(video=encoding))
    impairment = Impairment(seed=1)
    impairment.install()

    async def started() -> web.Application:
        return app(StockEcho if args.side == "stock" else lambda: OurEcho(encoding), impairment)

    web.run_app(started(), host="127.0.0.1", port=args.port, print=None)


if __name__ == "__main__":
    main()
