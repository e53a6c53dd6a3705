"""Sessions over HTTP: their state, their tokens, their number."""

from pathlib import Path

import pytest

from engine.config import EngineConfig, PerformanceConfig
from tests.engine.http.conftest import Client, OpenClient
from tests.engine.http.offers import error_of


async def test_health_says_what_is_served(client: Client, session: str) -> None:
    health = await (await client.get("/healthz")).json()
    assert (health["status"], health["backend"], health["sessions"]) == ("ok", "openvino", 1)


async def test_a_session_tells_its_state(client: Client, session: str) -> None:
    state = await (await client.get(session)).json()
    assert state["identity"] == "astronaut"
    assert state["sockets"] == {"pose": "idle", "expression": "idle", "mouth": "idle"}
    assert state["watchers"] == 0


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


async def test_a_missing_clip_is_named(open_client: OpenClient) -> None:
    client = await open_client(EngineConfig(performance=PerformanceConfig(clip=Path("/nowhere/clip.mp4"))))
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


async def test_metrics_are_plain_text(client: Client, session: str) -> None:
    response = await client.get("/metrics")
    assert response.content_type == "text/plain"
    assert "gcavt_sessions 1" in await response.text()
