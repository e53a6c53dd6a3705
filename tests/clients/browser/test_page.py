"""The page in a real Chromium, with a fake camera and microphone, against a real `gcavt serve`."""

from __future__ import annotations

from pathlib import Path

import cv2
from playwright.sync_api import Browser
from skimage.data import astronaut

from tests.clients.browser.viewers import NEEDS_CHROMIUM, WAIT_MS, Viewer, has_ended, wait_until

pytestmark = NEEDS_CHROMIUM


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
    page.locator("#calibrate-hint").wait_for(state="visible")
    page.locator("#calibrate").click()
    page.locator("#calibrate-hint").wait_for(state="hidden")
    before = viewer.picture()
    wait_until(lambda: viewer.has_changed_by(0.5, before))

    page.locator("input[name=mouth][value=microphone]").check()
    wait_until(lambda: viewer.state()["sockets"]["mouth"] == "microphone")
    page.wait_for_function("document.getElementById('hud').innerText.includes('fps')", timeout=WAIT_MS)
    wait_until(lambda: viewer.state()["fps"] > 0)
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


def test_a_reload_keeps_the_face_and_the_background(viewer: Viewer) -> None:
    page = viewer.page
    other = page.locator("input[name=identity]").nth(3).get_attribute("value")
    page.locator(f"input[name=identity][value='{other}']").check()
    page.locator("input[name=background][value=room]").check()
    room = {"room": "camera", "blur": 0.03}
    viewer.wait_for_state(identity=other, background=room)
    page.reload()
    viewer.wait_for_avatar()
    assert len(viewer.sessions) == 2
    viewer.wait_for_state(identity=other, background=room)
    assert page.locator(f"input[name=identity][value='{other}']").is_checked()
    assert page.locator("input[name=background][value=room]").is_checked()
    assert viewer.complaints == []
