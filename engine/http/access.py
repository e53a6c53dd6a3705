"""Who may ask for what: bearer tokens, and which other sites' pages may talk to this server (CORS)."""

from __future__ import annotations

import hmac

from aiohttp import hdrs, web

from engine.http.errors import Handler
from engine.http.service import SERVICE, SESSION

WEBSOCKET_TOKEN = "token"
ALLOWED_HEADERS = "Authorization, Content-Type, If-Match, Link"
EXPOSED_HEADERS = "Location, ETag, Link, Retry-After, Accept-Post, Accept-Patch, WWW-Authenticate"
PREFLIGHT_MAX_AGE_S = 600


@web.middleware
async def authorise(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Everything below /sessions/{id} needs that session's token, or the server's, which admits everywhere.

    The question what is allowed (OPTIONS) needs none: browsers ask it without.
    """
    session_id = request.match_info.get("id")
    if session_id is not None and request.method != hdrs.METH_OPTIONS:
        session = request.app[SERVICE].sessions.get(session_id)
        token = bearer_token(request)
        if not session.admits(token) and not is_servers_token(request, token):
            raise unauthorised("This session needs its token: Authorization: Bearer <token>.")
        request[SESSION] = session
    return await handler(request)


def bearer_token(request: web.Request) -> str:
    """The token that came along, "" without one.

    A page cannot set a header on a WebSocket, so there it may be the query's `token`.
    """
    if request.headers.get(hdrs.UPGRADE, "").lower() == "websocket" and WEBSOCKET_TOKEN in request.query:
        return request.query[WEBSOCKET_TOKEN]
    scheme, _, token = request.headers.get(hdrs.AUTHORIZATION, "").partition(" ")
    return token.strip() if scheme.lower() == "bearer" else ""


def is_servers_token(request: web.Request, token: str) -> bool:
    expected = request.app[SERVICE].config.token
    return expected is not None and hmac.compare_digest(expected.encode(), token.encode())


def require_servers_token(request: web.Request) -> None:
    """Raises HTTPForbidden where the server was started without a token, HTTPUnauthorized for a wrong one."""
    if request.app[SERVICE].config.token is None:
        raise web.HTTPForbidden(text="This needs a server that was started with --token-file.")
    if not is_servers_token(request, bearer_token(request)):
        raise unauthorised("This needs the server's token: Authorization: Bearer <token>.")


def unauthorised(sentence: str) -> web.HTTPUnauthorized:
    return web.HTTPUnauthorized(text=sentence, headers={hdrs.WWW_AUTHENTICATE: "Bearer"})


@web.middleware
async def share_with_origins(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Answer preflights, and let the configured sites' pages read the answers."""
    is_preflight = (
        request.method == hdrs.METH_OPTIONS and hdrs.ACCESS_CONTROL_REQUEST_METHOD in request.headers
    )
    response = _preflight(request) if is_preflight else await handler(request)
    origin = request.headers.get(hdrs.ORIGIN)
    allowed = request.app[SERVICE].config.allow_origins
    if origin is not None and ("*" in allowed or origin in allowed):
        response.headers[hdrs.ACCESS_CONTROL_ALLOW_ORIGIN] = origin
        response.headers[hdrs.ACCESS_CONTROL_EXPOSE_HEADERS] = EXPOSED_HEADERS
        response.headers.add(hdrs.VARY, hdrs.ORIGIN)
    return response


def _preflight(request: web.Request) -> web.Response:
    wanted = request.headers[hdrs.ACCESS_CONTROL_REQUEST_METHOD]
    return web.Response(
        headers={
            hdrs.ACCESS_CONTROL_ALLOW_METHODS: wanted,
            hdrs.ACCESS_CONTROL_ALLOW_HEADERS: ALLOWED_HEADERS,
            hdrs.ACCESS_CONTROL_MAX_AGE: str(PREFLIGHT_MAX_AGE_S),
        }
    )
