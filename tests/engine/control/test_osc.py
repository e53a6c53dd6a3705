"""OSC over a real UDP socket on the loopback interface."""

import asyncio
import random
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, cast

import pytest
from pythonosc.osc_bundle_builder import IMMEDIATELY, OscBundleBuilder
from pythonosc.osc_message import OscMessage
from pythonosc.osc_message_builder import OscMessageBuilder

from engine.control.osc import KEYS, OscControl, listen
from engine.control.presets import Presets
from engine.errors import PortInUseError
from tests.engine.control.performances import Told, session

PATIENCE_S = 20.0


class Desk(asyncio.DatagramProtocol):
    """A lighting desk: sends messages and keeps the answers."""

    def __init__(self) -> None:
        self.answers: asyncio.Queue[OscMessage] = asyncio.Queue()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.DatagramTransport, transport)

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        self.answers.put_nowait(OscMessage(data))

    def send(self, address: str, *arguments: Any) -> None:
        self.transport.sendto(message(address, *arguments))

    async def complaint(self) -> str:
        answer = await asyncio.wait_for(self.answers.get(), PATIENCE_S)
        assert answer.address == "/gcavt/error"
        return str(answer.params[0])


def message(address: str, *arguments: Any) -> bytes:
    builder = OscMessageBuilder(address)
    for argument in arguments:
        builder.add_arg(argument)
    return builder.build().dgram


@pytest.fixture
def told() -> dict[str, Told]:
    return {"lena": Told(), "max": Told()}


@pytest.fixture
async def control(told: dict[str, Told], tmp_path: Path) -> AsyncIterator[OscControl]:
    presets = Presets(tmp_path)
    presets.save("stage", {"pose": "clip"})
    sessions = [session(performance, name) for name, performance in told.items()]
    opened = await listen("127.0.0.1", 0, sessions, presets)
    yield opened
    await opened.close()


@pytest.fixture
async def desk(control: OscControl) -> AsyncIterator[Desk]:
    loop = asyncio.get_running_loop()
    transport, protocol = await loop.create_datagram_endpoint(Desk, remote_addr=("127.0.0.1", control.port))
    yield protocol
    transport.close()
    await asyncio.sleep(0)


async def patched(told: Told, count: int = 1) -> list[dict[str, object]]:
    await asyncio.wait_for(told.until(lambda: len(told.changes) >= count), PATIENCE_S)
    return told.changes


@pytest.mark.parametrize(
    ("address", "arguments", "changes"),
    [
        ("pose", ["camera"], {"pose": "camera"}),
        ("mouth", ["microphone"], {"mouth": "microphone"}),
        ("gain/mouth", [1.5], {"gains": {"mouth": 1.5}}),
        ("gain/pose", [0], {"gains": {"pose": 0}}),
        ("identity", ["lena"], {"identity": "lena"}),
        ("pose_mode", ["relative"], {"pose_mode": "relative"}),
        ("crossfade_ms", [300], {"crossfade_ms": 300}),
        ("calibrate", [], {"calibrate": True}),
        ("calibrate", [1], {"calibrate": True}),
        ("calibrate", [0.0], {"calibrate": False}),
        ("calibrate", ["range"], {"calibrate": "range"}),
        ("preset", ["stage"], {"pose": "clip"}),
    ],
)
async def test_a_message_patches_its_session_and_no_other(
    desk: Desk, told: dict[str, Told], address: str, arguments: list[Any], changes: dict[str, object]
) -> None:
    desk.send(f"/gcavt/lena/{address}", *arguments)
    assert await patched(told["lena"]) == [changes]
    assert not told["max"].changes


async def test_a_pattern_reaches_all_sessions_that_it_fits(desk: Desk, told: dict[str, Told]) -> None:
    desk.send("/gcavt/*/pose", "camera")
    desk.send("/gcavt/m*/mouth", "clip")
    assert await patched(told["lena"]) == [{"pose": "camera"}]
    assert await patched(told["max"], 2) == [{"pose": "camera"}, {"mouth": "clip"}]


async def test_all_messages_of_a_bundle_are_carried_out(desk: Desk, told: dict[str, Told]) -> None:
    bundle = OscBundleBuilder(IMMEDIATELY)
    for socket in ("pose", "expression"):
        builder = OscMessageBuilder(f"/gcavt/lena/{socket}")
        builder.add_arg("clip")
        bundle.add_content(builder.build())
    desk.transport.sendto(bundle.build().dgram)
    assert await patched(told["lena"], 2) == [{"pose": "clip"}, {"expression": "clip"}]


@pytest.mark.parametrize(
    ("address", "arguments", "named"),
    [
        ("/gcavt/lena/nose", ["camera"], ", ".join(KEYS)),
        ("/other/lena/pose", ["camera"], "/gcavt/"),
        ("/gcavt/nobody/pose", ["camera"], "no session 'nobody'"),
        ("/gcavt/lena/pose", [], "one name"),
        ("/gcavt/lena/pose", [3], "one name"),
        ("/gcavt/lena/gain/pose", ["much"], "one number"),
        ("/gcavt/lena/gain/pose", [3.0], "0 to 2"),
        ("/gcavt/lena/pose", ["radio"], "choices"),
        ("/gcavt/lena/preset", ["none"], "stage"),
    ],
)
async def test_what_cannot_be_done_is_answered_in_one_sentence(
    desk: Desk, told: dict[str, Told], address: str, arguments: list[Any], named: str
) -> None:
    desk.send(address, *arguments)
    assert named in await desk.complaint()
    assert not told["lena"].changes
    desk.send("/gcavt/max/pose", "camera")
    assert await patched(told["max"]) == [{"pose": "camera"}]


async def test_noise_is_survived(desk: Desk, told: dict[str, Told]) -> None:
    rng = random.Random(0)
    whole = message("/gcavt/lena/gain/pose", 1.5)
    for _ in range(200):
        noise = bytearray(whole[: rng.randrange(len(whole))] + rng.randbytes(rng.randrange(20)))
        desk.transport.sendto(bytes(noise or b"x"))
    desk.send("/gcavt/max/pose", "camera")
    assert (await patched(told["max"]))[-1] == {"pose": "camera"}


async def test_a_fader_moved_fast_ends_where_it_was_left(desk: Desk, told: dict[str, Told]) -> None:
    for step in range(100):
        desk.send("/gcavt/lena/gain/pose", step / 100)
    desk.send("/gcavt/lena/mouth", "clip")
    await asyncio.wait_for(told["lena"].until(lambda: str(told["lena"].bay.mouth) == "clip"), PATIENCE_S)
    assert told["lena"].bay.gains.pose == pytest.approx(0.99)


async def test_a_port_in_use_is_one_clear_error(control: OscControl, tmp_path: Path) -> None:
    with pytest.raises(PortInUseError, match=f"127.0.0.1:{control.port}.*--osc-port"):
        await listen("127.0.0.1", control.port, [], Presets(tmp_path))
