"""The transparent page in a real Chromium: what it composes is read back pixel by pixel."""

from __future__ import annotations

import asyncio
import base64
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import aioice.ice
import cv2
import numpy as np
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from numpy.typing import NDArray
from playwright.async_api import Browser, Page, async_playwright

from engine.clock import MediaClock, Ticker
from engine.config import VideoEncodingConfig
from engine.http.page import PAGE_DIR
from engine.metrics import PerformanceMetrics
from engine.rtc.negotiation import answer, new_connection
from engine.sinks.beside_mask import BesideMaskSink
from engine.sinks.sink import AvatarFrame, CutOut
from engine.sinks.webrtc import WebRtcSink

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
SIDE_PX = 256
READ_CANVAS = """document.getElementById("avatar").toDataURL("image/png")"""

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(CHROMIUM is None, reason="no Chromium here: apt-get install -y chromium"),
]


def cut_out() -> CutOut:
    """An orange disc whose rim is soft, and half as opaque on its right side."""
    hard = np.zeros((SIDE_PX, SIDE_PX), np.float32)
    cv2.circle(hard, (128, 128), 90, 1.0, -1)
    hard[:, 128:] *= 0.5
    mask = np.asarray(cv2.GaussianBlur(hard, (0, 0), 3), np.float32)
    image = mask[..., None] * np.array((230, 140, 40), np.float32)
    return CutOut(np.rint(image).astype(np.uint8), np.rint(255 * mask).astype(np.uint8))


@asynccontextmanager
async def avatar_server() -> AsyncIterator[str]:
    """The page's own files, and a session that shows the disc."""
    clock = MediaClock()
    metrics = PerformanceMetrics.started(clock)
    sinks: list[BesideMaskSink] = []

    async def watch(request: web.Request) -> web.Response:
        assert request.query["layout"] == "colour-alpha"
        assert request.headers["Authorization"] == "Bearer key"
        connection = new_connection(())
        kinds = frozenset({"audio", "video"})
        sinks.append(BesideMaskSink(WebRtcSink(connection, kinds, clock, VideoEncodingConfig(), metrics)))
        sdp = await answer(connection, await request.text())
        return web.Response(status=201, text=sdp, content_type="application/sdp")

    async def perform() -> None:
        disc = cut_out()
        ticker = Ticker(clock, 25)
        while True:
            tick_ns = await ticker.next_tick()
            for sink in sinks:
                sink.show(AvatarFrame(np.zeros((384, 256), np.uint8), tick_ns, tick_ns, disc))

    app = web.Application()
    app.router.add_post("/sessions/s1/watch", watch)
    app.router.add_static("/", PAGE_DIR)
    performing = asyncio.create_task(perform())
    async with TestServer(app) as server:
        yield str(server.make_url("/alpha.html"))
        performing.cancel()
        await asyncio.gather(performing, return_exceptions=True)
        for sink in sinks:
            await sink.close()


@asynccontextmanager
async def chromium() -> AsyncIterator[Browser]:
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(
            executable_path=CHROMIUM,
            headless=True,
            args=[
                "--no-sandbox",  # CI runs as root
                "--no-first-run",
                "--disable-background-networking",
                "--use-angle=swiftshader",
                "--enable-unsafe-swiftshader",
                "--autoplay-policy=no-user-gesture-required",
                "--allow-loopback-in-peer-connection",
            ],
        )
        yield browser
        await browser.close()


async def canvas_pixels(page: Page) -> NDArray[np.uint8]:
    """RGBA, straight colours."""
    png = base64.b64decode((await page.evaluate(READ_CANVAS)).partition(",")[2])
    pixels = cv2.imdecode(np.frombuffer(png, np.uint8), cv2.IMREAD_UNCHANGED)
    assert pixels is not None
    return np.asarray(cv2.cvtColor(pixels, cv2.COLOR_BGRA2RGBA), np.uint8)


async def test_the_avatar_lies_on_nothing_with_its_own_colours(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(aioice.ice, "get_host_addresses", lambda use_ipv4, use_ipv6: ["127.0.0.1"])
    async with avatar_server() as url, chromium() as browser:
        page = await browser.new_page(viewport={"width": 400, "height": 300})
        await page.goto(f"{url}#session=s1&token=key")
        await page.wait_for_function("document.getElementById('avatar').width > 2", timeout=60_000)
        await page.wait_for_timeout(1500)  # the encoder's rate rises to a clean picture
        pixels = await canvas_pixels(page)
        await page.evaluate("document.body.style.background = 'rgb(80, 80, 200)'")
        await page.wait_for_timeout(500)
        await page.screenshot(path=str(tmp_path / "page.png"))
        await page.close()
    assert pixels.shape == (SIDE_PX, SIDE_PX, 4)
    opaque, half, outside = pixels[128, 80].astype(int), pixels[128, 170].astype(int), pixels[10:30, 10:30]
    assert np.abs(opaque - (230, 140, 40, 255)).max() <= 12
    assert abs(half[3] - 128) <= 8
    assert np.abs(half[:3] - (230, 140, 40)).max() <= 24, "half transparent, its colour is the same"
    assert outside.max() == 0
    truth = cut_out().mask_HW.astype(int)
    assert np.abs(pixels[..., 3].astype(int) - truth).mean() < 2
    shot_BGR = cv2.imread(str(tmp_path / "page.png"))
    assert shot_BGR is not None
    assert shot_BGR[20, 20].tolist() == [200, 80, 80], "what lies behind the page shows through"
    mixed = 0.5 * np.array((40, 140, 230)) + 0.5 * np.array((200, 80, 80))
    assert np.abs(shot_BGR[150, 250] - mixed).max() <= 12


async def test_without_a_session_the_page_says_what_it_needs() -> None:
    async with avatar_server() as url, chromium() as browser:
        page = await browser.new_page()
        await page.goto(url)
        await page.wait_for_function("!document.getElementById('problem').hidden")
        assert "alpha.html#session=" in (await page.text_content("#problem") or "")
        await page.close()
