"""Peers that reach each other through coturn alone, with the passwords that the engine makes."""

from __future__ import annotations

import re
import shutil
import socket
from collections.abc import Iterator

import aiohttp
import pytest
from aiortc import RTCConfiguration, RTCIceServer, RTCPeerConnection, RTCSessionDescription
from aiortc.rtcconfiguration import RTCIceTransportPolicy

from engine.http.ice_servers import turn_credentials
from tests.interop.conftest import Engine, ServeEngine, free_port, started, wait_until
from tests.interop.media import until

TURNSERVER = shutil.which("turnserver")
SECRET = "n0rth"

pytestmark = [
    pytest.mark.interop,
    pytest.mark.skipif(TURNSERVER is None, reason="no coturn here: apt-get install -y coturn"),
]


@pytest.fixture(scope="module")
def turn(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a coturn that relays on loopback."""
    directory, port = tmp_path_factory.mktemp("turn"), free_port()
    options = {
        "listening-ip": "127.0.0.1",
        "relay-ip": "127.0.0.1",
        "listening-port": str(port),
        "realm": "gcavt",
        "static-auth-secret": SECRET,
        "userdb": str(directory / "users"),
        "pidfile": str(directory / "pid"),
        "log-file": "stdout",
    }
    flags = ["-n", "--use-auth-secret", "--allow-loopback-peers", "--no-cli", "--no-tls", "--no-dtls"]
    command = [str(TURNSERVER), *flags, *(f"--{name}={value}" for name, value in options.items())]
    with started(command, directory / "log") as server:
        wait_until(lambda: listens(port), alive=server)
        yield f"turn:127.0.0.1:{port}"


def listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


@pytest.fixture
def relayed_engine(serve_engine: ServeEngine, turn: str, tmp_path_factory: pytest.TempPathFactory) -> Engine:
    secret = tmp_path_factory.mktemp("secret") / "turn"
    secret.write_text(SECRET)
    return serve_engine("--turn", turn, "--turn-secret-file", str(secret))


def server_of(link: str) -> RTCIceServer:
    """A Link header read as a WHEP player does."""
    url = re.match(r"<([^>]+)>", link)
    values = dict(re.findall(r'([a-z-]+)="([^"]*)"', link))
    assert url is not None and values["rel"] == "ice-server"
    return RTCIceServer(urls=url[1], username=values["username"], credential=values["credential"])


def relayed_connection(server: RTCIceServer) -> RTCPeerConnection:
    configuration = RTCConfiguration(iceServers=[server])
    configuration.iceTransportPolicy = RTCIceTransportPolicy.RELAY
    return RTCPeerConnection(configuration)


async def test_a_viewer_behind_a_relay_sees_the_avatar(relayed_engine: Engine) -> None:
    async with aiohttp.ClientSession(relayed_engine.url) as http:
        async with http.post("/sessions") as response:
            opened = await response.json()
        http.headers["Authorization"] = f"Bearer {opened['token']}"
        watch = f"/sessions/{opened['id']}/watch"
        async with http.options(watch) as response:
            (link,) = response.headers.getall("Link")
        connection = relayed_connection(server_of(link))
        transceiver = connection.addTransceiver("video", direction="recvonly")
        await connection.setLocalDescription(await connection.createOffer())
        offer = connection.localDescription.sdp
        candidates = re.findall(r"^a=candidate:.* typ (\w+)", offer, re.MULTILINE)
        assert set(candidates) == {"relay"}
        async with http.post(watch, data=offer, headers={"Content-Type": "application/sdp"}) as response:
            assert response.status == 201
            assert len(response.headers.getall("Link")) == 1
            answer = await response.text()
        assert " typ relay" in answer
        await connection.setRemoteDescription(RTCSessionDescription(answer, "answer"))
        for _ in range(10):
            await transceiver.receiver.track.recv()
        await connection.close()

        async def is_left() -> bool:
            async with http.get(f"/sessions/{opened['id']}") as response:
                return bool((await response.json())["watchers"] == 0)

        await until(is_left)
        async with http.delete(f"/sessions/{opened['id']}"):
            pass


@pytest.mark.parametrize(
    ("secret", "expires_s"), [("s0uth", 2_000_000_000), (SECRET, 1_000_000_000)], ids=["forged", "expired"]
)
async def test_forged_and_expired_passwords_are_refused(turn: str, secret: str, expires_s: int) -> None:
    username, password = turn_credentials(secret, "mallory", expires_s)
    connection = relayed_connection(RTCIceServer(urls=turn, username=username, credential=password))
    connection.addTransceiver("video", direction="recvonly")
    try:
        await connection.setLocalDescription(await connection.createOffer())
        assert "typ relay" not in connection.localDescription.sdp
    finally:
        await connection.close()
