"""What the transport benchmarks have in common: percentiles, freezes, medians over runs, pictures of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

QUANTILES = (50, 95, 99)
SIDE_COLORS = {"ours": "tab:blue", "stock": "tab:red"}


def percentiles(values: Sequence[float], prefix: str) -> dict[str, float]:
    """{"<prefix>_p50_ms", "<prefix>_p95_ms", "<prefix>_p99_ms"}; NaN where nothing was measured."""
    found = np.percentile(values, QUANTILES) if len(values) else [float("nan")] * len(QUANTILES)
    return {f"{prefix}_p{q}_ms": round(float(value), 1) for q, value in zip(QUANTILES, found, strict=True)}


def within(points: Sequence[Sequence[float]], start_s: float, end_s: float) -> list[tuple[float, float]]:
    """The (time, value) points of a stretch of time."""
    return [(at_s, value) for at_s, value in points if start_s <= at_s < end_s]


def gaps_ms(points: Sequence[tuple[float, float]]) -> np.ndarray[Any, np.dtype[np.float64]]:
    """Between each picture and the one before."""
    return np.diff([at_s for at_s, _ in points]) * 1000


def medians(runs: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """Key by key, over runs that all have the same keys."""
    return {key: round(float(np.median([run[key] for run in runs])), 2) for key in runs[0]}


def ratio(stock: Mapping[str, float], ours: Mapping[str, float], key: str) -> float:
    """How many times less ours is."""
    return round(stock[key] / ours[key], 2) if ours[key] else float("nan")


def plot_over_time(
    path: Path,
    title: str,
    panels: Mapping[str, Mapping[str, Sequence[tuple[float, float]]]],
    unit: str = "ms",
    shaded: tuple[float, float] | None = None,
    is_log: bool = False,
) -> None:
    """One panel below the other, one line of points per side; times in seconds."""
    from matplotlib.figure import Figure  # only this option needs it, and it takes a second to import

    figure = Figure(figsize=(9, 0.8 + 2.4 * len(panels)), layout="constrained")
    axes = figure.subplots(len(panels), 1, squeeze=False, sharex=True)[:, 0]
    figure.suptitle(title)
    for axis, (name, lines) in zip(axes, panels.items(), strict=True):
        for side, points in lines.items():
            if points:
                times_s, values = zip(*points, strict=True)
                axis.plot(times_s, values, ".", markersize=3, label=side, color=SIDE_COLORS.get(side))
        if shaded is not None:
            axis.axvspan(*shaded, color="0.9", zorder=0)
        axis.set_ylabel(f"{name}, {unit}")
        axis.set_yscale("log" if is_log else "linear")
        axis.grid(alpha=0.3)
        axis.legend(loc="upper right")
    axes[-1].set_xlabel("seconds")
    figure.savefig(path, dpi=110)
