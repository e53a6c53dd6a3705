"""Runs what a benchmark measures in processes of their own: a server, the two ends of a transport."""

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

START_TIMEOUT_S = 120.0
POLL_S = 0.02


@contextmanager
def echo_server(side: str, codec: str) -> Iterator[str]:
    """A fresh `echo_server` of one side; gives its address."""
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    command = [sys.executable, "-m", "clients.bench.echo_server"]
    process = subprocess.Popen([*command, "--side", side, "--codec", codec, "--port", str(port)])
    try:
        await_answer(f"{url}/received", process)
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


def await_answer(url: str, process: subprocess.Popen[Any]) -> None:
    """Returns as soon as a server gives anything at this address. Raises EngineError, with its last words
    where its standard error is piped: it ended, or said nothing for START_TIMEOUT_S."""
    deadline_s = time.monotonic() + START_TIMEOUT_S
    while time.monotonic() < deadline_s:
        if process.poll() is not None:
            said = process.stderr.read().strip().splitlines() if process.stderr else []
            raise EngineError(f"the server did not start: {said[-1] if said else 'its message is above'}")
        try:
            with urllib.request.urlopen(url, timeout=2):
                return
        except (urllib.error.URLError, ConnectionError, TimeoutError):
            time.sleep(POLL_S)
    raise EngineError(f"the server did not answer within {START_TIMEOUT_S:g} s")
