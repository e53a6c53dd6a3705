"""`gcavt bench loss`: what lost packets do to picture and sound, with our receiver and with stock aiortc's.

One way, from a client to a server; media and its reports are dropped at random in both directions, where they
are sent (see clients/bench/impairment.py), for a while, and then no more.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np

from clients.bench.marks import latencies_ms
from clients.bench.processes import echo_server, run_client
from clients.bench.report import json_line, table
from clients.bench.statistics import gaps_ms, medians, percentiles, plot_over_time, ratio, within

SIDES = ("ours", "stock")
FREEZES_MS = (200, 300)
SETTLE_S = 10.0
RECOVERY_S = 2.0
Points = list[tuple[float, float]]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.description = __doc__
    parser.add_argument("--seconds", type=float, default=60.0, help="of losses in each run (default 60)")
    parser.add_argument("--runs", type=int, default=3, help="of each side and delay (default %(default)s)")
    parser.add_argument("--loss", type=float, default=0.05, help="share of packets (default %(default)s)")
    parser.add_argument(
        "--delay-ms",
        type=float,
        action="append",
        help="added to each packet's way; repeatable (default 0 and 50)",
    )
    parser.add_argument("--size", type=int, default=512, help="side of the picture (default %(default)s)")
    parser.add_argument("--codec", choices=("vp8", "h264"), default="vp8", help="default %(default)s")
    parser.add_argument("--plot", type=Path, metavar="PNG", help="draw every latency over time")


def run(args: argparse.Namespace) -> int:
    results: dict[str, Any] = {}
    drawn: dict[str, dict[str, Points]] = {}
    for delay_ms in args.delay_ms or (0.0, 50.0):
        runs: dict[str, list[dict[str, float]]] = {side: [] for side in SIDES}
        for number in range(args.runs):
            for side in SIDES:
                video, audio, summary = _measured(args, side, delay_ms, seed=number)
                runs[side].append(summary)
                if number == 0:
                    drawn.setdefault(f"{delay_ms:g} ms: picture", {})[side] = video
                    drawn.setdefault(f"{delay_ms:g} ms: sound", {})[side] = audio
        ours, stock = medians(runs["ours"]), medians(runs["stock"])
        worst = max(run["longest_freeze_ms"] for run in runs["ours"])
        results[f"{delay_ms:g}"] = {
            "ours": ours,
            "stock_aiortc": stock,
            "p99_times_less": ratio(stock, ours, "video_p99_ms"),
            "worst_freeze_ms": worst,
            "all_runs": runs,
        }
    _print_report(args, results)
    if args.plot:
        shaded = (0.0, args.seconds)
        plot_over_time(args.plot, f"{args.loss:.0%} of packets lost", drawn, shaded=shaded, is_log=True)
    values = {"loss": args.loss, "seconds": args.seconds, "runs": args.runs, "codec": args.codec}
    first = next(iter(results.values()))
    flat = {"ours": first["ours"], "stock_aiortc": first["stock_aiortc"]}
    print(json_line("loss", values | flat | {"delay_ms": results}))
    return 0


def _measured(
    args: argparse.Namespace, side: str, delay_ms: float, seed: int
) -> tuple[Points, Points, dict[str, float]]:
    with echo_server(side, args.codec) as url:
        measured = run_client(
            "lossy",
            url,
            side,
            args.codec,
            size=args.size,
            seconds=args.seconds,
            loss=args.loss,
            delay=delay_ms,
            settle=SETTLE_S,
            seed=seed,
        )
    start_s, end_s = measured["start_s"], measured["end_s"]
    pictures, tones = measured["server"]["pictures"], measured["server"]["tones"]
    audio = latencies_ms(measured["tones_sent"], tones)
    video_during = within(pictures, start_s, end_s)
    gaps = gaps_ms(video_during)
    before_ms = _median(within(audio, start_s - SETTLE_S, start_s))
    after_ms = _median(within(audio, end_s + RECOVERY_S, end_s + RECOVERY_S + SETTLE_S))
    summary = {
        **percentiles([value for _, value in video_during], "video"),
        **percentiles([value for _, value in within(audio, start_s, end_s)], "audio"),
        "longest_freeze_ms": round(float(gaps.max()), 1) if len(gaps) else float("nan"),
        **{f"freezes_over_{limit}_ms": int((gaps > limit).sum()) for limit in FREEZES_MS},
        "audio_before_ms": before_ms,
        "audio_after_ms": after_ms,
        "audio_gained_ms": round(after_ms - before_ms, 1),
        "fps": round(len(video_during) / (end_s - start_s), 2),
    }
    return [(t - start_s, v) for t, v in pictures], [(t - start_s, v) for t, v in audio], summary


def _median(points: Points) -> float:
    return round(float(np.median([value for _, value in points])), 1) if points else float("nan")


def _print_report(args: argparse.Namespace, results: dict[str, Any]) -> None:
    rows = []
    for delay_ms, result in results.items():
        for name, side in (("ours", "ours"), ("stock aiortc", "stock_aiortc")):
            v = result[side]
            rows.append(
                [
                    f"{delay_ms} ms each way, {name}",
                    *(v[f"video_p{q}_ms"] for q in (50, 95, 99)),
                    v["longest_freeze_ms"],
                    f"{v['freezes_over_200_ms']:g} / {v['freezes_over_300_ms']:g}",
                    v["audio_p50_ms"],
                    v["audio_p95_ms"],
                    f"{v['audio_before_ms']} -> {v['audio_after_ms']}",
                ]
            )
    headings = ["picture and sound, ms", "p50", "p95", "p99", "longest freeze", "over 200 / 300"]
    headings += ["sound p50", "p95", "sound before -> 2 s after"]
    print(table(headings, rows))
    print()
    for delay_ms, result in results.items():
        print(
            f"{delay_ms} ms each way: picture p99 {result['p99_times_less']} times less than stock's; "
            f"longest freeze of all our runs {result['worst_freeze_ms']} ms"
        )
    print()
