"""SRT by the system's ffmpeg: PyAV comes without it, so the program carries MPEG-TS to and fro."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager

from engine.errors import DeviceMissingError

Command = list[str]


def receiving(url: str) -> Command:
    """What writes a received stream to its standard output. Raises DeviceMissingError without ffmpeg."""
    return [*_ffmpeg(), "-i", url, "-map", "0", "-c", "copy", "-f", "mpegts", "-flush_packets", "1", "pipe:1"]


def sending(url: str) -> Command:
    """What sends the MPEG-TS that it reads from its standard input. Raises DeviceMissingError."""
    return [*_ffmpeg(), "-f", "mpegts", "-i", "pipe:0", "-map", "0", "-c", "copy", "-f", "mpegts", url]


@contextmanager
def running(command: Command, *, is_sending: bool) -> Iterator[subprocess.Popen[bytes]]:
    """The program for as long as the block lasts, with one pipe to it or from it."""
    process = subprocess.Popen(
        command,
        stdin=subprocess.PIPE if is_sending else subprocess.DEVNULL,
        stdout=subprocess.DEVNULL if is_sending else subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        bufsize=0,
    )
    try:
        yield process
    finally:
        process.kill()
        process.wait()
        for pipe in (process.stdin, process.stdout):
            if pipe is not None:
                pipe.close()


def _ffmpeg() -> Command:
    program = shutil.which("ffmpeg")
    if program is None:
        raise DeviceMissingError("SRT needs the program ffmpeg with libsrt: apt-get install ffmpeg.")
    low_latency = ["-fflags", "nobuffer", "-flags", "low_delay", "-analyzeduration", "500000"]
    return [program, "-nostdin", "-hide_banner", "-loglevel", "error", *low_latency]
