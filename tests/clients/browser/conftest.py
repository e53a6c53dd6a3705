"""A real `gcavt serve` and a real Chromium with a fake camera and microphone."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import urllib.error
import urllib.request
import wave
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import cv2
import numpy as np
import pytest
from playwright.sync_api import Browser, sync_playwright
from skimage.data import astronaut

from tests.clients.browser.viewers import CHROMIUM, Viewer, opened, wait_until

CAMERA_FPS = 25
STARTUP_TIMEOUT_S = 180.0


@contextmanager
def serving(directory: Path, *options: str) -> Iterator[str]:
    """A `gcavt serve` with the shipped model on a free port; its address."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    url = f"http://127.0.0.1:{port}"
    log_path = directory / "log.txt"
    command = [sys.executable, "-m", "clients", "serve", "--port", str(port), *options]
    with log_path.open("wb") as log:
        server = subprocess.Popen(
            [*command, "--presets", str(directory / "presets")], stdout=log, stderr=subprocess.STDOUT
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
def base_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with serving(tmp_path_factory.mktemp("server")) as url:
        yield url


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
    with opened(browser, base_url) as viewer:
        viewer.wait_for_avatar()
        yield viewer


def is_healthy(url: str, server: subprocess.Popen[bytes], log_path: Path) -> bool:
    assert server.poll() is None, f"gcavt serve ended: {log_path.read_text()}"
    try:
        with urllib.request.urlopen(f"{url}/healthz", timeout=5) as response:
            return bool(json.load(response)["status"] == "ok")
    except (urllib.error.URLError, TimeoutError):  # not up yet
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
