"""Webcams and network streams, by stand-ins: FFmpeg's test picture as a camera, small servers."""

import asyncio
import shutil
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

import numpy as np
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from engine.clock import MediaClock
from engine.errors import BadDescriptionError, DeviceMissingError
from engine.media import AudioChunk
from engine.sources.ffmpeg import FfmpegSource, MediaInput
from engine.sources.source import Arrival, problem_of
from engine.sources.url import open_url, without_password
from engine.sources.webcam import WebcamConfig, list_webcams, webcam_input
from tests.engine.media_on_the_fly import eventually, write_video

PATIENCE_S = 20.0
FFMPEG = shutil.which("ffmpeg")
MS = 1_000_000


def nobody(chunk: AudioChunk) -> None: ...


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


async def pictures(source: FfmpegSource, count: int) -> list[Arrival]:
    async with asyncio.timeout(PATIENCE_S):
        return [await source.pictures.get() for _ in range(count)]


async def problem(source: FfmpegSource) -> str:
    await eventually(lambda: source.problem is not None)
    return str(source.problem)


async def test_a_camera_is_shown_as_it_comes_with_the_sound_on_its_clock() -> None:
    chunks: list[AudioChunk] = []
    graph = "testsrc2=size=320x240:rate=25,realtime[out0];sine=440:r=48000,arealtime[out1]"
    media = MediaInput(
        kind="webcam", label="The test picture", address=graph, format="lavfi", has_video=True, has_sound=True
    )
    clock = MediaClock()
    source = FfmpegSource(media, clock, chunks.append)
    source.start()
    arrivals = await pictures(source, 20)
    assert source.state == {"video": True, "audio": True, "live": True}
    await source.close()
    assert source.state["live"] is False
    steps_ms = np.diff([arrival.capture_time_ns for arrival in arrivals]) / MS
    assert np.median(steps_ms) == pytest.approx(40, abs=2)
    assert all(arrival.capture_time_ns <= arrival.arrival_ns for arrival in arrivals)
    image = arrivals[-1].to_video_frame().image_HWC
    assert image.shape == (240, 320, 3) and image.std() > 40
    assert sum(len(chunk.samples) for chunk in chunks) > 10 * 960


def test_a_webcam_that_is_not_there_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "linux")
    with pytest.raises(DeviceMissingError, match=r"no webcam /dev/video99; connect one"):
        webcam_input(WebcamConfig(device="/dev/video99"))


@pytest.mark.parametrize(
    ("platform", "device", "address"),
    [("linux", "/dev/null", "/dev/null"), ("darwin", "0", "0:none"), ("win32", "Cam", "video=Cam")],
)
def test_each_system_gets_the_address_that_ffmpeg_wants_there(
    monkeypatch: pytest.MonkeyPatch, platform: str, device: str, address: str
) -> None:
    monkeypatch.setattr(sys, "platform", platform)
    media = webcam_input(WebcamConfig(device=device, width_px=1280, height_px=720))
    assert media.address == address
    assert media.options["video_size"] == "1280x720"


@pytest.mark.skipif(sys.platform != "linux", reason="reads what Linux tells of its cameras")
def test_webcams_are_listed_by_their_nodes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "video0").mkdir()
    (tmp_path / "video0" / "name").write_text("Integrated Camera\n")
    monkeypatch.setattr("engine.sources.webcam.SYSFS", tmp_path)
    assert [(webcam.id, webcam.name) for webcam in list_webcams()] == [("/dev/video0", "Integrated Camera")]


@pytest.mark.parametrize(
    "url", ["file:///etc/hostname", "/etc/hostname", "concat:a|b", "subfile,,:x", "", "data:,x"]
)
def test_what_is_not_of_the_network_is_no_stream(url: str) -> None:
    with pytest.raises(BadDescriptionError, match="is no stream to receive"):
        open_url(url, MediaClock(), nobody)


def test_passwords_and_keys_stay_out_of_messages() -> None:
    assert without_password("rtsp://me:secret@cam/live?key=1") == "rtsp://cam/live"


async def test_a_stream_that_nobody_sends_is_reported_and_tried_again() -> None:
    source = open_url(f"tcp://127.0.0.1:{free_port()}", MediaClock(), nobody)
    source.start()
    assert "Connection refused" in await problem(source)
    assert problem_of(source) == source.problem
    assert source.state["live"] is False
    await source.close()


async def test_a_stream_that_falls_silent_is_given_up_by_its_time_out() -> None:
    async with silent_server() as port:
        source = open_url(f"tcp://127.0.0.1:{port}", MediaClock(), nobody, timeout_s=0.5)
        source.start()
        assert "nothing came for 0.5 s" in await problem(source)
        await source.close()


@asynccontextmanager
async def silent_server() -> AsyncIterator[int]:
    async def ignore(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    server = await asyncio.start_server(ignore, "127.0.0.1", 0)
    async with server:
        yield int(server.sockets[0].getsockname()[1])


async def test_a_stream_that_breaks_off_is_received_again(tmp_path: Path) -> None:
    data = write_video(tmp_path / "clip.ts", 25).read_bytes()
    requests = 0

    async def broadcast(request: web.Request) -> web.Response:
        nonlocal requests
        requests += 1
        return web.Response(body=data, content_type="video/mp2t")

    app = web.Application()
    app.router.add_get("/live.ts", broadcast)
    async with TestServer(app) as server:
        source = open_url(str(server.make_url("/live.ts")), MediaClock(), nobody)
        source.start()
        async with asyncio.timeout(PATIENCE_S):
            while requests < 2:
                await pictures(source, 1)
        await eventually(lambda: source.problem is None)
        await source.close()


async def test_a_playlist_cannot_lead_to_a_file_of_this_machine(tmp_path: Path) -> None:
    secret = write_video(tmp_path / "secret.ts", 25)
    playlist = f"#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\nfile://{secret}\n#EXT-X-ENDLIST\n"

    async def lead_astray(request: web.Request) -> web.Response:
        return web.Response(text=playlist, content_type="application/vnd.apple.mpegurl")

    app = web.Application()
    app.router.add_get("/live.m3u8", lead_astray)
    async with TestServer(app) as server:
        source = open_url(str(server.make_url("/live.m3u8")), MediaClock(), nobody)
        source.start()
        assert "cannot be read" in await problem(source)
        assert not source.pictures.has_item
        await source.close()


RTSP_SERVER = """
import sys, gi
gi.require_version("Gst", "1.0"); gi.require_version("GstRtspServer", "1.0")
from gi.repository import GLib, Gst, GstRtspServer
Gst.init(None)
server = GstRtspServer.RTSPServer(address="127.0.0.1", service=sys.argv[1])
factory = GstRtspServer.RTSPMediaFactory()
picture = "video/x-raw,format=I420,width=160,height=120,framerate=25/1"
sound = "audio/x-raw,rate=8000,channels=1"
factory.set_launch(
    f"( videotestsrc is-live=true ! {picture} ! jpegenc ! rtpjpegpay name=pay0 "
    f"audiotestsrc is-live=true ! audioconvert ! {sound} ! mulawenc ! rtppcmupay name=pay1 )"
)
server.get_mount_points().add_factory("/camera", factory)
server.attach(None)
print("ready", flush=True)
GLib.MainLoop().run()
"""
SYSTEM_PYTHON = "/usr/bin/python3"


def has_rtsp_server() -> bool:
    needed = 'import gi; gi.require_version("GstRtspServer", "1.0")'
    return (
        Path(SYSTEM_PYTHON).exists()
        and subprocess.run([SYSTEM_PYTHON, "-c", needed], stderr=subprocess.DEVNULL).returncode == 0
    )


async def test_an_ip_camera_is_received_by_rtsp() -> None:
    if not has_rtsp_server():
        pytest.skip("no RTSP server here: apt-get install -y gir1.2-gst-rtsp-server-1.0 python3-gi")
    port = free_port()
    chunks: list[AudioChunk] = []
    server = await asyncio.create_subprocess_exec(
        SYSTEM_PYTHON, "-c", RTSP_SERVER, str(port), stdout=subprocess.PIPE
    )
    try:
        assert server.stdout is not None
        await server.stdout.readline()
        source = open_url(f"rtsp://127.0.0.1:{port}/camera", MediaClock(), chunks.append)
        source.start()
        arrivals = await pictures(source, 10)
        await eventually(lambda: len(chunks) > 5)
        await source.close()
    finally:
        server.kill()
        await server.communicate()
    assert arrivals[-1].to_video_frame().image_HWC.shape == (120, 160, 3)
    assert max(np.abs(chunk.samples).max() for chunk in chunks) > 0.3


@contextmanager
def ffmpeg_sending(*output: str) -> Iterator[None]:
    """A broadcaster: FFmpeg's test picture and a tone."""
    assert FFMPEG is not None
    command = [FFMPEG, "-loglevel", "error", "-re", "-f", "lavfi", "-i", "testsrc2=size=160x120:rate=25"]
    command += [
        "-f",
        "lavfi",
        "-i",
        "sine=440:r=48000",
        "-t",
        "30",
        "-c:v",
        "libx264",
        "-preset",
        "ultrafast",
    ]
    command += ["-tune", "zerolatency", "-g", "10", "-pix_fmt", "yuv420p", "-c:a", "aac", "-ac", "1", *output]
    sender = subprocess.Popen(command, stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        yield
    finally:
        sender.kill()
        sender.wait()


@pytest.mark.skipif(FFMPEG is None, reason="no ffmpeg here: apt-get install -y ffmpeg")
@pytest.mark.parametrize(
    ("sending", "receiving"),
    [
        (("-f", "mpegts", "srt://127.0.0.1:{}?mode=listener"), "srt://127.0.0.1:{}"),
        (("-f", "flv", "-listen", "1", "rtmp://127.0.0.1:{}/live"), "rtmp://127.0.0.1:{}/live"),
        (("-f", "mpegts", "udp://127.0.0.1:{}"), "udp://127.0.0.1:{}"),
    ],
    ids=["srt", "rtmp", "udp"],
)
async def test_broadcasts_are_received_with_picture_and_sound(
    sending: tuple[str, ...], receiving: str
) -> None:
    port = free_port()
    chunks: list[AudioChunk] = []
    with ffmpeg_sending(*(word.format(port) for word in sending)):
        source = open_url(receiving.format(port), MediaClock(), chunks.append)
        source.start()
        arrivals = await pictures(source, 10)
        await source.close()
    assert arrivals[-1].to_video_frame().image_HWC.shape == (120, 160, 3)
    assert max(np.abs(chunk.samples).max() for chunk in chunks) > 0.05
