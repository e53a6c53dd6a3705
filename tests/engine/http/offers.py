"""Offers as peers send them, and what to read from the answers."""

from __future__ import annotations

from typing import Literal

import aiohttp
from aiortc.mediastreams import AudioStreamTrack, VideoStreamTrack

from engine.rtc.negotiation import new_connection

Purpose = Literal["publish", "watch"]
SDP_HEADERS = {"Content-Type": "application/sdp"}
FRAGMENT_TYPE = "application/trickle-ice-sdpfrag"


async def offer(purpose: Purpose, *kinds: str) -> str:
    """An SDP offer of these kinds of media (default: video), with all candidates."""
    connection = new_connection()
    for kind in kinds or ("video",):
        if purpose == "watch":
            connection.addTransceiver(kind, direction="recvonly")
        else:
            track = VideoStreamTrack() if kind == "video" else AudioStreamTrack()
            connection.addTransceiver(track, direction="sendonly")
    await connection.setLocalDescription(await connection.createOffer())
    sdp = connection.localDescription.sdp
    await connection.close()
    return sdp


async def error_of(response: aiohttp.ClientResponse) -> str:
    text: str = (await response.json())["error"]
    return text


def attribute(sdp: str, name: str) -> str:
    """The first value of a=name:value."""
    return next(line for line in sdp.splitlines() if line.startswith(f"a={name}:")).partition(":")[2]
