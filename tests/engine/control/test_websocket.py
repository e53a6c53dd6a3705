import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer

from engine.control.presets import Presets
from engine.control.websocket import serve
from tests.engine.control.performances import Told, session

Socket = aiohttp.ClientWebSocketResponse


@pytest.fixture
def told() -> Told:
    return Told()


@pytest.fixture
async def socket(told: Told, tmp_path: Path) -> AsyncIterator[Socket]:
    presets = Presets(tmp_path)
    presets.save("stage", {"pose": "clip"})

    async def control(request: web.Request) -> web.WebSocketResponse:
        return await serve(request, session(told, "one"), presets)

    app = web.Application()
    app.router.add_get("/control", control)
    async with TestClient(TestServer(app)) as client, client.ws_connect("/control") as opened:
        yield opened


async def answer(socket: Socket, key: str) -> Any:
    """The next message that has this key."""
    while True:
        message = await socket.receive_json(timeout=20)
        if key in message:
            return message[key]


async def state_after(socket: Socket, patches: int) -> Any:
    while (state := await answer(socket, "state"))["patched"] < patches:
        pass
    return state


async def test_the_state_comes_by_itself_again_and_again(socket: Socket) -> None:
    assert [(await answer(socket, "state"))["patched"] for _ in range(3)] == [0, 0, 0]


async def test_a_patch_is_made_and_told(socket: Socket, told: Told) -> None:
    await socket.send_json({"pose": "camera", "gains": {"pose": 1.5}})
    assert (await state_after(socket, 1))["sockets"]["pose"] == "camera"
    assert told.bay.gains.pose == 1.5


async def test_a_preset_is_applied(socket: Socket, told: Told) -> None:
    await socket.send_json({"preset": "stage"})
    assert (await state_after(socket, 1))["sockets"]["pose"] == "clip"
    await socket.send_json({"preset": "no such"})
    assert "stage" in await answer(socket, "error")


@pytest.mark.parametrize(
    "text", ["{", "3", "[]", '{"pose": "radio"}', '{"identity": "nobody"}', '{"gains": 1}']
)
async def test_what_cannot_be_done_is_one_sentence_and_the_socket_stays_open(
    socket: Socket, told: Told, text: str
) -> None:
    await socket.send_str(text)
    assert (await answer(socket, "error")).endswith(".")
    assert not told.changes
    await socket.send_json({"pose": "camera"})
    assert await state_after(socket, 1)


async def test_bytes_are_refused(socket: Socket) -> None:
    await socket.send_bytes(b"{}")
    assert "JSON" in await answer(socket, "error")


async def test_many_patches_at_once_are_made_in_order(socket: Socket, told: Told) -> None:
    for index in range(50):
        await socket.send_json({"crossfade_ms": index})
    await state_after(socket, 50)
    assert [changes["crossfade_ms"] for changes in told.changes] == list(range(50))


async def test_an_answer_carries_the_id_of_its_message(socket: Socket) -> None:
    await socket.send_json({"pose": "camera", "id": 7})
    while (message := await socket.receive_json(timeout=20)).get("id") != 7:
        assert "id" not in message
    assert message["state"]["sockets"]["pose"] == "camera"
    await socket.send_json({"pose": "radio", "id": "x"})
    while "error" not in (message := await socket.receive_json(timeout=20)):
        pass
    assert message["id"] == "x"


async def test_the_background_is_told_at_first_and_when_it_has_changed(socket: Socket) -> None:
    assert (await answer(socket, "state"))["background"] == {}
    assert "background" not in await answer(socket, "state")
    await socket.send_json({"background": {"colour": "#20a060"}})
    assert (await state_after(socket, 1))["background"] == {"colour": "#20a060"}
    assert "background" not in await answer(socket, "state")


async def test_the_socket_closes_when_the_performance_ends(socket: Socket, told: Told) -> None:
    await answer(socket, "state")
    told.is_closed = True
    while (message := await socket.receive(timeout=20)).type is aiohttp.WSMsgType.TEXT:
        pass
    assert message.type is aiohttp.WSMsgType.CLOSE
    assert message.extra == "The session has ended."


async def test_nothing_is_left_behind_when_the_other_side_leaves(socket: Socket) -> None:
    await answer(socket, "state")
    await socket.close()
    await asyncio.sleep(0.05)
    assert not [task for task in asyncio.all_tasks() if "keep_telling" in repr(task)]


async def test_a_flood_of_messages_leaves_time_for_others(socket: Socket, told: Told) -> None:
    for _ in range(300):
        await socket.send_json({"gains": {"mouth": 1.1}})
    turns = 0
    while len(told.changes) < 300:
        await asyncio.sleep(0)
        turns += 1
    assert turns > 900  # it rests three times as long as it works
