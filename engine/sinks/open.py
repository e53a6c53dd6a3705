"""A sink out of its description, as POST /sessions/{id}/sinks and `gcavt desktop` write it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Final, Literal
from urllib.parse import urlsplit

from aiortc import RTCIceServer

from engine.clock import MediaClock
from engine.description import Fields
from engine.errors import BadDescriptionError
from engine.metrics import PerformanceMetrics
from engine.relay import sending_rtmp, sending_srt
from engine.sinks.ffmpeg import FfmpegSink, MediaOutput
from engine.sinks.sink import Sink
from engine.sinks.virtual_camera import VirtualCameraSink
from engine.sinks.virtual_microphone import VirtualMicrophoneSink
from engine.sinks.whip import WhipSink
from engine.sources.url import without_password

Opener = Callable[[Fields, MediaClock, PerformanceMetrics], Sink]

LIVE_H264: Final = {"preset": "ultrafast", "tune": "zerolatency", "profile": "baseline", "threads": "1"}
"""One thread: the cores belong to the model, and a picture of 256 px takes about a millisecond."""
REALTIME_VP9: Final = {
    "deadline": "realtime",
    "cpu-used": "8",
    "lag-in-frames": "0",
    "auto-alt-ref": "0",
    "row-mt": "1",
}
WHIP_CODECS: Final[Mapping[str, Literal["vp8", "h264"]]] = {"vp8": "vp8", "h264": "h264"}
_MP4: Final = MediaOutput(
    kind="file",
    label="",
    address="",
    format="mp4",
    # what was recorded before a crash can be played; a recording that was finished is an ordinary file
    options={"movflags": "hybrid_fragmented"},
    video_options=LIVE_H264,
)
_WEBM: Final = replace(
    _MP4,
    format="webm",
    options={},
    video_codec="libvpx-vp9",
    video_options=REALTIME_VP9,
    audio_codec="libopus",
)
FILES: Final[Mapping[tuple[str, bool], MediaOutput]] = {
    (".mp4", False): _MP4,
    (".mkv", False): replace(_MP4, format="matroska", options={}),
    (".mov", False): replace(_MP4, format="mov"),
    (".mov", True): replace(
        _MP4,
        format="mov",
        video_codec="prores_ks",
        video_options={"profile": "4444"},
        pixel_format="yuva444p10le",
        keeps_alpha=True,
    ),
    (".webm", False): _WEBM,
    (".webm", True): replace(_WEBM, pixel_format="yuva420p", keeps_alpha=True),
}
"""How a file is written, by its ending and whether it keeps the transparency."""


def open_sink(description: Mapping[str, object], clock: MediaClock, metrics: PerformanceMetrics) -> Sink:
    """The sink that a description names, at work already. Call it on the event loop.

    {"kind": "file", "path": "avatar.mp4", "alpha": false}      .mp4, .mkv, .mov, .webm; alpha: .mov, .webm
    {"kind": "rtmp", "url": "rtmp://server/app/key"}
    {"kind": "srt", "url": "srt://server:9000?streamid=..."}
    {"kind": "whip", "url": "https://server/whip/room", "token": "...", "codec": "h264",
     "ice_servers": [{"urls": "turn:server:3478", "username": "...", "credential": "..."}]}
    {"kind": "virtual_camera", "device": "/dev/video10", "width": 1280, "height": 720}
    {"kind": "virtual_microphone", "device": "part of its name"}

    File, rtmp and srt also take "fps" and "video_kbps". Raises BadDescriptionError or DeviceMissingError.
    """
    fields = Fields("sink", description)
    return fields.choice("kind", OPENERS)(fields, clock, metrics)


def _file(fields: Fields, clock: MediaClock, metrics: PerformanceMetrics) -> Sink:
    output = file_output(Path(fields.text("path")), keeps_alpha=fields.flag("alpha"))
    return FfmpegSink(_encoded(output, fields), metrics)


def file_output(path: Path, *, keeps_alpha: bool) -> MediaOutput:
    """A file by the ending of its name. Raises BadDescriptionError if it exists already or cannot be."""
    suffix = path.suffix.lower()
    endings, alpha_endings = ([e for e, alpha in FILES if alpha is wanted] for wanted in (False, True))
    if suffix not in endings:
        raise BadDescriptionError(f"A file to write ends in {', '.join(endings)}, got {path.name}.")
    if keeps_alpha and suffix not in alpha_endings:
        raise BadDescriptionError(f"{suffix} files keep no transparency; write {' or '.join(alpha_endings)}.")
    if path.exists():
        raise BadDescriptionError(f"{path} exists already and is not written over.")
    if not path.parent.is_dir():
        raise BadDescriptionError(f"The directory of {path} does not exist.")
    return replace(
        FILES[suffix, keeps_alpha], label=f"The file {path.name}", address=f"file:{path.resolve()}"
    )


def _rtmp(fields: Fields, clock: MediaClock, metrics: PerformanceMetrics) -> Sink:
    url = _url(fields, ("rtmp", "rtmps"))
    output = MediaOutput(
        kind="rtmp",
        label=f"The broadcast to {urlsplit(url).hostname}",
        address=url,
        format="flv",
        options={"flvflags": "no_duration_filesize", "flush_packets": "1"},
        video_options=LIVE_H264,
        reconnects=True,
        relay=sending_rtmp(url),
    )
    return FfmpegSink(_encoded(output, fields), metrics)


def _srt(fields: Fields, clock: MediaClock, metrics: PerformanceMetrics) -> Sink:
    url = _url(fields, ("srt",))
    output = MediaOutput(
        kind="srt",
        label=f"The stream to {without_password(url)}",
        address=url,
        format="mpegts",
        options={"flush_packets": "1"},
        video_options=LIVE_H264,
        reconnects=True,
        relay=sending_srt(url),
    )
    return FfmpegSink(_encoded(output, fields), metrics)


def _encoded(output: MediaOutput, fields: Fields) -> MediaOutput:
    """With the rates that the description asks for, the last of its fields."""
    fps = fields.number("fps", output.fps, least=1, most=60)
    kbps = fields.whole("video_kbps", output.video_bps // 1000, least=100, most=50_000)
    fields.check_all_read()
    return replace(output, fps=fps, video_bps=1000 * kbps)


def _whip(fields: Fields, clock: MediaClock, metrics: PerformanceMetrics) -> Sink:
    url, token = _url(fields, ("http", "https")), fields.text_or_none("token")
    if urlsplit(url).username is not None:
        raise BadDescriptionError("The address of a WHIP server carries no name or password: give its token.")
    codec = fields.choice("codec", WHIP_CODECS, "h264")
    ice_servers = [_ice_server(server) for server in fields.objects("ice_servers")]
    fields.check_all_read()
    return WhipSink(url, token, clock, metrics, codec=codec, ice_servers=ice_servers)


def _ice_server(description: Mapping[str, object]) -> RTCIceServer:
    """A STUN or TURN server as RTCPeerConnection takes it in a browser. Raises BadDescriptionError."""
    fields = Fields("ICE server", description)
    url, username, credential = (
        fields.text("urls"),
        fields.text_or_none("username"),
        fields.text_or_none("credential"),
    )
    fields.check_all_read()
    if url.partition(":")[0] not in ("stun", "turn", "turns"):
        raise BadDescriptionError(
            f"The address of an ICE server begins with stun:, turn: or turns:, got {url!r}."
        )
    return RTCIceServer(urls=url, username=username, credential=credential)


def _virtual_camera(fields: Fields, clock: MediaClock, metrics: PerformanceMetrics) -> Sink:
    device = fields.text_or_none("device")
    width, height = (
        fields.whole(name, default, least=64, most=4096)
        for name, default in (("width", 640), ("height", 480))
    )
    fps = fields.number("fps", 25.0, least=1, most=60)
    fields.check_all_read()
    return VirtualCameraSink(device, width, height, fps, metrics)


def _virtual_microphone(fields: Fields, clock: MediaClock, metrics: PerformanceMetrics) -> Sink:
    device = fields.text("device")
    fields.check_all_read()
    return VirtualMicrophoneSink(device, metrics)


def _url(fields: Fields, schemes: tuple[str, ...]) -> str:
    url = fields.text("url")
    if urlsplit(url).scheme.lower() not in schemes or not urlsplit(url).hostname:
        raise BadDescriptionError(
            f"The address must begin with {'://, '.join(schemes)}:// and name a server."
        )
    return url


OPENERS: Final[Mapping[str, Opener]] = {
    "file": _file,
    "rtmp": _rtmp,
    "srt": _srt,
    "whip": _whip,
    "virtual_camera": _virtual_camera,
    "virtual_microphone": _virtual_microphone,
}
