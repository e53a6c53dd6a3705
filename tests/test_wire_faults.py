"""Faults that come over the wire, against a real server in this process: what lives on and what is let go.

How long a picture takes here is the machine's doing, so it is asserted that pictures go on, not how soon;
the engine's own gaps are measured in test_faults.py.
"""

from __future__ import annotations

import asyncio
import os
import random
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from urllib.parse import urljoin

import aiohttp
import aioice.ice
import av
import pytest
from aiohttp.test_utils import TestServer
from aiortc import RTCPeerConnection
from aiortc.rtp import RtcpPsfbPacket, RtpPacket

import engine.http.app
from clients.bench.headless import CAMERA_FPS, SDP_HEADERS, CameraTrack, Footage, HeadlessClient
from engine.clock import MediaClock
from engine.config import EngineConfig
from engine.http.app import Server
from engine.model_worker import LiveModel
from engine.rtc.negotiation import new_connection
from tests.bundles import TinyBundles
from tests.engine.http.offers import FRAGMENT_TYPE, attribute, offer
from tests.interop.media import SIDE_PX
from tests.interop.media import footage as make_footage

PATIENCE_S = 120.0
PICTURES = 5


@pytest.fixture(autouse=True)
def loopback_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(aioice.ice, "get_host_addresses", lambda use_ipv4, use_ipv6: ["127.0.0.1"])
    monkeypatch.setattr(engine.http.app, "SWEEP_S", 0.1)


@pytest.fixture(scope="module")
def model(tiny_bundles: TinyBundles) -> Iterator[LiveModel]:
    opened = LiveModel.open(EngineConfig(model=str(tiny_bundles.path("edit_repose")), threads=1))
    yield opened
    opened.close()


@pytest.fixture(scope="module")
def footage() -> Footage:
    return make_footage()


class Show(HeadlessClient):
    """A session with a viewer before it, whose pictures must go on."""

    async def goes_on(self) -> None:
        """The viewer gets further pictures, and the performance has not stopped."""
        seen = len(self.seen.arrivals_s)
        await until(lambda: len(self.seen.arrivals_s) >= seen + PICTURES)
        assert (await self.state())["failure"] is None

    def url(self, path: str = "") -> str:
        return self._session_url() + path

    async def post(self, path: str, body: str | bytes) -> aiohttp.ClientResponse:
        """Whatever the answer is."""
        return await self._http.post(self.url(path), data=body, headers=SDP_HEADERS, raise_for_status=False)

    async def camera(self) -> dict[str, object]:
        camera: dict[str, object] = (await self.state())["sources"]["camera"]
        return camera

    async def until_camera(self, key: str, value: object) -> None:
        async def is_so() -> bool:
            return (await self.camera())[key] == value

        await until_async(is_so)


@pytest.fixture
async def show(model: LiveModel) -> AsyncIterator[Show]:
    server = TestServer(Server(EngineConfig(allow_local_sources=True), model, MediaClock()).app())
    await server.start_server()
    opened = Show(str(server.make_url("")).rstrip("/"))
    async with opened:
        await opened.patch(pose="camera", expression="camera", mouth="camera")
        await opened.watch()
        await opened.goes_on()
        yield opened
    await server.close()


async def until(condition: Callable[[], bool]) -> None:
    async def is_so() -> bool:
        return condition()

    await until_async(is_so)


async def until_async(condition: Callable[[], Awaitable[bool]]) -> None:
    deadline_s = time.monotonic() + PATIENCE_S
    while not await condition():
        assert time.monotonic() < deadline_s, "waited in vain"
        await asyncio.sleep(0.05)


async def vanish(connection: RTCPeerConnection) -> None:
    """Go without a word, as a killed process does: no DELETE, no DTLS alert, no RTCP BYE."""
    for transport in {t.receiver.transport.transport for t in connection.getTransceivers()}:
        await transport._connection.close()


async def test_a_publisher_is_killed(show: Show, footage: Footage) -> None:
    await show.publish(CameraTrack(footage, MediaClock()))
    await show.until_camera("live", True)
    await vanish(show._connections[-1])
    await show.until_camera("live", False)
    await show.goes_on()
    await show.publish(CameraTrack(footage, MediaClock()))
    await show.until_camera("live", True)


async def test_a_viewer_is_killed(show: Show, footage: Footage) -> None:
    await show.watch()
    assert (await show.state())["watchers"] == 2
    await vanish(show._connections[-1])
    await show.goes_on()


async def test_a_viewer_never_reads(show: Show) -> None:
    connection = new_connection()
    connection.addTransceiver("video", direction="recvonly")
    await show._negotiate(connection, "/watch")
    await until(lambda: connection.connectionState == "connected")
    await show.goes_on()
    await connection.close()


async def test_a_viewer_asks_for_key_frames_without_end(show: Show) -> None:
    connection = new_connection()
    transceiver = connection.addTransceiver("video", direction="recvonly")
    await show._negotiate(connection, "/watch")
    await until(lambda: connection.connectionState == "connected")
    await transceiver.receiver.track.recv()
    (stream,) = {source.source for source in transceiver.receiver.getSynchronizationSources()}
    plea = bytes(RtcpPsfbPacket(fmt=1, ssrc=1, media_ssrc=stream))
    for _ in range(500):
        await transceiver.receiver.transport._send_rtp(plea)
    await show.goes_on()
    await transceiver.receiver.track.recv()
    await connection.close()


async def test_garbage_comes_instead_of_media(show: Show, footage: Footage) -> None:
    await show.publish(CameraTrack(footage, MediaClock()))
    await show.until_camera("live", True)
    transport = show._connections[-1].getSenders()[0].transport
    dice = random.Random(0)
    for size in (0, 1, 11, 12, 100, 1200):
        for first in (0x00, 0x16, 0x80, 0x90, 0xB0, 0xFF):  # on the wire, in the place of SRTP and DTLS
            await transport.transport._send(bytes([first]) + dice.randbytes(size))
        for payload_type in (0, 63, 97, 127):  # well protected, and still nothing to play
            packet = RtpPacket(payload_type=payload_type, ssrc=dice.getrandbits(32))
            packet.payload = dice.randbytes(size)
            await transport._send_rtp(packet.serialize())
        for packet_type in range(200, 207):
            await transport._send_rtp(
                bytes([0x81, packet_type, *divmod(size // 4, 256)]) + dice.randbytes(size + 4)
            )
    await show.goes_on()
    assert (await show.camera())["live"]


async def test_frames_are_garbage_inside_good_packets(show: Show, footage: Footage) -> None:
    dice = random.Random(0)

    class Broken(CameraTrack):
        async def recv(self) -> object:  # type: ignore[override]
            packet = await super().recv()
            if 10 <= self._index < 30:
                junk = type(packet)(dice.randbytes(800))
                junk.pts, junk.time_base = packet.pts, packet.time_base
                return junk
            return packet

    track = Broken(footage, MediaClock())
    await show.publish(track)
    await until(lambda: track._index > 60)
    await show.goes_on()
    await show.until_camera("live", True)


async def test_an_offer_is_cut_off(show: Show) -> None:
    for path, body in (
        ("/watch", await offer("watch", "audio", "video")),
        ("/sources/camera", await offer("publish")),
    ):
        for length in range(0, len(body), len(body) // 12):
            response = await show.post(path, body[:length])
            assert response.status < 500
    await show.goes_on()


async def test_two_publish_under_one_name(show: Show, footage: Footage) -> None:
    await show.publish(CameraTrack(footage, MediaClock()))
    await show.until_camera("live", True)
    first = show._connections[-1]
    await show.publish(CameraTrack(footage, MediaClock()))
    await until(lambda: first.connectionState == "closed")
    await show.until_camera("live", True)
    await show.goes_on()


async def test_all_candidates_are_lost_and_then_an_ice_restart_is_asked(show: Show) -> None:
    body = await offer("publish")
    bare = "\r\n".join(line for line in body.splitlines() if "candidate" not in line) + "\r\n"
    response = await show.post("/sources/camera", bare)
    assert response.status == 201
    fragment = f"a=ice-ufrag:other\r\na=ice-pwd:{'x' * 24}\r\na=candidate:{attribute(body, 'candidate')}\r\n"
    restart = await show._http.patch(
        urljoin(str(response.url), response.headers["Location"]),
        data=fragment,
        headers={"Content-Type": FRAGMENT_TYPE, "If-Match": "*"},
        raise_for_status=False,
    )
    assert restart.status == 422
    await show.goes_on()


async def test_a_file_vanishes_while_it_plays(show: Show, footage: Footage, tmp_path: Path) -> None:
    path = tmp_path / "film.mp4"
    write_film(path, footage)
    await show._http.put(show.url("/sources/film"), json={"kind": "file", "path": str(path)})
    await show.patch(pose="film")
    await show.goes_on()
    with path.open("r+b") as file:
        file.truncate(100)
    os.remove(path)
    await asyncio.sleep(2)  # it lasts one second
    await show.goes_on()


def write_film(path: Path, footage: Footage) -> None:
    with av.open(str(path), "w") as container:
        video = container.add_stream("libx264", rate=CAMERA_FPS)
        video.width = video.height = SIDE_PX
        video.pix_fmt = "yuv420p"
        for planes in footage.pictures:
            container.mux(video.encode(av.VideoFrame.from_ndarray(planes, format="yuv420p")))
        container.mux(video.encode(None))


async def test_an_upload_breaks_off(show: Show) -> None:
    async def half() -> AsyncIterator[bytes]:
        yield b"--edge\r\nContent-Disposition: form-data; name=photo; filename=a.png\r\n\r\n" + bytes(1000)
        raise ConnectionResetError

    with pytest.raises((aiohttp.ClientError, ConnectionResetError)):
        await show._http.post(
            show.url("/identity"),
            data=half(),
            headers={"Content-Type": "multipart/form-data; boundary=edge"},
        )
    await show.goes_on()
