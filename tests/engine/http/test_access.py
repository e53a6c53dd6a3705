"""Other sites' pages, the server's own token, and servers that help out."""

import asyncio

import pytest

from engine.config import EngineConfig
from tests.engine.http.conftest import Client, OpenClient, log_in
from tests.engine.http.offers import SDP_HEADERS, attribute, error_of, offer

SITE = "https://studio.example"
PREFLIGHT = {"Origin": SITE, "Access-Control-Request-Method": "PATCH"}
BEARER = {"Authorization": "Bearer s3rver"}


async def test_pages_of_an_allowed_site_may_ask_and_read(open_client: OpenClient) -> None:
    client = await open_client(EngineConfig(allow_origins=(SITE,)))
    session = await log_in(client)
    preflight = await client.options(session, headers=PREFLIGHT)
    assert preflight.status == 200
    assert preflight.headers["Access-Control-Allow-Methods"] == "PATCH"
    assert "Authorization" in preflight.headers["Access-Control-Allow-Headers"]
    for response in (preflight, await client.get("/sessions/nobody", headers={"Origin": SITE})):
        assert response.headers["Access-Control-Allow-Origin"] == SITE
        assert "Location" in response.headers["Access-Control-Expose-Headers"]


async def test_pages_of_other_sites_may_not(open_client: OpenClient) -> None:
    client = await open_client(EngineConfig(allow_origins=("https://another.example",)))
    assert "Access-Control-Allow-Origin" not in (await client.options("/sessions", headers=PREFLIGHT)).headers


async def test_a_star_allows_every_site(open_client: OpenClient) -> None:
    client = await open_client(EngineConfig(allow_origins=("*",)))
    response = await client.get("/healthz", headers={"Origin": SITE})
    assert response.headers["Access-Control-Allow-Origin"] == SITE


async def test_a_full_server_sends_on_to_the_one_that_helps_out(open_client: OpenClient) -> None:
    config = EngineConfig(max_sessions=1, overflow_url="https://second.example/avatar/", token="s3rver")
    client = await open_client(config)
    assert (await client.post("/sessions")).status == 201
    for path in ("/sessions", "/whip/studio?mouth=microphone"):
        response = await client.post(path, headers=BEARER, allow_redirects=False)
        assert response.status == 307
        assert response.headers["Location"] == f"https://second.example/avatar{path}"


@pytest.fixture
async def named(open_client: OpenClient) -> Client:
    return await open_client(EngineConfig(token="s3rver"))


@pytest.mark.parametrize("path", ["/whip/studio", "/whep/studio"])
async def test_a_named_session_needs_the_servers_token(named: Client, path: str) -> None:
    for headers in ({}, {"Authorization": "Bearer wrong"}):
        response = await named.post(path, headers=SDP_HEADERS | headers, data=b"")
        assert response.status == 401
        assert response.headers["WWW-Authenticate"] == "Bearer"


async def test_without_a_token_there_are_no_named_sessions(client: Client) -> None:
    response = await client.post("/whip/studio", headers=SDP_HEADERS | BEARER, data=b"")
    assert response.status == 403
    assert "--token-file" in await error_of(response)


async def test_one_url_and_one_token_publish_watch_and_control(named: Client) -> None:
    published = await named.post(
        "/whip/studio?mouth=microphone",
        headers=SDP_HEADERS | BEARER,
        data=await offer("publish", "video", "audio"),
    )
    assert published.status == 201
    watched = await named.post("/whep/studio", headers=SDP_HEADERS | BEARER, data=await offer("watch"))
    assert watched.status == 201
    state = await (await named.get("/sessions/studio", headers=BEARER)).json()
    assert state["sockets"]["pose"] == "camera"
    assert state["sockets"]["mouth"] in ("microphone", "camera:audio")
    assert state["watchers"] == 1
    assert (await named.delete(published.headers["Location"])).status == 401
    for response in (published, watched):
        assert (await named.delete(response.headers["Location"], headers=BEARER)).status == 200
    state = await (await named.get("/sessions/studio", headers=BEARER)).json()
    assert (state["watchers"], state["sources"]["camera"]["video"]) == (0, False)


async def test_publisher_and_viewer_that_come_at_once_meet(named: Client) -> None:
    publishing, watching = await offer("publish"), await offer("watch")
    responses = await asyncio.gather(
        named.post("/whip/studio", headers=SDP_HEADERS | BEARER, data=publishing),
        named.post("/whep/studio", headers=SDP_HEADERS | BEARER, data=watching),
    )
    assert [response.status for response in responses] == [201, 201]
    assert (await (await named.get("/healthz")).json())["sessions"] == 1
    assert attribute(await responses[0].text(), "ice-ufrag") != attribute(
        await responses[1].text(), "ice-ufrag"
    )


async def test_a_name_or_query_that_cannot_be_is_refused_and_opens_nothing(named: Client) -> None:
    for path, status in (
        ("/whip/a b", 400),
        ("/whip/studio?identity=nobody", 422),
        ("/whip/s?nose=camera", 422),
    ):
        response = await named.post(path, headers=SDP_HEADERS | BEARER, data=await offer("publish"))
        assert response.status == status
    assert (await (await named.get("/healthz")).json())["sessions"] == 0
