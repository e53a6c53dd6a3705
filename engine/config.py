"""Every setting of the engine in frozen dataclasses."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from gcavt.audio import withheld_frames

PRETRAINED_DIR = Path(__file__).resolve().parent.parent / "gcavt" / "pretrained"
LOOPBACK_HOSTS = ("127.0.0.1", "localhost", "::1")
BUILT_IN_CLIP = PRETRAINED_DIR / "clips" / "demo.mp4"


@dataclass(frozen=True, kw_only=True)
class VideoEncodingConfig:
    """How the avatar's video is encoded. The viewer's bandwidth estimate moves the rate within the bounds."""

    codec: Literal["vp8", "h264"] = "vp8"
    """Offered first. Both take 2 ms a frame at 512 px; H.264 changes its rate without a key frame."""
    encoder: Literal["cpu", "nvenc"] = "cpu"
    """What encodes H.264: libx264, or an NVIDIA GPU."""
    fps: float = 25.0
    """What the rate control plans for; time stamps may deviate from it."""
    min_bitrate_bps: int = 300_000
    start_bitrate_bps: int = 1_200_000
    max_bitrate_bps: int = 2_500_000

    def __post_init__(self) -> None:
        if not 0 < self.min_bitrate_bps <= self.start_bitrate_bps <= self.max_bitrate_bps:
            raise ValueError(
                "bit rates must satisfy 0 < min <= start <= max, got "
                f"{self.min_bitrate_bps}, {self.start_bitrate_bps}, {self.max_bitrate_bps}"
            )


@dataclass(frozen=True, kw_only=True)
class RtcConfig:
    """The WebRTC side."""

    ice_servers: tuple[str, ...] = ()
    """STUN or TURN addresses. None by default: an unreachable one costs five seconds per connection."""
    turn: tuple[str, ...] = ()
    """Addresses of TURN servers that share `turn_secret`; our own side uses the first."""
    turn_secret: str | None = field(default=None, repr=False)
    """Short-lived TURN passwords are made with it (coturn: use-auth-secret, static-auth-secret)."""
    offer_loopback: bool = False
    """Offer 127.0.0.1 too: a machine without network has no other address."""
    camera_start_kbps: int = 2_000
    """What a publishing browser starts with; left alone it starts near 300 and shrinks the picture."""
    video: VideoEncodingConfig = field(default_factory=VideoEncodingConfig)

    def __post_init__(self) -> None:
        if bool(self.turn) != (self.turn_secret is not None):
            raise ValueError("a TURN server and its secret go together: give both or neither")


@dataclass(frozen=True, kw_only=True)
class PerformanceConfig:
    """One live performance."""

    fps: float = 25.0
    look_every: int = 2
    """Face tracking and expression run on every such frame of a camera; two cores have no time for all."""
    crossfade_ms: int = 200
    """From one code to the next when a socket is re-patched or its face comes back."""
    hold_ms: int = 160
    """How long a socket waits for a source that shows no face, says nothing or is frozen, before the next in
    its chain takes over, or it eases to idle."""
    ease_ms: int = 600
    """How long that easing takes."""
    look_ahead_ms: int = 80
    """How far past its own time the live voice is heard before its mouth is shown: 120 is the whole window,
    0 none at all. Less makes the lips come sooner and follow worse. Multiples of 10 up to 120."""
    delay_sound: bool = True
    """Hold the sound back by the picture's measured latency, so that both leave in step."""
    clip: Path = BUILT_IN_CLIP
    """The built-in driver: a video with sound, or a photo."""

    def __post_init__(self) -> None:
        if not 1 <= self.fps <= 60:
            raise ValueError(f"fps must be 1 to 60, got {self.fps}")
        withheld_frames(self.look_ahead_ms)


@dataclass(frozen=True, kw_only=True)
class EngineConfig:
    """Everything `gcavt serve` is told."""

    host: str = "127.0.0.1"
    port: int = 8080
    model: str = "lite"
    """Name of a shipped bundle, or the path of one."""
    backend: str = "openvino"
    threads: int | None = None
    """Inference threads; None leaves it to the backend."""
    batching: Literal["auto", "on", "off"] = "auto"
    """Whether the pictures of several sessions are drawn together; auto: as the backend prefers, GPUs do."""
    max_sessions: int = 4
    session_idle_s: float = 60.0
    """A session that nobody publishes to or watches is ended after this long."""
    max_upload_bytes: int = 20_000_000
    token: str | None = field(default=None, repr=False)
    """What publishers and viewers of named sessions (/whip/<name>) show; None: there are no such sessions."""
    allow_origins: tuple[str, ...] = ()
    """Other sites, as https://host, whose pages may talk to this server; "*" is any."""
    overflow_url: str | None = None
    """Base address of the server that takes new sessions when this one is full."""
    presets_dir: Path = field(default_factory=lambda: Path.home() / ".config" / "gcavt" / "presets")
    """Presets lie here as JSON files; made when the first is saved."""
    osc_port: int | None = None
    """UDP port for control by OSC, which knows no passwords; 0: any free one; None: no such control."""
    allow_local_sources: bool = False
    """Whether clients may have this machine's files, devices and network read."""
    performance: PerformanceConfig = field(default_factory=PerformanceConfig)
    rtc: RtcConfig = field(default_factory=RtcConfig)

    def __post_init__(self) -> None:
        for name, port in (("port", self.port), ("osc_port", self.osc_port)):
            if port is not None and not 0 <= port <= 65535:
                raise ValueError(f"{name} must be 0 to 65535, got {port}")
        if self.max_sessions < 1:
            raise ValueError(f"max_sessions must be at least 1, got {self.max_sessions}")
