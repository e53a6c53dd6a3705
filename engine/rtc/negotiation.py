"""Offers in, answers out: WHIP and WHEP share everything but the direction of the media."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Literal

from aiortc import (
    MediaStreamTrack,
    RTCConfiguration,
    RTCIceServer,
    RTCPeerConnection,
    RTCRtpSender,
    RTCSessionDescription,
)
from aiortc.exceptions import InvalidAccessError, InvalidStateError, OperationError
from aiortc.rtcrtpparameters import RTCRtpCodecCapability
from aiortc.sdp import SessionDescription

from engine.errors import BadOfferError, UnsupportedOfferError

PARSE_ERRORS = (
    ValueError,
    IndexError,
    KeyError,
    TypeError,
    AttributeError,
    AssertionError,
    StopIteration,
)
"""What aiortc's SDP parser raises on text that is not SDP: it checks by running into things."""
PEER_DIRECTIONS = {"publish": ("sendonly", "sendrecv"), "watch": ("recvonly", "sendrecv")}


def new_connection(ice_servers: Sequence[RTCIceServer] = ()) -> RTCPeerConnection:
    """A peer connection that asks no STUN server unless it was told of one."""
    return RTCPeerConnection(RTCConfiguration(iceServers=list(ice_servers)))


def read_offer(sdp: str, purpose: Literal["publish", "watch"]) -> frozenset[str]:
    """Check an offer before any connection is made; returns the kinds of media it asks for.

    Raises BadOfferError for text that is no offer or has the wrong direction, UnsupportedOfferError for
    more than one track of a kind.
    """
    try:
        description = SessionDescription.parse(sdp)
    except PARSE_ERRORS as error:
        raise BadOfferError("The body is not a session description (SDP) that can be read.") from error
    media = [section for section in description.media if section.kind in ("audio", "video")]
    if not media:
        raise BadOfferError("The session description offers neither audio nor video.")
    kinds = [section.kind for section in media]
    if len(set(kinds)) < len(kinds):
        raise UnsupportedOfferError("At most one audio and one video track are taken in one offer.")
    for section in media:
        if (section.direction or "sendrecv") not in PEER_DIRECTIONS[purpose]:
            wanted = " or ".join(PEER_DIRECTIONS[purpose])
            raise BadOfferError(
                f"To {purpose}, {section.kind} must be offered {wanted}, got {section.direction}."
            )
        has_ice = section.ice is not None and section.ice.usernameFragment and section.ice.password
        if not has_ice or section.dtls is None or not section.dtls.fingerprints:
            raise BadOfferError(f"The {section.kind} section lacks ICE credentials or a DTLS fingerprint.")
    _check_bundle(description)
    return frozenset(kinds)


def _check_bundle(description: SessionDescription) -> None:
    """aiortc drops the transport of a section that is bundled with one that is not there."""
    mids = [section.rtp.muxId for section in description.media]
    bundled = [mid for group in description.group if group.semantic == "BUNDLE" for mid in group.items]
    if len(set(mids)) < len(mids) or not set(bundled) <= set(mids):
        raise BadOfferError("The media sections' mids are not unique, or are not those of the BUNDLE group.")


async def answer(connection: RTCPeerConnection, sdp: str) -> str:
    """Take a checked offer and return the whole answer, candidates included.

    Raises UnsupportedOfferError if there is no codec in common, BadOfferError for other contradictions.
    """
    try:
        await connection.setRemoteDescription(RTCSessionDescription(sdp=sdp, type="offer"))
        await connection.setLocalDescription(await connection.createAnswer())
    except OperationError as error:
        raise UnsupportedOfferError(
            "No codec in common: video must offer VP8 or H.264 (42001f or 42e01f, packetization-mode=1), "
            "audio Opus, G722 or PCM."
        ) from error
    except (InvalidAccessError, InvalidStateError, *PARSE_ERRORS) as error:
        raise BadOfferError(f"The session description contradicts itself: {error}") from error
    return with_one_fingerprint(connection.localDescription.sdp)


def with_one_fingerprint(sdp: str) -> str:
    """The description with the certificate's SHA-256 alone, which every peer has to know (RFC 8122).

    libdatachannel, and so OBS, keeps the last fingerprint that it reads but sometimes checks the certificate
    by the first one's algorithm, and then hangs up.
    """
    lines = [line for line in sdp.splitlines() if not re.match(r"a=fingerprint:(?!sha-256 )", line)]
    return "\r\n".join(lines) + "\r\n"


def send_track(connection: RTCPeerConnection, track: MediaStreamTrack, codec: str = "") -> RTCRtpSender:
    """Add a track that is only sent, offering `codec` ("vp8", "h264") before the others."""
    transceiver = connection.addTransceiver(track, direction="sendonly")
    if codec:
        capabilities = RTCRtpSender.getCapabilities(track.kind).codecs
        transceiver.setCodecPreferences(sorted(capabilities, key=lambda entry: _rank(entry, codec)))
    return transceiver.sender


def _rank(entry: RTCRtpCodecCapability, codec: str) -> int:
    """0 for the preferred codec, 1 for other codecs, 2 for retransmission, which must not come first."""
    name = entry.mimeType.lower().removeprefix("video/")
    return 2 if name == "rtx" else int(name != codec)


def with_start_bitrate(sdp: str, kbps: int) -> str:
    """The answer with the hint that Chromium reads: the rate at which to start sending video.

    Without it a browser that gets no transport-wide feedback starts near 300 kbit/s and sends 384 px.
    """
    hint = f"x-google-start-bitrate={kbps};x-google-min-bitrate={kbps // 4};x-google-max-bitrate={kbps * 2}"
    lines = []
    for line in sdp.splitlines():
        if line.startswith("a=fmtp:") and "profile-level-id" in line:
            line = f"{line};{hint}"
        lines.append(line)
        if match := re.match(r"a=rtpmap:(\d+) VP8/90000", line):
            lines.append(f"a=fmtp:{match[1]} {hint}")
    return "\r\n".join(lines) + "\r\n"
