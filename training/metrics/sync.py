"""Are sound and mouth together? Correlation of the audio encoder's codes with the content encoder's."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

MAX_LAG_FRAMES = 10
LEAST_FRAMES = 20
"""Frames that must be left once the lags are cut off at both ends."""

Codes = NDArray[np.float32]


@dataclass(frozen=True, kw_only=True)
class Sync:
    offset_frames: int
    """Lag of the best correlation: positive if the mouth is late. One frame is 40 ms."""
    confidence: float
    """The best correlation less the median over all lags, as SyncNet's is for distances."""
    correlation: float
    """The best correlation itself."""


def correlation_at_lags(
    heard_TD: Codes, seen_TD: Codes, max_lag: int = MAX_LAG_FRAMES
) -> NDArray[np.float64]:
    """Correlation (2 max_lag + 1,) of two code series, the seen one taken 'lag' frames later.

    Codes have their means over time removed and are then correlated as one long vector, so that dimensions
    count by how much they move. Every lag uses the same heard frames. Raises ValueError for series of
    different length or too short: 2 max_lag + LEAST_FRAMES frames are needed.
    """
    if heard_TD.shape != seen_TD.shape or heard_TD.ndim != 2:
        raise ValueError(f"both series must be (T, D), got {heard_TD.shape} and {seen_TD.shape}")
    frames = len(heard_TD)
    if frames < 2 * max_lag + LEAST_FRAMES:
        raise ValueError(f"needs {2 * max_lag + LEAST_FRAMES} frames, got {frames}")
    heard = _centred(heard_TD[max_lag : frames - max_lag])
    results = []
    for lag in range(-max_lag, max_lag + 1):
        seen = _centred(seen_TD[max_lag + lag : frames - max_lag + lag])
        lengths = np.linalg.norm(heard) * np.linalg.norm(seen)
        results.append(float((heard * seen).sum() / lengths) if lengths > 0 else 0.0)
    return np.array(results)


def sync_of(correlations: NDArray[np.float64]) -> Sync:
    """Offset and confidence of a curve of `correlation_at_lags`, or of the mean of several."""
    best = int(np.argmax(correlations))
    return Sync(
        offset_frames=best - len(correlations) // 2,
        confidence=float(correlations[best] - np.median(correlations)),
        correlation=float(correlations[best]),
    )


def _centred(codes: Codes) -> NDArray[np.float64]:
    return np.asarray(codes - codes.mean(0, dtype=np.float64), np.float64)
