import av
import numpy as np
import pytest
from aiortc.codecs import depayload
from aiortc.mediastreams import VIDEO_TIME_BASE
from aiortc.rtcrtpparameters import RTCRtpCodecParameters

from engine.config import VideoEncodingConfig
from engine.rtc.encoders import LiveH264Encoder, LiveVp8Encoder
from engine.rtc.keyframes import MIN_REPEAT_MS, KeyFrameRequests, is_key_frame
from tests.engine.rtc.scripted import Clock


def test_a_key_frame_is_asked_for_at_once_and_again_until_it_comes() -> None:
    clock = Clock(0)
    requests = KeyFrameRequests(clock)
    assert not requests.take_due()
    requests.want()
    asked = []
    for clock.now in range(0, 400, 10):
        requests.want()
        asked += [clock.now] * requests.take_due()
    assert asked == [0, MIN_REPEAT_MS, 2 * MIN_REPEAT_MS, 3 * MIN_REPEAT_MS]
    requests.note_arrival()
    assert requests.due_at_ms is None
    assert not requests.take_due()


def test_requests_for_two_mishaps_in_a_row_are_kept_apart() -> None:
    clock = Clock(0)
    requests = KeyFrameRequests(clock)
    requests.want()
    assert requests.take_due()
    requests.note_arrival()
    clock.now = 10
    requests.want()
    assert not requests.take_due()
    clock.now = MIN_REPEAT_MS
    assert requests.take_due()


@pytest.mark.parametrize(("name", "encoder_type"), [("VP8", LiveVp8Encoder), ("H264", LiveH264Encoder)])
def test_key_frames_are_told_from_others_as_a_receiver_gets_them(
    name: str, encoder_type: type[LiveVp8Encoder] | type[LiveH264Encoder]
) -> None:
    codec = RTCRtpCodecParameters(mimeType=f"video/{name}", clockRate=90000, payloadType=97)
    encoder = encoder_type(VideoEncodingConfig())
    pictures = np.random.default_rng(0).integers(0, 255, (6, 192, 128)).astype(np.uint8)
    told = []
    for index, picture in enumerate(pictures):
        frame = av.VideoFrame.from_ndarray(picture, format="yuv420p")
        frame.pts, frame.time_base = index * 3600, VIDEO_TIME_BASE
        payloads, _ = encoder.encode(frame, force_keyframe=index == 3)
        told.append(is_key_frame(name, b"".join(depayload(codec, payload) for payload in payloads)))
    assert told == [True, False, False, True, False, False]


def test_nothing_is_no_key_frame() -> None:
    assert not is_key_frame("VP8", b"")
    assert not is_key_frame("H264", b"\x00\x00\x01")
