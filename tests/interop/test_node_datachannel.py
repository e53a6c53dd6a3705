"""libdatachannel, which OBS publishes with, sends real media by WHIP."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest

from clients.bench.headless import HeadlessClient
from tests.interop.conftest import Engine, started
from tests.interop.media import until, write_rtp

PUBLISHER = Path(__file__).with_name("node_publisher.mjs")
NODE = shutil.which("node")


def modules() -> Path | None:
    """Where npm put node-datachannel: NODE_PATH, or npm's global folder."""
    candidates = [Path(path) for path in os.environ.get("NODE_PATH", "").split(os.pathsep) if path]
    if (npm := shutil.which("npm")) is not None:
        found = subprocess.run([npm, "root", "-g"], capture_output=True, text=True, timeout=60, check=False)
        candidates.append(Path(found.stdout.strip()))
    return next((path for path in candidates if (path / "node-datachannel").is_dir()), None)


pytestmark = [
    pytest.mark.interop,
    pytest.mark.skipif(
        NODE is None or modules() is None,
        reason="no node-datachannel here: npm install -g node-datachannel, or name its folder in NODE_PATH",
    ),
]


async def test_libdatachannel_publishes_by_whip(
    engine: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    packets, log = tmp_path / "packets.json", tmp_path / "log"
    write_rtp(packets, video_ssrc=1234, video_type=96, audio_ssrc=1235, audio_type=111)
    monkeypatch.setenv("NODE_PATH", str(modules()))
    async with HeadlessClient(engine.url) as viewer:
        await viewer.patch(pose="camera", mouth="microphone")
        await viewer.watch()
        url = f"{engine.url}/sessions/{viewer.session_id}/sources/camera"
        command = [str(NODE), str(PUBLISHER), str(packets), url, engine.token]
        with started(command, log) as publisher:

            async def has_arrived() -> bool:
                state = await viewer.state()
                assert publisher.poll() is None, log.read_text()
                return "track" in state["stage_ms"] and viewer.seen.sound_packets > 25

            await until(has_arrived)
            publisher.communicate(timeout=60)
    assert [json.loads(line) for line in log.read_text().splitlines()] == [
        {"posted": 201},
        {"connected": True},
        {"deleted": 200},
    ]
