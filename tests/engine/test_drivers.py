"""The voice's timing. Faces are followed with real pictures in test_live.py."""

from typing import cast

import numpy as np
import pytest
from numpy.typing import NDArray

from engine.clock import MediaClock
from engine.drivers import VoiceDriver
from engine.media import AudioChunk
from engine.metrics import StageTimes
from engine.puppeteer import Puppeteer

MS = 1_000_000
RATE = 48_000


class Listener:
    """Says how loud the middle of a mel window is, in place of the audio encoder."""

    def content_code_from_mel(self, window_80x20: NDArray[np.float32]) -> NDArray[np.float32]:
        return np.asarray(window_80x20[:, 8:12].mean(keepdims=True)[0], np.float32)


def puppeteer() -> Puppeteer:
    return cast(Puppeteer, Listener())


def chunks(start_ms: int, count: int, rng: np.random.Generator) -> list[AudioChunk]:
    return [
        AudioChunk(rng.normal(0, 0.1, RATE // 50).astype(np.float32), RATE, (start_ms + 20 * i) * MS)
        for i in range(count)
    ]


def test_a_mouth_code_belongs_to_120_ms_before_the_newest_sound() -> None:
    voice, stages = VoiceDriver(), StageTimes(MediaClock())
    delays_ms = []
    for chunk in chunks(1000, 100, np.random.default_rng(0)):
        heard = voice.hear(puppeteer(), [chunk], stages)
        if heard is not None:
            delays_ms.append((chunk.end_time_ns - heard[1]) / MS)
    assert 45 <= len(delays_ms) <= 50
    assert np.all(np.diff(np.round(delays_ms, 3)) < 1e-3)
    assert 118 <= delays_ms[-1] <= 150


def test_many_chunks_at_once_give_the_newest_code() -> None:
    voice, stages = VoiceDriver(), StageTimes(MediaClock())
    sound = chunks(1000, 50, np.random.default_rng(0))
    heard = voice.hear(puppeteer(), sound, stages)
    assert heard is not None
    assert (sound[-1].end_time_ns - heard[1]) / MS == pytest.approx(120, abs=41)


def test_after_a_pause_the_voice_starts_afresh() -> None:
    voice, stages = VoiceDriver(), StageTimes(MediaClock())
    rng = np.random.default_rng(0)
    voice.hear(puppeteer(), chunks(0, 50, rng), stages)
    assert voice.hear(puppeteer(), chunks(5000, 3, rng), stages) is None
    heard = voice.hear(puppeteer(), chunks(5060, 10, rng), stages)
    assert heard is not None
    assert 5_000 * MS < heard[1] < 5_260 * MS
