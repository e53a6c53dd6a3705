"""Sources and sinks that are added and removed on the page, and the age of the pictures that it shows."""

from __future__ import annotations

import re
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page

from tests.clients.browser.conftest import serving
from tests.clients.browser.viewers import NEEDS_CHROMIUM, WAIT_MS, Viewer, opened, wait_until

pytestmark = NEEDS_CHROMIUM


@pytest.fixture(scope="module")
def local_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A server that lets pages use its machine."""
    with serving(tmp_path_factory.mktemp("local"), "--allow-local-sources") as url:
        yield url


def add(page: Page, root: str, kind: str, **values: str) -> None:
    page.locator(f"#{root} summary").click()
    page.locator(f"#{root} select").select_option(kind)
    for name, value in values.items():
        page.locator(f"#{root} input[name={name}]").fill(value)
    page.locator(f"#{root} button[type=submit]").click()


def test_age_of_what_is_seen_is_shown_and_told(viewer: Viewer, tmp_path: Path) -> None:
    page = viewer.page
    page.locator("#start").click()
    viewer.wait_for_state(sockets={"pose": "camera", "expression": "camera", "mouth": "camera"})
    page.locator("#stats").click()
    page.wait_for_function(
        "document.getElementById('hud').innerText.includes('camera to here')", timeout=WAIT_MS
    )
    row = page.locator("#hud dt:text-is('camera to here') + dd").inner_text()
    median_ms, p95_ms, p99_ms = map(float, re.findall(r"\d+", row))
    sent_ms = viewer.state()["stage_ms"]["capture_to_send"]["p50"]
    assert 0.5 * sent_ms < median_ms <= p95_ms <= p99_ms < 5000
    page.screenshot(path=tmp_path / "figures.png")
    wait_until(lambda: 'gcavt_stage_ms{stage="glass_to_glass",quantile="0.95"}' in metrics(viewer.base_url))
    assert viewer.complaints == []


def metrics(base_url: str) -> str:
    with urllib.request.urlopen(f"{base_url}/metrics", timeout=30) as response:
        text: str = response.read().decode()
    return text


def test_without_leave_only_a_speech_program_can_be_added(viewer: Viewer) -> None:
    page = viewer.page
    page.locator("#sources summary").click()
    assert page.locator("#sources option").all_inner_texts() == ["Speech program"]
    assert page.locator("#sinks form").count() == 0
    assert "--allow-local-sources" in page.locator("#sinks").inner_text()
    page.locator("#sources input[name=name]").fill("voice")
    page.locator("#sources button[type=submit]").click()
    page.locator("input[name=mouth][value='voice:audio']").check()
    wait_until(lambda: viewer.state()["sockets"]["mouth"] == "voice:audio")
    assert "/sources/voice/pcm" in page.locator("#sources li").inner_text()


def test_sources_and_sinks_come_and_go(browser: Browser, local_url: str, tmp_path: Path) -> None:
    recording = tmp_path / "avatar.mp4"
    with opened(browser, local_url) as viewer:
        viewer.wait_for_avatar()
        page = viewer.page
        add(page, "sources", "file", name="talk", path=str(tmp_path / "none.mp4"))
        problem = page.locator("#sources details > .problem")
        problem.filter(has_text="none.mp4").wait_for(timeout=WAIT_MS)
        page.locator("#sources select").select_option("url")
        page.locator("#sources input[name=url]").fill("rtsp://127.0.0.1:9/live")
        page.locator("#sources button[type=submit]").click()
        page.locator("#sources li .problem").wait_for(timeout=WAIT_MS)
        assert "rtsp://127.0.0.1:9/live" in page.locator("#sources li .problem").inner_text()

        add(page, "sinks", "file", path=str(recording))
        page.locator("#sinks li", has_text="avatar.mp4").wait_for(timeout=WAIT_MS)
        add(page, "sinks", "whip", url="http://127.0.0.1:9/whip/room", token="key")
        page.locator("#sinks li .problem").wait_for(timeout=WAIT_MS)
        page.screenshot(path=tmp_path / "places.png", full_page=True)

        page.locator("#sources li .remove").click()
        wait_until(lambda: "talk" not in viewer.state()["sources"])
        page.locator("#sinks li", has_text="avatar.mp4").locator(".remove").click()
        page.locator("#sinks li", has_text="avatar.mp4").wait_for(state="detached", timeout=WAIT_MS)
        assert recording.stat().st_size > 0
        page.locator("#sinks li .remove").click()
        wait_until(lambda: viewer.state()["sinks"] == {})
        complaints = [text for text in viewer.complaints if "status of 4" not in text]
        assert complaints == []


@pytest.mark.parametrize("size", [(390, 844), (1280, 860)])
def test_forms_fit_the_page(browser: Browser, local_url: str, size: tuple[int, int], tmp_path: Path) -> None:
    width, height = size
    with opened(browser, local_url, viewport={"width": width, "height": height}) as viewer:
        viewer.wait_for_avatar()
        page = viewer.page
        for root, kind in (("sources", "webcam"), ("sinks", "file")):
            page.locator(f"#{root} summary").click()
            page.locator(f"#{root} select").select_option(kind)
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        page.screenshot(path=tmp_path / "forms.png", full_page=True)
