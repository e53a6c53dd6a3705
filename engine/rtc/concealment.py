"""What is heard in place of lost sound: the last pitch periods again, fading, joined without a click.

The idea is that of ITU-T G.711 Appendix I. Opus could extrapolate better by itself, but FFmpeg's decoders
take an empty packet for the end of the stream, so that part of libopus cannot be reached through PyAV.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

# N samples, C channels

MEMORY_S = 0.040
LOWEST_PITCH_HZ = 66.0
HIGHEST_PITCH_HZ = 400.0
FADE_S = 0.060
"""The substitute is silent after this long."""
JOIN_S = 0.005


class Concealer:
    """Remembers the end of what was heard and goes on from there."""

    def __init__(self, sample_rate: int) -> None:
        self._rate = sample_rate
        self._memory_NC: NDArray[np.float32] | None = None
        self._period_NC: NDArray[np.float32] | None = None
        self._made = 0
        """Samples made up since the last that was heard."""

    def heard(self, samples_NC: NDArray[np.float32]) -> NDArray[np.float32]:
        """Note decoded sound; returns it with its start joined to what was made up before it."""
        joined_NC = samples_NC
        if self._period_NC is not None:
            joined_NC = self._joined(samples_NC)
            self._period_NC = None
            self._made = 0
        kept = round(MEMORY_S * self._rate)
        before = [self._memory_NC] if self._same_channels(joined_NC) and self._memory_NC is not None else []
        self._memory_NC = np.concatenate([*before, joined_NC])[-kept:]
        return joined_NC

    def made_up(self, count: int) -> NDArray[np.float32] | None:
        """The next `count` lost samples; None if nothing has been heard yet."""
        if self._memory_NC is None:
            return None
        if self._period_NC is None:
            lag = pitch_lag(self._memory_NC.mean(1), self._rate)
            self._period_NC = self._memory_NC[-lag:]
        made_NC = self._continued(count)
        self._made += count
        return made_NC

    def _joined(self, samples_NC: NDArray[np.float32]) -> NDArray[np.float32]:
        count = min(round(JOIN_S * self._rate), len(samples_NC))
        if not self._same_channels(samples_NC):
            return samples_NC
        weight_N1 = np.linspace(0, 1, count, dtype=np.float32)[:, None]
        start_NC = weight_N1 * samples_NC[:count] + (1 - weight_N1) * self._continued(count)
        return np.concatenate([start_NC, samples_NC[count:]])

    def _continued(self, count: int) -> NDArray[np.float32]:
        assert self._period_NC is not None
        position_N = self._made + np.arange(count)
        gain_N = np.clip(1 - position_N / (FADE_S * self._rate), 0, 1).astype(np.float32)
        return np.asarray(self._period_NC[position_N % len(self._period_NC)] * gain_N[:, None], np.float32)

    def _same_channels(self, samples_NC: NDArray[np.float32]) -> bool:
        return self._memory_NC is not None and self._memory_NC.shape[1] == samples_NC.shape[1]


def pitch_lag(samples_N: NDArray[np.float32], sample_rate: int) -> int:
    """The lag, in samples, at which the end of `samples_N` is most like what came before it."""
    shortest, longest = round(sample_rate / HIGHEST_PITCH_HZ), round(sample_rate / LOWEST_PITCH_HZ)
    span = len(samples_N) // 2
    longest = min(longest, len(samples_N) - span)
    if longest <= shortest:
        return max(1, len(samples_N))
    end_N = samples_N[-span:]
    # one window per lag, from `longest` back to `shortest`
    windows_LN = np.lib.stride_tricks.sliding_window_view(samples_N, span)[-longest - 1 : -shortest]
    energy_L = np.einsum("ln,ln->l", windows_LN, windows_LN)
    likeness_L = windows_LN @ end_N / np.sqrt(energy_L + 1e-9)
    return int(longest - np.argmax(likeness_L))
