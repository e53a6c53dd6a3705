import random
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


@pytest.mark.parametrize("damage", ["a=group:BUNDLE 0 7", "a=group:BUNDLE nobody"])
async def test_a_bundle_with_sections_that_are_not_there_is_refused(
    peer: RTCPeerConnection, damage: str
) -> None:
    sdp = (await watching_offer(peer)).replace("a=group:BUNDLE 0 1", damage)
    with pytest.raises(BadOfferError, match="BUNDLE"):
        read_offer(sdp, "watch")


async def test_an_offer_with_retransmission_alone_is_refused(peer: RTCPeerConnection) -> None:
    sdp = await watching_offer(peer)
    for codec in ("VP8", "H264"):
        sdp = sdp.replace(f" {codec}/90000", " AV1/90000")
    server = new_connection()
    send_track(server, VideoStreamTrack())
    send_track(server, AudioStreamTrack())
    with pytest.raises(UnsupportedOfferError, match="VP8 or H.264"):
        await answer(server, sdp)
    await server.close()


async def test_h264_in_a_packetization_not_served_is_refused_in_words(peer: RTCPeerConnection) -> None:
    sdp = (await watching_offer(peer)).replace(" VP8/90000", " AV1/90000")
    sdp = "\r\n".join(line for line in sdp.splitlines() if "profile-level-id" not in line) + "\r\n"
    server = new_connection()
    send_track(server, VideoStreamTrack())
    send_track(server, AudioStreamTrack())
    with pytest.raises(UnsupportedOfferError, match="42e01f"):
        await answer(server, sdp)
    await server.close()


async def test_damaged_offers_are_answered_or_refused_and_nothing_else(peer: RTCPeerConnection) -> None:
    """Each of 150 offers has one to three lines cut, changed, doubled or missing."""
    lines = (await watching_offer(peer)).splitlines()
    rng = random.Random(5)
    outcomes: set[type] = set()
    for _ in range(150):
        sdp = "\r\n".join(damaged(lines, rng)) + "\r\n"
        try:
            kinds = read_offer(sdp, "watch")
        except (BadOfferError, UnsupportedOfferError) as error:
            outcomes.add(type(error))
            continue
        server = new_connection()
        for kind, track in (("video", VideoStreamTrack()), ("audio", AudioStreamTrack())):
            if kind in kinds:
                send_track(server, track)
        try:
            outcomes.add(type(await answer(server, sdp)))
        except (BadOfferError, UnsupportedOfferError) as error:
            outcomes.add(type(error))
        await server.close()
    assert {str, BadOfferError} <= outcomes


def damaged(lines: list[str], rng: random.Random) -> list[str]:
    lines = list(lines)
    for _ in range(rng.randint(1, 3)):
        index = rng.randrange(len(lines))
        line = lines[index]
        match rng.randrange(5):
            case 0:
                del lines[index]
            case 1:
                lines[index] = line[: rng.randrange(len(line) + 1)]
            case 2:
                lines.insert(index, rng.choice(lines))
            case 3:
                words = line.split(" ")
                words[rng.randrange(len(words))] = rng.choice(["", "0", "-1", "99999", "foo"])
                lines[index] = " ".join(words)
            case _:
                place = rng.randrange(len(line) + 1)
                lines[index] = line[:place] + chr(rng.randrange(32, 127)) + line[place + 1 :]
    return lines


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
