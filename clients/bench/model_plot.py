"""The figures of `gcavt bench model` as a picture."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")
from matplotlib import pyplot
from matplotlib.axes import Axes

Rows = Sequence[dict[str, Any]]


def draw(rows: Rows, path: Path) -> None:
    """Bars: milliseconds of a frame per backend. Lines: pictures per second over the batch."""
    figure, (left, right) = pyplot.subplots(1, 2, figsize=(13, 5), layout="constrained")
    _bars(left, [row for row in rows if row["path"] and row["batch"] == 1])
    _lines(right, [row for row in rows if row["path"] == "audio"])
    figure.savefig(path, dpi=110)
    pyplot.close(figure)


def _bars(axes: Axes, rows: Rows) -> None:
    rows = sorted(rows, key=lambda row: (row["model"], row["path"], -row["wall_p50_ms"]))
    labels = [f"{r['model']} {r['path']}\n{r['backend']} {r['precision']}" for r in rows]
    axes.barh(labels, [row["wall_p50_ms"] for row in rows], color="#4c72b0", label="wall, p50")
    axes.barh(
        labels, [row["cpu_p50_ms"] for row in rows], height=0.3, color="#dd8452", label="processor, p50"
    )
    axes.axvline(40, color="#999999", linestyle="--", label="one frame at 25 fps")
    axes.set_xlabel("milliseconds per frame")
    axes.legend()


def _lines(axes: Axes, rows: Rows) -> None:
    series: dict[tuple[str, str, str], list[tuple[int, float]]] = {}
    for row in rows:
        key = (row["model"], row["backend"], row["precision"])
        series.setdefault(key, []).append((row["batch"], 1000 * row["batch"] / row["wall_p50_ms"]))
    for key, points in series.items():
        points.sort()
        axes.plot(*zip(*points, strict=True), marker="o", label=" ".join(key))
    axes.set_xlabel("batch")
    axes.set_ylabel("heard pictures per second")
    axes.legend()
