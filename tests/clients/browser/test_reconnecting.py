"""The page goes on by itself when the connection, the session or the room for one goes away."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import Browser

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
