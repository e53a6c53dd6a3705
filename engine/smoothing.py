"""Takes the tremble out of a code: still heads are smoothed hard, moving ones hardly."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from engine.clock import NS_PER_S

GAP_NS = NS_PER_S // 2
"""After a gap this long the filter starts afresh."""


class OneEuroFilter:
    """A low-pass filter whose cut-off rises with speed.

    Source: Casiez, Roussel, Vogel, "1 Euro Filter", CHI 2012.
    """

    def __init__(self, *, still_hz: float = 1.2, per_speed: float = 0.6, speed_hz: float = 1.0) -> None:
        self._still_hz = still_hz
        self._per_speed = per_speed
        self._speed_hz = speed_hz
        self.reset()

    def reset(self) -> None:
        self._value: NDArray[np.float32] | None = None
        self._speed: NDArray[np.float32] | None = None
        self._time_ns = 0

    def update(self, value: NDArray[np.float32], time_ns: int) -> NDArray[np.float32]:
        """The filtered value; `still_hz` and `per_speed` are in hertz and hertz per (unit per second)."""
        elapsed_ns = time_ns - self._time_ns
        if self._value is None or self._speed is None or not 0 < elapsed_ns < GAP_NS:
            self._value, self._speed = value.copy(), np.zeros_like(value)
        else:
            elapsed_s = elapsed_ns / NS_PER_S
            speed = (value - self._value) / elapsed_s
            self._speed = self._speed + _share(self._speed_hz, elapsed_s) * (speed - self._speed)
            cut_off_hz = self._still_hz + self._per_speed * np.abs(self._speed)
            self._value = np.asarray(
                self._value + _share(cut_off_hz, elapsed_s) * (value - self._value), np.float32
            )
        self._time_ns = time_ns
        return self._value.copy()


def _share(cut_off_hz: float | NDArray[np.floating], elapsed_s: float) -> NDArray[np.float32]:
    """Weight of the new value in a first-order low-pass."""
    turn = 2 * np.pi * np.asarray(cut_off_hz) * elapsed_s
    return np.asarray(turn / (turn + 1), np.float32)
