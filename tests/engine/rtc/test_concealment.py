import numpy as np
import pytest
from numpy.typing import NDArray

from engine.rtc.concealment import FADE_S, Concealer, pitch_lag

RATE = 48_000


def voice(count: int, pitch_hz: float = 150.0, start: int = 0) -> NDArray[np.float32]:
    """(count, 2): a steady vowel of five harmonics."""
    time_N = (start + np.arange(count)) / RATE
    tone_N = sum(np.sin(2 * np.pi * pitch_hz * k * time_N + k) / k for k in range(1, 6)) * 0.2
    return np.repeat(np.asarray(tone_N, np.float32)[:, None], 2, 1)


def blocks(count: int) -> list[NDArray[np.float32]]:
    return [voice(960, start=960 * index) for index in range(count)]


@pytest.mark.parametrize("pitch_hz", [75.0, 120.0, 220.0, 390.0])
def test_the_pitch_is_found(pitch_hz: float) -> None:
    lag = pitch_lag(voice(1920, pitch_hz)[:, 0], RATE)
    periods = lag * pitch_hz / RATE
    assert periods == pytest.approx(round(periods), abs=0.03)


def test_a_lost_block_of_a_vowel_is_much_closer_than_silence() -> None:
    concealer = Concealer(RATE)
    heard = blocks(5)
    for block in heard[:3]:
        concealer.heard(block)
    made = concealer.made_up(960)
    assert made is not None
    error = np.sqrt(np.mean((made[:480] - heard[3][:480]) ** 2))
    assert error < 0.35 * np.sqrt(np.mean(heard[3] ** 2))


def test_joins_make_no_click() -> None:
    concealer = Concealer(RATE)
    heard = blocks(5)
    for block in heard[:3]:
        concealer.heard(block)
    made = concealer.made_up(960)
    assert made is not None
    stream = np.concatenate([*heard[:3], made, concealer.heard(heard[4])])[:, 0]
    natural = np.abs(np.diff(np.concatenate(heard)[:, 0])).max()
    assert np.abs(np.diff(stream)).max() < 1.5 * natural


def test_what_is_made_up_fades_to_silence() -> None:
    concealer = Concealer(RATE)
    for block in blocks(3):
        concealer.heard(block)
    made = [concealer.made_up(960) for _ in range(6)]
    levels = [float(np.abs(block).max()) for block in made if block is not None]
    assert levels == sorted(levels, reverse=True)
    assert levels[-1] == 0
    assert len(levels) * 0.02 > FADE_S


def test_sound_that_follows_no_loss_is_left_as_it_is() -> None:
    concealer = Concealer(RATE)
    for block in blocks(3):
        assert concealer.heard(block) is block


def test_nothing_is_made_up_before_anything_was_heard() -> None:
    assert Concealer(RATE).made_up(960) is None


def test_silence_is_continued_by_silence() -> None:
    concealer = Concealer(RATE)
    concealer.heard(np.zeros((960, 2), np.float32))
    made = concealer.made_up(960)
    assert made is not None and not made.any()


def test_the_number_of_channels_may_change() -> None:
    concealer = Concealer(RATE)
    concealer.heard(voice(960))
    concealer.made_up(960)
    mono = voice(960)[:, :1]
    assert concealer.heard(mono).shape == (960, 1)
    made = concealer.made_up(480)
    assert made is not None and made.shape == (480, 1)
