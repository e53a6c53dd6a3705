"""What the server answers to wrong, late and malicious requests."""

import io
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import aiohttp
import cv2
import numpy as np
import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient
from pytest_aiohttp.plugin import AiohttpClient

from engine.clock import MediaClock
from engine.config import EngineConfig, PerformanceConfig
from engine.errors import PortInUseError
from engine.model_worker import LiveModel
from engine.rtc.negotiation import new_connection
from engine.server import Server, bind
from tests.bundles import TinyBundles, astronaut

Client = TestClient[web.Request, web.Application]
SDP_HEADERS = {"Content-Type": "application/sdp"}


@pytest.fixture(scope="module")
def model(tiny_bundles: TinyBundles) -> Iterator[LiveModel]:
    config = EngineConfig(model=str(tiny_bundles.path("edit_repose")), threads=1)
    opened = LiveModel.open(config)
    yield opened
    opened.close()


@pytest.fixture
async def client(model: LiveModel, aiohttp_client: AiohttpClient) -> Client:
    config = EngineConfig(max_sessions=2)
    return await aiohttp_client(Server(config, model, MediaClock()).app())


@pytest.fixture
async def session(client: Client) -> str:
    """The path of an open session; the client sends its token from here on."""
    response = await client.post("/sessions")
    assert response.status == 201
    opened = await response.json()
    client.session.headers["Authorization"] = f"Bearer {opened['token']}"
    return f"/sessions/{opened['id']}"


async def error_of(response: aiohttp.ClientResponse) -> str:
    text: str = (await response.json())["error"]
    return text


async def watching_offer() -> str:
    connection = new_connection(())
    connection.addTransceiver("video", direction="recvonly")
    await connection.setLocalDescription(await connection.createOffer())
    sdp = connection.localDescription.sdp
    await connection.close()
    return sdp


async def test_health_says_what_is_served(client: Client, session: str) -> None:
    health = await (await client.get("/healthz")).json()
    assert (health["status"], health["backend"], health["sessions"]) == ("ok", "openvino", 1)


async def test_a_session_tells_its_state(client: Client, session: str) -> None:
    state = await (await client.get(session)).json()
    assert state["identity"] == "astronaut"
    assert state["sockets"] == {"pose": "idle", "expression": "idle", "mouth": "idle"}
    assert state["watchers"] == 0


async def test_identities_come_with_thumbnails(client: Client) -> None:
    (entry,) = (await (await client.get("/identities")).json())["identities"]
    thumbnail = await client.get(entry["thumbnail"])
    assert entry["name"] == "astronaut"
    assert thumbnail.content_type == "image/png"
    assert (await client.get("/identities/nobody/thumbnail.png")).status == 404


async def test_an_unknown_session_is_not_found(client: Client) -> None:
    for request in (client.get, client.delete, client.patch):
        response = await request("/sessions/nosuchsession")
        assert response.status == 404
        assert "session" in await error_of(response)


@pytest.mark.parametrize("header", ["", "Bearer wrong", "Basic abc", "Bearer ", "Bearer \u00e9"])
async def test_a_wrong_token_is_refused(client: Client, session: str, header: str) -> None:
    response = await client.get(session, headers={"Authorization": header})
    assert response.status == 401
    assert response.headers["WWW-Authenticate"] == "Bearer"


@pytest.mark.parametrize(
    "body", [b"", b"garbage", b"v=0\r\nm=video 9 x y\r\n", b"\xff\xfe\x00", b"m=" * 50_000]
)
@pytest.mark.parametrize("path", ["/sources/camera", "/watch"])
async def test_garbage_for_an_offer_gets_400_and_one_sentence(
    client: Client, session: str, path: str, body: bytes
) -> None:
    response = await client.post(session + path, data=body, headers=SDP_HEADERS)
    assert response.status == 400
    assert (await error_of(response)).endswith(".")
    assert (await client.get("/healthz")).status == 200


async def test_an_offer_of_another_type_is_refused(client: Client, session: str) -> None:
    response = await client.post(f"{session}/watch", json={"sdp": "v=0"})
    assert response.status == 415
    assert "application/sdp" in await error_of(response)


async def test_an_offer_without_a_known_codec_is_not_acceptable(client: Client, session: str) -> None:
    sdp = await watching_offer()
    for codec in ("VP8", "H264", "rtx"):
        sdp = sdp.replace(f" {codec}/90000", " AV1/90000")
    response = await client.post(f"{session}/watch", data=sdp, headers=SDP_HEADERS)
    assert response.status == 406
    assert "VP8" in await error_of(response)


async def test_h264_without_a_profile_is_no_internal_error(client: Client, session: str) -> None:
    lines = [line for line in (await watching_offer()).splitlines() if "profile-level-id" not in line]
    sdp = "\r\n".join(line for line in lines if "VP8" not in line) + "\r\n"
    response = await client.post(f"{session}/watch", data=sdp, headers=SDP_HEADERS)
    assert 200 <= response.status < 500


async def test_a_viewer_gets_the_whole_answer_and_a_place_to_leave(client: Client, session: str) -> None:
    response = await client.post(f"{session}/watch", data=await watching_offer(), headers=SDP_HEADERS)
    assert response.status == 201
    assert response.content_type == "application/sdp"
    assert "a=candidate" in await response.text()
    assert (await (await client.get(session)).json())["watchers"] == 1
    assert (await client.delete(response.headers["Location"])).status == 200
    assert (await (await client.get(session)).json())["watchers"] == 0


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"mouth": "radio"}, "microphone"),
        ({"nose": "camera"}, "expression"),
        ({"identity": "nobody"}, "astronaut"),
        ({"identity": ["astronaut"]}, "astronaut"),
    ],
)
async def test_an_impossible_patch_names_the_choices_and_changes_nothing(
    client: Client, session: str, changes: dict[str, object], named: str
) -> None:
    response = await client.patch(session, json={"pose": "camera", **changes})
    assert response.status == 422
    assert named in await error_of(response)
    assert (await (await client.get(session)).json())["sockets"]["pose"] == "idle"


@pytest.mark.parametrize("body", [b"{", b"[]", b"\xff", b"3"])
async def test_a_patch_that_is_no_json_object_is_a_bad_request(
    client: Client, session: str, body: bytes
) -> None:
    assert (await client.patch(session, data=body)).status == 400


async def test_a_source_that_nobody_can_publish_is_refused(client: Client, session: str) -> None:
    response = await client.post(f"{session}/sources/clip", data="v=0", headers=SDP_HEADERS)
    assert response.status == 422
    assert "camera" in await error_of(response)


async def test_a_missing_clip_is_named(model: LiveModel, aiohttp_client: AiohttpClient) -> None:
    config = EngineConfig(performance=PerformanceConfig(clip=Path("/nowhere/clip.mp4")))
    client = await aiohttp_client(Server(config, model, MediaClock()).app())
    response = await client.post("/sessions", json={"pose": "clip"})
    assert response.status == 422
    assert "/nowhere/clip.mp4" in await error_of(response)
    assert (await (await client.get("/healthz")).json())["sessions"] == 0


async def test_one_session_too_many_is_told_when_to_come_back(client: Client) -> None:
    statuses = [(await client.post("/sessions")).status for _ in range(2)]
    refused = await client.post("/sessions")
    assert statuses == [201, 201]
    assert refused.status == 503
    assert int(refused.headers["Retry-After"]) > 0


async def test_an_ended_session_frees_its_place(client: Client, session: str) -> None:
    assert (await client.delete(session)).status == 204
    assert (await client.get(session)).status == 404
    assert [(await client.post("/sessions")).status for _ in range(2)] == [201, 201]


def form(content: bytes, name: str) -> aiohttp.FormData:
    data = aiohttp.FormData()
    data.add_field("photo", io.BytesIO(content), filename=name)
    return data


@pytest.mark.parametrize("content", [b"just text", b"", b"\x89PNG\r\n\x1a\n but no more"])
async def test_text_for_a_photo_gets_one_clear_sentence(client: Client, session: str, content: bytes) -> None:
    response = await client.post(f"{session}/identity", data=form(content, "me.png"))
    assert response.status == 422
    assert "photo" in await error_of(response)
    assert (await client.get(session)).status == 200


async def test_a_photo_without_a_face_gets_one_clear_sentence(client: Client, session: str) -> None:
    grey = np.full((256, 256, 3), 127, np.uint8)
    response = await client.post(
        f"{session}/identity", data=form(cv2.imencode(".png", grey)[1].tobytes(), "grey.png")
    )
    assert response.status == 422
    assert "face" in (await error_of(response)).lower()


async def test_a_photo_of_a_face_becomes_the_identity(client: Client, session: str) -> None:
    photo = cv2.imencode(".jpg", astronaut()[:, :, ::-1])[1].tobytes()
    response = await client.post(f"{session}/identity", data=form(photo, "me.jpg"))
    assert response.status == 200
    assert (await response.json())["identity"] == "uploaded"


async def test_a_photo_must_come_as_a_form(client: Client, session: str) -> None:
    assert (await client.post(f"{session}/identity", data=b"x")).status == 415


async def test_metrics_are_plain_text(client: Client, session: str) -> None:
    response = await client.get("/metrics")
    assert response.content_type == "text/plain"
    assert "gcavt_sessions 1" in await response.text()


def test_a_port_in_use_is_one_clear_error() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(PortInUseError, match=f"127.0.0.1:{port}"):
            bind("127.0.0.1", port)


def test_a_port_in_use_ends_the_command_with_code_2_and_one_line() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        command = [sys.executable, "-m", "engine", "--port", str(taken.getsockname()[1])]
        finished = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert finished.returncode == 2
    assert len(finished.stderr.strip().splitlines()) == 1
    assert "--port" in finished.stderr
