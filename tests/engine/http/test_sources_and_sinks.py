"""Sources and sinks by description, and the socket that a speech program talks through."""

import asyncio
import os
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from engine.config import EngineConfig
from tests.bundles import astronaut
from tests.engine.http.conftest import Client, OpenClient, log_in
from tests.engine.http.offers import error_of

PATIENCE_S = 60.0
"""A busy machine is slow, not wrong."""


async def state(client: Client, session: str) -> dict[str, Any]:
    values: dict[str, Any] = await (await client.get(session)).json()
    return values


@pytest.mark.parametrize(
    "description",
    [
        {"kind": "file", "path": "/etc/passwd"},
        {"kind": "url", "url": "http://127.0.0.1/"},
        {"kind": "still", "path": "/etc/passwd"},
        {"kind": "webcam"},
        {"kind": "microphone"},
        {"kind": "nonsense"},
        {},
    ],
)
async def test_a_visitor_cannot_have_the_servers_machine_read(
    client: Client, session: str, description: dict[str, str]
) -> None:
    response = await client.put(f"{session}/sources/mine", json=description)
    assert response.status == 403
    assert "--allow-local-sources" in await error_of(response)


async def test_a_visitor_cannot_have_the_servers_machine_write(
    client: Client, session: str, tmp_path: Path
) -> None:
    response = await client.post(f"{session}/sinks", json={"kind": "file", "path": str(tmp_path / "a.mp4")})
    assert response.status == 403
    assert os.listdir(tmp_path) == []


@pytest.fixture
async def local(open_client: OpenClient) -> Client:
    return await open_client(EngineConfig(allow_local_sources=True))


async def test_a_photo_feeds_a_socket_until_it_is_taken_away(local: Client, tmp_path: Path) -> None:
    session = await log_in(local)
    cv2.imwrite(str(tmp_path / "me.png"), astronaut()[:, :, ::-1])
    response = await local.put(
        f"{session}/sources/me", json={"kind": "still", "path": str(tmp_path / "me.png")}
    )
    assert response.status == 200
    assert (await local.patch(session, json={"pose": "me"})).status == 200
    assert (await state(local, session))["sources"]["me"]["kind"] == "still"
    assert (await local.delete(f"{session}/sources/me")).status == 200
    assert "me" not in (await state(local, session))["sources"]


@pytest.mark.parametrize(
    "description", [{"kind": "nonsense"}, {"kind": "file"}, {"kind": "file", "path": "/nowhere/clip.mp4"}]
)
async def test_a_description_that_cannot_be_opened_gets_one_sentence(
    local: Client, description: dict[str, str]
) -> None:
    session = await log_in(local)
    before = (await state(local, session))["sources"]
    response = await local.put(f"{session}/sources/mine", json=description)
    assert response.status == 422
    assert await error_of(response)
    assert (await state(local, session))["sources"] == before


async def test_a_name_of_our_own_cannot_be_taken(client: Client, session: str) -> None:
    assert (await client.put(f"{session}/sources/idle", json={"kind": "tts"})).status == 422


async def test_a_recording_ends_complete_when_its_sink_is_closed(local: Client, tmp_path: Path) -> None:
    session = await log_in(local)
    path = tmp_path / "avatar.mp4"
    response = await local.post(f"{session}/sinks", json={"kind": "file", "path": str(path)})
    assert response.status == 201
    for _ in range(200):
        if (await state(local, session))["frames"] >= 3:
            break
        await asyncio.sleep(0.1)
    assert (await local.delete(response.headers["Location"])).status == 200
    assert (await local.delete(response.headers["Location"])).status == 404
    recording = cv2.VideoCapture(str(path))
    assert recording.read()[0]


async def test_what_is_wrong_with_a_sink_is_told_without_its_secrets(
    local: Client, unused_tcp_port: int
) -> None:
    session = await log_in(local)
    url = f"http://127.0.0.1:{unused_tcp_port}/whip/secret-key?token=secret"
    opened = await local.post(f"{session}/sinks", json={"kind": "whip", "url": url, "token": "secret"})
    sink_id = (await opened.json())["id"]
    deadline_s = asyncio.get_running_loop().time() + PATIENCE_S
    while "problem" not in (told := (await state(local, session))["sinks"][sink_id]):
        assert asyncio.get_running_loop().time() < deadline_s
        await asyncio.sleep(0.05)
    assert (told["kind"], told["label"]) == ("whip", "127.0.0.1")
    assert "cannot be sent" in told["problem"] and "token=" not in told["problem"]
    await local.delete(f"{session}/sinks/{sink_id}")
    assert (await state(local, session))["sinks"] == {}


@pytest.mark.parametrize("allowed", [True, False])
async def test_a_new_session_says_whether_the_servers_machine_may_be_used(
    open_client: OpenClient, allowed: bool
) -> None:
    client = await open_client(EngineConfig(allow_local_sources=allowed))
    assert (await (await client.post("/sessions")).json())["local_sources"] is allowed


async def test_speech_is_heard_and_stops_when_it_is_told_to(client: Client, session: str) -> None:
    await client.put(f"{session}/sources/voice", json={"kind": "tts", "sample_rate": 16_000})
    second = (8000 * np.sin(np.arange(16_000) / 10)).astype("<i2").tobytes()
    token = client.session.headers.pop("Authorization").removeprefix("Bearer ")
    async with client.ws_connect(f"{session}/sources/voice/pcm?token={token}") as socket:
        for _ in range(5):
            await socket.send_bytes(second)
        await socket.send_str("louder")
        assert "stop" in (await socket.receive_json(timeout=PATIENCE_S))["error"]
        await socket.send_json({"stop": True})
        await socket.send_str("")
        await socket.receive_json(timeout=PATIENCE_S)
        client.session.headers["Authorization"] = f"Bearer {token}"
        assert (await state(client, session))["sources"]["voice"]["audio"]


async def test_what_is_no_speech_source_takes_no_speech(client: Client, session: str) -> None:
    assert (await client.get(f"{session}/sources/camera/pcm")).status == 409
    client.session.headers.pop("Authorization")
    assert (await client.get(f"{session}/sources/camera/pcm")).status == 401
