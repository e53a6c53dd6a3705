import asyncio
from typing import Any, cast

import pytest

from engine.clock import MediaClock
from engine.errors import SessionLimitError, UnknownSessionError
from engine.metrics import PerformanceMetrics
from engine.performance import Performance
from engine.rtc.negotiation import new_connection
from engine.sessions import Peer, Sessions

S = 1_000_000_000


class ManualClock(MediaClock):
    def __init__(self) -> None:
        self.time_ns = 0

    def now_ns(self) -> int:
        return self.time_ns


class QuietPerformance:
    """Only what a session asks of a performance, without any media."""

    def __init__(self, clock: MediaClock) -> None:
        self.metrics = PerformanceMetrics.started(clock)
        self.is_attended = False
        self.is_closed = False

    def start(self) -> None: ...

    async def close(self) -> None:
        await asyncio.sleep(0)
        self.is_closed = True


def quiet(clock: MediaClock) -> Performance:
    return cast(Performance, QuietPerformance(clock))


def test_ids_and_tokens_are_never_the_same() -> None:
    clock = ManualClock()
    sessions = Sessions(clock, limit=50, idle_s=60)
    opened = [sessions.add(quiet(clock)) for _ in range(50)]
    assert len({session.id for session in opened} | {session.token for session in opened}) == 100
    assert all(session.admits(session.token) and not session.admits("") for session in opened)


def test_there_are_no_more_sessions_than_the_limit() -> None:
    clock = ManualClock()
    sessions = Sessions(clock, limit=1, idle_s=60)
    sessions.add(quiet(clock))
    with pytest.raises(SessionLimitError, match="1"):
        sessions.add(quiet(clock))


async def test_a_session_that_nobody_attends_is_ended() -> None:
    clock = ManualClock()
    sessions = Sessions(clock, limit=2, idle_s=60)
    left, attended = sessions.add(quiet(clock)), sessions.add(quiet(clock))
    cast(Any, attended.performance).is_attended = True
    left.performance.metrics.frames = 7
    clock.time_ns = 59 * S
    await sessions.sweep()
    assert len(sessions) == 2
    clock.time_ns = 61 * S
    await sessions.sweep()
    with pytest.raises(UnknownSessionError):
        sessions.get(left.id)
    assert sessions.get(attended.id) is attended
    assert cast(Any, left.performance).is_closed
    assert sessions.finished_frames == 7


async def test_a_peer_that_never_connects_is_let_go() -> None:
    clock = ManualClock()
    sessions = Sessions(clock, limit=1, idle_s=600)
    session = sessions.add(quiet(clock))
    connection = new_connection()
    peer = Peer.of_offer(connection, "a=ice-ufrag:EsAw\r\n", connection.close, clock.now_ns())
    peer_id = session.add_peer(peer)
    assert peer.remote_username_fragment == "EsAw"
    clock.time_ns = 29 * S
    await sessions.sweep()
    assert session.peers == {peer_id: peer}
    clock.time_ns = 31 * S
    await sessions.sweep()
    assert session.peers == {}
    assert peer.is_closed


async def test_a_peer_that_has_gone_is_let_go_at_once() -> None:
    clock = ManualClock()
    sessions = Sessions(clock, limit=1, idle_s=600)
    session = sessions.add(quiet(clock))
    connection = new_connection()
    session.add_peer(Peer.of_offer(connection, "", connection.close, clock.now_ns()))
    await connection.close()
    await sessions.sweep()
    assert session.peers == {}
