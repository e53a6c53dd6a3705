"""`python -m engine.sinks.send_rtmp URL`: sends the FLV that comes in on standard input to an RTMP server."""

from __future__ import annotations

import sys

import av

WRITE_TIMEOUT_US = 5_000_000


def send(url: str) -> None:
    """Until the input ends. Raises FFmpegError where the server is not there or goes away."""
    options = {"flvflags": "no_duration_filesize", "rw_timeout": str(WRITE_TIMEOUT_US)}
    with (
        av.open(sys.stdin.buffer, "r", format="flv", options={"analyzeduration": "500000"}) as source,
        av.open(url, "w", format="flv", options=options) as server,
    ):
        streams = {stream: server.add_stream_from_template(stream) for stream in source.streams}
        for packet in source.demux():
            if packet.dts is not None:
                packet.stream = streams[packet.stream]
                server.mux(packet)


if __name__ == "__main__":
    try:
        send(sys.argv[1])
    except (av.FFmpegError, OSError) as error:
        sys.exit(error.strerror)
