"""Presets over HTTP, live control over a WebSocket, OSC beside them."""

from dataclasses import replace
from pathlib import Path

import pytest

from engine.config import EngineConfig
from tests.engine.http.conftest import Client, OpenClient, log_in
from tests.engine.http.offers import error_of


@pytest.fixture
def config(tmp_path: Path) -> EngineConfig:
    return EngineConfig(presets_dir=tmp_path / "presets")


@pytest.fixture
async def client(open_client: OpenClient, config: EngineConfig) -> Client:
    return await open_client(config)


async def test_a_preset_is_saved_listed_applied_and_deleted(client: Client, session: str) -> None:
    changes = {"pose": "camera", "gains": {"mouth": 1.5}}
    assert (await client.put("/presets/stage", json=changes)).status == 204
    assert (await (await client.get("/presets")).json()) == {"presets": ["stage"]}
    assert (await (await client.get("/presets/stage")).json()) == changes
    state = await (await client.post(f"{session}/presets/stage")).json()
    assert (state["sockets"]["pose"], state["gains"]["mouth"]) == ("camera", 1.5)
    assert (await client.delete("/presets/stage")).status == 204
    assert (await client.post(f"{session}/presets/stage")).status == 404


async def test_what_is_set_now_can_be_kept(client: Client, session: str) -> None:
    await client.patch(session, json={"mouth": "camera", "gains": {"pose": 0.5}})
    assert (await client.put(f"{session}/presets/now")).status == 204
    preset = await (await client.get("/presets/now")).json()
    assert (preset["mouth"], preset["gains"]["pose"], preset["identity"]) == ("camera", 0.5, "astronaut")


async def test_a_preset_that_no_session_could_take_is_refused(client: Client) -> None:
    response = await client.put("/presets/stage", json={"nose": "camera"})
    assert response.status == 422
    assert "nose" in await error_of(response)


async def test_presets_of_a_server_with_a_token_are_its_owners(
    open_client: OpenClient, config: EngineConfig
) -> None:
    client = await open_client(replace(config, token="s3rver"))
    await log_in(client)
    assert (await client.put("/presets/stage", json={})).status == 401
    assert (await client.delete("/presets/stage")).status == 401
    owner = {"Authorization": "Bearer s3rver"}
    assert (await client.put("/presets/stage", json={}, headers=owner)).status == 204


async def test_an_open_server_without_a_token_keeps_no_presets(
    open_client: OpenClient, config: EngineConfig
) -> None:
    client = await open_client(replace(config, host="0.0.0.0"))
    assert (await client.put("/presets/stage", json={})).status == 403


async def test_a_session_is_controlled_through_a_socket_with_its_token(client: Client, session: str) -> None:
    token = client.session.headers.pop("Authorization").removeprefix("Bearer ")
    assert (await client.get(f"{session}/control")).status == 401
    async with client.ws_connect(f"{session}/control?token={token}") as socket:
        await socket.send_json({"pose": "camera"})
        while (await socket.receive_json(timeout=60))["state"]["sockets"]["pose"] != "camera":
            pass


async def test_a_socket_closes_with_its_session(client: Client, session: str) -> None:
    async with client.ws_connect(f"{session}/control") as socket:
        assert (await client.delete(session)).status == 204
        async for _ in socket:
            pass
        assert socket.closed


async def test_a_token_in_the_address_counts_only_for_sockets(client: Client, session: str) -> None:
    token = client.session.headers.pop("Authorization").removeprefix("Bearer ")
    assert (await client.get(f"{session}?token={token}")).status == 401


async def test_osc_is_listened_for_where_the_server_was_told_to(
    open_client: OpenClient, config: EngineConfig
) -> None:
    client = await open_client(replace(config, osc_port=0))
    assert (await client.get("/healthz")).status == 200


async def test_a_viewer_tells_how_old_pictures_were_and_metrics_say_so(client: Client, session: str) -> None:
    token = client.session.headers["Authorization"].removeprefix("Bearer ")
    async with client.ws_connect(f"{session}/control?token={token}") as socket:
        for number, ages in enumerate(([80.0, 90, 100], [-1], ["old"], 5)):
            await socket.send_json({"seen_ms": ages, "id": number})
            while (answer := await socket.receive_json(timeout=60)).get("id") != number:
                pass
            assert ("error" in answer) == (number > 0)
    text = await (await client.get("/metrics")).text()
    assert 'gcavt_stage_ms{stage="glass_to_glass",quantile="0.50"} 90' in text
