"""What WHIP (RFC 9725) and WHEP (draft-ietf-wish-whep) share: the offer, the answer, and the peer's own URL.

A peer's URL takes PATCH and DELETE, answers GET with nothing, and refuses every other method (405). Trickled
candidates are taken; an ICE restart is not (422): aiortc has no such thing, and the peer offers anew.
"""

from __future__ import annotations

import time
from collections.abc import Mapping

from aiohttp import hdrs, web
from aiortc import RTCIceServer
from multidict import CIMultiDict

from engine.errors import BadOfferError, UnknownSessionError
from engine.http.access import bearer_token, is_servers_token
from engine.http.ice_servers import ice_servers, link_header
from engine.http.sdp_fragment import SdpFragment, read_fragment
from engine.http.service import SERVICE, SESSION
from engine.sessions import Peer, Session

SDP = "application/sdp"
SDP_FRAGMENT = "application/trickle-ice-sdpfrag"
ACCEPT_PATCH = "Accept-Patch"
ACCEPT_POST = "Accept-Post"


async def sdp_offer(request: web.Request) -> str:
    """The body. Raises HTTPUnsupportedMediaType or BadOfferError."""
    if request.content_type != SDP:
        raise web.HTTPUnsupportedMediaType(
            text=f"Send the offer as {SDP}, not {request.content_type}.", headers={ACCEPT_POST: SDP}
        )
    try:
        return await request.text()
    except (UnicodeDecodeError, LookupError) as error:
        raise BadOfferError("The body is not a session description (SDP) that can be read.") from error


def servers_for(request: web.Request, session: Session) -> list[RTCIceServer]:
    """The STUN and TURN servers for a connection of this session, on either side."""
    return ice_servers(request.app[SERVICE].config.rtc, session.id, time.time())


def created(sdp: str, peer: Peer, location: str, servers: list[RTCIceServer]) -> web.Response:
    headers = CIMultiDict({hdrs.LOCATION: location, hdrs.ETAG: peer.etag, ACCEPT_PATCH: SDP_FRAGMENT})
    headers.extend(_links(servers))
    return web.Response(status=201, text=sdp, content_type=SDP, headers=headers)


async def offer_options(request: web.Request) -> web.Response:
    """What can be sent here; who shows a token also learns the servers to gather candidates with."""
    headers = CIMultiDict({ACCEPT_POST: SDP, hdrs.ALLOW: "GET, OPTIONS, POST"})
    session = request.app[SERVICE].sessions.find(request.match_info.get("id", ""))
    token = bearer_token(request)
    if session is not None and (session.admits(token) or is_servers_token(request, token)):
        headers.extend(_links(servers_for(request, session)))
    return web.Response(headers=headers)


async def no_content(request: web.Request) -> web.Response:
    """These resources have no representation, but are there."""
    return web.Response(status=204)


async def trickle(request: web.Request) -> web.Response:
    peer = _peer(request)
    if request.content_type != SDP_FRAGMENT:
        raise web.HTTPUnsupportedMediaType(
            text=f"Send ICE candidates as {SDP_FRAGMENT}.", headers={ACCEPT_PATCH: SDP_FRAGMENT}
        )
    try:
        fragment = read_fragment(await request.text())
    except (UnicodeDecodeError, LookupError) as error:
        raise BadOfferError("The body is not text that can be read.") from error
    _check_precondition(request.headers, peer)
    _refuse_restart(fragment, peer)
    for candidate in fragment.candidates:
        await peer.connection.addIceCandidate(candidate)
    if fragment.is_last:
        await peer.connection.addIceCandidate(None)
    return web.Response(status=204)


async def leave(request: web.Request) -> web.Response:
    """No error if that peer has gone already."""
    await request[SESSION].remove_peer(request.match_info["peer"])
    return web.Response(status=200)


def _peer(request: web.Request) -> Peer:
    peer = request[SESSION].peers.get(request.match_info["peer"])
    if peer is None or peer.is_closed:
        raise UnknownSessionError("There is no such connection; it may have ended.")
    return peer


def _check_precondition(headers: Mapping[str, str], peer: Peer) -> None:
    if hdrs.IF_MATCH not in headers:
        raise web.HTTPPreconditionRequired(text="Say by If-Match which ICE session the candidates are for.")
    tags = [tag.strip() for tag in headers[hdrs.IF_MATCH].split(",")]
    if "*" not in tags and peer.etag not in tags:
        raise web.HTTPPreconditionFailed(text="The candidates are for another ICE session than this one.")


def _refuse_restart(fragment: SdpFragment, peer: Peer) -> None:
    if fragment.username_fragment not in (None, peer.remote_username_fragment):
        raise web.HTTPUnprocessableEntity(
            text="ICE restarts are not supported: POST a new offer. The connection stays as it is."
        )


def _links(servers: list[RTCIceServer]) -> list[tuple[str, str]]:
    return [(hdrs.LINK, link_header(server)) for server in servers]


PEER_ROUTES = {hdrs.METH_GET: no_content, hdrs.METH_PATCH: trickle, hdrs.METH_DELETE: leave}
ENDPOINT_ROUTES = {hdrs.METH_GET: no_content, hdrs.METH_OPTIONS: offer_options}


def endpoint_routes(path: str) -> list[web.RouteDef]:
    """All but POST of a WHIP or WHEP endpoint."""
    return [web.route(method, path, handler) for method, handler in ENDPOINT_ROUTES.items()]


def peer_routes(path: str) -> list[web.RouteDef]:
    return [web.route(method, f"{path}/{{peer}}", handler) for method, handler in PEER_ROUTES.items()]
