"""The other end of `echo_server`: publishes marked pictures and sound, and reads the marks that come back."""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import time
from typing import Any

import aiohttp
import av
from aiortc import (
    MediaStreamTrack,
    RTCConfiguration,
    RTCPeerConnection,
    RTCRtpSender,
    RTCSessionDescription,
)
from aiortc.mediastreams import MediaStreamError

from clients.bench.echo_server import SIDES, Received
from clients.bench.impairment import Impairment
from clients.bench.marks import MarkedPictures, MarkedSound
from engine.clock import MediaClock
from engine.config import RtcConfig, VideoEncodingConfig
from engine.rtc import settings
from engine.rtc.negotiation import new_connection, send_track
from engine.rtc.receiver import make_low_latency
from engine.rtc.repeats import repeat_while_lossy
from engine.rtc.sender import encode_apart


class OurPeer:
    """A client made of the engine's own parts."""

    def __init__(self, codec: str) -> None:
        settings.install(RtcConfig(video=VideoEncodingConfig(codec="h264" if codec == "h264" else "vp8")))
        self._codec = codec
        self._clock = MediaClock()

    def new_connection(self) -> RTCPeerConnection:
        return new_connection(())

    def send(self, connection: RTCPeerConnection, track: MediaStreamTrack) -> None:
        sender = send_track(connection, track, self._codec if track.kind == "video" else "")
        encode_apart(sender)
        if track.kind == "video":
            repeat_while_lossy(sender)

    def prepare(self, connection: RTCPeerConnection, track: MediaStreamTrack) -> None:
        """Called for a track that is about to be received."""
        receiver = next(receiver for receiver in connection.getReceivers() if receiver.track is track)
        make_low_latency(receiver, self._clock)


class StockPeer:
    """A client of aiortc as it comes."""

    def __init__(self, codec: str) -> None:
        self._codec = codec

    def new_connection(self) -> RTCPeerConnection:
        return RTCPeerConnection(RTCConfiguration(iceServers=[]))

    def send(self, connection: RTCPeerConnection, track: MediaStreamTrack) -> None:
        connection.addTrack(track)
        prefer(connection, self._codec)

    def prepare(self, connection: RTCPeerConnection, track: MediaStreamTrack) -> None:
        """Nothing: this is the stock side."""


def prefer(connection: RTCPeerConnection, codec: str) -> None:
    """Let video be `codec` and nothing else."""
    wanted = [
        entry
        for entry in RTCRtpSender.getCapabilities("video").codecs
        if entry.mimeType.lower() in (f"video/{codec}", "video/rtx")
    ]
    for transceiver in connection.getTransceivers():
        if transceiver.kind == "video":
            transceiver.setCodecPreferences(wanted)


class EchoClient:
    """Publishes, and watches if told to. Use it as an async context manager."""

    def __init__(self, url: str, side: str, codec: str, size_px: int) -> None:
        self.peer = OurPeer(codec) if side == "ours" else StockPeer(codec)
        self.received = Received()
        self.sound = MarkedSound()
        self._pictures = MarkedPictures(size_px)
        self._url = url
        self._codec = codec
        self._connections: list[RTCPeerConnection] = []
        self._readers: list[asyncio.Task[None]] = []

    async def __aenter__(self) -> EchoClient:
        self._http = aiohttp.ClientSession(raise_for_status=True)
        return self

    async def __aexit__(self, *_: object) -> None:
        for connection in self._connections:
            await connection.close()
        for reader in self._readers:
            reader.cancel()
        await asyncio.gather(*self._readers, return_exceptions=True)
        await self._http.close()

    async def publish(self) -> None:
        connection = self._new_connection()
        for track in (self._pictures, self.sound):
            self.peer.send(connection, track)
        await self._negotiate(connection, "/publish")

    async def watch(self) -> None:
        connection = self._new_connection()

        @connection.on("track")
        def take(track: MediaStreamTrack) -> None:
            self.peer.prepare(connection, track)
            self._readers.append(asyncio.create_task(self._read(track)))

        for kind in ("video", "audio"):
            connection.addTransceiver(kind, direction="recvonly")
        prefer(connection, self._codec)
        await self._negotiate(connection, "/watch")

    async def set(self, what: str, **values: float) -> None:
        """Change the server's "model" or "impairment"."""
        async with self._http.post(f"{self._url}/{what}", json=values):
            pass

    async def server_received(self) -> dict[str, Any]:
        return await self._get("received")

    async def server_memory_mb(self) -> float:
        return float((await self._get("memory"))["memory_mb"])

    async def _get(self, what: str) -> dict[str, Any]:
        async with self._http.get(f"{self._url}/{what}") as response:
            values: dict[str, Any] = await response.json()
            return values

    def _new_connection(self) -> RTCPeerConnection:
        connection = self.peer.new_connection()
        self._connections.append(connection)
        return connection

    async def _negotiate(self, connection: RTCPeerConnection, path: str) -> None:
        await connection.setLocalDescription(await connection.createOffer())
        async with self._http.post(self._url + path, data=connection.localDescription.sdp) as response:
            sdp = await response.text()
        await connection.setRemoteDescription(RTCSessionDescription(sdp, "answer"))

    async def _read(self, track: MediaStreamTrack) -> None:
        try:
            while True:
                frame = await track.recv()
                if isinstance(frame, av.VideoFrame):
                    self.received.see(frame)
                elif isinstance(frame, av.AudioFrame):
                    self.received.hear(frame)
        except MediaStreamError:
            return


async def echo(args: argparse.Namespace) -> dict[str, Any]:
    """What came back within the measured time, and what was sent."""
    async with EchoClient(args.url, args.side, args.codec, args.size) as client:
        await client.publish()
        await client.watch()
        await asyncio.sleep(args.warm_up)
        start_s = time.monotonic()
        await asyncio.sleep(args.seconds)
        return {
            "start_s": start_s,
            "end_s": time.monotonic(),
            "pictures": client.received.pictures,
            "tones_sent": client.sound.moments,
            "tones_heard": client.received.tones,
            "server": await client.server_received(),
        }


async def lossy(args: argparse.Namespace) -> dict[str, Any]:
    """One way only, from here to the server: undisturbed, then with losses, then undisturbed again."""
    impairment = Impairment(seed=args.seed, delay_ms=args.delay)
    impairment.install()
    async with EchoClient(args.url, args.side, args.codec, args.size) as client:
        await client.set("impairment", delay_ms=args.delay)
        await client.publish()
        await asyncio.sleep(args.warm_up + args.settle)
        start_s = time.monotonic()
        impairment.loss = args.loss
        await client.set("impairment", loss=args.loss)
        await asyncio.sleep(args.seconds)
        impairment.loss = 0.0
        await client.set("impairment", loss=0.0)
        end_s = time.monotonic()
        await asyncio.sleep(args.settle + 2.0)
        return {
            "start_s": start_s,
            "end_s": end_s,
            "dropped": impairment.dropped,
            "tones_sent": client.sound.moments,
            "server": await client.server_received(),
        }


async def overloaded(args: argparse.Namespace) -> dict[str, Any]:
    """An echo whose model takes `--busy` ms a picture at first, then `--more-busy`, then `--less-busy`."""
    async with EchoClient(args.url, args.side, args.codec, args.size) as client:
        await client.set("model", busy_ms=args.busy)
        await client.publish()
        await client.watch()
        await asyncio.sleep(args.warm_up)
        moments = [time.monotonic()]
        memory_mb = []
        for busy_ms, seconds in ((args.busy, args.seconds), (args.more_busy, 10.0), (args.less_busy, 10.0)):
            await client.set("model", busy_ms=busy_ms)
            end_s = time.monotonic() + seconds
            while (left_s := end_s - time.monotonic()) > 0:
                memory_mb.append((time.monotonic(), await client.server_memory_mb()))
                await asyncio.sleep(min(left_s, max(1.0, seconds / 60)))
            moments.append(time.monotonic())
        return {"moments_s": moments, "memory_mb": memory_mb, "pictures": client.received.pictures}


TASKS = {"echo": echo, "lossy": lossy, "overloaded": overloaded}


def main() -> None:
    parser = argparse.ArgumentParser(description="The near end of the transport benchmarks.")
    parser.add_argument("task", choices=TASKS)
    parser.add_argument("--url", required=True)
    parser.add_argument("--side", choices=SIDES, required=True)
    parser.add_argument("--codec", choices=("vp8", "h264"), default="vp8")
    parser.add_argument("--size", type=int, default=512)
    parser.add_argument("--seconds", type=float, required=True)
    parser.add_argument("--warm-up", type=float, default=4.0)
    parser.add_argument("--loss", type=float, default=0.05)
    parser.add_argument("--delay", type=float, default=0.0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--settle", type=float, default=10.0)
    parser.add_argument("--busy", type=float, default=0.0)
    parser.add_argument("--more-busy", type=float, default=0.0)
    parser.add_argument("--less-busy", type=float, default=0.0)
    args = parser.parse_args()
    settings.offer_loopback_candidates(only=True)
    sys.stdout.write(json.dumps(asyncio.run(TASKS[args.task](args))) + "\n")


if __name__ == "__main__":
    main()
