"""The virtual camera through pyvirtualcam's interface for back ends, sound through PulseAudio."""

from __future__ import annotations

import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import pyvirtualcam
from numpy.typing import NDArray

from engine.clock import MediaClock, Ticker
from engine.errors import DeviceMissingError
from engine.media import AudioChunk
from engine.metrics import PerformanceMetrics
from engine.sinks.open import open_sink
from engine.sinks.virtual_camera import VirtualCameraSink, fitted
from engine.sinks.virtual_microphone import PlayoutBuffer, VirtualMicrophoneSink
from engine.sources.microphone import MicrophoneSource
from tests.engine.media_on_the_fly import avatar_frame, eventually, tone


@pytest.fixture
def metrics() -> PerformanceMetrics:
    return PerformanceMetrics.started(MediaClock())


class CameraBackend:
    """What pyvirtualcam asks of a back end (its class Backend), with its frames kept."""

    frames: list[NDArray[np.uint8]] = []
    breaks = False

    def __init__(self, *, width: int, height: int, fps: float, fourcc: int, device: str | None) -> None:
        if device not in (None, "test"):
            raise RuntimeError(f"no camera {device}")
        self._shape = height, width, 3

    def close(self) -> None: ...

    def send(self, frame: NDArray[np.uint8]) -> None:
        if self.breaks:
            raise RuntimeError("unplugged")
        self.frames.append(frame.reshape(self._shape).copy())

    def device(self) -> str:
        return "test"

    def native_fourcc(self) -> int | None:
        return None


@pytest.fixture
def backend(monkeypatch: pytest.MonkeyPatch) -> type[CameraBackend]:
    monkeypatch.setattr(pyvirtualcam.camera, "BACKENDS", {})
    pyvirtualcam.register_backend("test", CameraBackend)
    CameraBackend.frames.clear()
    CameraBackend.breaks = False
    return CameraBackend


async def test_the_camera_shows_the_avatar_whole_in_its_middle(
    backend: type[CameraBackend], metrics: PerformanceMetrics
) -> None:
    sink = open_sink({"kind": "virtual_camera", "width": 640, "height": 360}, MediaClock(), metrics)
    sink.show(avatar_frame(0, level=200))
    await eventually(lambda: bool(backend.frames))
    await sink.close()
    picture = backend.frames[0]
    assert picture.shape == (360, 640, 3)
    assert np.abs(picture[180, 320].astype(int) - 200).max() < 8
    assert picture[5, 320].max() < 8


async def test_a_camera_that_goes_away_is_reported(
    backend: type[CameraBackend], metrics: PerformanceMetrics
) -> None:
    sink = VirtualCameraSink("test", 64, 64, 25, metrics)
    backend.breaks = True
    sink.show(avatar_frame(0))
    await eventually(lambda: sink.problem is not None)
    assert sink.problem is not None and "takes no more pictures: unplugged" in sink.problem
    for tick in range(3):
        sink.show(avatar_frame(tick))
    assert metrics.dropped["sink_virtual_camera"] == 2
    await sink.close()


@pytest.mark.parametrize(
    ("platform", "advice"), [("linux", "v4l2loopback"), ("darwin", "install OBS"), ("win32", "install OBS")]
)
def test_without_a_virtual_camera_it_is_said_how_to_get_one(
    backend: type[CameraBackend],
    metrics: PerformanceMetrics,
    monkeypatch: pytest.MonkeyPatch,
    platform: str,
    advice: str,
) -> None:
    monkeypatch.setattr(sys, "platform", platform)
    with pytest.raises(DeviceMissingError, match=advice):
        VirtualCameraSink("/dev/video99", 64, 64, 25, metrics)


def test_a_picture_of_the_cameras_own_shape_is_only_scaled() -> None:
    picture = np.random.default_rng(0).integers(0, 255, (32, 32, 3)).astype(np.uint8)
    assert np.array_equal(fitted(picture, 32, 32), picture)


def test_the_sides_are_filled_softly_with_the_pictures_own_colours() -> None:
    picture = np.full((32, 32, 3), (20, 90, 160), np.uint8)
    wide = fitted(picture, 64, 32)
    assert np.abs(wide.astype(int) - (20, 90, 160)).max() <= 1


def test_sound_waits_for_its_cushion_and_then_runs_without_a_gap() -> None:
    buffer = PlayoutBuffer(target=4, most=100)
    buffer.put(np.array([1, 2], np.float32))
    assert buffer.take(2).tolist() == [0, 0]
    buffer.put(np.array([3, 4], np.float32))
    assert [*buffer.take(3), *buffer.take(3)] == [1, 2, 3, 4, 0, 0]
    buffer.put(np.array([5, 6], np.float32))
    assert buffer.take(2).tolist() == [0, 0], "dry once, it waits for its cushion again"


def test_sound_that_piles_up_is_cut_to_the_cushion() -> None:
    buffer = PlayoutBuffer(target=4, most=10)
    buffer.put(np.arange(11, dtype=np.float32))
    assert buffer.dropped == 7
    assert buffer.take(4).tolist() == [7, 8, 9, 10]


@pytest.fixture
def null_sink(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """PulseAudio with one device that leads nowhere; what it is sent can be recorded from its monitor."""
    if shutil.which("pulseaudio") is None:
        pytest.skip("no PulseAudio here: apt-get install -y pulseaudio libasound2-plugins libportaudio2")
    try:
        import sounddevice
    except OSError:
        pytest.skip("no PortAudio here: apt-get install -y libportaudio2")
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    command = ["pulseaudio", "--daemonize=no", "--exit-idle-time=-1", "-n", "-L"]
    command += ["module-null-sink sink_name=v1 rate=48000", "-L", "module-native-protocol-unix"]
    server = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    try:
        for _ in range(100):
            if subprocess.run(["pactl", "info"], capture_output=True).returncode == 0:
                break
            time.sleep(0.05)
        sounddevice._terminate()
        sounddevice._initialize()
        yield
        sounddevice._terminate()
        sounddevice._initialize()
    finally:
        server.terminate()
        server.wait()


async def test_what_is_played_on_a_device_is_heard_by_a_microphone(
    null_sink: None, metrics: PerformanceMetrics
) -> None:
    clock = MediaClock()
    heard: list[AudioChunk] = []
    microphone = MicrophoneSource("pulse", clock, heard.append)
    speaker = VirtualMicrophoneSink("pulse", metrics)
    microphone.start()
    assert microphone.problem is None
    ticker = Ticker(clock, 50)
    for _ in range(500):
        speaker.play(AudioChunk(tone(0.02, 500), 48_000, await ticker.next_deadline()))
        if sum(np.abs(chunk.samples).max() > 0.3 for chunk in heard) > 25:
            break
    assert microphone.state == {"video": False, "audio": True, "live": True}
    await speaker.close()
    await microphone.close()
    assert max(np.abs(chunk.samples).max() for chunk in heard) > 0.3
    sound = np.concatenate([chunk.samples for chunk in heard])
    stretches = sound[: len(sound) // 4800 * 4800].reshape(-1, 4800)
    pitches_hz = 10 * np.abs(np.fft.rfft(stretches, axis=1)).argmax(axis=1)
    assert 500 in pitches_hz
    assert all(chunk.capture_time_ns < clock.now_ns() for chunk in heard)


async def test_a_device_of_another_name_is_told_with_those_there_are(
    null_sink: None, metrics: PerformanceMetrics
) -> None:
    with pytest.raises(
        DeviceMissingError, match=r"no microphone called 'Neumann' here; this machine has: .*pulse"
    ):
        MicrophoneSource("Neumann", MediaClock(), lambda chunk: None)
    with pytest.raises(DeviceMissingError, match="For a virtual microphone: "):
        VirtualMicrophoneSink("Neumann", metrics)


def test_without_portaudio_it_is_said_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> Any:
        raise OSError("PortAudio library not found")

    monkeypatch.setattr("importlib.import_module", missing)
    with pytest.raises(DeviceMissingError, match="libportaudio2"):
        MicrophoneSource(None, MediaClock(), lambda chunk: None)
