"""A `gcavt serve` of its own process for foreign peers to talk to."""

from __future__ import annotations

import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.bundles import TinyBundles

PATIENCE_S = 180.0
"""Frames are counted, not seconds: a busy machine is slow, not wrong."""
SERVER_TOKEN = "s3rver"
ServeEngine = Callable[..., "Engine"]


@dataclass(frozen=True)
class Engine:
    url: str
    token: str


@pytest.fixture(scope="package")
def serve_engine(
    tiny_bundles: TinyBundles, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[ServeEngine]:
    """Start a server with these further options; the same options get the same server."""
    running: dict[tuple[str, ...], tuple[Engine, subprocess.Popen[bytes]]] = {}
    directory = tmp_path_factory.mktemp("engine")
    token = directory / "token"
    token.write_text(SERVER_TOKEN)

    def serve(*options: str) -> Engine:
        if options not in running:
            port = free_port()
            arguments = ["--port", str(port), "--model", str(tiny_bundles.path("edit_repose"))]
            arguments += ["--threads", "1", "--fps", "10", "--token-file", str(token)]
            command = [sys.executable, "-m", "engine", *arguments, *options]
            with (directory / f"{port}.log").open("wb") as log:
                process = subprocess.Popen(command, stdout=log, stderr=log)
            engine = Engine(f"http://127.0.0.1:{port}", SERVER_TOKEN)
            running[options] = (engine, process)
            wait_until(lambda: answers(f"{engine.url}/healthz"), alive=process)
        return running[options][0]

    yield serve
    for _, process in running.values():
        stop(process)


@pytest.fixture
def engine(serve_engine: ServeEngine) -> Engine:
    return serve_engine()


@contextmanager
def started(command: list[str], log: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A program that runs as long as the block."""
    with log.open("wb") as output:
        process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=output, stderr=output)
        try:
            yield process
        finally:
            stop(process)


def stop(process: subprocess.Popen[bytes]) -> None:
    if process.stdin is not None:
        process.stdin.close()
    process.terminate()
    try:
        process.wait(timeout=30)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port


def answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=2):
            return True
    except (urllib.error.URLError, ConnectionError, TimeoutError):
        return False


def wait_until(condition: Callable[[], bool], *, alive: subprocess.Popen[bytes]) -> None:
    """Fails if the program ends first."""
    deadline_s = time.monotonic() + PATIENCE_S
    while not condition():
        assert alive.poll() is None, f"ended with {alive.returncode}"
        assert time.monotonic() < deadline_s, "waited in vain"
        time.sleep(0.1)
