"""WHIP (RFC 9725): a peer publishes its camera and microphone."""

from __future__ import annotations

from functools import partial

from aiohttp import web

from engine.errors import EngineError
from engine.http.peers import created, endpoint_routes, peer_routes, sdp_offer, servers_for
from engine.http.service import SERVICE, SESSION
from engine.patch_bay import check_name
from engine.rtc.negotiation import answer, new_connection, read_offer, with_start_bitrate
from engine.sessions import Peer, Session
from engine.sources.remote import RemoteSource

SOURCE = "/sessions/{id}/sources/{name}"


async def publish(request: web.Request) -> web.Response:
    return await take_publisher(request, request[SESSION], request.match_info["name"])


async def take_publisher(request: web.Request, session: Session, name: str) -> web.Response:
    """Answer an offer to publish; the peer becomes the source `name`, in place of an earlier one."""
    service = request.app[SERVICE]
    check_name(name)
    offer = await sdp_offer(request)
    read_offer(offer, "publish")
    servers = servers_for(request, session)
    connection = new_connection(servers)
    source = RemoteSource(connection, service.clock, session.performance.hearer(name))
    try:
        sdp = await answer(connection, offer)
    except EngineError:
        await source.close()
        raise
    await session.performance.connect(name, source)
    peer = Peer.of_offer(
        connection, offer, partial(_unpublish, session, name, source), service.clock.now_ns()
    )
    location = f"/sessions/{session.id}/sources/{name}/{session.add_peer(peer)}"
    hinted = with_start_bitrate(sdp, service.config.rtc.camera_start_kbps)
    return created(hinted, peer, location, servers)


async def _unpublish(session: Session, name: str, source: RemoteSource) -> None:
    """Disconnect the source, unless another has taken its name."""
    if session.performance.sources.get(name) is source:
        await session.performance.disconnect(name)


ROUTES: list[web.AbstractRouteDef] = [
    web.post(SOURCE, publish),
    *endpoint_routes(SOURCE),
    *peer_routes(SOURCE),
]
