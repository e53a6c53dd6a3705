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
    """Bars: milliseconds of a frame per backend. Lines: heard pictures per second over batch and threads."""
    figure, (left, middle, right) = pyplot.subplots(1, 3, figsize=(17, 5), layout="constrained")
    threads = rows[0]["threads"]  # what all but the threads' own scaling was measured with
    _bars(left, [row for row in rows if row["path"] and row["batch"] == 1 and row["threads"] == threads])
    heard = [row for row in rows if row["path"] == "audio"]
    _lines(middle, [row for row in heard if row["threads"] == threads], "batch")
    _lines(right, [row for row in heard if row["batch"] == 1], "threads")
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


def _lines(axes: Axes, rows: Rows, over: str) -> None:
    series: dict[tuple[str, str, str], list[tuple[int, float]]] = {}
    for row in rows:
        key = (row["model"], row["backend"], row["precision"])
        series.setdefault(key, []).append((row[over], 1000 * row["batch"] / row["wall_p50_ms"]))
    for key, points in series.items():
        points.sort()
        axes.plot(*zip(*points, strict=True), marker="o", label=" ".join(key))
    axes.set_xticks(sorted({row[over] for row in rows}))
    axes.set_xlabel(over)
    axes.set_ylabel("heard pictures per second")
    axes.legend()
