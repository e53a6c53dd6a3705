"""A webcam of this machine."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path

import av

from engine.clock import MediaClock
from engine.errors import BadDescriptionError, DeviceMissingError
from engine.sources.ffmpeg import FfmpegSource, MediaInput
from engine.sources.source import HearSound

DEVICE_KINDS = {"linux": "v4l2", "darwin": "avfoundation", "win32": "dshow"}
"""FFmpeg's name of what drives cameras, by sys.platform."""
SYSFS = Path("/sys/class/video4linux")


@dataclass(frozen=True)
class Device:
    """A camera or a sound device as `gcavt desktop --list` shows it."""

    id: str
    """What a description names it by."""
    name: str


@dataclass(frozen=True, kw_only=True)
class WebcamConfig:
    """Which webcam, and what it is asked for. A camera that cannot do it says so when it is opened."""

    device: str | None = None
    """As `list_webcams` calls it: /dev/video0, 0, or a name; None is the first."""
    width_px: int = 640
    height_px: int = 480
    fps: float = 30.0
    """What nearly every webcam can do; the engine takes what is newest at each of its ticks."""

    def __post_init__(self) -> None:
        if not (16 <= self.width_px <= 4096 and 16 <= self.height_px <= 4096):
            raise BadDescriptionError(f"A webcam's picture is not {self.width_px} x {self.height_px} px.")
        if not 1 <= self.fps <= 120:
            raise BadDescriptionError(f"A webcam's rate must be 1 to 120 pictures a second, got {self.fps}.")


def list_webcams() -> list[Device]:
    """The webcams that this machine has. Raises DeviceMissingError on a system that is not known here."""
    kind = _device_kind()
    if kind == "v4l2":
        return [Device(f"/dev/{node.name}", _name(node)) for node in sorted(SYSFS.glob("video*"))]
    found = [d for d in av.enumerate_input_devices(kind) if "video" in d.media_types]
    if kind == "avfoundation":
        return [Device(str(index), device.description) for index, device in enumerate(found)]
    return [Device(device.description or device.name, device.description) for device in found]


def open_webcam(config: WebcamConfig, clock: MediaClock, on_sound: HearSound) -> FfmpegSource:
    """A source that shows what the webcam sees. Raises DeviceMissingError if there is none."""
    return FfmpegSource(webcam_input(config), clock, on_sound)


def webcam_input(config: WebcamConfig) -> MediaInput:
    """What FFmpeg has to open for a webcam. Raises DeviceMissingError if there is none."""
    kind = _device_kind()
    device = config.device or _first_webcam()
    if kind == "v4l2" and not Path(device).exists():
        others = ", ".join(webcam.id for webcam in list_webcams()) or "there is none at all"
        raise DeviceMissingError(f"There is no webcam {device}; connect one (this machine has: {others}).")
    address = {"v4l2": device, "avfoundation": f"{device}:none", "dshow": f"video={device}"}[kind]
    return MediaInput(
        kind="webcam",
        label=f"The webcam {device}",
        address=address,
        format=kind,
        options={
            "video_size": f"{config.width_px}x{config.height_px}",
            "framerate": f"{config.fps:g}",
        },
        has_video=True,
        has_sound=False,
    )


def _first_webcam() -> str:
    webcams = list_webcams()
    if not webcams:
        raise DeviceMissingError("This machine has no webcam; connect one, or drive the avatar by a file.")
    return webcams[0].id


def _device_kind() -> str:
    kind = DEVICE_KINDS.get(sys.platform)
    if kind is None:
        raise DeviceMissingError(f"Webcams of this system ({sys.platform}) are not known here.")
    return kind


def _name(node: Path) -> str:
    try:
        return (node / "name").read_text().strip()
    except OSError:
        return node.name
