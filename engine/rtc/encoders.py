"""The video encoders that stand in for aiortc's: chosen, bounded and timed by our own configuration.

aiortc fixes the bit rate's bounds and the frame rate in its modules, runs libx264 at `preset medium`, removes
noise that a generated picture does not have, and makes a new encoder (so a key frame) for every rate change.

Measured on one core of an EPYC, 512 px, talking head at 1.2 Mbit/s, CPU time per frame and PSNR: VP8 as
aiortc sets it 3.6 ms / 43.8 dB, as here 2.2 / 45.1; H.264 as aiortc sets it 12.1 / 46.8, as here 1.3 / 43.5
(`superfast` would be 1.9 / 46.1). VP8 in profile 1 instead of 0 then gained 0.5 to 0.9 dB at that rate, and
5 to 10 % of the encoder's and the decoder's time; faster settings yet (`cpu-used` -16) lose 1.5 dB.

Later, on a Xeon: VP8 with `VP8_FINEST_STEP` and a higher `static-thresh` 1.6 ms instead of 2.1 and .5 Mbit/s
instead of 1.1, x264 with `qmin` the same 1.3 ms and 1.0 Mbit/s instead of 1.3.
"""

from __future__ import annotations

import logging
import math
import statistics
from abc import abstractmethod
from collections import deque
from collections.abc import Callable
from fractions import Fraction
from typing import Any

import av
from aiortc.codecs import get_encoder as aiortc_encoder
from aiortc.codecs.base import Encoder
from aiortc.codecs.h264 import H264Encoder
from aiortc.codecs.vpx import Vp8Encoder
from aiortc.mediastreams import VIDEO_TIME_BASE, convert_timebase
from aiortc.rtcrtpparameters import RTCRtpCodecParameters
from av.video.codeccontext import VideoCodecContext
from av.video.frame import PictureType

from engine.config import VideoEncodingConfig
from engine.errors import EncoderMissingError

logger = logging.getLogger(__name__)

KEY_FRAMES_ON_REQUEST_ONLY = 3000
RATE_FALL = 0.85
RATE_RISE = 1.25
"""A new rate within these factors of the present one is not worth the key frame that a new encoder costs."""
MIN_SHARE_BPS = 400_000
"""Pictures are not made smaller than this for the sake of sending them more than once."""

LIMITING_SHARE = 0.9
"""A congested viewer estimates 0.85 of what still comes through."""
RECENT_FRAMES, FEW_FRAMES = 50, 10
"""What is being sent is told from so many; from fewer than the second it is not."""

VP8_OPTIONS = {
    "deadline": "realtime",
    "cpu-used": "-10",
    "lag-in-frames": "0",
    "noise-sensitivity": "0",  # generated pictures carry no camera noise
    "static-thresh": "300",  # blocks that hardly change are not searched
    "profile": "1",  # RFC 6386, 9.1: bilinear motion compensation, the simple loop filter
    "overshoot-pct": "15",
    "undershoot-pct": "100",
}
VP8_FINEST_STEP = 10
"""Of its 64 quantisers. A portrait keeps 49 dB. Finer ones, which the rate allows, add 2 dB that nobody sees
and twice the packets, each of which takes .3 ms at either end. x264's `qmin` (46 dB) has the same reason.
"""
X264_OPTIONS = {"preset": "ultrafast", "tune": "zerolatency", "level": "31", "qmin": "18"}
NVENC_OPTIONS = {
    "preset": "p2",
    "tune": "ull",
    "rc": "cbr",
    "delay": "0",
    "zerolatency": "1",
    "forced-idr": "1",
    "bf": "0",
    "level": "3.1",
}


class BoundedRate(Encoder):
    """An encoder whose rate follows the viewer's estimate (REMB) within the configured bounds."""

    can_change_rate = True
    """False: a new rate needs a new encoder, which starts with a key frame."""

    def __init__(self, config: VideoEncodingConfig) -> None:
        super().__init__()
        self._config = config
        self._allowed_bps = config.start_bitrate_bps
        self._times = 1
        self._sizes: deque[int] = deque(maxlen=RECENT_FRAMES)
        self._context: VideoCodecContext | None = None
        self._last_ticks = -1

    @property
    def target_bitrate(self) -> int:
        """Bits per second of pictures, copies not counted. aiortc sets it to what the viewer estimates."""
        return self._allowed_bps // self._times

    @target_bitrate.setter
    def target_bitrate(self, rate_bps: int) -> None:
        """A viewer's estimate begins with, and never gets far above, what it has been sent. So one that is
        lower than what is allowed counts only if it is also lower than what is being sent.
        """
        allowed_bps = max(self._config.min_bitrate_bps, min(rate_bps, self._config.max_bitrate_bps))
        if allowed_bps > self._allowed_bps or rate_bps < LIMITING_SHARE * self._sent_bps():
            self._allowed_bps = allowed_bps

    def _sent_bps(self) -> float:
        """Of the pictures and copies of late, key frames aside; infinite while there are few of them."""
        if len(self._sizes) < FEW_FRAMES:
            return math.inf
        return 8 * self._config.fps * self._times * statistics.median(self._sizes)

    def share_rate(self, times: int) -> int:
        """Leave room for sending every picture `times` times; returns how many times there is room for."""
        self._times = max(1, min(times, self._allowed_bps // MIN_SHARE_BPS))
        return self._times

    def encode(self, frame: Any, force_keyframe: bool = False) -> tuple[list[bytes], int]:
        """The frame's RTP payloads and its time in 1/90000 s. No payloads: the frame could not be encoded."""
        ticks = max(self._last_ticks + 1, convert_timebase(frame.pts, frame.time_base, VIDEO_TIME_BASE))
        self._last_ticks = ticks
        if frame.format.name != "yuv420p":
            frame = frame.reformat(format="yuv420p")
        context = self._fitting_context(frame.width, frame.height)
        frame.pts, frame.time_base = ticks, VIDEO_TIME_BASE
        frame.pict_type = PictureType.I if force_keyframe else PictureType.NONE
        try:
            data = b"".join(bytes(packet) for packet in context.encode(frame))
        except av.FFmpegError as error:
            logger.warning("a frame could not be encoded, the encoder starts afresh: %s", error)
            self._context = None
            return [], ticks
        self._sizes.append(len(data))
        return self._payloads(data) if data else [], ticks

    @abstractmethod
    def _open(self, width: int, height: int) -> VideoCodecContext: ...

    @abstractmethod
    def _payloads(self, data: bytes) -> list[bytes]: ...

    def _fitting_context(self, width: int, height: int) -> VideoCodecContext:
        context = self._context
        if context is not None and (context.width, context.height) != (width, height):
            context = None
        rate_bps = self.target_bitrate
        if context is not None and context.bit_rate and context.bit_rate != rate_bps:
            if self.can_change_rate:
                context.bit_rate = rate_bps
            elif not RATE_FALL <= rate_bps / context.bit_rate <= RATE_RISE:
                context = None
        if context is None:
            context = self._open(width, height)
        self._context = context
        return context

    def _new_context(
        self, codec: str, width: int, height: int, options: dict[str, str], rate_bps: int, buffer_s: float
    ) -> VideoCodecContext:
        """One that keeps to `rate_bps`, over `buffer_s`, and times frames by their own time stamps."""
        context = av.CodecContext.create(codec, "w")
        assert isinstance(context, VideoCodecContext)
        context.width, context.height, context.pix_fmt = width, height, "yuv420p"
        context.bit_rate = rate_bps
        context.framerate = Fraction(self._config.fps).limit_denominator(1001)
        context.time_base = VIDEO_TIME_BASE
        context.gop_size = KEY_FRAMES_ON_REQUEST_ONLY
        # libvpx's second thread waits by spinning: 120 ms a frame instead of 3 where cores are scarce
        context.thread_count = 1
        context.options = options | {
            "maxrate": str(rate_bps),
            "bufsize": str(round(rate_bps * buffer_s)),
        }
        return context


class LiveVp8Encoder(BoundedRate, Vp8Encoder):
    """libvpx. FFmpeg passes it no new rate once it is open."""

    can_change_rate = False

    def _open(self, width: int, height: int) -> VideoCodecContext:
        options = VP8_OPTIONS | {
            "minrate": str(self.target_bitrate)
        }  # minrate = maxrate = rate: constant rate
        context = self._new_context("libvpx", width, height, options, self.target_bitrate, 1.0)
        context.qmin, context.qmax = VP8_FINEST_STEP, 56
        return context

    def _payloads(self, data: bytes) -> list[bytes]:
        payloads = self._packetize(data, self.picture_id)
        self.picture_id = (self.picture_id + 1) % (1 << 15)
        return payloads


class LiveH264Encoder(BoundedRate, H264Encoder):
    """libx264. It takes new rates while it runs, if it was opened with a constant one."""

    def _open(self, width: int, height: int) -> VideoCodecContext:
        context = self._new_context("libx264", width, height, X264_OPTIONS, self._config.max_bitrate_bps, 0.3)
        context.profile = "Baseline"
        context.open()
        context.bit_rate = self.target_bitrate  # x264 goes below the rate it was opened with, never above
        return context

    def _payloads(self, data: bytes) -> list[bytes]:
        return self._packetize(self._split_bitstream(data))


class NvencEncoder(LiveH264Encoder):
    """H.264 by an NVIDIA GPU's own encoder. It saves CPU, hardly time: libx264 takes 1.3 ms at 512 px."""

    def _open(self, width: int, height: int) -> VideoCodecContext:
        context = self._new_context("h264_nvenc", width, height, NVENC_OPTIONS, self.target_bitrate, 0.3)
        context.profile = "Baseline"
        return context


GetEncoder = Callable[[RTCRtpCodecParameters], Encoder]


def encoder_factory(config: VideoEncodingConfig) -> GetEncoder:
    """What takes the place of aiortc's `get_encoder`.

    Raises EncoderMissingError if NVENC is asked for and cannot be opened.
    """
    h264: type[LiveH264Encoder] = LiveH264Encoder
    if config.encoder == "nvenc":
        h264 = NvencEncoder
        check_nvenc(config)

    def encoder(codec: RTCRtpCodecParameters) -> Encoder:
        match codec.mimeType.lower():
            case "video/vp8":
                return LiveVp8Encoder(config)
            case "video/h264":
                return h264(config)
            case _:
                return aiortc_encoder(codec)

    return encoder


def check_nvenc(config: VideoEncodingConfig) -> None:
    """Raises EncoderMissingError, saying why, if this machine cannot encode with NVENC."""
    frame = av.VideoFrame(512, 512, "yuv420p")
    frame.pts, frame.time_base = 0, VIDEO_TIME_BASE
    try:
        NvencEncoder(config)._open(512, 512).encode(frame)
    except (av.FFmpegError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise EncoderMissingError(
            "NVENC cannot be opened here: it needs an NVIDIA GPU that has an encoder (the data-centre cards "
            f"A100 and H100 have none) and its driver ({reason}). Leave --video-encoder at cpu."
        ) from error
