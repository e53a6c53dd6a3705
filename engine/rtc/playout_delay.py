"""Tells a browser that watches pictures alone to show each as soon as it is decoded: an RTP header extension.

Chromium else holds pictures back by an estimate of the network's jitter and of its own decoding time, some
12 ms of an echo of 29 on a network without jitter. Where sound comes over the same connection that must not
be asked for: Chromium's sound has 50 to 100 ms more of delay, and the picture could not wait for it any more
(lips were 85 to 160 ms ahead of the voice).

Source: https://webrtc.googlesource.com/src/+/refs/heads/main/docs/native-code/rtp-hdrext/playout-delay
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, Final

from aiortc import RTCRtpSender
from aiortc.codecs import HEADER_EXTENSIONS
from aiortc.rtcrtpparameters import RTCRtpHeaderExtensionParameters, RTCRtpParameters
from aiortc.rtp import (
    HeaderExtensions,
    HeaderExtensionsMap,
    RtcpRrPacket,
    RtcpSrPacket,
    pack_header_extensions,
    unpack_header_extensions,
)

URI: Final = "http://www.webrtc.org/experiments/rtp-hdrext/playout-delay"
FREE_ID: Final = 4
"""For our own offers: aiortc has 1 to 3."""
LAST_ID: Final = 14
"""Greater ones need the long form of all extensions (RFC 8285), which not every peer takes."""
AT_ONCE: Final = bytes(3)
"""Least and greatest delay, twelve bits each in units of 10 ms: both none."""
AS_THE_VIEWER_LIKES: Final = bytes.fromhex("000fff")
"""From none to 41 s. Not to send it any more would not do: a viewer keeps to what it was told last."""
UNSTEADY_MS, STEADY_MS = 30.0, 15.0
"""Jitter above the former is worth being evened out, until it is below the latter."""
CLOCK_RATE: Final = 90_000


class PlayoutDelay:
    """What a viewer is told about its delay; from its own reports of jitter."""

    def __init__(self) -> None:
        self.value = AT_ONCE

    def note_report(self, jitter: int) -> None:
        """jitter: of RFC 3550, in units of the RTP clock."""
        jitter_ms = jitter * 1000 / CLOCK_RATE
        if jitter_ms > UNSTEADY_MS:
            self.value = AS_THE_VIEWER_LIKES
        elif jitter_ms < STEADY_MS:
            self.value = AT_ONCE


class _ExtensionsMap(HeaderExtensionsMap):
    """aiortc's writer of header extensions, with one more where the peer knows it."""

    def __init__(self, delay: PlayoutDelay) -> None:
        super().__init__()
        self._delay = delay
        self._id: int | None = None

    def configure(self, parameters: RTCRtpParameters) -> None:
        super().configure(parameters)
        known = (entry.id for entry in parameters.headerExtensions if entry.uri == URI)
        self._id = next((number for number in known if number <= LAST_ID), None)

    def set(self, values: HeaderExtensions) -> tuple[int, bytes]:
        profile, packed = super().set(values)
        if self._id is None:
            return profile, packed
        before = unpack_header_extensions(profile, packed) if packed else []
        return pack_header_extensions([*before, (self._id, self._delay.value)])


def negotiate_playout_delay() -> None:
    """Let this process offer and accept the extension for pictures."""
    if all(known.uri != URI for known in HEADER_EXTENSIONS["video"]):
        HEADER_EXTENSIONS["video"].append(RTCRtpHeaderExtensionParameters(id=FREE_ID, uri=URI))


def show_at_once(sender: RTCRtpSender) -> None:
    """Make this one sender of pictures ask for it, until its viewer reports much jitter.

    Call it before the sender starts.

    Raises AttributeError if aiortc no longer has the parts that this needs.
    """
    getattr(sender, "_RTCRtpSender__rtp_header_extensions_map")  # noqa: B009 - a mangled name
    delay = PlayoutDelay()
    handle: Callable[[Any], Awaitable[None]] = sender._handle_rtcp_packet

    async def handle_too(packet: Any) -> None:
        if isinstance(packet, RtcpRrPacket | RtcpSrPacket):
            for report in packet.reports:
                if report.ssrc == sender._ssrc:
                    delay.note_report(report.jitter)
        await handle(packet)

    setattr(sender, "_RTCRtpSender__rtp_header_extensions_map", _ExtensionsMap(delay))  # noqa: B010
    setattr(sender, "_handle_rtcp_packet", handle_too)  # noqa: B010 - a method is replaced on purpose
