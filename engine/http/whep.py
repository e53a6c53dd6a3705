"""WHEP (draft-ietf-wish-whep): a peer watches the avatar."""

from __future__ import annotations

from functools import partial

from aiohttp import web

from engine.errors import EngineError
from engine.http.peers import created, endpoint_routes, peer_routes, sdp_offer, servers_for
from engine.http.service import SERVICE, SESSION
from engine.rtc.negotiation import answer, new_connection, read_offer
from engine.sessions import Peer, Session
from engine.sinks.beside_mask import BesideMaskSink
from engine.sinks.webrtc import WebRtcSink

WATCH = "/sessions/{id}/watch"


async def watch(request: web.Request) -> web.Response:
    return await take_viewer(request, request[SESSION])


async def take_viewer(request: web.Request, session: Session) -> web.Response:
    """Answer an offer to watch, and send the performance there from now on.

    With ?layout=colour-alpha the picture is twice as wide: the avatar on black, and its mask.
    """
    service = request.app[SERVICE]
    performance = session.performance
    offer = await sdp_offer(request)
    kinds = read_offer(offer, "watch")
    servers = servers_for(request, session)
    connection = new_connection(servers)
    sink = WebRtcSink(connection, kinds, service.clock, service.config.rtc.video, performance.metrics)
    try:
        sdp = await answer(connection, offer)
    except EngineError:
        await sink.close()
        raise
    watching = BesideMaskSink(sink) if request.query.get("layout") == "colour-alpha" else sink
    performance.watch(watching)
    peer = Peer.of_offer(
        connection,
        offer,
        partial(performance.unwatch, watching),
        service.clock.now_ns(),
        lambda: sink.reported_picture,
    )
    return created(sdp, peer, f"/sessions/{session.id}/watch/{session.add_peer(peer)}", servers)


ROUTES: list[web.AbstractRouteDef] = [web.post(WATCH, watch), *endpoint_routes(WATCH), *peer_routes(WATCH)]
