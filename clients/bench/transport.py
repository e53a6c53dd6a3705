"""`gcavt bench transport`: how long a picture and a sound take through the engine, and through stock aiortc.

A client publishes marked pictures and sounds to a server with a model that changes nothing, and gets them
back over a second connection. Both ends are ours, or both are aiortc as it comes; the two take turns, each
time in fresh processes. With --browser the client is a page in Chromium, which watches picture and sound over
connections of their own: to keep lips in step, it would else hold the picture until the sound is played.
"""

from __future__ import annotations

import argparse
import asyncio
from pathlib import Path
from typing import Any

from clients.bench.marks import latencies_ms
from clients.bench.processes import echo_server, run_client
from clients.bench.report import json_line, table
from clients.bench.statistics import gaps_ms, medians, percentiles, plot_over_time, ratio, within

CODECS = ("vp8", "h264")
SIDES = ("ours", "stock")
Points = list[tuple[float, float]]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.description = __doc__
    parser.add_argument("--seconds", type=float, default=20.0, help="measured time of each run (default 20)")
    parser.add_argument("--runs", type=int, default=3, help="of each side and codec (default %(default)s)")
    parser.add_argument("--size", type=int, default=512, help="side of the picture (default %(default)s)")
    parser.add_argument("--codec", choices=CODECS, action="append", help="default: both")
    parser.add_argument("--browser", action="store_true", help="the client is Chromium, read at track level")
    parser.add_argument("--plot", type=Path, metavar="PNG", help="draw every picture's and sound's latency")


def run(args: argparse.Namespace) -> int:
    results: dict[str, Any] = {}
    drawn: dict[str, dict[str, Points]] = {}
    for codec in args.codec or CODECS:
        runs: dict[str, list[dict[str, float]]] = {side: [] for side in SIDES}
        for _ in range(args.runs):
            for side in SIDES:
                video, audio = _measured(args, side, codec)
                runs[side].append(_summary(video, audio))
                drawn.setdefault(f"{codec} picture", {}).setdefault(side, []).extend(video)
                drawn.setdefault(f"{codec} sound", {}).setdefault(side, []).extend(audio)
        ours, stock = medians(runs["ours"]), medians(runs["stock"])
        times = {key: ratio(stock, ours, f"{key}_p50_ms") for key in ("video", "audio")}
        results[codec] = {"ours": ours, "stock_aiortc": stock, "times_less": times, "all_runs": runs}
    _print_report(args, results)
    if args.plot:
        plot_over_time(args.plot, f"Echo of {args.size} px", drawn)
    values = {"client": "chromium" if args.browser else "headless", "size": args.size, "runs": args.runs}
    print(json_line("transport", values | {"seconds": args.seconds} | _flat(results)))
    return 0


def _measured(args: argparse.Namespace, side: str, codec: str) -> tuple[Points, Points]:
    """(seconds since the start, latency in milliseconds) of every picture and every tone."""
    with echo_server(side, codec) as url:
        if args.browser:
            from clients.bench.chromium import echo_in_chromium  # only this client needs playwright

            seen = asyncio.run(
                echo_in_chromium(url, codec, args.size, args.seconds, warm_up_s=6, in_step=False)
            )
            whole = (0.0, args.seconds)
            return within(seen["pictures"], *whole), within(seen["tones"], *whole)
        measured = run_client("echo", url, side, codec, size=args.size, seconds=args.seconds)
    start_s, end_s = measured["start_s"], measured["end_s"]
    video = within(measured["pictures"], start_s, end_s)
    audio = within(latencies_ms(measured["tones_sent"], measured["tones_heard"]), start_s, end_s)
    return _from(video, start_s), _from(audio, start_s)


def _from(points: Points, start_s: float) -> Points:
    return [(at_s - start_s, value) for at_s, value in points]


def _summary(video: Points, audio: Points) -> dict[str, float]:
    gaps = gaps_ms(video)
    return {
        **percentiles([value for _, value in video], "video"),
        **percentiles([value for _, value in audio], "audio"),
        "fps": round(1000 / gaps.mean(), 2) if len(gaps) else 0.0,
        "pictures": len(video),
        "tones": len(audio),
    }


def _flat(results: dict[str, Any]) -> dict[str, Any]:
    """The first codec's medians at the top, as every reader of the line expects; all codecs below it."""
    first = next(iter(results.values()))
    return {"ours": first["ours"], "stock_aiortc": first["stock_aiortc"], "codecs": results}


def _print_report(args: argparse.Namespace, results: dict[str, Any]) -> None:
    rows = []
    for codec, result in results.items():
        for name, side in (("ours", "ours"), ("stock aiortc", "stock_aiortc")):
            values = result[side]
            for kind in ("video", "audio"):
                percents = (values[f"{kind}_p{q}_ms"] for q in (50, 95, 99))
                rate = values["fps"] if kind == "video" else ""
                rows.append([f"{codec} {kind}, {name}", *percents, rate])
    heading = f"ms, median of {args.runs} runs of {args.seconds:g} s"
    print(table([heading, "p50", "p95", "p99", "fps"], rows))
    print()
    for codec, result in results.items():
        video, audio = result["times_less"]["video"], result["times_less"]["audio"]
        print(f"{codec}: pictures {video} times sooner than by stock aiortc, sound {audio} times (p50)")
    print()
