"""Programs that carry media to or from what PyAV must not touch, through a pipe.

SRT goes through the system's ffmpeg, because PyAV's wheels are built without it. RTMP is sent by a process of
our own (engine.sinks.send_rtmp), because PyAV keeps the interpreter to itself while it opens an output: a
server that does not answer would stop every thread.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import av

from engine.errors import DeviceMissingError

Command = tuple[str, ...]

FINISH_S = 2.0
"""How long a sender may take over what is on its way when all has been said."""


def receiving_srt(url: str) -> Command:
    """What writes a received stream to its standard output, as MPEG-TS. Raises DeviceMissingError."""
    return (*_ffmpeg(), "-i", url, "-map", "0", "-c", "copy", "-f", "mpegts", "-flush_packets", "1", "pipe:1")


def sending_srt(url: str) -> Command:
    """What sends the MPEG-TS that it reads from its standard input. Raises DeviceMissingError."""
    return (*_ffmpeg(), "-f", "mpegts", "-i", "pipe:0", "-map", "0", "-c", "copy", "-f", "mpegts", url)


def sending_rtmp(url: str) -> Command:
    """What sends the FLV that it reads from its standard input."""
    return (sys.executable, "-m", "engine.sinks.send_rtmp", url)


@contextmanager
def running(command: Command, *, is_sending: bool) -> Iterator[subprocess.Popen[bytes]]:
    """The program for as long as the block lasts, with one pipe to it or from it.

    Raises OSError with the program's last words where it has gone and the block fails for that.
    """
    process = subprocess.Popen(
        command,
        stdin=subprocess.PIPE if is_sending else subprocess.DEVNULL,
        stdout=subprocess.DEVNULL if is_sending else subprocess.PIPE,
        stderr=subprocess.PIPE,
        bufsize=0,
    )
    last_words: deque[bytes] = deque(maxlen=1)
    assert process.stderr is not None
    listener = threading.Thread(target=last_words.extend, args=(process.stderr,), daemon=True)
    listener.start()
    try:
        yield process
    except (av.FFmpegError, OSError) as error:
        listener.join(FINISH_S)
        if last_words:
            raise OSError(error.errno, last_words[0].decode(errors="replace").strip()) from error
        raise
    finally:
        if process.stdin is not None:
            _let_finish(process)
        process.kill()
        process.wait()
        listener.join()
        for pipe in (process.stdin, process.stdout, process.stderr):
            if pipe is not None:
                pipe.close()


def _let_finish(process: subprocess.Popen[bytes]) -> None:
    """Send what is on its way."""
    with suppress(OSError, subprocess.TimeoutExpired):
        assert process.stdin is not None
        process.stdin.close()
        process.wait(FINISH_S)


def _ffmpeg() -> Command:
    program = shutil.which("ffmpeg")
    if program is None:
        raise DeviceMissingError("SRT needs the program ffmpeg with libsrt: apt-get install ffmpeg.")
    low_latency = ("-fflags", "nobuffer", "-flags", "low_delay", "-analyzeduration", "500000")
    return (program, "-nostdin", "-hide_banner", "-loglevel", "error", *low_latency)
