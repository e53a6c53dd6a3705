from __future__ import annotations

import asyncio
import shutil
import socket
from collections.abc import Callable
from pathlib import Path
from typing import cast

import av
import numpy as np
import pytest
from av.video.codeccontext import VideoCodecContext
from numpy.typing import NDArray

from engine.clock import MediaClock
from engine.errors import BadDescriptionError
from engine.media import AudioChunk
from engine.media_files import MediaFile, pictures_at_25_fps, read_sound
from engine.metrics import PerformanceMetrics
from engine.sinks.ffmpeg import MAX_WAITING, FfmpegSink
from engine.sinks.open import file_output, open_sink
from engine.sinks.sink import AvatarFrame
from tests.engine.media_on_the_fly import avatar_frame, eventually, tone

MS = 1_000_000
PERIOD_NS = 40 * MS
RATE = 48_000
START_NS = 5_000 * MS
FFMPEG = shutil.which("ffmpeg")


@pytest.fixture
def metrics() -> PerformanceMetrics:
    return PerformanceMetrics.started(MediaClock())


def chunk(capture_ns: int, samples: NDArray[np.float32] | None = None) -> AudioChunk:
    return AudioChunk(np.zeros(960, np.float32) if samples is None else samples, RATE, capture_ns)


async def perform(sink: FfmpegSink, *, beeps_at: int = 25, frames: int = 50, latency_ms: int = 120) -> None:
    """Pictures that come late and sound that comes at once: a flash and a beep of the same moment."""
    for index in range(frames):
        tick_ns = START_NS + index * PERIOD_NS
        capture_ns = tick_ns - latency_ms * MS
        is_flash = index == beeps_at
        sink.show(avatar_frame(tick_ns, level=255 if is_flash else 40, capture_time_ns=capture_ns))
        sound = tone(0.02, 1000) if is_flash else None
        sink.play(chunk(capture_ns, sound))
        sink.play(chunk(capture_ns + 20 * MS, sound))
        await eventually(lambda: sink.waiting < MAX_WAITING // 2)


def flash_s(path: Path) -> float:
    """When the brightest picture is shown."""
    levels = [float(image.mean()) for image in pictures_at_25_fps(MediaFile.probe(path))]
    return int(np.argmax(levels)) / 25


def beep_s(path: Path) -> float:
    sound = read_sound(MediaFile.probe(path)).samples[0]
    return int(np.argmax(np.abs(sound) > 0.2)) / RATE


@pytest.mark.parametrize("name", ["a.mp4", "a.mkv", "a.mov", "a.webm"])
async def test_a_recording_keeps_lips_and_sound_in_step(
    tmp_path: Path, metrics: PerformanceMetrics, name: str
) -> None:
    sink = open_sink({"kind": "file", "path": str(tmp_path / name)}, MediaClock(), metrics)
    assert isinstance(sink, FfmpegSink)
    await perform(sink)
    await sink.close()
    assert (sink.problem, sink.dropped) == (None, 0)
    path = tmp_path / name
    assert flash_s(path) == pytest.approx(1.0, abs=0.05)
    assert beep_s(path) == pytest.approx(1.0, abs=0.03)
    assert MediaFile.probe(path).expected_frames in (50, 51, 52)


async def test_sound_that_stays_away_leaves_silence_and_comes_back_in_its_place(
    tmp_path: Path, metrics: PerformanceMetrics
) -> None:
    path = tmp_path / "a.mkv"
    sink = FfmpegSink(file_output(path, keeps_alpha=False), metrics)
    for index in range(75):
        tick_ns = START_NS + index * PERIOD_NS
        sink.show(avatar_frame(tick_ns))
        if index >= 60:
            sink.play(chunk(tick_ns, tone(0.04)))
        await eventually(lambda: sink.waiting < MAX_WAITING // 2)
    await sink.close()
    sound = read_sound(MediaFile.probe(path)).samples[0]
    assert beep_s(path) == pytest.approx(2.4, abs=0.03)
    assert not np.abs(sound[: 2 * RATE]).max() > 0.01


def rgba_pictures(path: Path, decoder: str) -> list[NDArray[np.uint8]]:
    """FFmpeg's own VP9 decoder leaves the transparency out: the right one is named."""
    codec = cast(VideoCodecContext, av.CodecContext.create(decoder, "r"))
    found: list[NDArray[np.uint8]] = []
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        if stream.codec_context.extradata is not None:
            codec.extradata = stream.codec_context.extradata
        codec.width, codec.height = stream.codec_context.width, stream.codec_context.height
        if decoder == "prores":
            codec.codec_tag = stream.codec_context.codec_tag
        for packet in container.demux(stream):
            for frame in codec.decode(packet if packet.size else None):
                found.append(np.asarray(frame.to_ndarray(format="rgba"), np.uint8))
    return found


@pytest.mark.parametrize(("name", "decoder"), [("a.mov", "prores"), ("a.webm", "libvpx-vp9")])
async def test_transparency_is_kept_with_straight_colours(
    tmp_path: Path, metrics: PerformanceMetrics, name: str, decoder: str
) -> None:
    path = tmp_path / name
    sink = open_sink({"kind": "file", "path": str(path), "alpha": True}, MediaClock(), metrics)
    assert isinstance(sink, FfmpegSink)
    for index in range(10):
        sink.show(avatar_frame(START_NS + index * PERIOD_NS, level=200))
    await sink.close()
    pictures = rgba_pictures(path, decoder)
    assert len(pictures) == 10
    assert np.abs(pictures[5][32, 32].astype(int) - [200, 200, 200, 255]).max() < 8
    assert pictures[5][2, 2, 3] < 8


async def test_a_file_that_cannot_be_written_is_reported_and_given_up(
    tmp_path: Path, metrics: PerformanceMetrics
) -> None:
    directory = tmp_path / "gone"
    directory.mkdir()
    output = file_output(directory / "a.mp4", keeps_alpha=False)
    directory.rmdir()
    sink = FfmpegSink(output, metrics)
    sink.show(avatar_frame(START_NS))
    await eventually(lambda: sink.is_over)
    assert sink.problem is not None and "a.mp4 cannot be written" in sink.problem
    sink.show(avatar_frame(START_NS + PERIOD_NS))
    assert sink.dropped == metrics.dropped["sink_file"] == 1
    await sink.close()


async def test_a_server_that_takes_nothing_costs_pictures_and_never_time(metrics: PerformanceMetrics) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        url = f"rtmp://127.0.0.1:{listener.getsockname()[1]}/live"
        sink = open_sink({"kind": "rtmp", "url": url}, MediaClock(), metrics)
        assert isinstance(sink, FfmpegSink)
        noise = np.random.default_rng(0).integers(0, 255, (20, 384, 256)).astype(np.uint8)
        async with asyncio.timeout(30):
            index = 0
            while not sink.dropped:
                tick_ns = START_NS + index * PERIOD_NS
                sink.show(AvatarFrame(noise[index % len(noise)], tick_ns, tick_ns))
                index += 1
                await asyncio.sleep(0)
        assert sink.waiting == MAX_WAITING
        assert metrics.dropped == {"sink_rtmp": 1}
    await sink.close()


async def receiver(url: str, path: Path, *options: str) -> asyncio.subprocess.Process:
    assert FFMPEG is not None
    words = ["-loglevel", "error", *options, "-i", url, "-c", "copy", "-flush_packets", "1", str(path)]
    return await asyncio.create_subprocess_exec(FFMPEG, *words, stdin=asyncio.subprocess.DEVNULL)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


async def perform_until(sink: FfmpegSink, condition: Callable[[], bool]) -> None:
    """In real time. Raises TimeoutError where it does not come to that."""
    clock = MediaClock()
    async with asyncio.timeout(60):
        while not condition():
            now_ns = clock.now_ns()
            sink.show(avatar_frame(now_ns, level=now_ns // PERIOD_NS % 200 + 55))
            sink.play(chunk(now_ns, tone(0.04)))
            await asyncio.sleep(0.04)


@pytest.mark.skipif(FFMPEG is None, reason="no ffmpeg here: apt-get install -y ffmpeg")
@pytest.mark.parametrize(
    ("kind", "send_to", "listen_on", "options"),
    [
        ("rtmp", "rtmp://127.0.0.1:{}/live/key", "rtmp://127.0.0.1:{}/live/key", ("-listen", "1")),
        ("srt", "srt://127.0.0.1:{}", "srt://127.0.0.1:{}?mode=listener", ()),
    ],
    ids=["rtmp", "srt"],
)
async def test_a_broadcast_arrives_with_picture_and_sound_even_if_the_server_comes_late(
    tmp_path: Path,
    metrics: PerformanceMetrics,
    kind: str,
    send_to: str,
    listen_on: str,
    options: tuple[str, ...],
) -> None:
    port, path = free_port(), tmp_path / "received.mkv"
    sink = open_sink({"kind": kind, "url": send_to.format(port)}, MediaClock(), metrics)
    assert isinstance(sink, FfmpegSink)
    if kind == "rtmp":  # SRT takes three seconds to find nobody
        await perform_until(sink, lambda: sink.problem is not None)
        assert sink.problem is not None and "Connection refused" in sink.problem
    server = await receiver(listen_on.format(port), path, *options)
    await perform_until(sink, lambda: path.exists() and path.stat().st_size > 30_000)
    await sink.close()
    try:
        await asyncio.wait_for(server.wait(), 10)
    except TimeoutError:
        server.terminate()
        await server.wait()
    media = MediaFile.probe(path)
    assert media.has_video and media.has_sound
    assert sum(1 for _ in pictures_at_25_fps(media)) > 20
    assert np.abs(read_sound(media).samples).max() > 0.2


@pytest.mark.parametrize(
    ("description", "complaint"),
    [
        ({}, "kind must be one of"),
        ({"kind": "tape"}, "kind must be one of"),
        ({"kind": "file"}, "path must be a text"),
        ({"kind": "file", "path": "a.avi"}, "ends in .mp4"),
        ({"kind": "file", "path": "a.mp4", "alpha": True}, "keep no transparency"),
        ({"kind": "file", "path": "nowhere/a.mp4"}, "does not exist"),
        ({"kind": "file", "path": "a.mp4", "speed": 2}, "no field 'speed'"),
        ({"kind": "file", "path": "a.mp4", "fps": 0}, "fps must be a number from 1 to 60"),
        ({"kind": "file", "path": "a.mp4", "alpha": "yes"}, "alpha must be true or false"),
        ({"kind": "rtmp", "url": "file:///tmp/x.flv"}, "must begin with rtmp://"),
        ({"kind": "srt", "url": "srt://"}, "must begin with srt://"),
        ({"kind": "whip", "url": "ftp://x/y"}, "must begin with http://"),
        ({"kind": "virtual_camera", "width": 3}, "width must be a number from 64"),
        ({"kind": "virtual_microphone"}, "device must be a text"),
    ],
)
def test_a_description_that_names_no_sink_is_refused(
    metrics: PerformanceMetrics, description: dict[str, object], complaint: str
) -> None:
    with pytest.raises(BadDescriptionError, match=complaint):
        open_sink(description, MediaClock(), metrics)


def test_a_file_that_exists_is_not_written_over(tmp_path: Path) -> None:
    (tmp_path / "a.mp4").write_text("older")
    with pytest.raises(BadDescriptionError, match="exists already"):
        file_output(tmp_path / "a.mp4", keeps_alpha=False)
