"""`gcavt bench startup`: from the start of the server's process to the first picture that a viewer sees.

Cold starts have an empty home directory: nothing was compiled, checked or unpacked before. The warm start
that follows each has what the cold one left. Files that the system itself keeps in memory are not dropped.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import psutil

from clients.bench.headless import HeadlessClient
from clients.bench.processes import POLL_S, START_TIMEOUT_S, await_answer, free_port
from clients.bench.report import json_line, table
from engine.errors import EngineError
from engine.rtc.settings import offer_loopback_candidates

STARTS = ("cold", "warm")
LIMITS_S = {"cold": 30.0, "warm": 8.0}
"""What a start may take to the first picture."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `gcavt bench startup`."""
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.description = __doc__
    parser.add_argument("--runs", type=int, default=3, help="of each start (default %(default)s)")
    parser.add_argument("--model", default="lite", help="name or directory of a bundle (default lite)")
    parser.add_argument("--backend", default="openvino", help="default %(default)s")


def run(args: argparse.Namespace) -> int:
    """Measure and print; returns the exit code, 1 where a start took longer than it may."""
    offer_loopback_candidates()
    rows: list[dict[str, Any]] = []
    try:
        for number in range(args.runs):
            with tempfile.TemporaryDirectory(prefix="gcavt-home-") as home:
                rows += [{"start": start, "run": number, **_started(args, Path(home))} for start in STARTS]
    except (EngineError, OSError) as error:
        sys.stderr.write(f"gcavt bench startup: {error}\n")
        return 2
    medians = {start: _medians([row for row in rows if row["start"] == start]) for start in STARTS}
    print(table(["start, seconds", *medians["cold"]], [[s, *medians[s].values()] for s in STARTS]))
    print(json_line("startup", {"backend": args.backend, "rows": rows, "medians": medians}))
    return int(any(medians[start]["first_picture_s"] > LIMITS_S[start] for start in STARTS))


def _medians(rows: Sequence[dict[str, Any]]) -> dict[str, float]:
    names = [name for name in rows[0] if name.endswith("_s")]
    return {name: round(float(np.median([row[name] for row in rows])), 2) for name in names}


def _started(args: argparse.Namespace, home: Path) -> dict[str, float]:
    port = free_port()
    command = [sys.executable, "-m", "engine", "--port", str(port)]
    command += ["--model", args.model, "--backend", args.backend]
    started_s = time.monotonic()
    process = subprocess.Popen(
        command, env=os.environ | {"HOME": str(home)}, stderr=subprocess.PIPE, text=True
    )
    try:
        await_answer(f"http://127.0.0.1:{port}/healthz", process)
        ready_s = time.monotonic() - started_s
        seen_s = asyncio.run(_first_picture(f"http://127.0.0.1:{port}")) - started_s
        # what else the machine does makes a start longer, this hardly
        computed_s = sum(psutil.Process(process.pid).cpu_times()[:2])
    finally:
        process.terminate()
        process.communicate(timeout=20)
    return {
        "ready_s": round(ready_s, 3),
        "first_picture_s": round(seen_s, 3),
        "processor_s": round(computed_s, 2),
    }


async def _first_picture(url: str) -> float:
    """When the first picture of a new session was decoded. Raises EngineError: none came."""
    deadline_s = time.monotonic() + START_TIMEOUT_S
    async with HeadlessClient(url) as client:
        await client.watch()
        while not client.seen.arrivals_s:
            if time.monotonic() > deadline_s:
                raise EngineError("the server answers, but no picture came")
            await asyncio.sleep(POLL_S)
        return client.seen.arrivals_s[0]
