import asyncio
import time

import av
import cv2
import numpy as np
import pytest

from clients.bench.marks import (
    CODES,
    LONGEST_LATENCY_S,
    PACKET_SAMPLES,
    SOUND_RATE,
    TONES_HZ,
    MarkedPictures,
    MarkedSound,
    ToneListener,
    age_ms,
    code_now,
    latencies_ms,
    luma,
    read_code,
    write_code,
)


@pytest.mark.parametrize("code", [0, 1, CODES - 1, 0xA5A5_5A5A, 0x8000_0001])
def test_a_code_is_read_back_even_after_compression_and_scaling(code: int) -> None:
    picture = np.random.default_rng(0).integers(0, 255, (512, 512)).astype(np.uint8)
    write_code(picture, code)
    assert read_code(picture) == code
    coded = cv2.imdecode(cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, 30])[1], 0)
    assert read_code(np.asarray(coded, np.uint8)) == code
    assert read_code(np.asarray(cv2.resize(picture, (384, 384)), np.uint8)) == code


def test_the_age_of_a_code_grows_and_survives_the_counter_s_wrap() -> None:
    assert 0 <= age_ms(code_now()) < 5_000
    assert age_ms((code_now() - 10_000) % CODES) == pytest.approx(1000, abs=500)


async def test_pictures_carry_the_moment_at_which_they_were_handed_out() -> None:
    track = MarkedPictures(128)
    frames = [await track.recv() for _ in range(3)]
    assert all(age_ms(read_code(luma(frame))) < 5_000 for frame in frames)
    codes = [read_code(luma(frame)) for frame in frames]
    assert codes == sorted(codes)
    assert frames[1].pts is not None and frames[0].pts is not None
    assert frames[1].pts - frames[0].pts == 3600


async def test_tones_are_heard_and_told_apart() -> None:
    track = MarkedSound()
    listener = ToneListener()
    frames: list[av.AudioFrame] = []
    async with asyncio.timeout(30):
        while len(track.moments) < 2 or len(frames) < 30:
            frames.append(await track.recv())
            listener.hear(frames[-1].to_ndarray()[0] / 32768, time.monotonic())
    assert [tone for tone, _ in listener.heard] == [tone for tone, _ in track.moments]
    assert all(0 <= latency < 5_000 for _, latency in latencies_ms(track.moments, listener.heard))


def test_a_tone_that_begins_within_a_chunk_is_told() -> None:
    listener = ToneListener()
    time_N = np.arange(4 * PACKET_SAMPLES) / SOUND_RATE
    for index, hertz in enumerate(TONES_HZ):
        sound = np.where(time_N > 0.013, 0.6 * np.sin(2 * np.pi * hertz * time_N), 0)
        for start in range(0, len(sound), PACKET_SAMPLES):
            listener.hear(sound[start : start + PACKET_SAMPLES], index + start / SOUND_RATE)
    assert [(tone, round(begun_s)) for tone, begun_s in listener.heard] == [(0, 0), (1, 1), (2, 2), (3, 3)]


def test_a_tone_belongs_to_the_latest_of_its_kind() -> None:
    sent = [(0, 1.0), (1, 1.5), (0, 3.0)]
    heard = [(0, 1.25), (1, 1.6), (0, 3.5), (2, 3.6), (1, 1.5 + LONGEST_LATENCY_S + 1)]
    found = [(sent_s, round(latency)) for sent_s, latency in latencies_ms(sent, heard)]
    assert found == [(1.0, 250), (1.5, 100), (3.0, 500)]
