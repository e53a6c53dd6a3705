"""`gcavt bench lipsync`: how far lips and voice are apart in Chromium, with models of different slowness.

A page publishes marked pictures and tones; the server sends them back with the model's time added to the
pictures. Measured is the age of what the page then shows and plays: skew = picture - sound, so that above
zero the voice runs ahead of the lips. ITU-R BT.1359 finds 45 ms of that detectable, and 125 ms the other way.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import urllib.request
from pathlib import Path
from typing import Any

import numpy as np

from clients.bench.chromium import echo_in_chromium
from clients.bench.processes import echo_server
from clients.bench.report import json_line, table
from clients.bench.statistics import medians, plot_over_time, within

SIDES = ("ours", "stock")
WARM_UP_S = 12.0
"""Chromium lines up sound and picture in steps of 80 ms a second."""
Points = list[tuple[float, float]]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.description = __doc__
    parser.add_argument("--seconds", type=float, default=20.0, help="measured time of each run (default 20)")
    parser.add_argument("--runs", type=int, default=3, help="of each side and model (default %(default)s)")
    parser.add_argument(
        "--model-ms", type=float, action="append", help="the model's time; repeatable (default 0, 80, 150)"
    )
    parser.add_argument("--side", choices=SIDES, action="append", help="default: both")
    parser.add_argument("--size", type=int, default=512, help="side of the picture (default %(default)s)")
    parser.add_argument("--codec", choices=("vp8", "h264"), default="vp8", help="default %(default)s")
    parser.add_argument("--plot", type=Path, metavar="PNG", help="draw the ages of pictures and tones")


def run(args: argparse.Namespace) -> int:
    results: dict[str, dict[str, Any]] = {}
    drawn: dict[str, dict[str, Points]] = {}
    for model_ms in args.model_ms or (0.0, 80.0, 150.0):
        runs: dict[str, list[dict[str, float]]] = {side: [] for side in args.side or SIDES}
        for number in range(args.runs):
            for side in runs:
                video, audio = _measured(args, side, model_ms)
                runs[side].append(_summary(video, audio, args.seconds))
                if number == 0:
                    panel = drawn.setdefault(f"{model_ms:g} ms, {side}", {})
                    panel["picture"], panel["sound"] = video, audio
        results[f"{model_ms:g}"] = {side: medians(of_side) for side, of_side in runs.items()}
        results[f"{model_ms:g}"]["all_runs"] = runs
    _print_report(args, results)
    if args.plot:
        plot_over_time(args.plot, "Ages of what Chromium shows and plays", drawn)
    values: dict[str, Any] = {"runs": args.runs, "seconds": args.seconds, "model_ms": results}
    for name, side in (("ours", "ours"), ("stock_aiortc", "stock")):
        found = {model: result[side]["skew_ms"] for model, result in results.items() if side in result}
        values[name] = {f"skew_{model}_ms": skew for model, skew in found.items()}
    print(json_line("lipsync", values))
    return 0


def _measured(args: argparse.Namespace, side: str, model_ms: float) -> tuple[Points, Points]:
    with echo_server(side, args.codec) as url:
        body = json.dumps({"latency_ms": model_ms}).encode()
        urllib.request.urlopen(urllib.request.Request(f"{url}/model", body), timeout=10).close()
        seen = asyncio.run(
            echo_in_chromium(url, args.codec, args.size, args.seconds, warm_up_s=WARM_UP_S, in_step=True)
        )
    return within(seen["pictures"], 0, args.seconds), within(seen["tones"], 0, args.seconds)


def _summary(video: Points, audio: Points, seconds: float) -> dict[str, float]:
    end_s = 0.8 * seconds
    last_video, last_audio = within(video, end_s, seconds), within(audio, end_s, seconds)
    return {
        "video_p50_ms": _median(video),
        "audio_p50_ms": _median(audio),
        "skew_ms": round(_median(video) - _median(audio), 1),
        "skew_at_end_ms": round(_median(last_video) - _median(last_audio), 1),
        "tones": len(audio),
    }


def _median(points: Points) -> float:
    return round(float(np.median([value for _, value in points])), 1) if points else float("nan")


def _print_report(args: argparse.Namespace, results: dict[str, dict[str, Any]]) -> None:
    rows = []
    for model_ms, result in results.items():
        for side in args.side or SIDES:
            values = result[side]
            skews = [run["skew_ms"] for run in result["all_runs"][side]]
            rows.append(
                [
                    f"{model_ms} ms model, {side}",
                    values["video_p50_ms"],
                    values["audio_p50_ms"],
                    values["skew_ms"],
                    values["skew_at_end_ms"],
                    f"{min(skews)} to {max(skews)}",
                ]
            )
    print(
        table(
            [f"ms, median of {args.runs} runs", "picture", "sound", "skew", "in the last fifth", "runs"], rows
        )
    )
    print()
