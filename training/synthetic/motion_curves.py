"""Shapes in time that movements are made of.

Legend: T video frames; frame t is seen at its middle, (t + 0.5) / fps.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter1d

Track = NDArray[np.float64]


def frame_times(frame_count: int, fps: float) -> Track:
    """Seconds at the middle of every frame."""
    return np.asarray((np.arange(frame_count) + 0.5) / fps)


def minimum_jerk(time_s: Track, start_s: float, length_s: float) -> Track:
    """0 until `start_s`, 1 after `length_s` more: the course of a reach (Flash and Hogan 1985)."""
    share = np.clip((time_s - start_s) / max(length_s, 1e-6), 0, 1)
    return np.asarray(share**3 * (10 - 15 * share + 6 * share**2))


def pulse(time_s: Track, start_s: float, rise_s: float, hold_s: float, fall_s: float) -> Track:
    """0, up to 1 in `rise_s`, there for `hold_s`, and down again in `fall_s`."""
    up = minimum_jerk(time_s, start_s, rise_s)
    return up - minimum_jerk(time_s, start_s + rise_s + hold_s, fall_s)


def drift(rng: np.random.Generator, frame_count: int, fps: float, width_s: float) -> Track:
    """Smooth noise (T,) of standard deviation 1 that changes over about `width_s`."""
    width = width_s * fps
    margin = int(4 * width) + 1
    smooth = gaussian_filter1d(rng.standard_normal(frame_count + 2 * margin), width)
    return np.asarray(smooth[margin : margin + frame_count] * np.sqrt(2 * np.sqrt(np.pi) * max(width, 0.3)))
