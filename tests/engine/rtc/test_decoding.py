import av
import numpy as np
import pytest
from aiortc.codecs import depayload, get_decoder
from aiortc.codecs.opus import OpusDecoder
from aiortc.jitterbuffer import JitterFrame

from engine.rtc.decoding import QuickVp8Decoder, open_decoder
from tests.engine.rtc.test_encoders import CODECS, encoder_of, pictures


def encoded(sizes_px: tuple[int, ...]) -> list[JitterFrame]:
    """Four VP8 frames of each size, from one encoder."""
    encoder = encoder_of("VP8")
    frames = []
    for index, size_px in enumerate(sizes_px):
        for picture in pictures(4, size_px, size_px, start=4 * index):
            payloads, ticks = encoder.encode(picture)
            frames.append(JitterFrame(b"".join(depayload(CODECS["VP8"], p) for p in payloads), ticks))
    return frames


def test_every_vp8_frame_gives_at_once_the_picture_that_libvpx_makes_of_it() -> None:
    quick, libvpx = open_decoder(CODECS["VP8"]), get_decoder(CODECS["VP8"])
    assert isinstance(quick, QuickVp8Decoder)
    for frame in encoded((256, 192)):  # the size changes on the way, as a browser's does
        (ours,), (theirs,) = quick.decode(frame), libvpx.decode(frame)
        assert isinstance(ours, av.VideoFrame) and isinstance(theirs, av.VideoFrame)
        assert ours.pts == theirs.pts == frame.timestamp
        np.testing.assert_array_equal(ours.to_ndarray(), theirs.to_ndarray())


def test_a_vp8_stream_entered_in_its_middle_is_an_error_until_a_key_frame_comes() -> None:
    decoder = QuickVp8Decoder()
    first, second, *_ = encoded((256,))
    with pytest.raises(av.FFmpegError):
        decoder.decode(second)
    assert len(decoder.decode(first)) == 1


def test_other_codecs_are_left_to_aiortc() -> None:
    assert isinstance(open_decoder(CODECS["opus"]), OpusDecoder)
