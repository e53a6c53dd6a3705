import numpy as np

from engine.arrival_forecast import ArrivalForecast
from engine.clock import NS_PER_MS


def at_25_fps(count: int = 30, *, missed: frozenset[int] = frozenset()) -> ArrivalForecast:
    """A forecast that saw pictures at 0, 40, 80, ... ms, 3 ms sooner or later."""
    rng = np.random.default_rng(0)
    forecast = ArrivalForecast()
    for index in set(range(count)) - missed:
        jitter_ms = 0 if index == count - 1 else rng.uniform(-3, 3)
        forecast.note(round((40 * index + jitter_ms) * NS_PER_MS))
    return forecast


def due_ms(forecast: ArrivalForecast, *moments_ms: float) -> list[bool]:
    return [forecast.is_due(round(ms * NS_PER_MS), 8 * NS_PER_MS) for ms in moments_ms]


def test_a_picture_is_due_about_one_period_after_the_last() -> None:
    last_ms = 29 * 40
    moments = [last_ms + after for after in (1, 25, 34, 40, 46, 60)]
    assert due_ms(at_25_fps(), *moments) == [False, False, True, True, True, False]


def test_pictures_that_were_not_noted_do_not_change_the_rate() -> None:
    forecast = at_25_fps(missed=frozenset({5, 6, 17}))
    assert due_ms(forecast, 30 * 40, 29 * 40 + 20) == [True, False]


def test_nothing_is_expected_of_a_camera_that_is_new_or_has_stopped() -> None:
    assert due_ms(ArrivalForecast(), 0, 40) == [False, False]
    assert due_ms(at_25_fps(), 29 * 40 + 400) == [False]
