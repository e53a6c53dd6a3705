"""`gcavt bench live`: camera and microphone in, avatar out, on this machine.

A server and a headless client run in processes of their own. The client publishes the built-in clip as camera
and microphone and watches the avatar; measured are the pictures that reach it, the server's own stage times,
and whether anything grows: latency from the first to the last stretch, and the server's memory.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import psutil

from clients.bench.headless import Footage, HeadlessClient, Seen
from clients.bench.processes import await_answer, free_port
from clients.bench.report import json_line, table
from engine.config import BUILT_IN_CLIP
from engine.errors import EngineError
from engine.metrics import STAGES
from engine.rtc.settings import offer_loopback_candidates

WARM_UP_S = 5.0
GAPS_MS = (100, 200, 500)
MB = 1_000_000


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `gcavt bench live`."""
    parser.add_argument("--seconds", type=float, default=60.0, help="measured time (default %(default)g)")
    parser.add_argument(
        "--size", type=int, default=512, help="side of the camera picture (default %(default)s)"
    )
    parser.add_argument("--model", default="lite", help="name or directory of a bundle (default lite)")
    parser.add_argument("--backend", default="openvino", help="default %(default)s")
    parser.add_argument(
        "--threads", type=int, default=None, help="inference threads (default: the backend's)"
    )
    parser.add_argument("--video-codec", choices=("vp8", "h264"), default="vp8", help="default %(default)s")
    parser.add_argument(
        "--mouth", choices=("camera", "microphone"), default="camera", help="default %(default)s"
    )
    parser.add_argument("--clip", type=Path, default=BUILT_IN_CLIP, help="what the camera sees and hears")
    parser.add_argument(
        "--browser", action="store_true", help="measure what a headless Chromium shows instead"
    )
    parser.add_argument("--client-of", metavar="URL", help=argparse.SUPPRESS)


def run(args: argparse.Namespace) -> int:
    """Measure and print; returns the exit code."""
    if args.client_of:
        print(json.dumps(asyncio.run(_act_as_client(args))))
        return 0
    try:
        with _server(args) as (url, process):
            result = _measured(args, url, process)
    except (EngineError, OSError) as error:
        sys.stderr.write(f"gcavt bench live: {error}\n")
        return 2
    _print_report(result)
    print(json_line("live", result))
    return 0


@contextmanager
def _server(args: argparse.Namespace) -> Iterator[tuple[str, psutil.Process]]:
    port = free_port()
    command = [sys.executable, "-m", "engine", "--port", str(port), "--model", args.model]
    command += ["--backend", args.backend, "--video-codec", args.video_codec, "--clip", str(args.clip)]
    command += ["--threads", str(args.threads)] if args.threads else []
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    url = f"http://127.0.0.1:{port}"
    try:
        await_answer(f"{url}/healthz", process)
        yield url, psutil.Process(process.pid)
    finally:
        process.terminate()
        process.communicate(timeout=20)


def _measured(args: argparse.Namespace, url: str, server: psutil.Process) -> dict[str, Any]:
    """Run the client beside the server, and watch the server's memory and processor time meanwhile."""
    client = subprocess.Popen(_client_command(args, url), stdout=subprocess.PIPE, text=True)
    resident_mb: list[float] = []
    started_s, cpu_s = time.monotonic(), sum(server.cpu_times()[:2])
    while client.poll() is None:
        resident_mb.append(server.memory_info().rss / MB)
        time.sleep(1.0)
    cpu_share = (sum(server.cpu_times()[:2]) - cpu_s) / (time.monotonic() - started_s)
    output = client.stdout.read() if client.stdout else ""
    if client.returncode:
        raise EngineError("the client failed; its message is above")
    settled = resident_mb[int(WARM_UP_S) + 2 :] or resident_mb
    result: dict[str, Any] = json.loads(output.splitlines()[-1])
    result["server_cpu_cores"] = round(cpu_share, 2)
    result["server_memory_mb"] = round(settled[-1], 1)
    result["server_memory_growth_mb"] = round(settled[-1] - settled[0], 1)
    return result


def _client_command(args: argparse.Namespace, url: str) -> list[str]:
    command = [sys.executable, "-m", "clients", "bench", "live", "--client-of", url]
    command += ["--seconds", str(args.seconds), "--size", str(args.size), "--mouth", args.mouth]
    command += ["--clip", str(args.clip)]
    return command + (["--browser"] if args.browser else [])


async def _act_as_client(args: argparse.Namespace) -> dict[str, Any]:
    if args.browser:
        from clients.bench.chromium import watch_in_chromium  # only this way of measuring needs playwright

        seen: dict[str, Any] = await watch_in_chromium(
            args.client_of, args.clip, args.size, args.seconds, args.mouth
        )
        return seen
    offer_loopback_candidates()
    footage = Footage.load(args.clip, args.size)
    async with HeadlessClient(args.client_of) as client:
        await client.publish_footage(footage)
        await client.patch(pose="camera", expression="camera", mouth=args.mouth)
        await client.watch()
        await asyncio.sleep(WARM_UP_S)
        start_s = time.monotonic()
        first_state = await client.state()
        await asyncio.sleep(args.seconds)
        state = await client.state()
        result = delivered(client.seen, start_s, start_s + args.seconds)
    result["stage_ms"] = state["stage_ms"]
    result["generated"] = state["frames"] - first_state["frames"]
    result["dropped"] = {
        place: count - first_state["dropped_by"].get(place, 0) for place, count in state["dropped_by"].items()
    }
    return result | {"seconds": args.seconds, "size": args.size, "mouth": args.mouth, "viewer": "headless"}


def delivered(seen: Seen, start_s: float, end_s: float) -> dict[str, Any]:
    """Rate, gaps and drift of the pictures that arrived between two moments.

    Drift is how much later pictures arrive in the last fifth than in the first (at most a minute each),
    measured against their own media time: 0 unless something accumulates.
    """
    chosen = [i for i, arrival_s in enumerate(seen.arrivals_s) if start_s <= arrival_s < end_s]
    arrivals_s = np.array([seen.arrivals_s[i] for i in chosen])
    media_s = np.array([seen.media_times_s[i] for i in chosen])
    if len(chosen) < 2:
        return {"fps": 0.0, "frames": len(chosen)}
    gaps_ms = np.diff(arrivals_s) * 1000
    lateness_ms = (arrivals_s - media_s) * 1000
    stretch_s = min(60.0, (end_s - start_s) / 5)
    first = lateness_ms[arrivals_s < start_s + stretch_s]
    last = lateness_ms[arrivals_s >= end_s - stretch_s]
    drift_ms = float(np.median(last) - np.median(first)) if len(first) and len(last) else float("nan")
    p50, p95, p99 = np.percentile(gaps_ms, (50, 95, 99))
    return {
        "fps": round(len(chosen) / (end_s - start_s), 2),
        "frames": len(chosen),
        "gap_ms": {"p50": round(p50, 1), "p95": round(p95, 1), "p99": round(p99, 1)},
        "max_gap_ms": round(float(gaps_ms.max()), 1),
        "gaps_over_ms": {str(limit): int((gaps_ms > limit).sum()) for limit in GAPS_MS},
        "drift_ms": round(drift_ms, 1),
        "mean_picture_change": round(float(np.mean(seen.differences)), 2) if seen.differences else 0.0,
        "sound_packets": seen.sound_packets,
    }


def _print_report(result: dict[str, Any]) -> None:
    stages = result.get("stage_ms", {})
    rows = [
        [stage, *(stages[stage][q] for q in ("p50", "p95", "p99"))] for stage in STAGES if stage in stages
    ]
    if rows:
        print(table(["stage, ms", "p50", "p95", "p99"], rows))
        print()
    facts: list[tuple[str, object]] = [
        ("pictures delivered per second", result.get("fps")),
        ("longest gap, ms", result.get("max_gap_ms")),
        ("gaps over 100 / 200 / 500 ms", " / ".join(map(str, result.get("gaps_over_ms", {}).values()))),
        ("pictures in the slowest second", result.get("slowest_second_frames")),
        ("latency drift, ms", result.get("drift_ms")),
        ("left behind", result.get("dropped")),
        ("server, cores used", result.get("server_cpu_cores")),
        ("server memory, MB", result.get("server_memory_mb")),
        ("memory growth, MB", result.get("server_memory_growth_mb")),
    ]
    heading = f"{result['viewer']}, {result['seconds']:g} s"
    print(table([heading, ""], [row for row in facts if row[1] not in (None, "")]))
    print()
