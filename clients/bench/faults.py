"""`gcavt bench faults`: how long does the face stand still when something breaks, and does the session live?

A server with a model, a headless client that publishes a camera and watches, and one fault after the other.
Measured are the pictures that the watching side receives: the longest time without a new one, from just
before each fault until a while after it.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import resource
import socket
import subprocess
import sys
import tempfile
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path
from typing import Any, Final

import aiohttp
import av
import numpy as np
from aiortc import MediaStreamTrack, RTCPeerConnection
from aiortc.rtp import RtcpPsfbPacket, RtpPacket

from clients.bench.headless import (
    CAMERA_FPS,
    PACKET_SAMPLES,
    SDP_HEADERS,
    Footage,
    HeadlessClient,
    MicrophoneTrack,
)
from clients.bench.processes import await_answer, free_port
from clients.bench.report import json_line, table
from engine.clock import NS_PER_S, MediaClock
from engine.config import BUILT_IN_CLIP
from engine.errors import EngineError
from engine.rtc.settings import offer_loopback_candidates
from engine.sources.source import SOUND_RATE

WARM_UP_S: Final = 6.0
BEFORE_S: Final = 0.3
CAMERA_PX: Final = 256
MAX_FILE_BYTES: Final = 150_000
"""What the server may write to one file: a disk that is soon full."""
LIMIT_MS: Final = 200


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.description = __doc__
    parser.add_argument("--runs", type=int, default=3, help="of each fault (default %(default)s)")
    parser.add_argument("--seconds", type=float, default=2.5, help="watched after each (default %(default)g)")
    parser.add_argument("--only", metavar="WORD", help="faults with this word in their names")
    parser.add_argument("--model", default="lite", help="name or directory of a bundle (default lite)")
    parser.add_argument("--backend", default="openvino", help="default %(default)s")
    parser.add_argument("--clip", type=Path, default=BUILT_IN_CLIP, help="what the camera sees and hears")


def run(args: argparse.Namespace) -> int:
    offer_loopback_candidates()
    with tempfile.TemporaryDirectory(prefix="gcavt-faults-") as folder:
        try:
            with _server(args, Path(folder)) as (url, osc_port):
                found = asyncio.run(_suffer(args, url, osc_port, Path(folder)))
        except (EngineError, OSError) as error:
            sys.stderr.write(f"gcavt bench faults: {error}\n")
            return 2
    faults = {name: _summary(runs) for name, runs in found.items()}
    rows = [[n, f["freeze_ms"]["median"], f["freeze_ms"]["largest"], f["lives"]] for n, f in faults.items()]
    print(table(["fault", "longest standstill, ms: median", "largest", "lives on"], rows))
    broken = {n: f for n, f in faults.items() if n != NOTHING}
    frozen = [name for name, fault in broken.items() if fault["freeze_ms"]["median"] > LIMIT_MS]
    print(
        f"\n{len(broken)} faults, {args.runs} times each; over {LIMIT_MS} ms: {', '.join(frozen) or 'none'}\n"
    )
    print(json_line("faults", {"runs": args.runs, "limit_ms": LIMIT_MS, "faults": faults}))
    return 0


def _summary(runs: list[tuple[float, bool]]) -> dict[str, Any]:
    freezes_ms = [round(freeze_ms, 1) for freeze_ms, _ in runs]
    largest = {"median": float(np.median(freezes_ms)), "largest": max(freezes_ms)}
    return {"freeze_ms": largest, "lives": all(lives for _, lives in runs)}


@contextmanager
def _server(args: argparse.Namespace, folder: Path) -> Iterator[tuple[str, int]]:
    port, osc_port = free_port(), free_port()
    command = [sys.executable, "-m", "engine", "--port", str(port), "--osc-port", str(osc_port)]
    command += ["--model", args.model, "--backend", args.backend, "--clip", str(args.clip)]
    command += ["--allow-local-sources", "--presets", str(folder / "presets")]
    process = subprocess.Popen(command, stderr=(folder / "log").open("wb"))
    url = f"http://127.0.0.1:{port}"
    try:
        await_answer(f"{url}/healthz", process)
        resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (MAX_FILE_BYTES, MAX_FILE_BYTES))
        yield url, osc_port
    finally:
        process.terminate()
        process.wait(timeout=20)


# -- what is played -----------------------------------------------------------------------------------------


class FaultyCamera(MediaStreamTrack):
    """The footage's pictures, or a wall, noise, other sizes, rubbish or nothing."""

    kind = "video"

    def __init__(self, films: dict[str, list[bytes]], clock: MediaClock) -> None:
        super().__init__()
        self.sees = "face"
        self.fps = float(CAMERA_FPS)
        self.leap_s = 0.0
        self._films = films
        self._clock = clock
        self._shown = ""
        self._index = 0
        self._started_ns = clock.now_ns()
        self._due_ns = self._started_ns

    async def recv(self) -> av.Packet[Any]:
        self._due_ns = max(self._due_ns + round(NS_PER_S / self.fps), self._clock.now_ns())
        await self._clock.sleep_until(self._due_ns)
        while self.sees == "nothing":  # noqa: ASYNC110 - nobody tells
            await asyncio.sleep(0.02)
        if self.sees != self._shown:
            self._shown, self._index = self.sees, 0  # the first picture of each film is a key frame
        film = self._films[self.sees]
        packet = av.Packet(film[self._index % len(film)])
        self._index += 1
        packet.time_base = Fraction(1, 90_000)
        now_s = (self._clock.now_ns() - self._started_ns) / NS_PER_S + self.leap_s
        packet.pts = round(now_s / packet.time_base)
        return packet


class FaultyMicrophone(MicrophoneTrack):
    """The footage's sound, silence, or nothing."""

    hears = "voice"

    async def recv(self) -> av.AudioFrame:
        frame = await super().recv()
        while self.hears == "nothing":  # noqa: ASYNC110 - nobody tells
            await asyncio.sleep(0.02)
        if self.hears == "silence":
            silent = av.AudioFrame.from_ndarray(np.zeros((1, PACKET_SAMPLES), np.int16), "s16", "mono")
            silent.sample_rate, silent.pts, silent.time_base = SOUND_RATE, frame.pts, frame.time_base
            return silent
        return frame


def films(footage: Footage) -> dict[str, list[bytes]]:
    """What a camera can see, as VP8."""
    rng = np.random.default_rng(0)
    rows, columns = footage.pictures[0].shape
    wall = [np.full((rows, columns), 127, np.uint8)] * 5
    noise = [rng.integers(0, 255, (rows, columns)).astype(np.uint8) for _ in range(25)]
    face = footage.encoded()
    return {
        "face": face,
        "wall": Footage(wall, footage.sound).encoded(),
        "noise": Footage(noise, footage.sound).encoded(),
        "rubbish": [rng.bytes(800) for _ in range(25)],
        **{f"{side} px": footage.resized(side).encoded() for side in (64, 640)},
    }


class Stage(HeadlessClient):
    """A session in front of whose camera and network faults happen."""

    def __init__(self, url: str, osc_port: int, footage: Footage, folder: Path) -> None:
        super().__init__(url)
        self.osc_port = osc_port
        self.folder = folder
        self.footage = footage
        self.films = films(footage)
        self.clock = MediaClock()
        self.camera = FaultyCamera(self.films, self.clock)
        self.microphone = FaultyMicrophone(footage, self.clock)

    async def open_camera(self) -> RTCPeerConnection:
        self.camera = FaultyCamera(self.films, self.clock)
        self.microphone = FaultyMicrophone(self.footage, self.clock)
        await self.publish(self.camera, self.microphone)
        return self._connections[-1]

    async def post(self, path: str, body: str) -> aiohttp.ClientResponse:
        """Whatever the answer is."""
        url = self._session_url() + path
        return await self._http.post(url, data=body, headers=SDP_HEADERS, raise_for_status=False)

    async def second_viewer(self) -> RTCPeerConnection:
        connection = self._new_connection()
        connection.addTransceiver("video", direction="recvonly")
        await self._negotiate(connection, "/watch")
        while connection.connectionState != "connected":  # noqa: ASYNC110 - nobody tells
            await asyncio.sleep(0.02)
        return connection

    def control_url(self) -> str:
        return self._session_url() + "/control"


async def _suffer(
    args: argparse.Namespace, url: str, osc_port: int, folder: Path
) -> dict[str, list[tuple[float, bool]]]:
    found: dict[str, list[tuple[float, bool]]] = {}
    footage = Footage.load(args.clip, CAMERA_PX)
    chosen = {name: fault for name, fault in FAULTS.items() if not args.only or args.only in name}
    for _ in range(args.runs):
        async with Stage(url, osc_port, footage, folder) as stage:
            await stage.open_camera()
            await stage.patch(pose="camera", expression="camera", mouth="camera")
            await stage.watch()
            await asyncio.sleep(WARM_UP_S)
            for name, fault in chosen.items():
                start_s = stage.now_s() - BEFORE_S
                await fault(stage)
                await asyncio.sleep(args.seconds)
                end_s = stage.now_s()
                lives = (await stage.state())["failure"] is None
                found.setdefault(name, []).append((longest_standstill_ms(stage, start_s, end_s), lives))
                await _mend(stage)
    return found


def longest_standstill_ms(stage: HeadlessClient, start_s: float, end_s: float) -> float:
    """The longest time between two pictures that differ, from the first moment to the last."""
    arrivals_s = stage.seen.arrivals_s
    is_new = [True, *(difference > 0 for difference in stage.seen.differences)]
    times_s = [at for at, new in zip(arrivals_s, is_new, strict=False) if new and start_s <= at < end_s]
    return float(np.diff([start_s, *times_s, end_s]).max()) * 1000


async def _mend(stage: Stage) -> None:
    """Everything as it was at first, with a camera that works."""
    camera = stage.camera
    camera.sees, camera.fps, camera.leap_s, stage.microphone.hears = "face", float(CAMERA_FPS), 0.0, "voice"
    state = await stage.state()
    if not state["sources"]["camera"]["live"]:
        await stage.open_camera()
    await stage.patch(pose="camera", expression="camera", mouth="camera")
    await asyncio.sleep(1.0)


# -- the faults ---------------------------------------------------------------------------------------------

Fault = Callable[[Stage], Awaitable[None]]
NOTHING: Final = "nothing"


async def nothing(stage: Stage) -> None: ...


def sees(*what: str) -> Fault:
    """The camera shows these for half a second each, and keeps to the last."""

    async def fault(stage: Stage) -> None:
        for each in what:
            stage.camera.sees = each
            await asyncio.sleep(0.5)

    return fault


def hears(what: str) -> Fault:
    async def fault(stage: Stage) -> None:
        await stage.patch(mouth="microphone")
        stage.microphone.hears = what

    return fault


def leaps(seconds: float) -> Fault:
    async def fault(stage: Stage) -> None:
        stage.camera.leap_s += seconds

    return fault


async def slows_down(stage: Stage) -> None:
    stage.camera.fps = 2.0


async def is_taken_over(stage: Stage) -> None:
    await stage.open_camera()


async def is_killed(stage: Stage) -> None:
    """As a killed process goes: no DELETE, no DTLS alert, no RTCP BYE."""
    await _vanish(next(c for c in stage._connections if any(s.track is stage.camera for s in c.getSenders())))


async def _vanish(connection: RTCPeerConnection) -> None:
    for transport in {t.receiver.transport.transport for t in connection.getTransceivers()}:
        await transport._connection.close()


async def viewer_is_killed(stage: Stage) -> None:
    await _vanish(await stage.second_viewer())


async def viewer_never_reads(stage: Stage) -> None:
    await stage.second_viewer()


async def viewer_leaves_while_connecting(stage: Stage) -> None:
    for _ in range(5):
        connection = stage._new_connection()
        connection.addTransceiver("video", direction="recvonly")
        await connection.setLocalDescription(await connection.createOffer())
        await stage.post("/watch", connection.localDescription.sdp)
        await connection.close()


async def key_frames_without_end(stage: Stage) -> None:
    connection = await stage.second_viewer()
    (receiver,) = connection.getReceivers()
    await receiver.track.recv()
    (stream,) = {source.source for source in receiver.getSynchronizationSources()}
    plea = bytes(RtcpPsfbPacket(fmt=1, ssrc=1, media_ssrc=stream))
    for _ in range(500):
        await receiver.transport._send_rtp(plea)


async def ice_restart(stage: Stage) -> None:
    fragment = f"a=ice-ufrag:other\r\na=ice-pwd:{'x' * 24}\r\n"
    headers = {"Content-Type": "application/trickle-ice-sdpfrag", "If-Match": "*"}
    connection = await stage.second_viewer()
    response = await stage.post("/watch", connection.localDescription.sdp)
    location = f"{stage._url}{response.headers['Location']}"
    await stage._http.patch(location, data=fragment, headers=headers, raise_for_status=False)


async def rubbish_packets(stage: Stage) -> None:
    transport = next(
        s.transport for c in stage._connections for s in c.getSenders() if s.track is stage.camera
    )
    dice = random.Random(0)
    for size in (0, 1, 11, 12, 100, 1200):
        for first in (0x00, 0x16, 0x80, 0x90, 0xB0, 0xFF):  # in the place of SRTP and DTLS
            await transport.transport._send(bytes([first]) + dice.randbytes(size))
        for payload_type in (0, 63, 97, 127):  # well protected, and still nothing to play
            packet = RtpPacket(payload_type=payload_type, ssrc=dice.getrandbits(32))
            packet.payload = dice.randbytes(size)
            await transport._send_rtp(packet.serialize())


async def film_ends(stage: Stage) -> None:
    """Cut off in its middle and gone from the disk, while it plays."""
    path = stage.folder / "film.mp4"
    await asyncio.to_thread(_write_film, path, stage.footage)
    await stage.call("PUT", "/sources/film", {"kind": "file", "path": str(path)})
    await stage.patch(pose="film", expression="film", mouth="film")
    await asyncio.sleep(1.0)
    with path.open("r+b") as file:
        file.truncate(100)
    path.unlink()


async def stream_stalls(stage: Stage) -> None:
    """A server that sends half a film and then nothing more."""
    path = stage.folder / "stream.ts"
    await asyncio.to_thread(_write_film, path, stage.footage)
    content = path.read_bytes()
    stalled = asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.0 200 OK\r\nContent-Type: video/mp2t\r\n\r\n" + content[: len(content) // 2])
        await stalled.wait()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    url = {"kind": "url", "url": f"http://127.0.0.1:{port}/stream.ts", "timeout_s": 2}
    await stage.call("PUT", "/sources/stream", url)
    await stage.patch(pose="stream", expression="stream", mouth="stream")
    await asyncio.sleep(4.0)
    stalled.set()
    server.close()
    await stage.call("DELETE", "/sources/stream")


def _write_film(path: Path, footage: Footage) -> None:
    with av.open(str(path), "w") as container:
        video = container.add_stream("libx264", rate=CAMERA_FPS)
        video.width = video.height = CAMERA_PX
        video.pix_fmt = "yuv420p"
        for planes in footage.pictures[:100]:
            container.mux(video.encode(av.VideoFrame.from_ndarray(planes, format="yuv420p")))
        container.mux(video.encode(None))


async def disk_is_full(stage: Stage) -> None:
    path = stage.folder / f"recording{random.getrandbits(32)}.mkv"
    await stage.call("POST", "/sinks", {"kind": "file", "path": str(path), "video_kbps": 4000})
    await asyncio.sleep(3.0)


async def osc_rubbish(stage: Stage) -> None:
    await asyncio.to_thread(_send_rubbish, stage.osc_port)


def _send_rubbish(port: int) -> None:
    dice = random.Random(0)
    starts = (b"", b"#bundle\0", b"/gcavt/*/pose\0\0\0,s\0\0", b"/gcavt/*/gain/pose\0\0,f\0\0")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        for _ in range(2000):
            message = dice.choice(starts) + dice.randbytes(dice.randrange(60))
            sender.sendto(message, ("127.0.0.1", port))


async def control_flood(stage: Stage) -> None:
    """From another event loop: sending must not keep this one from looking."""
    await asyncio.to_thread(asyncio.run, _flood(stage.control_url(), dict(stage._http.headers)))


async def _flood(url: str, headers: dict[str, str]) -> None:
    async with aiohttp.ClientSession(headers=headers) as http, http.ws_connect(url) as channel:
        for number in range(2000):
            change = json.dumps({"gains": {"mouth": 1 + number % 2 / 10}})
            await channel.send_str(change if number % 3 else "{" * (number % 50))


async def speech_changes_its_rate(stage: Stage) -> None:
    for rate in (16_000, 48_000, 24_000):
        await stage.call("PUT", "/sources/speech", {"kind": "tts", "sample_rate": rate})
        await stage.patch(mouth="speech:audio")
        async with stage._http.ws_connect(f"{stage._session_url()}/sources/speech/pcm") as channel:
            await channel.send_bytes(stage.footage.sound[:rate].tobytes()[:-1])
            await asyncio.sleep(0.4)
    await stage.call("DELETE", "/sources/speech")


async def bad_photo(stage: Stage) -> None:
    for content in (b"no photo", bytes(5_000_000)):
        form = aiohttp.FormData()
        form.add_field("photo", content, filename="a.png")
        await stage._http.post(f"{stage._session_url()}/identity", data=form, raise_for_status=False)


async def impossible_patch(stage: Stage) -> None:
    bodies: tuple[object, ...] = ({"identity": "nobody"}, {"gains": {"pose": 1e9}}, {"nose": 1}, [])
    for body in bodies:
        await stage._http.patch(stage._session_url(), json=body, raise_for_status=False)


async def offer_is_cut_off(stage: Stage) -> None:
    connection = stage._new_connection()
    connection.addTransceiver("video", direction="recvonly")
    await connection.setLocalDescription(await connection.createOffer())
    body = connection.localDescription.sdp
    for length in range(0, len(body), len(body) // 10):
        await stage.post("/watch", body[:length])
        await stage.post("/sources/other", body[:length])


FAULTS: Final[dict[str, Fault]] = {
    NOTHING: nothing,
    "camera freezes": sees("nothing"),
    "face is lost": sees("wall"),
    "camera sees noise": sees("noise"),
    "camera slows down to 2 fps": slows_down,
    "pictures change their size": sees("640 px", "64 px", "face"),
    "frames are rubbish": sees("rubbish"),
    "camera's clock leaps an hour ahead": leaps(3600),
    "camera's clock leaps back": leaps(-1800),
    "microphone is muted": hears("silence"),
    "microphone stops": hears("nothing"),
    "speech changes its sample rate": speech_changes_its_rate,
    "another camera takes the name": is_taken_over,
    "publisher is killed": is_killed,
    "packets are rubbish": rubbish_packets,
    "ICE restart is asked for": ice_restart,
    "viewer is killed": viewer_is_killed,
    "viewer never reads": viewer_never_reads,
    "viewer leaves while connecting": viewer_leaves_while_connecting,
    "key frames asked for 500 times": key_frames_without_end,
    "offer is cut off": offer_is_cut_off,
    "film is cut off and deleted": film_ends,
    "stream stalls": stream_stalls,
    "disk is full": disk_is_full,
    "rubbish by OSC": osc_rubbish,
    "2000 changes by WebSocket": control_flood,
    "photo is none": bad_photo,
    "impossible changes": impossible_patch,
}
