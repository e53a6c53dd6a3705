"""Publishing (WHIP) and watching (WHEP): what offers, trickled candidates and leaving get for an answer."""

import pytest

from engine.config import EngineConfig, RtcConfig
from tests.engine.http.conftest import Client, OpenClient, log_in
from tests.engine.http.offers import FRAGMENT_TYPE, SDP_HEADERS, Purpose, attribute, error_of, offer


@pytest.mark.parametrize(
    "body", [b"", b"garbage", b"v=0\r\nm=video 9 x y\r\n", b"\xff\xfe\x00", b"m=" * 50_000]
)
@pytest.mark.parametrize("path", ["/sources/camera", "/watch"])
async def test_garbage_for_an_offer_gets_400_and_one_sentence(
    client: Client, session: str, path: str, body: bytes
) -> None:
    response = await client.post(session + path, data=body, headers=SDP_HEADERS)
    assert response.status == 400
    assert (await error_of(response)).endswith(".")
    assert (await client.get("/healthz")).status == 200


async def test_an_offer_of_another_type_is_refused(client: Client, session: str) -> None:
    response = await client.post(f"{session}/watch", json={"sdp": "v=0"})
    assert response.status == 415
    assert "application/sdp" in await error_of(response)


async def test_an_offer_without_a_known_codec_is_not_acceptable(client: Client, session: str) -> None:
    sdp = await offer("watch")
    for codec in ("VP8", "H264", "rtx"):
        sdp = sdp.replace(f" {codec}/90000", " AV1/90000")
    response = await client.post(f"{session}/watch", data=sdp, headers=SDP_HEADERS)
    assert response.status == 406
    assert "VP8" in await error_of(response)


async def test_h264_without_a_profile_is_no_internal_error(client: Client, session: str) -> None:
    lines = [line for line in (await offer("watch")).splitlines() if "profile-level-id" not in line]
    sdp = "\r\n".join(line for line in lines if "VP8" not in line) + "\r\n"
    response = await client.post(f"{session}/watch", data=sdp, headers=SDP_HEADERS)
    assert 200 <= response.status < 500


async def test_a_viewer_gets_the_whole_answer_and_a_place_to_leave(client: Client, session: str) -> None:
    response = await client.post(f"{session}/watch", data=await offer("watch"), headers=SDP_HEADERS)
    assert response.status == 201
    assert response.content_type == "application/sdp"
    assert "a=candidate" in await response.text()
    assert (await (await client.get(session)).json())["watchers"] == 1
    assert (await client.delete(response.headers["Location"])).status == 200
    assert (await (await client.get(session)).json())["watchers"] == 0


async def test_a_source_that_nobody_can_publish_is_refused(client: Client, session: str) -> None:
    response = await client.post(f"{session}/sources/clip", data="v=0", headers=SDP_HEADERS)
    assert response.status == 422
    assert "clip" in await error_of(response)


ENDPOINTS: dict[Purpose, str] = {"publish": "/sources/camera", "watch": "/watch"}
both_ways = pytest.mark.parametrize("purpose", ENDPOINTS)


@both_ways
async def test_an_endpoint_says_what_it_takes(client: Client, session: str, purpose: Purpose) -> None:
    url = session + ENDPOINTS[purpose]
    response = await client.options(url)
    assert response.status == 200
    assert response.headers["Accept-Post"] == "application/sdp"
    assert (await client.get(url)).status == 204
    assert (await client.patch(url)).status == 405


@both_ways
async def test_an_answer_takes_one_direction_and_names_all_candidates(
    client: Client, session: str, purpose: Purpose
) -> None:
    body = (await offer(purpose, "audio", "video")).replace("a=sendonly", "a=sendrecv")
    response = await client.post(session + ENDPOINTS[purpose], data=body, headers=SDP_HEADERS)
    assert response.status == 201
    sdp = await response.text()
    assert sdp.count("a=recvonly" if purpose == "publish" else "a=sendonly") == 2
    assert "a=candidate" in sdp
    assert "a=end-of-candidates" in sdp
    hashes = {line.split()[0] for line in sdp.splitlines() if line.startswith("a=fingerprint:")}
    assert hashes == {"a=fingerprint:sha-256"}


@both_ways
async def test_the_wrong_direction_is_a_bad_offer(client: Client, session: str, purpose: Purpose) -> None:
    body = await offer("watch" if purpose == "publish" else "publish")
    response = await client.post(session + ENDPOINTS[purpose], data=body, headers=SDP_HEADERS)
    assert response.status == 400
    assert "video" in await error_of(response)


@both_ways
async def test_two_tracks_of_a_kind_are_not_acceptable(
    client: Client, session: str, purpose: Purpose
) -> None:
    body = await offer(purpose, "video", "video")
    response = await client.post(session + ENDPOINTS[purpose], data=body, headers=SDP_HEADERS)
    assert response.status == 406


class Connected:
    """A peer's URL and what came with it."""

    def __init__(self, client: Client, body: str, url: str, etag: str) -> None:
        self.url, self.etag = url, etag
        self.username_fragment = attribute(body, "ice-ufrag")
        self.candidate = attribute(body, "candidate")
        self._client = client

    async def patch(self, fragment: str, etag: str | None = None, kind: str = FRAGMENT_TYPE) -> int:
        headers = {"Content-Type": kind} | ({"If-Match": etag} if etag is not None else {})
        return (await self._client.patch(self.url, data=fragment, headers=headers)).status

    def fragment(self, username_fragment: str | None = None) -> str:
        name = self.username_fragment if username_fragment is None else username_fragment
        return (
            f"a=ice-ufrag:{name}\r\na=ice-pwd:0123456789abcdef01234567\r\n"
            f"m=video 9 UDP/TLS/RTP/SAVPF 96\r\na=mid:0\r\na=candidate:{self.candidate}\r\n"
        )


@pytest.fixture(params=ENDPOINTS.items(), ids=["whip", "whep"])
async def peer(request: pytest.FixtureRequest, client: Client, session: str) -> Connected:
    purpose, path = request.param
    body = await offer(purpose)
    trickling = "\r\n".join(line for line in body.splitlines() if "candidate" not in line) + "\r\n"
    response = await client.post(session + path, data=trickling, headers=SDP_HEADERS)
    assert response.status == 201
    return Connected(client, body, response.headers["Location"], response.headers["ETag"])


async def test_trickled_candidates_are_taken(peer: Connected) -> None:
    assert peer.etag.startswith('"')
    assert await peer.patch(peer.fragment(), peer.etag) == 204
    assert await peer.patch(peer.fragment() + "a=end-of-candidates\r\n", peer.etag) == 204
    assert await peer.patch(peer.fragment(), peer.etag) == 204


@pytest.mark.parametrize(
    "candidate",
    [
        "1 1 tcp 1518280447 192.0.2.1 9 typ host tcptype active",
        "2 1 udp 2122260223 nowhere.invalid 9 typ host",
    ],
)
async def test_candidates_that_cannot_be_used_are_passed_over(peer: Connected, candidate: str) -> None:
    peer.candidate = candidate
    assert await peer.patch(peer.fragment(), peer.etag) == 204


async def test_candidates_need_the_tag_of_their_ice_session(peer: Connected) -> None:
    assert await peer.patch(peer.fragment()) == 428
    assert await peer.patch(peer.fragment(), '"another"') == 412
    assert await peer.patch(peer.fragment(), f"W/{peer.etag}") == 412


async def test_an_ice_restart_is_refused_and_the_connection_kept(peer: Connected) -> None:
    assert await peer.patch(peer.fragment("fresh"), "*") == 422
    assert await peer.patch(peer.fragment(), peer.etag) == 204


@pytest.mark.parametrize("fragment", ["", "nonsense", "a=candidate:1 2 3\r\n", "v=0\r\n"])
async def test_a_malformed_fragment_is_a_bad_request(peer: Connected, fragment: str) -> None:
    assert await peer.patch(fragment, peer.etag) == 400


async def test_a_fragment_of_another_type_is_refused(peer: Connected) -> None:
    assert await peer.patch(peer.fragment(), peer.etag, "application/sdp") == 415


async def test_a_peers_url_takes_nothing_but_patch_and_delete(client: Client, peer: Connected) -> None:
    assert (await client.get(peer.url)).status == 204
    assert (await client.post(peer.url)).status == 405
    assert (await client.put(peer.url)).status == 405
    assert (await client.delete(peer.url, headers={"If-Match": '"another"'})).status == 200
    assert await peer.patch(peer.fragment(), peer.etag) == 404


async def test_leaving_late_does_not_end_the_publisher_that_came_after(client: Client, session: str) -> None:
    posts = [
        await client.post(f"{session}/sources/camera", data=await offer("publish"), headers=SDP_HEADERS)
        for _ in range(2)
    ]
    first, second = (response.headers["Location"] for response in posts)
    await client.delete(first)
    assert (await (await client.get(session)).json())["sources"]["camera"]["video"]
    await client.delete(second)
    assert not (await (await client.get(session)).json())["sources"]["camera"]["video"]


async def test_turn_comes_with_a_password_of_its_own(open_client: OpenClient) -> None:
    rtc = RtcConfig(ice_servers=("stun:stun.example:3478",), turn=("turn:127.0.0.1:9",), turn_secret="s3cret")
    client = await open_client(EngineConfig(rtc=rtc))
    session = await log_in(client)
    options = await client.options(f"{session}/watch")
    links = options.headers.getall("Link")
    assert links[0] == '<stun:stun.example:3478>; rel="ice-server"'
    assert links[1].startswith('<turn:127.0.0.1:9>; rel="ice-server"; username="')
    assert session.rpartition("/")[2] in links[1]
    assert 'credential-type="password"' in links[1]
    stranger = await client.options(f"{session}/watch", headers={"Authorization": ""})
    assert "Link" not in stranger.headers
