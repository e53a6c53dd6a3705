"""GStreamer's webrtcbin, an independent WebRTC stack, publishes by WHIP and plays by WHEP."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import aiohttp
import pytest

from clients.bench.headless import HeadlessClient
from tests.interop.conftest import Engine, started, wait_until
from tests.interop.media import until

PEER = Path(__file__).with_name("gstreamer_peer.py")
SYSTEM_PYTHON = "/usr/bin/python3"
IMPORTS = (
    "import gi; gi.require_version('GstWebRTC', '1.0'); from gi.repository import Gst, GstWebRTC; "
    "Gst.init(None); import sys; sys.exit(not all(Gst.ElementFactory.find(n) for n in "
    "('webrtcbin', 'nicesrc', 'vp8enc', 'x264enc', 'opusenc', 'avdec_h264')))"
)


def has_gstreamer() -> bool:
    try:
        finished = subprocess.run(
            [SYSTEM_PYTHON, "-c", IMPORTS], capture_output=True, timeout=60, check=False
        )
    except (FileNotFoundError, subprocess.TimeoutExpired):
        return False
    return finished.returncode == 0


pytestmark = [
    pytest.mark.interop,
    pytest.mark.skipif(
        not has_gstreamer(),
        reason="no GStreamer WebRTC here: apt-get install -y python3-gi gir1.2-gst-plugins-bad-1.0 "
        "gstreamer1.0-plugins-bad gstreamer1.0-plugins-good gstreamer1.0-plugins-ugly gstreamer1.0-nice "
        "gstreamer1.0-libav",
    ),
]


def reports(log: Path) -> list[dict[str, int]]:
    """What the peer has printed; GStreamer's own warnings are passed over."""
    return [json.loads(line) for line in log.read_text().splitlines() if line.startswith("{")]


@pytest.mark.parametrize("codec", ["VP8", "H264"])
async def test_gstreamer_publishes_by_whip(engine: Engine, tmp_path: Path, codec: str) -> None:
    async with HeadlessClient(engine.url) as viewer:
        await viewer.patch(pose="camera", mouth="microphone")
        await viewer.watch()
        url = f"{engine.url}/sessions/{viewer.session_id}/sources/camera"
        command = [SYSTEM_PYTHON, str(PEER), "whip", codec, url, engine.token]
        with started(command, tmp_path / "log") as peer:

            async def has_arrived() -> bool:
                state = await viewer.state()
                assert peer.poll() is None, (tmp_path / "log").read_text()
                return "track" in state["stage_ms"] and viewer.seen.sound_packets > 25

            await until(has_arrived)
            state = await viewer.state()
            assert state["sources"]["camera"]["live"]
            peer.communicate(timeout=60)
        assert {"deleted": 200} in reports(tmp_path / "log")
        assert not (await viewer.state())["sources"]["camera"]["video"]


@pytest.mark.parametrize("codec", ["VP8", "H264"])
async def test_gstreamer_plays_by_whep(engine: Engine, tmp_path: Path, codec: str) -> None:
    name, log = f"player-{codec}", tmp_path / "log"
    command = [SYSTEM_PYTHON, str(PEER), "whep", codec, f"{engine.url}/whep/{name}?mouth=clip", engine.token]
    with started(command, log) as peer:
        wait_until(
            lambda: any(r.get("video", 0) > 4 and r.get("audio", 0) > 20 for r in reports(log)), alive=peer
        )
        peer.communicate(timeout=60)
    assert {"deleted": 200} in reports(log)
    headers = {"Authorization": f"Bearer {engine.token}"}
    async with aiohttp.ClientSession(headers=headers) as http:
        async with http.get(f"{engine.url}/sessions/{name}") as response:
            assert (await response.json())["watchers"] == 0
        async with http.delete(f"{engine.url}/sessions/{name}"):
            pass
