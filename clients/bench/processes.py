"""Runs the two ends of a transport benchmark, each in a process of its own."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from engine.errors import EngineError

START_TIMEOUT_S = 60.0


@contextmanager
def echo_server(side: str, codec: str) -> Iterator[str]:
    """A fresh `echo_server` of one side; gives its address."""
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    command = [sys.executable, "-m", "clients.bench.echo_server"]
    process = subprocess.Popen([*command, "--side", side, "--codec", codec, "--port", str(port)])
    try:
        _await_answer(url, process)
        yield url
    finally:
        process.terminate()
        process.wait(timeout=20)


def run_client(task: str, url: str, side: str, codec: str, **options: float) -> dict[str, Any]:
    """A fresh `echo_client` of the same side, until it is done. Raises EngineError if it fails."""
    command = [sys.executable, "-m", "clients.bench.echo_client", task, "--url", url, "--side", side]
    command += ["--codec", codec]
    for name, value in options.items():
        command += [f"--{name.replace('_', '-')}", str(value)]
    finished = subprocess.run(command, stdout=subprocess.PIPE, text=True)
    if finished.returncode:
        raise EngineError("the bench client failed; its message is above")
    measured: dict[str, Any] = json.loads(finished.stdout)
    return measured


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
        return port


def _await_answer(url: str, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + START_TIMEOUT_S
    while time.monotonic() < deadline and process.poll() is None:
        try:
            with urllib.request.urlopen(f"{url}/received", timeout=2):
                return
        except (urllib.error.URLError, TimeoutError):
            time.sleep(0.1)
    raise EngineError("the bench's echo server did not start; its message is above")
