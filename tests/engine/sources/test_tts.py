import asyncio

import numpy as np
import pytest
from numpy.typing import NDArray

from engine.backends.backend import open_backend
from engine.bundle import Bundle
from engine.codes import Code
from engine.config import BUILT_IN_CLIP
from engine.drivers import VoiceDriver
from engine.errors import BadDescriptionError
from engine.media import AudioChunk
from engine.media_files import MediaFile, read_sound
from engine.metrics import StageTimes
from engine.puppeteer import Puppeteer
from engine.sources.source import SOUND_RATE
from engine.sources.tts import MAX_WAITING_S, TtsSource
from gcavt.audio import mel_spectrogram, mel_window
from tests.engine.media_on_the_fly import ManualClock, tone

MS = 1_000_000


def pcm(samples: NDArray[np.float32]) -> bytes:
    return (samples * 32767).astype("<i2").tobytes()


async def heard_blocks(chunks: list[AudioChunk], count: int) -> None:
    while len(chunks) < count:  # noqa: ASYNC110  the clock is turned by the loop itself
        await asyncio.sleep(0)


async def test_speech_that_came_at_once_is_heard_in_real_time_and_silence_after_it() -> None:
    chunks: list[AudioChunk] = []
    source = TtsSource(24_000, ManualClock(), chunks.append)
    source.feed(pcm(tone(1.0, rate=24_000)))
    assert source.waiting_s == 1.0
    source.start()
    await heard_blocks(chunks, 60)
    await source.close()
    assert [chunk.capture_time_ns // MS for chunk in chunks] == [20 * (i + 1) for i in range(len(chunks))]
    assert {len(chunk.samples) for chunk in chunks} == {SOUND_RATE // 50}
    sound = np.concatenate([chunk.samples for chunk in chunks])
    assert np.abs(sound[2000:46000] - tone(1.0)[2000:46000]).max() < 0.05
    assert np.abs(sound[50_000:]).max() == 0


async def test_a_sample_may_be_split_between_two_messages() -> None:
    sounds = []
    for size in (480, 7):
        chunks: list[AudioChunk] = []
        source = TtsSource(SOUND_RATE, ManualClock(), chunks.append)
        message = pcm(tone(0.1))
        for start in range(0, len(message), size):
            source.feed(message[start : start + size])
        source.start()
        await heard_blocks(chunks, 8)
        await source.close()
        sounds.append(np.concatenate([chunk.samples for chunk in chunks[:8]]))
    assert np.array_equal(sounds[0], sounds[1])


async def test_speech_that_is_cut_off_gives_way_to_silence_at_once() -> None:
    clock = ManualClock()
    chunks: list[AudioChunk] = []
    source = TtsSource(SOUND_RATE, clock, chunks.append)
    source.feed(pcm(tone(5.0)))
    source.start()
    await heard_blocks(chunks, 10)
    stopped_ns, spoken = clock.now_ns(), len(chunks)
    source.stop()
    assert source.waiting_s == 0
    silence = chunks[spoken:]
    assert sum(len(chunk.samples) for chunk in silence) == SOUND_RATE // 5
    assert not any(chunk.samples.any() for chunk in silence)
    source.feed(pcm(tone(0.5)))
    await heard_blocks(chunks, spoken + 20)
    await source.close()
    times_ms = [chunk.capture_time_ns // MS for chunk in chunks]
    assert times_ms == [20 * (i + 1) for i in range(len(chunks))], "no gap and no overlap"
    assert chunks[spoken + 12].samples.any(), "what was fed after the cut is heard"
    assert chunks[spoken + 12].capture_time_ns > stopped_ns + 200 * MS


async def test_nothing_is_cut_off_where_nobody_speaks() -> None:
    chunks: list[AudioChunk] = []
    source = TtsSource(SOUND_RATE, ManualClock(), chunks.append)
    source.start()
    await heard_blocks(chunks, 3)
    count = len(chunks)
    source.stop()
    assert len(chunks) == count
    await source.close()


async def test_a_sender_far_ahead_is_made_to_wait_until_there_is_room() -> None:
    chunks: list[AudioChunk] = []
    source = TtsSource(8_000, ManualClock(), chunks.append)
    source.feed(bytes(2 * 8_000 * round(MAX_WAITING_S)))
    await asyncio.wait_for(source.wait_for_room(), 1)
    source.feed(bytes(2 * 8_000))
    waiting = asyncio.ensure_future(source.wait_for_room())
    await asyncio.sleep(0)
    assert not waiting.done()
    source.start()
    await asyncio.wait_for(waiting, 10)
    assert source.waiting_s == pytest.approx(MAX_WAITING_S, abs=0.1)
    await source.close()


@pytest.mark.parametrize("sample_rate", [0, 4_000, 96_000])
def test_a_rate_that_is_none_of_speech_is_refused(sample_rate: int) -> None:
    with pytest.raises(BadDescriptionError, match="sample_rate"):
        TtsSource(sample_rate, ManualClock(), lambda chunk: None)


async def test_the_picture_after_the_cut_has_a_closed_mouth() -> None:
    """With the shipped audio encoder: the first code after the cut is that of silence."""
    bundle = Bundle.open("lite")
    puppeteer = Puppeteer(bundle, open_backend("openvino", bundle.directory, threads=1))
    clock = ManualClock()
    chunks: list[AudioChunk] = []
    source = TtsSource(SOUND_RATE, clock, chunks.append)
    speech = read_sound(MediaFile.probe(BUILT_IN_CLIP)).samples.mean(axis=0)
    source.feed(pcm(speech[SOUND_RATE : 4 * SOUND_RATE]))
    source.start()
    voice = VoiceDriver()
    stages = StageTimes(clock)

    def mouth() -> Code:
        heard = voice.hear(puppeteer, chunks, stages)
        chunks.clear()
        assert heard is not None
        return heard[0]

    speaking = []
    await heard_blocks(chunks, 10)  # the first window needs this much
    for _ in range(20):
        await heard_blocks(chunks, 4)
        speaking.append(mouth())
    source.stop()
    closed = mouth()
    await source.close()
    silent = puppeteer.content_code_from_mel(mel_window(mel_spectrogram(np.zeros(16_000, np.float32)), 10))
    distances = [float(np.linalg.norm(code - silent)) for code in speaking]
    assert float(np.linalg.norm(closed - silent)) < 0.15 * float(np.mean(distances))
