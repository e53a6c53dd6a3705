"""A browser's part without a browser: publishes a clip as camera and microphone, and watches the avatar."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from itertools import islice
from pathlib import Path
from typing import Any, Self

import aiohttp
import av
import cv2
import numpy as np
from aiortc import MediaStreamTrack, RTCPeerConnection, RTCSessionDescription
from aiortc.mediastreams import MediaStreamError
from numpy.typing import NDArray

from engine.clock import NS_PER_S, MediaClock, Ticker
from engine.media_files import MediaFile, pictures_at_25_fps, read_sound
from engine.rtc.capture_clock import CaptureClock
from engine.rtc.negotiation import new_connection, send_track
from engine.rtc.receiver import make_low_latency
from engine.rtc.rtp_time import TIMESTAMP_MODULUS, unwrapped
from engine.rtc.sender_reports import report_capture_times
from engine.sources.source import SOUND_RATE

CAMERA_FPS = 25
PACKET_SAMPLES = SOUND_RATE // 50
MAX_PICTURES = 250
KEY_FRAME_EVERY = 25
CAMERA_BIT_RATE = 1_500_000
SDP_HEADERS = {"Content-Type": "application/sdp"}
RTP_RATE = 90_000


@dataclass(frozen=True)
class Footage:
    """A clip in memory, so that reading it costs nothing while something is measured."""

    pictures: list[NDArray[np.uint8]]
    """I420 planes, (side * 3 / 2, side)."""
    sound: NDArray[np.int16]

    @classmethod
    def load(cls, path: Path, side_px: int) -> Footage:
        media = MediaFile.probe(path)
        pictures = []
        for image_HWC in islice(pictures_at_25_fps(media), MAX_PICTURES):
            small = cv2.resize(image_HWC, (side_px, side_px), interpolation=cv2.INTER_AREA)
            pictures.append(np.asarray(cv2.cvtColor(small, cv2.COLOR_RGB2YUV_I420), np.uint8))
        sound = read_sound(media).samples.mean(0)[: len(pictures) * SOUND_RATE // CAMERA_FPS]
        return cls(pictures, np.clip(sound * 32767, -32768, 32767).astype(np.int16))

    def resized(self, side_px: int) -> Footage:
        """The same in another size."""
        frames = [av.VideoFrame.from_ndarray(planes, format="yuv420p") for planes in self.pictures]
        smaller = [frame.reformat(width=side_px, height=side_px) for frame in frames]
        return Footage([np.asarray(frame.to_ndarray(), np.uint8) for frame in smaller], self.sound)

    def encoded(self) -> list[bytes]:
        """The pictures as VP8, one entry each: the first and every 25th is a key frame."""
        height, width = self.pictures[0].shape[0] * 2 // 3, self.pictures[0].shape[1]
        encoder = av.CodecContext.create("libvpx", "w")
        assert isinstance(encoder, av.VideoCodecContext)
        encoder.width, encoder.height, encoder.pix_fmt = width, height, "yuv420p"
        encoder.time_base = Fraction(1, CAMERA_FPS)
        encoder.bit_rate = CAMERA_BIT_RATE
        encoder.gop_size = KEY_FRAME_EVERY
        encoder.options = {"deadline": "realtime", "cpu-used": "-6", "lag-in-frames": "0"}
        encoded = []
        for index, planes in enumerate(self.pictures):
            frame = av.VideoFrame.from_ndarray(planes, format="yuv420p")
            frame.pts = index
            encoded.append(b"".join(bytes(packet) for packet in encoder.encode(frame)))
        return encoded


class CameraTrack(MediaStreamTrack):
    """The footage's pictures, over and over, at 25 fps.

    They are encoded before anything is measured: a visitor's camera is encoded on the visitor's machine, so
    the processor time for it is not the server's to lend. A key frame every second stands for those that
    would be sent on request.
    """

    kind = "video"

    def __init__(self, footage: Footage, clock: MediaClock) -> None:
        super().__init__()
        self._pictures = footage.encoded()
        self._ticker = Ticker(clock, CAMERA_FPS)
        self._index = 0
        self._first_ns = 0

    def capture_time_ns(self, elapsed_ns: int) -> int:
        """When the picture that far after the first one was taken."""
        return self._first_ns + elapsed_ns

    async def recv(self) -> av.Packet[Any]:
        deadline_ns = await self._ticker.next_deadline()
        self._first_ns = self._first_ns or deadline_ns
        packet = av.Packet(self._pictures[self._index % len(self._pictures)])
        packet.pts = self._index
        packet.time_base = Fraction(1, CAMERA_FPS)
        self._index += 1
        return packet


class MicrophoneTrack(MediaStreamTrack):
    """The footage's sound, over and over, in packets of 20 ms."""

    kind = "audio"

    def __init__(self, footage: Footage, clock: MediaClock) -> None:
        super().__init__()
        self._sound = footage.sound
        self._ticker = Ticker(clock, SOUND_RATE / PACKET_SAMPLES)
        self._start = 0
        self._first_ns = 0

    def capture_time_ns(self, elapsed_ns: int) -> int:
        """When the sample that far after the first was heard: a packet is sent after its last one."""
        return self._first_ns + elapsed_ns

    async def recv(self) -> av.AudioFrame:
        deadline_ns = await self._ticker.next_deadline()
        self._first_ns = self._first_ns or deadline_ns - PACKET_SAMPLES * NS_PER_S // SOUND_RATE
        samples = np.take(self._sound, np.arange(self._start, self._start + PACKET_SAMPLES), mode="wrap")
        frame = av.AudioFrame.from_ndarray(samples[None], format="s16", layout="mono")
        frame.sample_rate = SOUND_RATE
        frame.pts = self._start
        frame.time_base = Fraction(1, SOUND_RATE)
        self._start += PACKET_SAMPLES
        return frame


@dataclass
class Seen:
    """What came back, one entry per picture."""

    arrivals_s: list[float] = field(default_factory=list)
    media_times_s: list[float] = field(default_factory=list)
    differences: list[float] = field(default_factory=list)
    """Mean absolute difference of brightness from the picture before, 0 to 255."""
    sound_packets: int = 0
    newest: NDArray[np.uint8] | None = None


class HeadlessClient:
    """One session on a running server. Use it as an async context manager."""

    def __init__(self, url: str, *, keep: list[NDArray[np.uint8]] | None = None) -> None:
        """keep: where every picture that comes back goes, as I420 planes; None: nowhere."""
        self.seen = Seen()
        self._keep = keep
        self.session_id = ""
        self._url = url
        self._clock = MediaClock()
        self._connections: list[RTCPeerConnection] = []
        self._readers: list[asyncio.Task[None]] = []
        self._video_clock: CaptureClock | None = None

    async def __aenter__(self) -> Self:
        self._http = aiohttp.ClientSession(raise_for_status=True)
        async with self._http.post(f"{self._url}/sessions") as response:
            opened = await response.json()
        self.session_id = opened["id"]
        self._http.headers["Authorization"] = f"Bearer {opened['token']}"
        return self

    async def __aexit__(self, *_: object) -> None:
        for connection in self._connections:
            await connection.close()
        for reader in self._readers:
            reader.cancel()
        await asyncio.gather(*self._readers, return_exceptions=True)
        async with self._http.delete(self._session_url()):
            pass
        await self._http.close()

    def now_s(self) -> float:
        """By the clock of `seen.arrivals_s`."""
        return self._clock.now_ns() / NS_PER_S

    async def patch(self, **changes: object) -> dict[str, Any]:
        """Returns the session's state."""
        return await self.call("PATCH", "", changes)

    async def call(self, method: str, path: str, body: Mapping[str, object] | None = None) -> dict[str, Any]:
        """Any request about this session; what it answers in JSON, else nothing.

        Raises aiohttp.ClientResponseError for an answer of 4xx or 5xx.
        """
        async with self._http.request(method, self._session_url() + path, json=body) as response:
            if response.content_type != "application/json":
                return {}
            values: dict[str, Any] = await response.json()
            return values

    async def ticks_s(self, media_times_s: Sequence[float]) -> list[float]:
        """What pictures were drawn for, by the engine's clock, from `seen.media_times_s`.

        Raises LookupError until the engine has told about one of this session's only viewer's pictures, which
        it does about a second after the first.
        """
        viewers = (await self.state())["viewers"]
        origin = None if self._video_clock is None else self._video_clock.rtp_origin
        if not viewers or origin is None:
            raise LookupError("the engine has not yet told when one of the viewer's pictures was drawn")
        (told,) = viewers.values()
        told_s = (unwrapped(told["rtp_time"], origin, TIMESTAMP_MODULUS) - origin) / RTP_RATE
        return [told["tick_ms"] / 1000 - told_s + time_s for time_s in media_times_s]

    async def identities(self) -> list[str]:
        """The names of the faces that came with the model."""
        async with self._http.get(f"{self._url}/identities") as response:
            return [identity["name"] for identity in (await response.json())["identities"]]

    async def state(self) -> dict[str, Any]:
        async with self._http.get(self._session_url()) as response:
            values: dict[str, Any] = await response.json()
            return values

    async def publish(self, *tracks: MediaStreamTrack) -> None:
        """Send these tracks as the session's camera; pictures as VP8, as `Footage.encoded` has them."""
        connection = self._new_connection()
        for track in tracks:
            sender = send_track(connection, track, "vp8" if track.kind == "video" else "")
            if isinstance(track, CameraTrack | MicrophoneTrack):
                report_capture_times(sender, track.capture_time_ns, self._clock)
        await self._negotiate(connection, "/sources/camera")

    async def publish_footage(self, footage: Footage) -> None:
        await self.publish(CameraTrack(footage, self._clock), MicrophoneTrack(footage, self._clock))

    async def watch(self) -> None:
        """Receive the avatar; `seen` fills up from now on."""
        connection = self._new_connection()

        @connection.on("track")
        def take(track: MediaStreamTrack) -> None:
            receiver = next(r for r in connection.getReceivers() if r.track is track)
            capture = make_low_latency(receiver, self._clock)
            if track.kind == "video":
                self._video_clock = capture
            read = self._see if track.kind == "video" else self._listen
            self._readers.append(asyncio.create_task(read(track)))

        for kind in ("video", "audio"):
            connection.addTransceiver(kind, direction="recvonly")
        await self._negotiate(connection, "/watch")

    def _new_connection(self) -> RTCPeerConnection:
        connection = new_connection(())
        self._connections.append(connection)
        return connection

    def _session_url(self) -> str:
        return f"{self._url}/sessions/{self.session_id}"

    async def _negotiate(self, connection: RTCPeerConnection, path: str) -> None:
        await connection.setLocalDescription(await connection.createOffer())
        async with self._http.post(
            self._session_url() + path, data=connection.localDescription.sdp, headers=SDP_HEADERS
        ) as response:
            answer = RTCSessionDescription(sdp=await response.text(), type="answer")
        await connection.setRemoteDescription(answer)

    async def _see(self, track: MediaStreamTrack) -> None:
        while True:
            try:
                frame = await track.recv()
            except MediaStreamError:
                return
            assert isinstance(frame, av.VideoFrame) and frame.pts is not None and frame.time_base is not None
            brightness = _brightness(frame)
            if self._keep is not None:
                self._keep.append(np.asarray(frame.to_ndarray(format="yuv420p"), np.uint8))
            before = self.seen.newest
            self.seen.arrivals_s.append(self._clock.now_ns() / NS_PER_S)
            self.seen.media_times_s.append(float(frame.pts * frame.time_base))
            if before is not None and before.shape == brightness.shape:
                difference = np.abs(brightness[::4, ::4].astype(np.int16) - before[::4, ::4])
                self.seen.differences.append(float(difference.mean()))
            self.seen.newest = brightness

    async def _listen(self, track: MediaStreamTrack) -> None:
        while True:
            try:
                await track.recv()
            except MediaStreamError:
                return
            self.seen.sound_packets += 1


def _brightness(frame: av.VideoFrame) -> NDArray[np.uint8]:
    """(height, width): the Y plane."""
    plane = frame.planes[0]
    rows = np.frombuffer(bytes(plane), np.uint8).reshape(frame.height, plane.line_size)
    return rows[:, : frame.width]
