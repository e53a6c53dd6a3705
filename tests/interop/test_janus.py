"""An echo through Janus: the avatar's sender and the camera's receiver on either side of a foreign server."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import aiohttp
import aioice.ice
import numpy as np
import pytest
from aiortc import RTCSessionDescription, rtcdtlstransport

from engine.clock import NS_PER_S, MediaClock
from engine.config import VideoEncodingConfig
from engine.media import AudioChunk
from engine.metrics import PerformanceMetrics
from engine.rtc.negotiation import new_connection
from engine.rtc.settings import accept_rsa_certificates
from engine.sinks.sink import AvatarFrame
from engine.sinks.webrtc import WebRtcSink
from engine.sources.remote import RemoteSource
from engine.sources.source import SOUND_RATE
from tests.interop.conftest import answers, free_port, started, wait_until
from tests.interop.media import footage, until

JANUS = shutil.which("janus")
PLUGINS = Path("/usr/lib/x86_64-linux-gnu/janus")
CONFIGURATION = """
general: {{ configs_folder = "{folder}"; plugins_folder = "{folder}/plugins";
  transports_folder = "{folder}/transports"; events_folder = "{folder}"; loggers_folder = "{folder}" }}
"""
HTTP_TRANSPORT = """
general: {{ base_path = "/janus"; http = true; port = {port}; ip = "127.0.0.1"; https = false }}
admin: {{ admin_http = false }}
"""

pytestmark = [
    pytest.mark.interop,
    pytest.mark.skipif(
        JANUS is None or not PLUGINS.is_dir(), reason="no Janus here: apt-get install -y janus"
    ),
    pytest.mark.skipif(
        not aioice.ice.get_host_addresses(use_ipv4=True, use_ipv6=False),
        reason="Janus takes no loopback addresses, and this machine has no others",
    ),
]


@pytest.fixture(scope="module")
def janus(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of its HTTP interface; nothing but the echo test is loaded."""
    folder, port = tmp_path_factory.mktemp("janus"), free_port()
    for kind, library in (("plugins", "libjanus_echotest.so"), ("transports", "libjanus_http.so")):
        (folder / kind).mkdir()
        (folder / kind / library).symlink_to(PLUGINS / kind / library)
    (folder / "janus.jcfg").write_text(CONFIGURATION.format(folder=folder))
    (folder / "janus.transport.http.jcfg").write_text(HTTP_TRANSPORT.format(port=port))
    url = f"http://127.0.0.1:{port}/janus"
    command = [str(JANUS), "--config", str(folder / "janus.jcfg"), "--configs-folder", str(folder)]
    with started(command, folder / "log") as process:
        wait_until(lambda: answers(f"{url}/info"), alive=process)
        yield url


async def ask(http: aiohttp.ClientSession, url: str, **message: Any) -> dict[str, Any]:
    async with http.post(url, json={"transaction": "t", **message}) as response:
        reply: dict[str, Any] = await response.json()
    assert reply["janus"] in ("success", "ack"), reply
    return reply


async def echo(http: aiohttp.ClientSession, janus: str, offer: str) -> str:
    """Janus' answer to an offer that it is to send back."""
    session = f"{janus}/{(await ask(http, janus, janus='create'))['data']['id']}"
    attached = await ask(http, session, janus="attach", plugin="janus.plugin.echotest")
    handle = f"{session}/{attached['data']['id']}"
    body, jsep = {"audio": True, "video": True}, {"type": "offer", "sdp": offer}
    await ask(http, handle, janus="message", body=body, jsep=jsep)
    await ask(http, handle, janus="trickle", candidate={"completed": True})
    while True:
        async with http.get(session, params={"maxev": 1}) as response:
            event = await response.json()
        if "jsep" in event:
            sdp: str = event["jsep"]["sdp"]
            return sdp


async def perform(sink: WebRtcSink, clock: MediaClock) -> None:
    """A moving face and a tone, in real time."""
    played = footage()
    tone = played.sound[: SOUND_RATE // 25].astype(np.float32) / np.float32(32768)
    while True:
        for planes in played.pictures:
            now_ns = clock.now_ns()
            sink.show(AvatarFrame(planes, now_ns, now_ns))
            sink.play(AudioChunk(tone, SOUND_RATE, now_ns))
            await clock.sleep_until(now_ns + NS_PER_S // 25)


async def test_what_the_avatar_sends_comes_back_through_janus(
    janus: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    certificate = rtcdtlstransport.RTCCertificate
    monkeypatch.setattr(certificate, "_create_ssl_context", certificate._create_ssl_context)
    accept_rsa_certificates()  # undone together with the line above
    clock, connection = MediaClock(), new_connection()
    heard: list[AudioChunk] = []
    sink = WebRtcSink(
        connection,
        frozenset(("audio", "video")),
        clock,
        VideoEncodingConfig(),
        PerformanceMetrics.started(clock),
    )
    source = RemoteSource(connection, clock, heard.append)
    for transceiver in connection.getTransceivers():
        transceiver.direction = "sendrecv"
    await connection.setLocalDescription(await connection.createOffer())
    async with aiohttp.ClientSession() as http:
        answer = await echo(http, janus, connection.localDescription.sdp)
        await connection.setRemoteDescription(RTCSessionDescription(answer, "answer"))
        performing = asyncio.create_task(perform(sink, clock))

        async def has_come_back() -> bool:
            return source.pictures.dropped > 20 and len(heard) > 20

        await until(has_come_back)
        assert source.state == {"video": True, "audio": True, "live": True}
        arrival = source.pictures.take()
        assert arrival is not None
        assert (arrival.frame.width, arrival.frame.height) == (256, 256)
        performing.cancel()
        await asyncio.gather(performing, return_exceptions=True)
        await source.close()
