"""The body of a WHIP or WHEP PATCH: application/trickle-ice-sdpfrag (RFC 8840, section 9)."""

from __future__ import annotations

import re
from dataclasses import dataclass

from aiortc import RTCIceCandidate
from aiortc.sdp import candidate_from_sdp

from engine.errors import BadOfferError

LINE = re.compile(r"([a-z])=(\S.*)")
MAX_CANDIDATES = 100


@dataclass(frozen=True)
class SdpFragment:
    """What a peer says about its ICE agent after its offer."""

    username_fragment: str | None
    candidates: tuple[RTCIceCandidate, ...]
    is_last: bool
    """No candidates will follow."""


def read_fragment(text: str) -> SdpFragment:
    """Raises BadOfferError if it is malformed or says nothing about ICE."""
    username_fragment, mid, section = None, None, -1
    candidates: list[RTCIceCandidate] = []
    is_last = False
    for kind, value in map(_split_line, text.splitlines()):
        name, _, rest = value.partition(":")
        if kind == "m":
            section, mid = section + 1, None
        elif kind == "a" and name == "mid":
            mid = rest
        elif kind == "a" and name == "ice-ufrag":
            username_fragment = rest
        elif kind == "a" and name == "candidate":
            candidates.append(_candidate(rest, mid, max(0, section)))
        elif kind == "a" and name == "end-of-candidates":
            is_last = True
    if username_fragment is None and not candidates and not is_last:
        raise BadOfferError("The fragment holds neither ICE credentials nor candidates.")
    if len(candidates) > MAX_CANDIDATES:
        raise BadOfferError(f"At most {MAX_CANDIDATES} candidates are taken at once.")
    return SdpFragment(username_fragment, tuple(candidates), is_last)


def _split_line(line: str) -> tuple[str, str]:
    match = LINE.fullmatch(line)
    if match is None:
        raise BadOfferError(f"This is not a line of a session description: {line[:60]!r}.")
    return match[1], match[2]


def _candidate(text: str, mid: str | None, section: int) -> RTCIceCandidate:
    try:
        candidate = candidate_from_sdp(text)
    except (ValueError, IndexError, AssertionError) as error:
        raise BadOfferError(f"This is not an ICE candidate: {text[:60]!r}.") from error
    candidate.sdpMid, candidate.sdpMLineIndex = mid, None if mid is not None else section
    return candidate
