"""Chromium publishes and watches from a page of another site: CORS, trickled candidates, both codecs."""

from __future__ import annotations

import http.server
import json
import shutil
import threading
import urllib.request
from collections.abc import Iterator
from typing import Any

import pytest
from playwright.sync_api import Page, sync_playwright

from tests.interop.conftest import Engine, ServeEngine

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
FLAGS = (
    "--no-sandbox",  # CI runs as root
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--autoplay-policy=no-user-gesture-required",
    "--allow-loopback-in-peer-connection",
)
WAIT_MS = 120_000
NEGOTIATE = """async ({ url, token, codec, publish }) => {
  const authorization = { Authorization: `Bearer ${token}` };
  const connection = new RTCPeerConnection();
  const waiting = [];
  connection.addEventListener("icecandidate", ({ candidate }) => waiting.push(candidate));
  if (publish) {
    const canvas = document.createElement("canvas");
    canvas.width = canvas.height = 256;
    const pen = canvas.getContext("2d");
    setInterval(() => {
      pen.fillStyle = `hsl(${performance.now() / 20}, 50%, 50%)`;
      pen.fillRect(0, 0, 256, 256);
    }, 40);
    const audio = new AudioContext();
    const tone = audio.createOscillator();
    const speaker = audio.createMediaStreamDestination();
    tone.connect(speaker);
    tone.start();
    for (const track of [...canvas.captureStream(25).getTracks(), ...speaker.stream.getTracks()]) {
      connection.addTransceiver(track, { direction: "sendonly" });
    }
  } else {
    for (const kind of ["video", "audio"]) connection.addTransceiver(kind, { direction: "recvonly" });
  }
  const { codecs } = RTCRtpReceiver.getCapabilities("video");
  const video = connection.getTransceivers().find((t) => t.receiver.track.kind === "video");
  video.setCodecPreferences(codecs.filter((known) => known.mimeType === `video/${codec}`));
  const offer = await connection.createOffer();
  const post = await fetch(url, {
    method: "POST",
    headers: { ...authorization, "Content-Type": "application/sdp" },
    body: offer.sdp, // before any candidate was gathered: all of them are trickled
  });
  const etag = post.headers.get("ETag");
  const location = new URL(post.headers.get("Location"), url).href;
  const acceptPost = (await fetch(url, { method: "OPTIONS" })).headers.get("Accept-Post");
  const gathered = new Promise((resolve) => {
    connection.onicegatheringstatechange = () => connection.iceGatheringState === "complete" && resolve();
  });
  await connection.setLocalDescription(offer);
  await connection.setRemoteDescription({ type: "answer", sdp: await post.text() });
  await gathered;
  const [fragment] = offer.sdp.match(/a=ice-ufrag:.*/);
  const lines = waiting.filter((c) => c && c.candidate).map((c) => `a=${c.candidate}`);
  const section = ["m=video 9 UDP/TLS/RTP/SAVPF 0", "a=mid:0", ...lines, "a=end-of-candidates", ""];
  const body = [fragment, ...section].join("\\r\\n");
  const patch = await fetch(location, {
    method: "PATCH",
    headers: { ...authorization, "Content-Type": "application/trickle-ice-sdpfrag", "If-Match": etag },
    body,
  });
  window.peers = [...(window.peers ?? []), { connection, location, authorization }];
  return { post: post.status, patch: patch.status, acceptPost, candidates: lines.length };
}"""
FRAMES = """async (key) => {
  const report = await window.peers.at(-1).connection.getStats();
  return [...report.values()].filter((s) => s.kind === "video" && s[key]).map((s) => s[key])[0] ?? 0;
}"""
LEAVE = """async () => {
  const { connection, location, authorization } = window.peers.at(-1);
  connection.close();
  return (await fetch(location, { method: "DELETE", headers: authorization })).status;
}"""

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(CHROMIUM is None, reason="no Chromium here: apt-get install -y chromium"),
]


class BlankPage(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/html")
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None: ...


@pytest.fixture(scope="module")
def other_site() -> Iterator[str]:
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), BlankPage) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()


@pytest.fixture(scope="module")
def page(other_site: str) -> Iterator[Page]:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, headless=True, args=FLAGS)
        page = browser.new_page()
        page.goto(other_site)
        yield page
        browser.close()


@pytest.fixture
def engine(serve_engine: ServeEngine, other_site: str) -> Engine:
    return serve_engine("--allow-origin", other_site)


def state(engine: Engine, name: str) -> dict[str, Any]:
    request = urllib.request.Request(
        f"{engine.url}/sessions/{name}", headers={"Authorization": f"Bearer {engine.token}"}
    )
    with urllib.request.urlopen(request, timeout=30) as response:
        values: dict[str, Any] = json.load(response)
    return values


@pytest.mark.parametrize("codec", ["VP8", "H264"])
def test_chromium_publishes_and_watches_from_another_site(engine: Engine, page: Page, codec: str) -> None:
    name = f"chromium-{codec}"
    for kind, key in (("whip", "framesSent"), ("whep", "framesDecoded")):
        wanted = {
            "url": f"{engine.url}/{kind}/{name}",
            "token": engine.token,
            "codec": codec,
            "publish": kind == "whip",
        }
        negotiated = page.evaluate(NEGOTIATE, wanted)
        assert negotiated.pop("candidates") > 0
        assert negotiated == {"post": 201, "patch": 204, "acceptPost": "application/sdp"}
        page.wait_for_function(f"async () => (await ({FRAMES})('{key}')) > 10", timeout=WAIT_MS, polling=200)
    assert state(engine, name)["sources"]["camera"]["live"]
    assert page.evaluate(LEAVE) == 200
    assert state(engine, name)["watchers"] == 0
