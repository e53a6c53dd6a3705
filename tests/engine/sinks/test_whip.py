"""The push to a media server, against a small one of our own: bearer, both media, loss, leave-taking."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import aioice.ice
import numpy as np
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from engine.clock import MediaClock
from engine.errors import BadDescriptionError
from engine.media import AudioChunk
from engine.metrics import PerformanceMetrics
from engine.rtc.negotiation import answer, new_connection
from engine.sinks.open import open_sink
from engine.sinks.whip import WhipSink
from engine.sources.remote import RemoteSource
from tests.engine.media_on_the_fly import avatar_frame, eventually, tone

TOKEN = "open sesame"


@pytest.fixture(autouse=True)
def loopback_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(aioice.ice, "get_host_addresses", lambda use_ipv4, use_ipv6: ["127.0.0.1"])


class MediaServer:
    """A WHIP endpoint that listens to and looks at what it is sent."""

    def __init__(self) -> None:
        self.sources: list[RemoteSource] = []
        self.chunks: list[AudioChunk] = []
        self.deleted: list[str] = []
        self.offers: list[str] = []
        app = web.Application()
        app.router.add_post("/whip/room", self._publish)
        app.router.add_post("/moved", self._redirect)
        app.router.add_post("/nonsense", self._answer_nonsense)
        app.router.add_delete("/resource/{number}", self._delete)
        self.server = TestServer(app)

    def url(self, path: str = "/whip/room") -> str:
        return str(self.server.make_url(path))

    async def close(self) -> None:
        for source in self.sources:
            await source.close()
        await self.server.close()

    async def _publish(self, request: web.Request) -> web.Response:
        if request.headers.get("Authorization") != f"Bearer {TOKEN}":
            raise web.HTTPUnauthorized
        offer = await request.text()
        self.offers.append(offer)
        connection = new_connection(())
        self.sources.append(RemoteSource(connection, MediaClock(), self.chunks.append))
        sdp = await answer(connection, offer)
        headers = {"Location": f"/resource/{len(self.sources)}"}
        return web.Response(status=201, text=sdp, content_type="application/sdp", headers=headers)

    async def _redirect(self, request: web.Request) -> web.Response:
        raise web.HTTPTemporaryRedirect("/whip/room")

    async def _answer_nonsense(self, request: web.Request) -> web.Response:
        return web.Response(status=201, text="hello", headers={"Location": "/resource/7"})

    async def _delete(self, request: web.Request) -> web.Response:
        self.deleted.append(request.match_info["number"])
        return web.Response()


@pytest.fixture
async def media_server() -> AsyncIterator[MediaServer]:
    server = MediaServer()
    await server.server.start_server()
    yield server
    await server.close()


def push(url: str, token: str | None = TOKEN) -> WhipSink:
    clock = MediaClock()
    return WhipSink(url, token, clock, PerformanceMetrics.started(clock))


async def perform(sink: WhipSink, server: MediaServer, number: int) -> None:
    """Until the server's source of this number has seen and heard the avatar."""
    clock = MediaClock()
    seen_before = len(server.chunks)
    async with asyncio.timeout(30):
        while not (
            len(server.sources) > number
            and server.sources[number].pictures.has_item
            and len(server.chunks) > seen_before + 5
        ):
            now_ns = clock.now_ns()
            sink.show(avatar_frame(now_ns, level=200, side_px=128))
            for part in range(2):
                sink.play(AudioChunk(tone(0.02), 48_000, now_ns + part * 20_000_000))
            await asyncio.sleep(0.04)


@pytest.mark.parametrize("path", ["/whip/room", "/moved"])
async def test_the_avatar_arrives_at_the_server_which_is_told_of_the_end(
    media_server: MediaServer, path: str
) -> None:
    sink = push(media_server.url(path))
    await perform(sink, media_server, 0)
    arrival = media_server.sources[0].pictures.take()
    assert arrival is not None
    image = arrival.to_video_frame().image_HWC
    assert image.shape == (128, 128, 3)
    assert abs(int(image[64, 64, 1]) - 200) < 20 and image[2, 2].max() < 40
    assert max(np.abs(chunk.samples).max() for chunk in media_server.chunks) > 0.2
    video = media_server.offers[0].split("m=video")[1]
    assert video.index("H264") < video.index("VP8"), "servers that hand on want H.264"
    await sink.close()
    assert media_server.deleted == ["1"]


async def test_a_lost_connection_is_made_again(media_server: MediaServer) -> None:
    sink = push(media_server.url())
    await perform(sink, media_server, 0)
    await media_server.sources[0].close()
    await eventually(lambda: not sink.is_connected)
    await perform(sink, media_server, 1)
    assert sink.problem is None
    await sink.close()
    assert media_server.deleted[-1] == "2"


async def test_an_answer_that_is_none_is_reported_and_given_back(media_server: MediaServer) -> None:
    sink = push(media_server.url("/nonsense"))
    await eventually(lambda: sink.problem is not None)
    await sink.close()
    assert sink.problem is not None and "no session description" in sink.problem
    assert media_server.deleted[0] == "7"


async def test_a_wrong_token_is_reported(media_server: MediaServer) -> None:
    sink = push(media_server.url(), "wrong")
    await eventually(lambda: sink.problem is not None)
    await sink.close()
    assert sink.problem is not None and "401 Unauthorized" in sink.problem


async def test_a_server_that_is_not_there_is_reported(unused_tcp_port: int) -> None:
    sink = push(f"http://127.0.0.1:{unused_tcp_port}/whip")
    sink.show(avatar_frame(0))
    await eventually(lambda: sink.problem is not None)
    await sink.close()
    assert sink.problem is not None and "refused" in sink.problem


async def test_a_description_chooses_codec_and_ice_servers(media_server: MediaServer) -> None:
    description = {
        "kind": "whip",
        "url": media_server.url(),
        "token": TOKEN,
        "codec": "vp8",
        "ice_servers": [{"urls": "stun:127.0.0.1:9"}],
    }
    clock = MediaClock()
    sink = open_sink(description, clock, PerformanceMetrics.started(clock))
    await eventually(lambda: bool(media_server.offers))
    await sink.close()
    video = media_server.offers[0].split("m=video")[1]
    assert video.index("VP8") < video.index("H264")


@pytest.mark.parametrize(
    ("field", "value", "sentence"),
    [
        ("url", "http://me:key@127.0.0.1/whip", "carries no name or password"),
        ("codec", "av1", "codec must be one of vp8, h264"),
        ("ice_servers", "stun:host", "ice_servers must be a list of objects"),
        ("ice_servers", [{"urls": "http://host"}], "begins with stun:, turn: or turns:"),
        ("ice_servers", [{"urls": "turn:host", "password": "x"}], "no field 'password'"),
    ],
)
async def test_codecs_and_ice_servers_that_cannot_be_are_refused(
    field: str, value: object, sentence: str
) -> None:
    clock = MediaClock()
    description = {"kind": "whip", "url": "http://127.0.0.1:9/whip", field: value}
    with pytest.raises(BadDescriptionError, match=sentence):
        open_sink(description, clock, PerformanceMetrics.started(clock))
