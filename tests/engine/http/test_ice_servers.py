import base64
import hashlib
import hmac

from aiortc import RTCIceServer

from engine.config import RtcConfig
from engine.http.ice_servers import TURN_LIFETIME_S, ice_servers, link_header, turn_credentials


def test_a_turn_password_is_signed_with_the_shared_secret() -> None:
    username, password = turn_credentials("north", "alice", expires_s=1_700_000_000)
    assert username == "1700000000:alice"
    assert base64.b64decode(password) == hmac.digest(b"north", b"1700000000:alice", hashlib.sha1)


def test_passwords_end_and_differ_between_users() -> None:
    config = RtcConfig(turn=("turn:relay.example",), turn_secret="north")
    (first,), (second,) = (ice_servers(config, user, now_s=1000.4) for user in ("alice", "bob"))
    assert first.username == f"{1000 + TURN_LIFETIME_S}:alice"
    assert first.credential != second.credential


def test_a_server_without_a_login_is_only_an_address() -> None:
    assert link_header(RTCIceServer(urls="stun:stun.example")) == '<stun:stun.example>; rel="ice-server"'
