"""Network streams as drivers: RTSP, RTMP, SRT, HLS and whatever else FFmpeg receives."""

from __future__ import annotations

import re
from urllib.parse import urlsplit

from engine.clock import MediaClock
from engine.errors import BadDescriptionError
from engine.relay import receiving_srt
from engine.sources.ffmpeg import FfmpegSource, MediaInput
from engine.sources.source import HearSound

SCHEMES = ("rtsp", "rtsps", "rtmp", "rtmps", "srt", "udp", "rtp", "tcp", "http", "https")
INNER_PROTOCOLS = "rtsp,rtsps,rtmp,rtmps,srt,udp,rtp,tcp,tls,http,https,httpproxy,crypto,hls"
"""What a stream may lead on to: no file of this machine among them."""


def open_url(url: str, clock: MediaClock, on_sound: HearSound, *, timeout_s: float = 5.0) -> FfmpegSource:
    """A source that receives `url`, and does so again whenever it breaks off.

    Whether anything comes is told by the source's `problem`. Raises BadDescriptionError for an address that
    is not of the network.
    """
    scheme = urlsplit(url).scheme.lower()
    if scheme not in SCHEMES:
        raise BadDescriptionError(f"{url!r} is no stream to receive; an address begins with {_choices()}.")
    options = {
        "protocol_whitelist": INNER_PROTOCOLS,
        "flags": "low_delay",
        "analyzeduration": "1000000",
    }
    if scheme in ("rtsp", "rtsps"):
        options["rtsp_transport"] = "tcp"
    is_srt = scheme == "srt"
    media = MediaInput(
        kind="url",
        label=f"The stream {without_password(url)}",
        address=url,
        format="mpegts" if is_srt else None,
        options={} if is_srt else options,
        relay=receiving_srt(url) if is_srt else (),
        has_video=True,
        has_sound=True,
        timeout_s=timeout_s,
    )
    return FfmpegSource(media, clock, on_sound)


def without_password(url: str) -> str:
    """The address as it may stand in a log: neither password nor query, in which stream keys travel."""
    return re.sub(r"//[^/@]*@", "//", url).partition("?")[0]


def _choices() -> str:
    return ", ".join(f"{scheme}://" for scheme in SCHEMES)
