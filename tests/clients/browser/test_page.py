"""The page in a real Chromium, with a fake camera and microphone, against a real `gcavt serve`."""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
import wave
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from playwright.sync_api import Browser, ConsoleMessage, Page, Response, sync_playwright
from skimage.data import astronaut

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
CAMERA_FPS = 25
STARTUP_TIMEOUT_S = 180.0
WAIT_MS = 60_000
READ_AVATAR = """() => {
  const canvas = new OffscreenCanvas(64, 64).getContext("2d");
  canvas.drawImage(document.getElementById("avatar"), 0, 0, 64, 64);
  return Array.from(canvas.getImageData(0, 0, 64, 64).data);
}"""

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(CHROMIUM is None, reason="no Chromium here: apt-get install -y chromium"),
]


@dataclass(frozen=True)
class Viewer:
    """An opened page with what it complained about and the session that it holds."""

    page: Page
    complaints: list[str]
    sessions: list[dict[str, str]]
    base_url: str

    def state(self) -> dict[str, Any]:
        """What the engine says of this page's session."""
        session = self.sessions[-1]
        request = urllib.request.Request(
            f"{self.base_url}/sessions/{session['id']}",
            headers={"Authorization": f"Bearer {session['token']}"},
        )
        with urllib.request.urlopen(request, timeout=10) as response:
            state: dict[str, Any] = json.load(response)
        return state

    def picture(self) -> NDArray[np.float32]:
        """What the avatar's video shows now, made small: 64, 64, RGBA in [0, 255]."""
        return np.array(self.page.evaluate(READ_AVATAR), np.float32).reshape(64, 64, 4)

    def has_changed_by(self, levels: float, reference: NDArray[np.float32]) -> bool:
        """Whether the picture now differs from `reference` by so many levels of 255 on average."""
        return bool(np.abs(self.picture() - reference).mean() > levels)


@pytest.fixture(scope="module")
def base_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A `gcavt serve` with the shipped model on a free port."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    url = f"http://127.0.0.1:{port}"
    log_path = tmp_path_factory.mktemp("server") / "log.txt"
    with log_path.open("wb") as log:
        server = subprocess.Popen(
            [sys.executable, "-m", "clients", "serve", "--port", str(port)],
            stdout=log,
            stderr=subprocess.STDOUT,
        )
        try:
            wait_until(lambda: is_healthy(url, server, log_path), STARTUP_TIMEOUT_S)
            yield url
        finally:
            server.terminate()
            try:
                server.wait(timeout=STARTUP_TIMEOUT_S)
            except subprocess.TimeoutExpired:
                server.kill()
                server.wait()
                raise


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    media = tmp_path_factory.mktemp("media")
    write_camera(media / "camera.y4m")
    write_microphone(media / "microphone.wav")
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(
            executable_path=CHROMIUM,
            headless=True,
            args=[
                "--no-sandbox",  # CI runs as root
                "--disable-gpu",
                "--disable-quic",
                "--no-first-run",
                "--disable-background-networking",
                "--disable-component-update",
                "--disable-sync",
                "--use-fake-ui-for-media-stream",
                "--use-fake-device-for-media-stream",
                f"--use-file-for-fake-video-capture={media / 'camera.y4m'}",
                f"--use-file-for-fake-audio-capture={media / 'microphone.wav'}",
                "--autoplay-policy=no-user-gesture-required",
                "--allow-loopback-in-peer-connection",
            ],
        )
        yield chromium
        chromium.close()


@pytest.fixture
def viewer(browser: Browser, base_url: str) -> Iterator[Viewer]:
    """A page whose avatar already plays."""
    page = browser.new_page(viewport={"width": 1280, "height": 860})
    viewer = Viewer(page=page, complaints=[], sessions=[], base_url=base_url)

    def on_console(message: ConsoleMessage) -> None:
        if message.type in ("error", "warning"):
            viewer.complaints.append(f"{message.text} ({message.location})")

    def on_response(response: Response) -> None:
        if response.request.method == "POST" and response.url == f"{base_url}/sessions":
            viewer.sessions.append(response.json())

    page.on("console", on_console)
    page.on("pageerror", lambda error: viewer.complaints.append(str(error)))
    page.on("response", on_response)
    page.goto(base_url)
    page.wait_for_function("document.getElementById('avatar').currentTime > 0.5", timeout=WAIT_MS)
    yield viewer
    page.close()


def test_avatar_plays_and_moves_without_a_camera(viewer: Viewer, tmp_path: Path) -> None:
    assert viewer.page.locator("#connection").inner_text() == "live"
    assert viewer.page.evaluate("document.getElementById('avatar').videoWidth") == 256
    first = viewer.picture()
    assert first[..., :3].std() > 10, "the avatar's picture is flat"
    wait_until(lambda: viewer.has_changed_by(0.5, first))
    assert viewer.state()["watchers"] == 1
    viewer.page.screenshot(path=tmp_path / "built_in_driver.png")
    assert viewer.complaints == []


def test_patch_bay_switches_every_socket(viewer: Viewer, tmp_path: Path) -> None:
    sockets = {"pose": "idle", "expression": "idle", "mouth": "idle"}
    for name, source in sockets.items():
        viewer.page.locator(f"input[name={name}][value={source}]").check()
    wait_until(lambda: viewer.state()["sockets"] == sockets)

    names = [tile.get_attribute("value") for tile in viewer.page.locator("input[name=identity]").all()]
    other = next(name for name in names if name != viewer.state()["identity"])
    before = viewer.picture()
    viewer.page.locator(f"input[name=identity][value='{other}']").check()
    wait_until(lambda: viewer.state()["identity"] == other)
    wait_until(lambda: viewer.has_changed_by(3.0, before))

    viewer.page.get_by_role("button", name="The clip").click()
    wait_until(lambda: set(viewer.state()["sockets"].values()) == {"clip"})
    viewer.page.screenshot(path=tmp_path / "patch_bay.png")
    assert viewer.complaints == []


def test_camera_and_microphone_drive_the_avatar(viewer: Viewer, tmp_path: Path) -> None:
    page = viewer.page
    page.locator("#stats").click()
    page.locator("#start").click()
    wait_until(lambda: viewer.state()["sources"].get("camera", {}).get("live", False))
    wait_until(
        lambda: viewer.state()["sockets"] == {"pose": "camera", "expression": "camera", "mouth": "camera"}
    )
    camera = viewer.state()["sources"]["camera"]
    assert camera["video"] and camera["audio"]
    assert page.locator("#self").is_visible()
    before = viewer.picture()
    wait_until(lambda: viewer.has_changed_by(0.5, before))

    page.locator("input[name=mouth][value=microphone]").check()
    wait_until(lambda: viewer.state()["sockets"]["mouth"] == "microphone")
    page.wait_for_function("document.getElementById('hud').innerText.includes('fps')", timeout=WAIT_MS)
    wait_until(lambda: viewer.state()["fps"] > 5)
    page.screenshot(path=tmp_path / "camera.png")

    page.locator("#start").click()
    wait_until(lambda: set(viewer.state()["sockets"].values()) == {"clip"})
    assert page.locator("#self").is_hidden()
    assert viewer.complaints == []


def test_own_photo_becomes_an_identity_and_a_text_file_is_refused(viewer: Viewer) -> None:
    page = viewer.page
    page.set_input_files(
        ".photos input", {"name": "notes.png", "mimeType": "image/png", "buffer": b"only words"}
    )
    page.locator("#banner-text").wait_for(timeout=WAIT_MS)
    assert page.locator("#banner-text").inner_text().strip()

    png = cv2.imencode(".png", cv2.cvtColor(astronaut(), cv2.COLOR_RGB2BGR))[1].tobytes()
    page.set_input_files(".photos input", {"name": "me.png", "mimeType": "image/png", "buffer": png})
    wait_until(lambda: viewer.state()["identity"] == "uploaded")
    page.locator("input[value=uploaded]:checked").wait_for(state="attached", timeout=WAIT_MS)
    assert page.locator("#banner").is_hidden()


def test_closing_the_page_ends_its_session(viewer: Viewer) -> None:
    viewer.page.goto("about:blank")
    wait_until(lambda: has_ended(viewer))


def test_refused_camera_is_explained_and_the_avatar_plays_on(browser: Browser, base_url: str) -> None:
    page = browser.new_page()
    refuse = "async () => { throw new DOMException('no', 'NotAllowedError'); }"
    page.add_init_script(f"navigator.mediaDevices.getUserMedia = {refuse}")
    page.goto(base_url)
    page.wait_for_function("document.getElementById('avatar').currentTime > 0.5", timeout=WAIT_MS)
    page.locator("#start").click()
    assert "allow them" in page.locator("#banner-text").inner_text(timeout=WAIT_MS)
    assert page.locator("#start").is_enabled()
    page.close()


def wait_until(holds: Callable[[], bool], timeout_s: float = WAIT_MS / 1000) -> None:
    end = time.monotonic() + timeout_s
    while not holds():
        assert time.monotonic() < end, f"did not come true within {timeout_s:g} s"
        time.sleep(0.2)


def is_healthy(url: str, server: subprocess.Popen[bytes], log_path: Path) -> bool:
    assert server.poll() is None, f"gcavt serve ended: {log_path.read_text()}"
    try:
        with urllib.request.urlopen(f"{url}/healthz", timeout=5) as response:
            return bool(json.load(response)["status"] == "ok")
    except (urllib.error.URLError, TimeoutError):  # not up yet
        return False


def has_ended(viewer: Viewer) -> bool:
    try:
        viewer.state()
    except urllib.error.HTTPError as error:
        error.close()
        return error.code in (401, 404)
    return False


def write_camera(path: Path) -> None:
    """A portrait that sways to and fro, four seconds, as raw video that Chromium loops."""
    portrait = cv2.resize(astronaut()[0:280, 80:360], (320, 320), interpolation=cv2.INTER_AREA)
    with path.open("wb") as stream:
        stream.write(f"YUV4MPEG2 W320 H320 F{CAMERA_FPS}:1 Ip A1:1 C420jpeg\n".encode())
        for i in range(4 * CAMERA_FPS):
            phase = 2 * np.pi * i / (2 * CAMERA_FPS)
            move = cv2.getRotationMatrix2D((160, 200), 8 * np.sin(phase), 1.0)
            move[:, 2] += (20 * np.sin(phase), 6 * np.cos(phase))
            frame = cv2.warpAffine(portrait, move, (320, 320), borderMode=cv2.BORDER_REPLICATE)
            stream.write(b"FRAME\n" + cv2.cvtColor(frame, cv2.COLOR_RGB2YUV_I420).tobytes())


def write_microphone(path: Path) -> None:
    """Four syllables a second of a buzzing voice, 48 kHz."""
    seconds = np.arange(4 * 48_000) / 48_000
    buzz = sum(np.sin(2 * np.pi * 140 * k * seconds) / k for k in range(1, 12))
    loudness = np.clip(np.sin(2 * np.pi * 4 * seconds), 0, 1)
    samples = (6000 * buzz * loudness).astype("<i2")
    with wave.open(str(path), "wb") as stream:
        stream.setnchannels(1)
        stream.setsampwidth(2)
        stream.setframerate(48_000)
        stream.writeframes(samples.tobytes())
