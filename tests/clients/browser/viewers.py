"""A page that a browser has open, and what the engine says of its session."""

from __future__ import annotations

import json
import shutil
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from playwright.sync_api import Browser, ConsoleMessage, Page, Response

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
WAIT_MS = 120_000
NEEDS_CHROMIUM = [
    pytest.mark.browser,
    pytest.mark.skipif(CHROMIUM is None, reason="no Chromium here: apt-get install -y chromium"),
]
READ_AVATAR = """() => {
  const canvas = new OffscreenCanvas(64, 64).getContext("2d");
  canvas.drawImage(document.getElementById("avatar"), 0, 0, 64, 64);
  return Array.from(canvas.getImageData(0, 0, 64, 64).data);
}"""


@dataclass(frozen=True)
class Viewer:
    """An opened page with what it complained about and the session that it holds."""

    page: Page
    complaints: list[str]
    sessions: list[dict[str, str]]
    base_url: str

    def state(self) -> dict[str, Any]:
        """What the engine says of this page's session."""
        state: dict[str, Any] = self.ask("GET")
        return state

    def ask(self, method: str) -> Any:
        """The engine's answer to a request for this page's session."""
        session = self.sessions[-1]
        url = f"{self.base_url}/sessions/{session['id']}"
        return asked(url, method, {"Authorization": f"Bearer {session['token']}"})

    def wait_for_avatar(self) -> None:
        self.page.wait_for_function("document.getElementById('avatar').currentTime > 0.5", timeout=WAIT_MS)

    def wait_for_connection(self, state: str) -> None:
        self.page.locator(f"#connection[data-state={state}]").wait_for(timeout=WAIT_MS)

    def wait_for_state(self, **expected: object) -> None:
        """Until the engine says all of this."""
        wait_until(lambda: expected.items() <= self.state().items())

    def picture(self) -> NDArray[np.float32]:
        """What the avatar's video shows now, made small: 64, 64, RGBA in [0, 255]."""
        return np.array(self.page.evaluate(READ_AVATAR), np.float32).reshape(64, 64, 4)

    def has_changed_by(self, levels: float, reference: NDArray[np.float32]) -> bool:
        """Whether the picture now differs from `reference` by so many levels of 255 on average."""
        return bool(np.abs(self.picture() - reference).mean() > levels)


@contextmanager
def opened(browser: Browser, base_url: str, **options: Any) -> Iterator[Viewer]:
    """The page of the server at `base_url`; options: of the browser's page, such as its viewport."""
    page = browser.new_page(**({"viewport": {"width": 1280, "height": 860}} | options))
    page.set_default_timeout(WAIT_MS)
    viewer = Viewer(page=page, complaints=[], sessions=[], base_url=base_url)

    def on_console(message: ConsoleMessage) -> None:
        if message.type in ("error", "warning"):
            viewer.complaints.append(f"{message.text} ({message.location})")

    def on_response(response: Response) -> None:
        if response.request.method == "POST" and response.url.endswith("/sessions") and response.ok:
            viewer.sessions.append(response.json())

    page.on("console", on_console)
    page.on("pageerror", lambda error: viewer.complaints.append(str(error)))
    page.on("response", on_response)
    page.goto(base_url)
    yield viewer
    page.close()


def asked(url: str, method: str, headers: dict[str, str] | None = None) -> Any:
    """The JSON that is answered; None for an empty answer. Raises urllib.error.HTTPError."""
    request = urllib.request.Request(url, headers=headers or {}, method=method)
    with urllib.request.urlopen(request, timeout=60) as response:
        body = response.read()
    return json.loads(body) if body else None


def wait_until(holds: Callable[[], bool], timeout_s: float = WAIT_MS / 1000) -> None:
    end = time.monotonic() + timeout_s
    while not holds():
        assert time.monotonic() < end, f"did not come true within {timeout_s:g} s"
        time.sleep(0.2)


def has_ended(viewer: Viewer) -> bool:
    try:
        viewer.state()
    except urllib.error.HTTPError as error:
        error.close()
        return error.code in (401, 404)
    return False
