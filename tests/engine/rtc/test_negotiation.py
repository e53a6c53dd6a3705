from collections.abc import AsyncIterator

import pytest
from aiortc import RTCPeerConnection
from aiortc.mediastreams import AudioStreamTrack, VideoStreamTrack

from engine.errors import BadOfferError, UnsupportedOfferError
from engine.rtc.negotiation import answer, new_connection, read_offer, send_track, with_start_bitrate


@pytest.fixture
async def peer() -> AsyncIterator[RTCPeerConnection]:
    connection = new_connection(())
    yield connection
    await connection.close()


async def offered(peer: RTCPeerConnection) -> str:
    await peer.setLocalDescription(await peer.createOffer())
    return peer.localDescription.sdp


async def watching_offer(peer: RTCPeerConnection) -> str:
    peer.addTransceiver("video", direction="recvonly")
    peer.addTransceiver("audio", direction="recvonly")
    return await offered(peer)


@pytest.mark.parametrize(
    "text", ["", "hello", "v=0\r\n", "m=video\r\n", "v=0\r\nm=video x y z\r\n", "\x00\x01"]
)
def test_text_that_is_no_session_description_is_refused(text: str) -> None:
    with pytest.raises(BadOfferError):
        read_offer(text, "publish")


async def test_an_offer_says_which_media_it_brings(peer: RTCPeerConnection) -> None:
    peer.addTrack(VideoStreamTrack())
    peer.addTrack(AudioStreamTrack())
    assert read_offer(await offered(peer), "publish") == {"video", "audio"}


async def test_an_offer_in_the_wrong_direction_is_refused(peer: RTCPeerConnection) -> None:
    with pytest.raises(BadOfferError, match="sendonly"):
        read_offer(await watching_offer(peer), "publish")


async def test_two_videos_in_one_offer_are_refused(peer: RTCPeerConnection) -> None:
    peer.addTrack(VideoStreamTrack())
    peer.addTrack(VideoStreamTrack())
    with pytest.raises(UnsupportedOfferError, match="one video"):
        read_offer(await offered(peer), "publish")


async def test_an_offer_without_a_common_codec_is_refused(peer: RTCPeerConnection) -> None:
    sdp = await watching_offer(peer)
    for codec in ("VP8", "H264", "rtx"):
        sdp = sdp.replace(f" {codec}/90000", " AV1/90000")
    server = new_connection(())
    with pytest.raises(UnsupportedOfferError, match="VP8 or H.264"):
        await answer(server, sdp)
    await server.close()


async def test_a_damaged_fingerprint_is_refused(peer: RTCPeerConnection) -> None:
    sdp = await watching_offer(peer)
    damaged = "\r\n".join(line for line in sdp.splitlines() if not line.startswith("a=fingerprint")) + "\r\n"
    with pytest.raises(BadOfferError, match="fingerprint"):
        read_offer(damaged, "watch")


@pytest.mark.parametrize(("codec", "name"), [("vp8", "VP8"), ("h264", "H264")])
async def test_the_preferred_codec_comes_first_in_the_answer(
    peer: RTCPeerConnection, codec: str, name: str
) -> None:
    sdp = await watching_offer(peer)
    server = new_connection(())
    send_track(server, VideoStreamTrack(), codec)
    send_track(server, AudioStreamTrack())
    lines = (await answer(server, sdp)).splitlines()
    await server.close()
    payload = next(line for line in lines if line.startswith("m=video")).split()[3]
    assert f"a=rtpmap:{payload} {name}/90000" in lines
    assert lines.count("a=sendonly") == 2


async def test_a_publisher_is_told_a_start_bit_rate_for_each_codec(peer: RTCPeerConnection) -> None:
    peer.addTrack(VideoStreamTrack())
    sdp = await offered(peer)
    server = new_connection(())
    hinted = with_start_bitrate(await answer(server, sdp), 2000)
    await server.close()
    assert hinted.count("x-google-start-bitrate=2000") == 1 + hinted.count("profile-level-id")
    assert hinted.endswith("\r\n")
