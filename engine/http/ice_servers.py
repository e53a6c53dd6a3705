"""STUN and TURN servers for our own side and, as Link headers, for the peer's."""

from __future__ import annotations

import base64
import hashlib
import hmac

from aiortc import RTCIceServer

from engine.config import RtcConfig

TURN_LIFETIME_S = 12 * 3600
"""Longer than a stream lasts: what stops relaying at the end of this is an allocation, not a login."""


def ice_servers(config: RtcConfig, user: str, now_s: float) -> list[RTCIceServer]:
    """All configured servers; TURN with a password that only `user` gets. now_s: seconds since 1970."""
    servers = [RTCIceServer(urls=url) for url in config.ice_servers]
    if config.turn_secret is not None:
        username, password = turn_credentials(config.turn_secret, user, round(now_s) + TURN_LIFETIME_S)
        servers += [RTCIceServer(urls=url, username=username, credential=password) for url in config.turn]
    return servers


def turn_credentials(secret: str, user: str, expires_s: int) -> tuple[str, str]:
    """(username, password) that a TURN server which shares `secret` takes until `expires_s`.

    Source: "A REST API For Access To TURN Services" (draft-uberti-behave-turn-rest-00), as in coturn's
    use-auth-secret: the password is base64(HMAC-SHA1(secret, "expiry:user")).
    """
    username = f"{expires_s}:{user}"
    digest = hmac.new(secret.encode(), username.encode(), hashlib.sha1).digest()
    return username, base64.b64encode(digest).decode()


def link_header(server: RTCIceServer) -> str:
    """One Link header value (RFC 9725, "STUN/TURN Server Configuration")."""
    parts = [f"<{server.urls}>", 'rel="ice-server"']
    if server.username is not None:
        parts += [f'username="{server.username}"', f'credential="{server.credential}"']
        parts.append('credential-type="password"')
    return "; ".join(parts)
