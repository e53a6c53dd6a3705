"""The whole live path in one process: a client publishes a moving face and watches the avatar."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import aioice.ice
import av
import numpy as np
import pytest
from aiohttp.test_utils import TestServer
from numpy.typing import NDArray

from clients.bench.headless import CAMERA_FPS, Footage, HeadlessClient
from engine.clock import MediaClock
from engine.config import EngineConfig, PerformanceConfig
from engine.http.app import Server
from engine.model_worker import LiveModel
from engine.puppeteer import Puppeteer
from engine.sources.source import SOUND_RATE
from tests.bundles import TinyBundles, astronaut

SIDE_PX = 256
PATIENCE_S = 120.0
"""Frames are counted, not seconds: a busy machine is slow, not wrong."""
OpenServer = Callable[[EngineConfig], Awaitable[str]]


@pytest.fixture(autouse=True)
def loopback_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(aioice.ice, "get_host_addresses", lambda use_ipv4, use_ipv6: ["127.0.0.1"])


@pytest.fixture(scope="module")
def model(tiny_bundles: TinyBundles) -> Iterator[LiveModel]:
    config = EngineConfig(model=str(tiny_bundles.path("edit_repose")), threads=1)
    opened = LiveModel.open(config)
    yield opened
    opened.close()


@pytest.fixture
async def open_server(model: LiveModel) -> AsyncIterator[OpenServer]:
    servers = []

    async def start(config: EngineConfig) -> str:
        servers.append(TestServer(Server(config, model, MediaClock()).app()))
        await servers[-1].start_server()
        return str(servers[-1].make_url("")).rstrip("/")

    yield start
    for server in servers:
        await server.close()


@pytest.fixture(scope="module")
def footage() -> Footage:
    """A face that wanders through the picture, and a voice that comes and goes."""
    photo = astronaut()
    pictures = []
    for index in range(25):
        x, y = 60 + round(20 * np.sin(index / 4)), 10 + round(10 * np.cos(index / 4))
        view = np.ascontiguousarray(photo[y : y + SIDE_PX, x + 30 : x + 30 + SIDE_PX])
        frame = av.VideoFrame.from_ndarray(view, format="rgb24").reformat(format="yuv420p")
        pictures.append(np.asarray(frame.to_ndarray(), np.uint8))
    return Footage(pictures, tone())


def tone() -> NDArray[np.int16]:
    times_s = np.arange(SOUND_RATE) / SOUND_RATE
    loudness = 8000 * (0.5 + 0.5 * np.sin(2 * np.pi * 3 * times_s))
    return (loudness * np.sin(2 * np.pi * 220 * times_s)).astype(np.int16)


@pytest.fixture(scope="module")
def clip(footage: Footage, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("clips") / "clip.mp4"
    with av.open(str(path), "w") as container:
        video = container.add_stream("libx264", rate=CAMERA_FPS)
        video.width = video.height = SIDE_PX
        video.pix_fmt = "yuv420p"
        audio = container.add_stream("aac", rate=SOUND_RATE, layout="mono")
        for picture in footage.pictures:
            container.mux(video.encode(av.VideoFrame.from_ndarray(picture, format="yuv420p")))
        container.mux(video.encode(None))
        sound = av.AudioFrame.from_ndarray(footage.sound[None], format="s16", layout="mono")
        sound.sample_rate = SOUND_RATE
        container.mux(audio.encode(sound))
        container.mux(audio.encode(None))
    return path


async def until(condition: Callable[[], bool]) -> None:
    deadline_s = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline_s, "waited in vain"
        await asyncio.sleep(0.05)


async def state_after(client: HeadlessClient, *stages: str) -> dict[str, Any]:
    """The engine's state once all of these stages were gone through: pictures do not wait for readings."""
    deadline_s = time.monotonic() + PATIENCE_S
    while not (state := await client.state())["stage_ms"].keys() >= {*stages}:
        assert time.monotonic() < deadline_s, f"only {sorted(state['stage_ms'])}"
        await asyncio.sleep(0.05)
    return state


async def test_a_published_face_drives_the_avatar(open_server: OpenServer, footage: Footage) -> None:
    async with HeadlessClient(await open_server(EngineConfig())) as client:
        await client.publish_footage(footage)
        await client.patch(pose="camera", expression="camera", mouth="camera")
        await client.watch()
        state = await state_after(client, "decode_wait", "track", "encode", "generate", "capture_to_send")
        await until(lambda: len(client.seen.arrivals_s) >= 8 and client.seen.sound_packets >= 8)
    assert state["sockets"] == {"pose": "camera", "expression": "camera", "mouth": "camera"}
    assert state["sources"]["camera"] == {
        "video": True,
        "audio": True,
        "live": True,
        "kind": "remote",
    }
    assert state["watchers"] == 1
    assert state["failure"] is None
    assert max(client.seen.differences) > 0
    assert client.seen.newest is not None
    assert client.seen.newest.shape == (256, 256)
    assert np.all(np.diff(client.seen.media_times_s) > 0)


async def test_the_state_dates_every_picture(open_server: OpenServer) -> None:
    async with HeadlessClient(await open_server(EngineConfig())) as client:
        await client.watch()
        deadline_s = time.monotonic() + PATIENCE_S
        while not (await client.state())["viewers"]:
            assert time.monotonic() < deadline_s, "no sender report"
            await asyncio.sleep(0.05)
        arrivals_s = list(client.seen.arrivals_s)
        ticks_s = np.array(await client.ticks_s(client.seen.media_times_s[: len(arrivals_s)]))
        told = await client.patch(pose="idle")
    on_the_way_s = np.array(arrivals_s) - ticks_s  # one process, one clock
    assert np.all((on_the_way_s > 0) & (on_the_way_s < 2))
    periods = np.diff(ticks_s) / 0.04
    assert np.allclose(periods, np.rint(periods), atol=0.01)
    assert ticks_s[-1] * 1000 < told["tick_ms"] + 0.1
    assert told["tick_ms"] <= told["now_ms"] + 1


async def test_the_voice_drives_the_mouth_and_is_heard(open_server: OpenServer, footage: Footage) -> None:
    async with HeadlessClient(await open_server(EngineConfig())) as client:
        await client.publish_footage(footage)
        await client.patch(mouth="microphone")
        await client.watch()
        await until(lambda: len(client.seen.arrivals_s) >= 10 and client.seen.sound_packets >= 8)
        state = await client.state()
    # the mel window reaches that far beyond the moment that it speaks for
    assert state["stage_ms"]["capture_to_send"]["p50"] > PerformanceConfig().look_ahead_ms
    assert "track" not in state["stage_ms"]


async def test_the_built_in_clip_moves_the_avatar_without_any_camera(
    open_server: OpenServer, clip: Path
) -> None:
    config = EngineConfig(performance=PerformanceConfig(clip=clip))
    async with HeadlessClient(await open_server(config)) as client:
        await client.patch(pose="clip", expression="clip", mouth="clip")
        await client.watch()
        await until(lambda: len(client.seen.arrivals_s) >= 10 and client.seen.sound_packets >= 8)
        state = await state_after(client, "track")
        assert state["sources"]["clip"]["live"]
        await client.patch(pose="idle", expression="idle", mouth="idle")
        assert not (await client.state())["sources"]["clip"]["live"]
        seen = len(client.seen.arrivals_s)
        await until(lambda: len(client.seen.arrivals_s) > seen + 3)
    assert state["stage_ms"]["track"]["p50"] > 0


async def test_frames_may_change_size_in_mid_stream(open_server: OpenServer, footage: Footage) -> None:
    frames = [av.VideoFrame.from_ndarray(picture, format="yuv420p") for picture in footage.pictures]
    small = [np.asarray(frame.reformat(width=192, height=144).to_ndarray(), np.uint8) for frame in frames]
    mixed = Footage([*footage.pictures[:10], *small[:10]], footage.sound)
    async with HeadlessClient(await open_server(EngineConfig())) as client:
        await client.publish_footage(mixed)
        await client.patch(pose="camera")
        await client.watch()
        await until(lambda: len(client.seen.arrivals_s) >= 20)
        assert (await client.state())["failure"] is None


async def test_a_slow_model_shows_the_newest_frame_and_never_falls_behind(
    open_server: OpenServer, footage: Footage, monkeypatch: pytest.MonkeyPatch
) -> None:
    generate = Puppeteer.generate

    def slowly(self: Puppeteer, *args: Any) -> Any:
        time.sleep(0.1)
        return generate(self, *args)

    monkeypatch.setattr(Puppeteer, "generate", slowly)
    async with HeadlessClient(await open_server(EngineConfig())) as client:
        await client.publish_footage(footage)
        await client.patch(pose="camera")
        await client.watch()
        await until(lambda: len(client.seen.arrivals_s) >= 15)
        state = await client.state()
    # a first-in first-out path would show 40 ms of camera time per 100 ms and more of ours
    shown_s = client.seen.media_times_s[-1] - client.seen.media_times_s[0]
    passed_s = client.seen.arrivals_s[-1] - client.seen.arrivals_s[0]
    assert shown_s > 0.7 * passed_s
    assert state["dropped_by"]["camera"] >= 10
    assert state["dropped_by"]["late"] >= 10


async def test_the_session_ends_with_its_client(open_server: OpenServer) -> None:
    url = await open_server(EngineConfig(max_sessions=1))
    for _ in range(2):
        async with HeadlessClient(url) as client:
            await client.watch()
            await until(lambda: len(client.seen.arrivals_s) >= 2)
