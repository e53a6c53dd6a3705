import pytest

from engine.errors import BadOfferError
from engine.http.sdp_fragment import MAX_CANDIDATES, read_fragment

CANDIDATE = "a=candidate:1 1 udp 2122260223 192.0.2.1 61764 typ host"


def test_candidates_belong_to_the_section_that_they_stand_in() -> None:
    fragment = read_fragment(
        f"a=ice-ufrag:EsAw\r\nm=audio 9 UDP/TLS/RTP/SAVPF 111\r\na=mid:sound\r\n{CANDIDATE}\r\n"
        f"m=video 9 UDP/TLS/RTP/SAVPF 96\r\n{CANDIDATE}\r\na=end-of-candidates\r\n"
    )
    assert fragment.username_fragment == "EsAw"
    assert fragment.is_last
    places = [(candidate.sdpMid, candidate.sdpMLineIndex) for candidate in fragment.candidates]
    assert places == [("sound", None), (None, 1)]
    assert (fragment.candidates[0].ip, fragment.candidates[0].port) == ("192.0.2.1", 61764)


def test_candidates_without_a_section_belong_to_the_first() -> None:
    assert read_fragment(CANDIDATE).candidates[0].sdpMLineIndex == 0


def test_a_flood_of_candidates_is_refused() -> None:
    with pytest.raises(BadOfferError, match=str(MAX_CANDIDATES)):
        read_fragment("\r\n".join([CANDIDATE] * (MAX_CANDIDATES + 1)))
