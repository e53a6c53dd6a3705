"""`gcavt bench overload`: what a model that is too slow does to the latency, with our parts and without.

The echo's model first takes 1.4 picture periods for each picture; then two for ten seconds, and then half of
one. Latency must stay bounded meanwhile and be back to normal at once after, and memory must not grow.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np

from clients.bench.processes import echo_server, run_client
from clients.bench.report import json_line, table
from clients.bench.statistics import medians, percentiles, plot_over_time, within

SIDES = ("ours", "stock")
NAMES = {"ours": "ours", "stock": "stock aiortc"}
PERIOD_MS = 40.0
SLOW_MS, DOUBLE_MS, FAST_MS = 1.4 * PERIOD_MS, 2 * PERIOD_MS, 0.5 * PERIOD_MS
NORMAL_MARGIN_MS = 25.0
"""Latency counts as normal within this of its median a while later."""
Points = list[tuple[float, float]]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.description = __doc__
    parser.add_argument("--seconds", type=float, default=60.0, help="of the too slow model (default 60)")
    parser.add_argument("--runs", type=int, default=3, help="of each side (default %(default)s)")
    parser.add_argument("--side", choices=SIDES, help="default: both")
    parser.add_argument("--size", type=int, default=512, help="side of the picture (default %(default)s)")
    parser.add_argument("--codec", choices=("vp8", "h264"), default="vp8", help="default %(default)s")
    parser.add_argument("--plot", type=Path, metavar="PNG", help="draw the latency over time")


def run(args: argparse.Namespace) -> int:
    sides = (args.side,) if args.side else SIDES
    runs: dict[str, list[dict[str, float]]] = {side: [] for side in sides}
    drawn: dict[str, Points] = {}
    for number in range(args.runs):
        for side in sides:
            points, summary = _measured(args, side)
            runs[side].append(summary)
            if number == 0:
                drawn[side] = points
    found = {NAMES[side]: medians(runs[side]) for side in sides}
    _print_report(args, found)
    if args.plot:
        plot_over_time(args.plot, "A model that is too slow", {"latency": drawn}, is_log=True)
    values = {"seconds": args.seconds, "runs": args.runs, "slow_ms": SLOW_MS, "double_ms": DOUBLE_MS}
    by_side = {name.replace(" ", "_"): figures for name, figures in found.items()}
    print(json_line("overload", values | by_side | {"all_runs": runs}))
    return 0


def _measured(args: argparse.Namespace, side: str) -> tuple[Points, dict[str, float]]:
    with echo_server(side, args.codec) as url:
        measured = run_client(
            "overloaded",
            url,
            side,
            args.codec,
            size=args.size,
            seconds=args.seconds,
            busy=SLOW_MS,
            more_busy=DOUBLE_MS,
            less_busy=FAST_MS,
        )
    start_s, slow_end_s, double_end_s, end_s = measured["moments_s"]
    memory = within(measured["memory_mb"], start_s, slow_end_s)
    pictures = measured["pictures"]
    slow = within(pictures, start_s, slow_end_s)
    after = within(pictures, double_end_s, end_s)
    summary: dict[str, Any] = {
        **percentiles([value for _, value in slow], "slow"),
        **percentiles([value for _, value in within(pictures, slow_end_s, double_end_s)], "double"),
        **percentiles([value for _, value in within(pictures, end_s - 5, end_s)], "after"),
        "slow_last_second_ms": _median(within(pictures, slow_end_s - 1, slow_end_s)),
        "periods": round(_quantile(slow, 95) / SLOW_MS, 2),
        "recovery_ms": recovery_ms(after, double_end_s),
        **memory_growth(memory),
    }
    return [(at_s - start_s, value) for at_s, value in pictures], summary


def memory_growth(points: Points) -> dict[str, float]:
    """Megabytes gained from the first tenth of (seconds, megabytes) to the last, and an hour's at the pace of
    the second half."""
    if len(points) < 4:
        return {"memory_growth_mb": float("nan"), "memory_mb_per_h": float("nan")}
    at_s, mb = np.array(points).T
    share, half = max(1, len(points) // 10), len(points) // 2
    slope = np.polyfit(at_s[half:] - at_s[half], mb[half:], 1)[0]
    return {
        "memory_growth_mb": round(float(np.median(mb[-share:]) - np.median(mb[:share])), 1),
        "memory_mb_per_h": round(float(slope) * 3600, 1),
    }


def recovery_ms(points: Points, since_s: float) -> float:
    """How long after `since_s` it takes until three pictures in a row have nearly the latency that will be.

    NaN if it never happens.
    """
    normal_ms = _median(points[len(points) // 2 :]) + NORMAL_MARGIN_MS
    for first, second, third in zip(points, points[1:], points[2:], strict=False):
        if max(first[1], second[1], third[1]) <= normal_ms:
            return round((first[0] - since_s) * 1000, 0)
    return float("nan")


def _median(points: Points) -> float:
    return _quantile(points, 50)


def _quantile(points: Points, quantile: float) -> float:
    return round(float(np.percentile([v for _, v in points], quantile)), 1) if points else float("nan")


def _print_report(args: argparse.Namespace, sides: dict[str, dict[str, float]]) -> None:
    lines = (
        (f"p50 with {SLOW_MS:g} ms a picture", "slow_p50_ms"),
        (f"p95 with {SLOW_MS:g} ms a picture", "slow_p95_ms"),
        ("p95 in model periods", "periods"),
        (f"median after {args.seconds:g} s of it", "slow_last_second_ms"),
        (f"p95 with {DOUBLE_MS:g} ms a picture", "double_p95_ms"),
        (f"p50 with {FAST_MS:g} ms a picture, later", "after_p50_ms"),
        ("until normal after the load", "recovery_ms"),
        ("memory growth, MB", "memory_growth_mb"),
        ("memory growth, MB/h in the second half", "memory_mb_per_h"),
    )
    rows = [[words, *(values[key] for values in sides.values())] for words, key in lines]
    print(table([f"latency, ms, median of {args.runs} runs", *sides], rows))
    print()
