"""What every benchmark says at its end: a table for people, one line of JSON for machines."""

from __future__ import annotations

import json
import math
import os
import platform
from collections.abc import Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import psutil

MEASURED_PACKAGES = ("gcavt-live", "aiortc", "av", "numpy", "openvino", "onnxruntime", "mediapipe", "torch")


_AT_START = psutil.cpu_times()


def machine() -> dict[str, Any]:
    """The hardware that a number comes from, and how busy it was.

    stolen_percent: processor time since the program started that a virtual machine wanted and its host gave
    to others. What is late while much is stolen says little about what is measured.
    """
    return {
        "cpu": _cpu_name(),
        "cores": psutil.cpu_count(logical=True),
        "memory_gb": round(psutil.virtual_memory().total / 2**30, 1),
        "system": platform.platform(terse=True),
        "load_1m": round(os.getloadavg()[0], 2),
        "stolen_percent": _stolen_percent(),
    }


def _stolen_percent() -> float:
    """NaN where the system does not tell."""
    now = psutil.cpu_times()
    total = float(sum(now)) - float(sum(_AT_START))
    if not hasattr(now, "steal") or total <= 0:
        return math.nan
    return round(100 * (float(now.steal) - float(_AT_START.steal)) / total, 1)


def versions() -> dict[str, str]:
    """Versions of Python and of the packages that the numbers depend on, as far as installed."""
    found = {"python": platform.python_version()}
    for package in MEASURED_PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def table(headings: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """Columns lined up: the first to the left, the others to the right."""
    cells = [[str(cell) for cell in row] for row in (headings, *rows)]
    widths = [max(len(row[column]) for row in cells) for column in range(len(headings))]
    lines = []
    for row in cells:
        first, *others = (
            cell.ljust(width) if column == 0 else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        lines.append("  ".join([first, *others]).rstrip())
    lines.insert(1, "  ".join("-" * width for width in widths))
    return "\n".join(lines)


def json_line(bench: str, values: Mapping[str, Any]) -> str:
    """The last line of every benchmark."""
    line = {"bench": bench, **values, "machine": machine(), "versions": versions()}
    return json.dumps(_without_nan(line), allow_nan=False)


def _without_nan(value: Any) -> Any:
    """JSON has no word for what could not be measured but null."""
    if isinstance(value, Mapping):
        return {key: _without_nan(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [_without_nan(entry) for entry in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _cpu_name() -> str:
    information = Path("/proc/cpuinfo")
    if information.is_file():
        for line in information.read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
