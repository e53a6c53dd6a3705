import dataclasses
from collections.abc import Callable, Iterator

import av
import cv2
import numpy as np
import pytest
from aiortc import rtcrtpsender
from aiortc.codecs import depayload
from aiortc.codecs.opus import OpusEncoder
from aiortc.jitterbuffer import JitterFrame
from aiortc.mediastreams import VIDEO_TIME_BASE
from aiortc.rtcrtpparameters import RTCRtpCodecParameters

from engine.config import RtcConfig, VideoEncodingConfig
from engine.errors import EncoderMissingError
from engine.rtc import settings
from engine.rtc.decoding import open_decoder
from engine.rtc.encoders import BoundedRate, LiveH264Encoder, LiveVp8Encoder, check_nvenc, encoder_factory
from engine.rtc.keyframes import is_key_frame

CONFIG = VideoEncodingConfig(min_bitrate_bps=200_000, start_bitrate_bps=600_000, max_bitrate_bps=1_200_000)
CODECS = {
    "VP8": RTCRtpCodecParameters(mimeType="video/VP8", clockRate=90000, payloadType=97),
    "H264": RTCRtpCodecParameters(mimeType="video/H264", clockRate=90000, payloadType=99),
    "opus": RTCRtpCodecParameters(mimeType="audio/opus", clockRate=48000, channels=2, payloadType=96),
}
both = pytest.mark.parametrize("name", ["VP8", "H264"])


def pictures(count: int, width: int = 256, height: int = 256, start: int = 0) -> Iterator[av.VideoFrame]:
    """A texture that flickers: more than any of the rates can hold at full quality."""
    rng = np.random.default_rng(start)
    texture = rng.integers(0, 255, (height // 8, width // 8)).astype(np.uint8)
    for index in range(start, start + count):
        changed = texture + rng.integers(0, 24, texture.shape).astype(np.uint8)
        planes = np.full((height * 3 // 2, width), 128, np.uint8)
        planes[:height] = cv2.resize(changed, (width, height), interpolation=cv2.INTER_CUBIC)
        frame = av.VideoFrame.from_ndarray(planes, format="yuv420p")
        frame.pts, frame.time_base = index * 3600, VIDEO_TIME_BASE
        yield frame


def encoder_of(name: str, config: VideoEncodingConfig = CONFIG) -> BoundedRate:
    encoder = encoder_factory(config)(CODECS[name])
    assert isinstance(encoder, BoundedRate)
    return encoder


def kbps(encoder: BoundedRate, first: int, count: int) -> float:
    """The rate over the second half of `count` pictures."""
    sizes = [sum(map(len, encoder.encode(frame)[0])) for frame in pictures(count, start=first)]
    return sum(sizes[count // 2 :]) * 8 * 25 / (count - count // 2) / 1000


def decoded(name: str, payloads: list[bytes]) -> bytes:
    return b"".join(depayload(CODECS[name], payload) for payload in payloads)


@both
def test_the_rate_is_kept_at_25_frames_a_second(name: str) -> None:
    assert kbps(encoder_of(name), 0, 120) == pytest.approx(600, rel=0.15)


@both
def test_an_estimate_of_the_viewer_is_obeyed_within_the_bounds(name: str) -> None:
    encoder = encoder_of(name)
    kbps(encoder, 0, 20)
    encoder.target_bitrate = 10_000
    assert encoder.target_bitrate == 200_000
    low_kbps = kbps(encoder, 20, 60)
    encoder.target_bitrate = 50_000_000
    assert encoder.target_bitrate == 1_200_000
    high_kbps = kbps(encoder, 80, 60)
    assert low_kbps < 330
    assert high_kbps > 850


def portraits(count: int) -> Iterator[av.VideoFrame]:
    """A soft texture that moves slowly: much less than the rates can hold."""
    noise = np.random.default_rng(0).integers(0, 255, (40, 40)).astype(np.uint8)
    texture = cv2.resize(noise, (640, 640), interpolation=cv2.INTER_CUBIC) // 2 + 64
    for index in range(count):
        planes = np.full((768, 512), 128, np.uint8)
        planes[:512] = texture[index : index + 512, :512]
        frame = av.VideoFrame.from_ndarray(planes, format="yuv420p")
        frame.pts, frame.time_base = index * 3600, VIDEO_TIME_BASE
        yield frame


@both
def test_no_bits_are_spent_on_what_nobody_sees(name: str) -> None:
    encoder = encoder_of(name, VideoEncodingConfig(start_bitrate_bps=2_500_000))
    decoder = open_decoder(CODECS[name])
    sizes, decibels = [], []
    for index, frame in enumerate(portraits(30)):
        luma = frame.to_ndarray()[:512].astype(np.float32)
        data = decoded(name, encoder.encode(frame, force_keyframe=index == 0)[0])
        (seen,) = decoder.decode(JitterFrame(data, index * 3600))
        assert isinstance(seen, av.VideoFrame)
        sizes.append(len(data))
        decibels.append(10 * np.log10(255**2 / np.mean((seen.to_ndarray()[:512] - luma) ** 2)))
    assert np.mean(sizes[10:]) * 8 * 25 < 0.4 * encoder.target_bitrate
    assert 43 < np.mean(decibels[10:]) < 51


@both
def test_an_estimate_of_no_more_than_is_sent_is_no_limit(name: str) -> None:
    encoder = encoder_of(name, VideoEncodingConfig(start_bitrate_bps=2_000_000))
    sizes = [sum(map(len, encoder.encode(frame)[0])) for frame in portraits(40)]
    sent_bps = round(8 * 25 * float(np.median(sizes)))
    assert sent_bps < 1_000_000
    encoder.target_bitrate = sent_bps
    assert encoder.target_bitrate == 2_000_000
    encoder.target_bitrate = round(0.8 * sent_bps)  # less comes through than is sent: the network is full
    assert encoder.target_bitrate == max(300_000, round(0.8 * sent_bps))
    encoder.target_bitrate = 2_200_000
    assert encoder.target_bitrate == 2_200_000


def test_pictures_get_smaller_to_be_sent_more_than_once_but_not_too_small() -> None:
    encoder = encoder_of("VP8", VideoEncodingConfig())  # starts with 1.2 Mbit/s
    assert (encoder.share_rate(3), encoder.target_bitrate) == (3, 400_000)
    encoder.target_bitrate = 900_000
    assert (encoder.share_rate(3), encoder.target_bitrate) == (2, 450_000)
    assert (encoder.share_rate(1), encoder.target_bitrate) == (1, 900_000)


def test_h264_follows_the_rate_without_a_key_frame() -> None:
    encoder = encoder_of("H264")
    told = []
    for index, frame in enumerate(pictures(40)):
        encoder.target_bitrate = 600_000 if index < 20 else 300_000
        told.append(is_key_frame("H264", decoded("H264", encoder.encode(frame)[0])))
    assert told == [True] + [False] * 39


def test_vp8_makes_no_key_frame_for_small_changes_of_the_rate() -> None:
    encoder = encoder_of("VP8")
    told = []
    for index, frame in enumerate(pictures(40)):
        encoder.target_bitrate = 600_000 if index < 20 else 560_000
        told.append(is_key_frame("VP8", decoded("VP8", encoder.encode(frame)[0])))
    assert told == [True] + [False] * 39


@both
def test_the_size_may_change_while_it_runs(name: str) -> None:
    encoder = encoder_of(name)
    decoder = av.CodecContext.create("libvpx" if name == "VP8" else "h264", "r")
    seen = []
    for width, height in ((256, 256), (384, 384), (128, 256)):
        for frame in pictures(2, width, height):
            for picture in decoder.decode(av.Packet(decoded(name, encoder.encode(frame)[0]))):
                seen.append((picture.width, picture.height))
    assert seen == [(256, 256)] * 2 + [(384, 384)] * 2 + [(128, 256)] * 2


@both
def test_time_never_stands_still_or_runs_back(name: str) -> None:
    encoder = encoder_of(name)
    times = []
    for frame, pts in zip(pictures(4), (3600, 7200, 7200, 5000), strict=True):
        frame.pts = pts
        times.append(encoder.encode(frame)[1])
    assert times == [3600, 7200, 7201, 7202]


@both
def test_other_pixel_formats_are_converted(name: str) -> None:
    (frame,) = pictures(1)
    rgb = frame.reformat(format="rgb24")
    rgb.pts, rgb.time_base = 0, VIDEO_TIME_BASE
    assert encoder_of(name).encode(rgb)[0]


def test_nvenc_is_opened_or_its_absence_is_said() -> None:
    config = dataclasses.replace(CONFIG, encoder="nvenc")
    try:
        check_nvenc(config)
    except EncoderMissingError as error:
        assert "NVIDIA" in error.message
        with pytest.raises(EncoderMissingError):
            settings.install(RtcConfig(video=config))
    else:
        assert encoder_factory(config)(CODECS["H264"])


@pytest.fixture
def restored_hook(monkeypatch: pytest.MonkeyPatch) -> Callable[..., object]:
    monkeypatch.setattr(rtcrtpsender, "get_encoder", vars(rtcrtpsender)["get_encoder"])
    return lambda codec: vars(rtcrtpsender)["get_encoder"](codec)


def test_installing_makes_every_sender_use_the_configured_encoders(
    restored_hook: Callable[..., object],
) -> None:
    settings.install(RtcConfig(video=CONFIG))
    vp8, h264 = restored_hook(CODECS["VP8"]), restored_hook(CODECS["H264"])
    assert isinstance(vp8, LiveVp8Encoder) and isinstance(h264, LiveH264Encoder)
    assert (vp8.target_bitrate, h264.target_bitrate) == (600_000, 600_000)
    assert isinstance(restored_hook(CODECS["opus"]), OpusEncoder)


def test_vp8_is_of_profile_1_which_suits_smooth_pictures_and_is_quick() -> None:
    encoder = encoder_of("VP8")
    for picture in pictures(3):
        data = decoded("VP8", encoder.encode(picture)[0])
        assert data[0] >> 1 & 0b111 == 1  # RFC 6386, 9.1
