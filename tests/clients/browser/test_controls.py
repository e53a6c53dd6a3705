"""The page's controls reach the engine, and what the engine says reaches the page."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from playwright.sync_api import Browser, FilePayload, Page
from skimage.data import astronaut

from tests.clients.browser.viewers import NEEDS_CHROMIUM, Viewer, asked, opened, wait_until

pytestmark = NEEDS_CHROMIUM

AT_REST = {"pose": "idle", "expression": "idle", "mouth": "idle"}
NARROWEST_TARGET_PX = 40
OVERFLOWING = """() => [...document.querySelectorAll("body *")]
  .filter((element) => element.getBoundingClientRect().right > innerWidth + 1 && !element.closest("#gallery"))
  .map((element) => element.outerHTML.slice(0, 80))"""


def test_gains_reach_the_engine_and_go_back_to_one(viewer: Viewer) -> None:
    slider = viewer.page.get_by_label("Mouth", exact=True).and_(viewer.page.locator("input[type=range]"))
    for _ in range(4):
        slider.press("ArrowRight")
    viewer.wait_for_state(gains={"pose": 1.0, "expression": 1.0, "mouth": 1.2})
    assert slider.get_attribute("aria-valuetext") == "120 %"
    viewer.page.get_by_role("button", name="120 %").click()
    viewer.wait_for_state(gains={"pose": 1.0, "expression": 1.0, "mouth": 1.0})
    assert viewer.complaints == []


def test_motion_settings_reach_the_engine(viewer: Viewer) -> None:
    page = viewer.page
    page.locator("#calibrate").click()
    viewer.wait_for_state(calibrated=True, calibrating=False)
    page.locator("#forget").click()
    viewer.wait_for_state(calibrated=False)
    page.locator("#forget").wait_for(state="hidden")
    page.locator("input[name=pose_mode][value=relative]").check()
    page.get_by_label("Cross-fade").press("Home")
    viewer.wait_for_state(pose_mode="relative", crossfade_ms=0)
    assert viewer.complaints == []


def test_what_others_change_is_shown(viewer: Viewer) -> None:
    """Another control of the same session speaks over its own WebSocket."""
    viewer.page.evaluate(
        """async ({ id, token }) => {
          const { Session } = await import("/static/session.js");
          const socket = new WebSocket(new Session(id, token).controlUrl);
          socket.onopen = () => socket.send(JSON.stringify({ expression: "idle", gains: { pose: 0.5 } }));
        }""",
        viewer.sessions[-1],
    )
    viewer.page.locator("input[name=expression][value=idle]:checked").wait_for(state="attached")
    assert viewer.page.locator("#gain-pose").input_value() == "0.5"


def test_preset_is_saved_applied_and_deleted(viewer: Viewer) -> None:
    page = viewer.page
    page.get_by_role("button", name="At rest").click()
    page.locator("#gain-pose").press("End")
    viewer.wait_for_state(sockets=AT_REST, gains={"pose": 2.0, "expression": 1.0, "mouth": 1.0})
    page.get_by_label("Name of the preset").fill("On stage")
    page.get_by_role("button", name="Save").click()
    preset = page.locator(".preset .apply")
    preset.wait_for()
    assert asked(f"{viewer.base_url}/presets", "GET") == {"presets": ["On stage"]}

    page.get_by_role("button", name="The clip").click()
    page.locator("#gain-pose").press("Home")
    wait_until(lambda: viewer.state()["gains"]["pose"] == 0 and viewer.state()["sockets"]["pose"] == "clip")
    preset.click()
    viewer.wait_for_state(sockets=AT_REST, gains={"pose": 2.0, "expression": 1.0, "mouth": 1.0})

    page.get_by_role("button", name="Delete the preset On stage").click()
    preset.wait_for(state="detached")
    assert asked(f"{viewer.base_url}/presets", "GET") == {"presets": []}
    assert viewer.complaints == []


def test_hotkeys_work_unless_a_person_types(viewer: Viewer) -> None:
    page = viewer.page
    page.keyboard.press("4")
    viewer.wait_for_state(sockets=AT_REST)
    page.get_by_label("Name of the preset").press_sequentially("34")
    assert page.get_by_label("Name of the preset").input_value() == "34"
    page.locator("h1").click()
    page.keyboard.press("3")
    wait_until(lambda: set(viewer.state()["sockets"].values()) == {"clip"})
    page.keyboard.press("p")
    viewer.wait_for_state(sockets={"pose": "idle", "expression": "clip", "mouth": "clip"})
    before = viewer.state()["identity"]
    page.keyboard.press("]")
    wait_until(lambda: viewer.state()["identity"] != before)
    page.keyboard.press("?")
    assert "neutral face" in page.get_by_role("dialog", name="Keys").inner_text()
    page.keyboard.press("Escape")
    page.get_by_role("dialog").wait_for(state="hidden")
    assert viewer.complaints == []


def test_background_is_seen_behind_the_avatar(viewer: Viewer) -> None:
    page = viewer.page
    page.locator("input[name=background][value=colour]").check()
    viewer.wait_for_state(background={"colour": "#20a060"})
    wait_until(lambda: np.abs(viewer.picture()[0:4, 0:4, :3] - (32, 160, 96)).max() < 40)

    page.set_input_files("#background-file", [_picture("sky.png", np.full((900, 1600, 3), 200, np.uint8))])
    wait_until(lambda: viewer.state()["background"].get("image", "").startswith("data:image/jpeg"))
    page.locator("#background-blur").press("End")
    wait_until(lambda: viewer.state()["background"]["blur"] == 0.1)
    wait_until(lambda: np.abs(viewer.picture()[0:4, 0:4, :3] - 200).max() < 40)
    page.locator("input[name=background][value=black]").check()
    viewer.wait_for_state(background={})
    assert viewer.complaints == []


def test_several_photos_become_one_identity(viewer: Viewer) -> None:
    photos = [_picture("one.png", astronaut()), _picture("two.png", astronaut()[:, 20:-20])]
    viewer.page.set_input_files(".photos input", photos)
    viewer.wait_for_state(identity="uploaded")
    assert "2 photos" in viewer.page.locator(".identity:has(input[value=uploaded])").inner_text()
    assert viewer.complaints == []


def test_voice_alone_drives_the_mouth_and_the_choice_of_devices_is_remembered(viewer: Viewer) -> None:
    page = viewer.page
    page.locator("#cameras").select_option("none")
    page.reload()
    viewer.wait_for_avatar()
    assert page.locator("#cameras").input_value() == "none"
    page.locator("#start").click()
    viewer.wait_for_state(sockets={"pose": "clip", "expression": "idle", "mouth": "microphone"})
    page.wait_for_function("document.getElementById('level').ariaValueNow > 20")
    assert page.locator("#self").is_hidden()
    page.locator("#mute").click()
    page.wait_for_function("document.getElementById('level').ariaValueNow == 0")
    assert viewer.complaints == []


@pytest.mark.parametrize(("width", "height"), [(390, 844), (320, 568), (740, 360)])
def test_phone_needs_no_sideways_scrolling(browser: Browser, base_url: str, width: int, height: int) -> None:
    size = {"width": width, "height": height}
    with opened(browser, base_url, viewport=size, is_mobile=True, has_touch=True) as viewer:
        viewer.page.locator("#gallery img").first.wait_for()
        assert viewer.page.evaluate("document.documentElement.scrollWidth") == width
        assert viewer.page.evaluate(OVERFLOWING) == [] or width == 740  # there the toolbar itself scrolls
        assert _small_targets(viewer.page) == []


def test_light_and_dark_follow_the_system(browser: Browser, base_url: str) -> None:
    with opened(browser, base_url) as viewer:
        ground = "getComputedStyle(document.documentElement).backgroundColor"
        viewer.page.emulate_media(color_scheme="dark")
        dark = viewer.page.evaluate(ground)
        viewer.page.emulate_media(color_scheme="light")
        assert _lightness(viewer.page.evaluate(ground)) > 200 > 60 > _lightness(dark)


def test_servers_of_a_link_header_are_read(browser: Browser, base_url: str) -> None:
    link = (
        '<stun:a.example:3478>; rel="ice-server", <turn:b.example?transport=tcp>; rel="ice-server"; '
        'username="1:u"; credential="p+/="; credential-type="password", <https://c.example>; rel="next"'
    )
    with opened(browser, base_url) as viewer:
        read = "async (link) => (await import('/static/link.js')).iceServers(link)"
        servers = viewer.page.evaluate(read, link)
    assert servers == [
        {"urls": "stun:a.example:3478"},
        {"urls": "turn:b.example?transport=tcp", "username": "1:u", "credential": "p+/="},
    ]


def test_waits_between_tries_double_up_to_a_bound(browser: Browser, base_url: str) -> None:
    waits = """async () => {
      const { backoffMs } = await import("/static/retry.js");
      return [1, 2, 3, 9].map((attempt) => backoffMs(attempt, () => 0.5));
    }"""
    with opened(browser, base_url) as viewer:
        assert viewer.page.evaluate(waits) == [500, 1000, 2000, 8000]


def _picture(name: str, image_RGB: NDArray[np.uint8]) -> FilePayload:
    png = cv2.imencode(".png", cv2.cvtColor(image_RGB, cv2.COLOR_RGB2BGR))[1].tobytes()
    return {"name": name, "mimeType": "image/png", "buffer": png}


def _small_targets(page: Page) -> list[str]:
    """What a finger would miss."""
    heights: dict[str, float] = page.evaluate(
        """() => Object.fromEntries(
          [...document.querySelectorAll(".toolbar button, .jack, .segments label, select")]
          .filter((element) => element.checkVisibility())
          .map((element) => [element.innerText + element.innerHTML.slice(0, 90), element.offsetHeight]))"""
    )
    assert len(heights) > 10
    return [name for name, height_px in heights.items() if height_px < NARROWEST_TARGET_PX - 3]


def _lightness(colour: str) -> float:
    return sum(int(part) for part in colour.removeprefix("rgb(").removesuffix(")").split(",")) / 3
