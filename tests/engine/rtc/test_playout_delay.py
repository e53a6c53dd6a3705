from __future__ import annotations

import asyncio

import pytest
from aiortc import RTCRtpSender
from aiortc.codecs import HEADER_EXTENSIONS
from aiortc.rtcrtpparameters import RTCRtpHeaderExtensionParameters, RTCRtpParameters
from aiortc.rtp import HeaderExtensions, RtcpReceiverInfo, RtcpRrPacket, unpack_header_extensions

from engine.clock import MediaClock
from engine.config import VideoEncodingConfig
from engine.metrics import PerformanceMetrics
from engine.rtc.negotiation import answer, new_connection
from engine.rtc.playout_delay import (
    AS_THE_VIEWER_LIKES,
    AT_ONCE,
    CLOCK_RATE,
    URI,
    PlayoutDelay,
    negotiate_playout_delay,
    show_at_once,
)
from engine.sinks.webrtc import WebRtcSink
from tests.engine.rtc.test_repeats import Transport


@pytest.fixture
def negotiated(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(HEADER_EXTENSIONS, "video", list(HEADER_EXTENSIONS["video"]))
    negotiate_playout_delay()


def written(sender: RTCRtpSender, known: list[tuple[int, str]]) -> dict[int, bytes]:
    """What stands in the header of a packet to a peer that knows these extensions."""
    extensions = getattr(sender, "_RTCRtpSender__rtp_header_extensions_map")  # noqa: B009
    parameters = [RTCRtpHeaderExtensionParameters(id=number, uri=uri) for number, uri in known]
    extensions.configure(RTCRtpParameters(headerExtensions=parameters))
    profile, packed = extensions.set(HeaderExtensions(mid="0"))
    return dict(unpack_header_extensions(profile, packed)) if packed else {}


MID = (1, "urn:ietf:params:rtp-hdrext:sdes:mid")


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("known", "expected"),
    [
        ([MID, (5, URI)], {1: b"0", 5: AT_ONCE}),
        ([(5, URI)], {5: AT_ONCE}),
        ([MID], {1: b"0"}),
        ([MID, (15, URI)], {1: b"0"}),
    ],
)
async def test_every_packet_says_so_to_a_peer_that_knows_it(
    known: list[tuple[int, str]], expected: dict[int, bytes]
) -> None:
    sender = RTCRtpSender("video", Transport())  # type: ignore[arg-type]
    show_at_once(sender)
    assert written(sender, known) == expected


@pytest.mark.asyncio
async def test_a_viewer_with_much_jitter_evens_it_out_itself_until_it_has_little() -> None:
    sender = RTCRtpSender("video", Transport())  # type: ignore[arg-type]
    show_at_once(sender)

    async def after(jitter_ms: float, ssrc: int) -> bytes:
        report = RtcpReceiverInfo(
            ssrc=ssrc,
            fraction_lost=0,
            packets_lost=0,
            highest_sequence=0,
            jitter=round(jitter_ms * CLOCK_RATE / 1000),
            lsr=0,
            dlsr=0,
        )
        await sender._handle_rtcp_packet(RtcpRrPacket(ssrc=1, reports=[report]))
        return written(sender, [(5, URI)])[5]

    assert await after(40, sender._ssrc + 1) == AT_ONCE
    assert await after(40, sender._ssrc) == AS_THE_VIEWER_LIKES
    assert await after(20, sender._ssrc) == AS_THE_VIEWER_LIKES
    assert await after(10, sender._ssrc) == AT_ONCE


def test_the_delays_are_twelve_bits_each_in_units_of_ten_milliseconds() -> None:
    values = [int.from_bytes(value) for value in (PlayoutDelay().value, AS_THE_VIEWER_LIKES)]
    assert [(value >> 12, value & 0xFFF) for value in values] == [(0, 0), (0, 4095)]


@pytest.mark.usefixtures("negotiated")
def test_it_is_negotiated_once() -> None:
    negotiate_playout_delay()
    assert [known.uri for known in HEADER_EXTENSIONS["video"]].count(URI) == 1
    numbers = [known.id for kind in HEADER_EXTENSIONS.values() for known in kind if known.uri != MID[1]]
    assert len(set(numbers)) == len(numbers)


@pytest.mark.asyncio
@pytest.mark.usefixtures("negotiated")
@pytest.mark.parametrize(("kinds", "expected"), [(("video",), True), (("video", "audio"), False)])
async def test_pictures_with_sound_wait_for_it(kinds: tuple[str, ...], expected: bool) -> None:
    viewer, connection = new_connection(), new_connection()
    for kind in kinds:
        viewer.addTransceiver(kind, direction="recvonly")
    await viewer.setLocalDescription(await viewer.createOffer())
    clock = MediaClock()
    metrics = PerformanceMetrics.started(clock)
    sink = WebRtcSink(connection, frozenset(kinds), clock, VideoEncodingConfig(), metrics)
    try:
        await answer(connection, viewer.localDescription.sdp)
        sender = next(sender for sender in connection.getSenders() if sender.kind == "video")
        assert (5 in written(sender, [(5, URI)])) == expected
    finally:
        await asyncio.gather(sink.close(), viewer.close())
