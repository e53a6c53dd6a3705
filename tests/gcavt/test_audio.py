"""Mel windows against direct formulas; streaming against offline."""

from __future__ import annotations

import math
import wave
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from gcavt import audio
from gcavt.audio import LevelTracker, Resampler, StreamingMel

Samples = NDArray[np.float32]


def speech_like(seconds: float, seed: int = 0, level: float = 0.1) -> Samples:
    """Harmonics with a syllable rhythm and pauses."""
    rng = np.random.default_rng(seed)
    t = np.arange(round(seconds * 16000)) / 16000
    voice = sum(np.sin(2 * np.pi * 120 * k * t + rng.uniform(0, 6)) / k for k in range(1, 25))
    syllables = np.clip(np.sin(2 * np.pi * 4 * t), 0, None)
    sound = voice * syllables + 0.003 * rng.normal(size=t.size)
    return np.asarray(sound * level / np.sqrt(np.mean(sound**2)), dtype=np.float32)


def direct_mel_frame(samples: Samples, m: int, gain: float) -> NDArray[np.float64]:
    """One mel frame by the definition: a written-out Fourier sum and triangles."""
    frame = np.array(
        [samples[i] if 0 <= i < len(samples) else 0.0 for i in range(160 * m - 1120, 160 * m + 160)]
    )
    n = np.arange(1280)
    hann = 0.5 - 0.5 * np.cos(2 * np.pi * (n + 0.5) / 1280)
    windowed = gain * frame * 0.5 * np.sqrt(hann)
    spectrum = np.abs(np.exp(-2j * np.pi * np.outer(np.arange(641), n) / 1280) @ windowed)
    edges = audio.mel_frequencies(82, 125.0, 7600.0)
    mel = np.zeros(80)
    for band in range(80):
        low, centre, high = edges[band : band + 3]
        for k in range(641):
            hz = k * 12.5
            if low < hz <= centre:
                mel[band] += spectrum[k] * (hz - low) / (centre - low) * 2 / (high - low)
            elif centre < hz < high:
                mel[band] += spectrum[k] * (high - hz) / (high - centre) * 2 / (high - low)
    decibel = 20 * np.log10(np.maximum(1e-5, mel)) - 20
    return np.clip((decibel + 100) / 100, 0, 1)


def streamed(samples: Samples, stream: StreamingMel, chunk_sizes: list[int]) -> list[audio.MelWindow]:
    windows, begin, turn = [], 0, 0
    while begin < len(samples):
        size = chunk_sizes[turn % len(chunk_sizes)]
        windows += stream.push(samples[begin : begin + size])
        begin, turn = begin + size, turn + 1
    return windows + stream.finish()


@pytest.mark.parametrize("m", [0, 3, 7, 20, 35])
def test_a_mel_frame_equals_the_written_out_formula(m: int) -> None:
    samples = speech_like(0.45)[:4567]
    mel = audio.mel_spectrogram(samples)
    assert mel.shape == (7 + math.ceil(4567 / 160), 80) and mel.dtype == np.float32
    gain = 0.1 / float(np.sqrt(np.mean(samples.astype(float) ** 2)))
    np.testing.assert_allclose(mel[m], direct_mel_frame(samples, m, gain), atol=1e-6)


def test_a_mel_frame_sees_exactly_its_own_samples() -> None:
    for sample, first, last in ((1600, 10, 17), (1599, 9, 16)):
        click = np.zeros(8000, dtype=np.float32)
        click[sample] = 1.0
        heard = np.nonzero(audio.mel_spectrogram(click, level_rms=0.001).max(axis=1))[0]
        assert (heard[0], heard[-1]) == (first, last)


def test_mel_frequencies_are_those_of_slaneys_auditory_toolbox() -> None:
    # the table in librosa's documentation for 40 frequencies from 0 to 11025 Hz
    expected = [0.0, 85.317, 170.635, 255.952, 341.269, 426.586, 511.904, 597.221, 682.538, 767.855]
    expected += [853.173, 938.49, 1024.856, 1119.114, 1222.042]
    frequencies = audio.mel_frequencies(40, 0.0, 11025.0)
    np.testing.assert_allclose(frequencies[:15], expected, atol=1e-3)
    assert frequencies[-1] == pytest.approx(11025.0)


def test_every_mel_band_has_unit_area() -> None:
    filters = audio.mel_filterbank()
    assert filters.shape == (80, 641) and (filters.max(axis=1) > 0).all()
    np.testing.assert_allclose(filters[40:].sum(axis=1) * 12.5, 1.0, atol=0.05)


def test_digital_silence_is_exactly_zero() -> None:
    assert not audio.mel_spectrogram(np.zeros(3200, dtype=np.float32)).any()
    assert audio.mel_spectrogram(np.zeros(0, dtype=np.float32)).shape == (7, 80)
    windows = streamed(np.zeros(3200, dtype=np.float32), StreamingMel(LevelTracker()), [160])
    assert len(windows) == 5 and not any(window.mel.any() for window in windows)


def test_loudness_of_a_whole_file_does_not_matter() -> None:
    samples = speech_like(0.5)
    louder = audio.mel_spectrogram(samples * np.float32(4.0))
    np.testing.assert_allclose(louder, audio.mel_spectrogram(samples), atol=1e-5)


def test_window_of_a_video_frame_holds_its_twenty_mel_frames() -> None:
    mel = np.repeat(np.arange(1, 101, dtype=np.float32)[:, None], 80, axis=1)
    np.testing.assert_array_equal(audio.mel_window(mel, 5)[0], np.arange(13, 33))
    np.testing.assert_array_equal(audio.mel_window(mel, 0)[79], [0] * 8 + [*range(1, 13)])
    np.testing.assert_array_equal(audio.mel_window(mel, 25)[7], [*range(93, 101)] + [0] * 12)
    assert not audio.mel_window(mel, 40).any() and not audio.mel_window(mel, -9).any()


@pytest.mark.parametrize("chunk_sizes", [[160], [1], [7, 1000, 333], [960], [100_000], [2000, 1]])
def test_streaming_equals_offline_bit_for_bit(chunk_sizes: list[int]) -> None:
    samples = speech_like(0.4, seed=3)[: 6000 + 37]
    mel = audio.mel_spectrogram(samples, level_rms=0.07)
    windows = streamed(samples, StreamingMel(0.07), chunk_sizes)
    assert [window.video_frame_index for window in windows] == list(range(math.ceil(6037 / 640)))
    for window in windows:
        np.testing.assert_array_equal(window.mel, audio.mel_window(mel, window.video_frame_index))


@pytest.mark.parametrize("length", [1, 639, 640, 641, 1919, 1920, 1921, 4480])
def test_streaming_ends_as_offline_does_for_any_length(length: int) -> None:
    samples = speech_like(0.3)[:length]
    mel = audio.mel_spectrogram(samples, level_rms=0.1)
    windows = streamed(samples, StreamingMel(0.1), [160])
    assert len(windows) == audio.video_frame_count(length)
    for window in windows:
        np.testing.assert_array_equal(window.mel, audio.mel_window(mel, window.video_frame_index))


@pytest.mark.parametrize("look_ahead_ms", audio.LOOK_AHEADS_MS)
def test_a_window_comes_out_its_look_ahead_after_its_frame(look_ahead_ms: int) -> None:
    stream = StreamingMel(0.1, look_ahead_ms)
    early = stream.push(np.zeros(640 * 10 + 16 * look_ahead_ms - 1, dtype=np.float32))
    assert [w.video_frame_index for w in early] == list(range(10))
    assert [w.video_frame_index for w in stream.push(np.zeros(1, dtype=np.float32))] == [10]


@pytest.mark.parametrize("look_ahead_ms", audio.LOOK_AHEADS_MS)
def test_a_click_is_heard_up_to_the_look_ahead_after_the_frame_and_no_later(look_ahead_ms: int) -> None:
    last = 640 * 5 + 16 * look_ahead_ms - 1
    for sample, is_heard in ((last, True), (last + 1, False)):
        click = np.zeros(8000, dtype=np.float32)
        click[sample] = 1.0
        window = audio.mel_window(audio.mel_spectrogram(click, level_rms=0.001), 5, look_ahead_ms)
        assert window.shape == (80, 20) and bool(window.any()) is is_heard


def test_withheld_mel_frames_repeat_the_last_known_one() -> None:
    mel = np.repeat(np.arange(1, 101, dtype=np.float32)[:, None], 80, axis=1)
    np.testing.assert_array_equal(audio.mel_window(mel, 5, 80)[0], [*range(13, 29), 28, 28, 28, 28])
    np.testing.assert_array_equal(audio.mel_window(mel, 5, 0)[79], [*range(13, 21), *[20] * 12])
    batch = np.stack([audio.mel_window(mel, t) for t in (3, 5)])
    np.testing.assert_array_equal(audio.with_look_ahead(batch, 40)[1], audio.mel_window(mel, 5, 40))


@pytest.mark.parametrize("look_ahead_ms", [-10, 45, 130])
def test_a_look_ahead_that_no_window_has_is_refused(look_ahead_ms: int) -> None:
    with pytest.raises(ValueError, match=f"multiple of 10 from 0 to 120, got {look_ahead_ms}"):
        StreamingMel(0.1, look_ahead_ms)


@pytest.mark.parametrize("look_ahead_ms", audio.LOOK_AHEADS_MS)
@pytest.mark.parametrize("length", [1, 639, 641, 1921, 6037])
def test_with_any_look_ahead_streaming_equals_offline_bit_for_bit(look_ahead_ms: int, length: int) -> None:
    samples = speech_like(0.4, seed=3)[:length]
    mel = audio.mel_spectrogram(samples, level_rms=0.07)
    for chunk_sizes in ([160], [7, 1000, 333]):
        windows = streamed(samples, StreamingMel(0.07, look_ahead_ms), chunk_sizes)
        assert [w.video_frame_index for w in windows] == list(range(audio.video_frame_count(length)))
        for window in windows:
            expected = audio.mel_window(mel, window.video_frame_index, look_ahead_ms)
            np.testing.assert_array_equal(window.mel, expected)


def test_reset_starts_afresh_at_a_given_video_frame() -> None:
    samples = speech_like(0.3)
    stream = StreamingMel(0.1)
    stream.push(speech_like(0.2, seed=9))
    stream.reset(first_video_frame=100)
    windows = streamed(samples, stream, [480])
    assert [window.video_frame_index for window in windows] == list(range(100, 108))
    np.testing.assert_array_equal(windows[2].mel, audio.mel_window(audio.mel_spectrogram(samples, 0.1), 2))


def test_with_a_level_tracker_the_chunk_size_does_not_matter() -> None:
    samples = speech_like(0.5, level=0.03)
    a = streamed(samples, StreamingMel(LevelTracker()), [160])
    b = streamed(samples, StreamingMel(LevelTracker()), [1777])
    for one, other in zip(a, b, strict=True):
        np.testing.assert_array_equal(one.mel, other.mel)


def tracked_level(samples: Samples, tracker: LevelTracker | None = None) -> float:
    tracker = tracker or LevelTracker()
    for begin in range(0, len(samples) - 159, 160):
        tracker.update(samples[begin : begin + 160])
    return tracker.level_rms


def test_level_tracker_finds_the_level_of_quiet_and_of_loud_speech() -> None:
    for level in (0.04, 0.1, 0.3):
        tracked = tracked_level(speech_like(6.0, level=level))
        assert -1 < 20 * math.log10(tracked / level) < 4  # half of this sound is pauses, which do not count


def test_level_tracker_keeps_its_level_through_pauses_and_noise() -> None:
    tracker = LevelTracker()
    spoken = tracked_level(speech_like(4.0, level=0.05), tracker)
    hiss = np.random.default_rng(0).normal(0, 0.0015, 16000 * 8).astype(np.float32)
    assert tracked_level(hiss, tracker) == pytest.approx(spoken, rel=0.02)


def test_level_tracker_gain_stays_within_20_decibels() -> None:
    assert tracked_level(speech_like(5.0, level=0.005)) == pytest.approx(0.01)
    assert tracked_level(speech_like(5.0, level=0.005) * np.float32(600)) == pytest.approx(1.0)


@pytest.mark.parametrize("level_db", [-18, -9, 9, 18])
def test_level_tracker_knows_a_quiet_or_loud_voice_within_two_seconds(level_db: float) -> None:
    level = 0.1 * 10 ** (level_db / 20)
    # half of this sound is pauses, which do not count: speech itself is 2 dB louder
    assert -4 < 20 * math.log10(tracked_level(speech_like(2.0, level=level)) / level) < 5


def test_level_tracker_follows_a_speaker_who_turns_away() -> None:
    tracker = LevelTracker()
    before = tracked_level(speech_like(4.0, level=0.1), tracker)
    after = tracked_level(speech_like(15.0, level=0.02), tracker)
    assert -15 < 20 * math.log10(after / before) < -8  # 14 dB quieter, known slowly


def sine(rate: int, seconds: float, hz: float = 440.0) -> Samples:
    return np.sin(2 * np.pi * hz * np.arange(round(rate * seconds)) / rate).astype(np.float32)


@pytest.mark.parametrize("rate", [8000, 16000, 22050, 44100, 48000])
def test_resampling_keeps_a_tone_its_length_and_its_phase(rate: int) -> None:
    resampled = audio.resample_to_16k_mono(sine(rate, 1.0), rate)
    assert abs(len(resampled) - 16000) <= 2
    inner = slice(200, 15800)
    np.testing.assert_allclose(resampled[inner], sine(16000, 1.0)[inner], atol=0.02)


def test_channels_are_averaged_and_16_bit_samples_scaled() -> None:
    tone = sine(16000, 0.5)
    stereo = np.stack([tone, 0.5 * tone])
    np.testing.assert_allclose(audio.resample_to_16k_mono(stereo, 16000), 0.75 * tone, atol=1e-3)
    whole = np.round(tone * 32767).astype(np.int16)
    np.testing.assert_allclose(audio.resample_to_16k_mono(whole, 16000), tone, atol=1e-3)


@pytest.mark.parametrize("chunk", [480, 441, 1])
def test_resampling_in_pieces_equals_resampling_at_once(chunk: int) -> None:
    sound = sine(48000, 0.1)
    resampler = Resampler()
    pieces = [resampler.push(sound[i : i + chunk], 48000) for i in range(0, len(sound), chunk)]
    whole = audio.resample_to_16k_mono(sound, 48000)
    np.testing.assert_allclose(np.concatenate([*pieces, resampler.flush()]), whole, atol=1e-6)


def test_wrong_shapes_and_types_are_named() -> None:
    with pytest.raises(ValueError, match=r"mono, shape \(n,\), got \(2, 10\)"):
        audio.mel_spectrogram(np.zeros((2, 10), dtype=np.float32))
    with pytest.raises(ValueError, match="float32 or int16, got float64"):
        audio.resample_to_16k_mono(np.zeros(10), 16000)  # type: ignore[arg-type]


def test_a_sound_file_is_read_as_16_khz_mono(tmp_path: Path) -> None:
    tone = sine(48000, 0.5)
    path = tmp_path / "tone.wav"
    with wave.open(str(path), "wb") as file:
        file.setparams((2, 2, 48000, 0, "NONE", ""))
        file.writeframes(np.repeat(np.round(tone * 20000), 2).astype("<i2").tobytes())
    samples = audio.read_audio_16k_mono(path)
    assert abs(len(samples) - 8000) <= 2 and samples.max() == pytest.approx(20000 / 32768, abs=0.01)


def test_a_text_file_and_a_file_without_sound_are_refused_by_name(tmp_path: Path) -> None:
    text = tmp_path / "notes.wav"
    text.write_text("no sound here")
    with pytest.raises(ValueError, match="notes.wav cannot be decoded"):
        audio.read_audio_16k_mono(text)
    with wave.open(str(tmp_path / "empty.wav"), "wb") as file:
        file.setparams((1, 2, 16000, 0, "NONE", ""))
    with pytest.raises(ValueError, match="empty.wav"):
        audio.read_audio_16k_mono(tmp_path / "empty.wav")
