"""The page goes on by itself when the connection, the session or the room for one goes away."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Iterator
from urllib.parse import urlsplit

import pytest
from aiohttp import web
from playwright.sync_api import Browser

from engine.clock import MediaClock
from engine.config import EngineConfig
from engine.http.app import Server
from engine.model_worker import LiveModel
from tests.bundles import TinyBundles
from tests.clients.browser.viewers import NEEDS_CHROMIUM, WAIT_MS, Viewer, asked, opened, wait_until

pytestmark = NEEDS_CHROMIUM

MAX_SESSIONS = 4
"""Of `gcavt serve` as it is started by default."""


class Line:
    """A TCP connection to the server that can be cut and mended."""

    def __init__(self, server_url: str) -> None:
        parts = urlsplit(server_url)
        assert parts.hostname is not None and parts.port is not None
        self._server = (parts.hostname, parts.port)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._address = self._listener.getsockname()
        self._ends: list[socket.socket] = []
        self.mend(self._listener)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._address[1]}"

    def cut(self) -> None:
        for end in (self._listener, *self._ends):
            _shut(end)
        self._ends.clear()

    def mend(self, listener: socket.socket | None = None) -> None:
        self._listener = listener or socket.create_server(self._address)
        threading.Thread(target=self._accept, args=(self._listener,), daemon=True).start()

    def _accept(self, listener: socket.socket) -> None:
        while True:
            try:
                near, _ = listener.accept()
            except OSError:
                return  # cut
            far = socket.create_connection(self._server)
            self._ends += [near, far]
            for ends in ((near, far), (far, near)):
                threading.Thread(target=_carry, args=ends, daemon=True).start()


def _carry(source: socket.socket, destination: socket.socket) -> None:
    try:
        while data := source.recv(65536):
            destination.sendall(data)
    except OSError:
        pass  # cut
    _shut(source)
    _shut(destination)


def _shut(end: socket.socket) -> None:
    try:
        end.shutdown(socket.SHUT_RDWR)
    except OSError:
        pass  # it never was connected, or no longer is
    end.close()


@pytest.fixture
def line(base_url: str) -> Iterator[Line]:
    line = Line(base_url)
    yield line
    line.cut()


def test_cut_connection_is_mended_in_the_same_session(browser: Browser, base_url: str, line: Line) -> None:
    with opened(browser, line.url) as viewer:
        viewer.wait_for_avatar()
        line.cut()
        viewer.wait_for_connection("offline")
        viewer.page.get_by_role("button", name="At rest").click()  # is said when the line is mended
        line.mend()
        viewer.wait_for_connection("live")
        viewer.wait_for_state(sockets={"pose": "idle", "expression": "idle", "mouth": "idle"})
        assert len(viewer.sessions) == 1
        assert viewer.page.locator("#banner").is_hidden()


class NearServer:
    """A server with a tiny model in a thread of this process, whose viewers' sockets can be taken away."""

    def __init__(self, model: LiveModel) -> None:
        self._server = Server(EngineConfig(max_sessions=1), model, MediaClock())
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        self._runner = asyncio.run_coroutine_threadsafe(self._start(), self._loop).result(WAIT_MS / 1000)
        self.url = f"http://127.0.0.1:{self._runner.addresses[0][1]}"

    async def _start(self) -> web.AppRunner:
        runner = web.AppRunner(self._server.app())
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        return runner

    def break_paths(self) -> None:
        """No packet goes from or to the present viewers any more, and nobody is told."""
        self._loop.call_soon_threadsafe(self._break_paths)

    def _break_paths(self) -> None:
        for session in self._server.sessions:
            for peer in session.peers.values():
                for transport in peer.connection._RTCPeerConnection__iceTransports:  # type: ignore[attr-defined]
                    for protocol in transport._connection._protocols:
                        protocol.transport.sendto = lambda data, address: None
                        protocol.datagram_received = lambda data, address: None

    def close(self) -> None:
        asyncio.run_coroutine_threadsafe(self._runner.cleanup(), self._loop).result(WAIT_MS / 1000)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()


@pytest.fixture(scope="module")
def near_server(tiny_bundles: TinyBundles) -> Iterator[NearServer]:
    model = LiveModel.open(EngineConfig(model=str(tiny_bundles.path("edit_repose")), threads=1))
    server = NearServer(model)
    yield server
    server.close()
    model.close()


@pytest.mark.parametrize("is_told", [True, False])
def test_dead_path_is_replaced_by_another_within_the_session(
    browser: Browser, near_server: NearServer, is_told: bool
) -> None:
    """A phone that goes from Wi-Fi to mobile: HTTP works again at once, the old UDP path never does."""
    with opened(browser, near_server.url) as viewer:
        viewer.wait_for_avatar()
        page = viewer.page
        near_server.break_paths()
        if is_told:
            page.evaluate("dispatchEvent(new Event('online'))")
        viewer.wait_for_connection("reconnecting")
        viewer.wait_for_connection("live")
        shown = page.evaluate("document.getElementById('avatar').getVideoPlaybackQuality().totalVideoFrames")
        page.wait_for_function(
            "n => document.getElementById('avatar').getVideoPlaybackQuality().totalVideoFrames > n + 5",
            arg=shown,
            timeout=WAIT_MS,
        )
        assert len(viewer.sessions) == 1


def test_lost_session_is_replaced_by_one_with_the_same_settings(viewer: Viewer) -> None:
    page = viewer.page
    page.locator("input[name=pose][value=idle]").check()
    page.locator("#gain-mouth").press("End")
    page.locator("input[name=background][value=colour]").check()
    wait_until(lambda: viewer.state()["background"] == {"colour": "#20a060"})
    page.locator("input[name=pose_mode][value=relative]").check()
    viewer.wait_for_state(pose_mode="relative", gains={"pose": 1.0, "expression": 1.0, "mouth": 2.0})
    before = viewer.state()
    page.wait_for_timeout(500)  # the page has heard of it too

    with page.expect_response(lambda response: response.url.endswith("/sessions"), timeout=WAIT_MS):
        viewer.ask("DELETE")
    viewer.wait_for_connection("live")
    assert len(viewer.sessions) == 2
    after = viewer.state()
    for key in ("sockets", "gains", "pose_mode", "background", "identity"):
        assert after[key] == before[key]
    wait_until(lambda: viewer.state()["watchers"] == 1)


def test_full_engine_is_explained_and_tried_again(browser: Browser, base_url: str) -> None:
    def free_rooms() -> int:
        return MAX_SESSIONS - int(asked(f"{base_url}/healthz", "GET")["sessions"])

    taken = [asked(f"{base_url}/sessions", "POST") for _ in range(free_rooms())]
    with opened(browser, base_url) as viewer:
        viewer.wait_for_connection("full")
        assert "goes on trying" in viewer.page.locator("#banner-text").inner_text()
        for session in taken:
            url = f"{base_url}/sessions/{session['id']}"
            asked(url, "DELETE", {"Authorization": f"Bearer {session['token']}"})
        viewer.wait_for_avatar()
        viewer.wait_for_connection("live")
        assert viewer.page.locator("#banner").is_hidden(), "what was said holds no longer"
