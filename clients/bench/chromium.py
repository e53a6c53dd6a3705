"""What a person would see: the page in a headless Chromium, with the clip for camera and microphone."""

from __future__ import annotations

import asyncio
import shutil
import tempfile
import time
import wave
from pathlib import Path
from typing import Any

import numpy as np
from playwright.async_api import Page, async_playwright

from clients.bench.headless import CAMERA_FPS, Footage
from engine.errors import EngineError
from engine.sources.source import SOUND_RATE

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
START_TIMEOUT_MS = 60_000
FLAGS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--use-fake-ui-for-media-stream",
    "--use-fake-device-for-media-stream",
    "--autoplay-policy=no-user-gesture-required",
    "--allow-loopback-in-peer-connection",  # else a machine without network offers no address at all
)
FRAMES = "document.getElementById('avatar').getVideoPlaybackQuality().totalVideoFrames"
RUNNING = f"document.getElementById('avatar') && {FRAMES} > 10"


async def watch_in_chromium(url: str, clip: Path, size_px: int, seconds: float, mouth: str) -> dict[str, Any]:
    """Open the page, turn the camera on, and count the pictures that its video element gets.

    Raises EngineError if there is no Chromium on this machine.
    """
    browser_path = _browser_path()
    with tempfile.TemporaryDirectory() as folder:
        devices = write_fake_devices(Footage.load(clip, size_px), size_px, Path(folder))
        async with async_playwright() as playwright:
            browser = await playwright.chromium.launch(
                executable_path=browser_path, args=[*FLAGS, *devices], headless=True
            )
            try:
                page = await browser.new_page()
                return await _measured(page, url, seconds, mouth) | {"size": size_px}
            finally:
                await browser.close()


async def echo_in_chromium(
    url: str, codec: str, size_px: int, seconds: float, *, warm_up_s: float, in_step: bool
) -> dict[str, list[list[float]]]:
    """{"pictures", "tones"}: (seconds since the start, age in milliseconds) of all that came back.

    in_step: sound and picture are watched together and read where they are shown and played; else each over a
    connection of its own, pictures as the track delivers them. Raises EngineError if there is no Chromium.
    """
    options = {"codec": codec, "size": size_px, "seconds": seconds, "warmUp": warm_up_s, "inStep": in_step}
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(
            executable_path=_browser_path(), args=list(FLAGS), headless=True
        )
        try:
            page = await browser.new_page()
            page.set_default_timeout((seconds + warm_up_s) * 1000 + START_TIMEOUT_MS)
            await page.goto(url)
            measured: dict[str, list[list[float]]] = await page.evaluate("measure", options)
            return measured
        finally:
            await browser.close()


def _browser_path() -> str:
    for name in BROWSERS:
        if path := shutil.which(name):
            return path
    raise EngineError("no Chromium was found; install it (Debian: apt install chromium)")


async def _measured(page: Page, url: str, seconds: float, mouth: str) -> dict[str, Any]:
    sessions: list[tuple[str, str]] = []

    def note_session(address: str, authorization: str | None) -> None:
        if "/sessions/" in address and authorization:
            sessions.append((f"{url}/sessions/{address.split('/sessions/')[1].split('/')[0]}", authorization))

    page.on("request", lambda request: note_session(request.url, request.headers.get("authorization")))
    await page.goto(url)
    await page.evaluate("document.getElementById('start').click()")
    await page.wait_for_function(RUNNING, timeout=START_TIMEOUT_MS)
    session_url, authorization = sessions[-1]
    headers = {"Authorization": authorization}
    await page.request.patch(
        session_url, headers=headers, data={"pose": "camera", "expression": "camera", "mouth": mouth}
    )
    await asyncio.sleep(5)
    before, start_s = await page.evaluate(FRAMES), time.monotonic()
    per_second = []
    previous = before
    while time.monotonic() - start_s < seconds:
        await asyncio.sleep(1)
        now = await page.evaluate(FRAMES)
        per_second.append(now - previous)
        previous = now
    elapsed_s = time.monotonic() - start_s
    state = await (await page.request.get(session_url, headers=headers)).json()
    return {
        "viewer": "chromium",
        "seconds": seconds,
        "mouth": mouth,
        "fps": round((previous - before) / elapsed_s, 2),
        "frames": previous - before,
        "slowest_second_frames": min(per_second),
        "stage_ms": state["stage_ms"],
        "dropped": state["dropped_by"],
    }


def write_fake_devices(footage: Footage, size_px: int, folder: Path) -> list[str]:
    """Write the footage as Chromium's fake camera and microphone; returns the flags that use them."""
    camera, microphone = folder / "camera.y4m", folder / "microphone.wav"
    with camera.open("wb") as file:
        file.write(f"YUV4MPEG2 W{size_px} H{size_px} F{CAMERA_FPS}:1 Ip A1:1 C420jpeg\n".encode())
        for planes in footage.pictures:
            file.write(b"FRAME\n" + np.ascontiguousarray(planes).tobytes())
    with wave.open(str(microphone), "wb") as sound:
        sound.setnchannels(1)
        sound.setsampwidth(2)
        sound.setframerate(SOUND_RATE)
        sound.writeframes(footage.sound.tobytes())
    return [f"--use-file-for-fake-video-capture={camera}", f"--use-file-for-fake-audio-capture={microphone}"]
