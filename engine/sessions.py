"""The live sessions of one server: who may enter, how many there may be, when one has been left."""

from __future__ import annotations

import asyncio
import hmac
import re
import secrets
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from aiortc import RTCPeerConnection

from engine.clock import NS_PER_MS, NS_PER_S, MediaClock
from engine.errors import SessionLimitError, UnknownSessionError
from engine.performance import Performance
from engine.sinks.sink import Sink
from engine.sinks.webrtc import ReportedPicture
from engine.sources.source import problem_of

CONNECT_NS = 30 * NS_PER_S
"""A peer that has not connected this long after its offer is let go."""


def _nothing_reported() -> ReportedPicture | None:
    return None


def _random_tag() -> str:
    return f'"{secrets.token_urlsafe(9)}"'


@dataclass(frozen=True, kw_only=True)
class Peer:
    """One negotiated WebRTC connection: a publisher or a viewer."""

    connection: RTCPeerConnection
    remote_username_fragment: str
    """Of the offer's ICE agent: it names the ICE session that trickled candidates belong to."""
    leave: Callable[[], Awaitable[None]]
    """Take out of the performance what came over this connection, and close it."""
    opened_ns: int
    reported_picture: Callable[[], ReportedPicture | None] = _nothing_reported
    """Of a viewer: the picture that the last sender report spoke of."""
    etag: str = field(default_factory=_random_tag)
    """The strong entity tag of the ICE session."""

    @classmethod
    def of_offer(
        cls,
        connection: RTCPeerConnection,
        offer: str,
        leave: Callable[[], Awaitable[None]],
        opened_ns: int,
        reported_picture: Callable[[], ReportedPicture | None] = _nothing_reported,
    ) -> Peer:
        """The peer that sent `offer`, an SDP text that was checked."""
        fragment = re.search(r"^a=ice-ufrag:(\S+)", offer, re.MULTILINE)
        return cls(
            connection=connection,
            remote_username_fragment=fragment[1] if fragment else "",
            leave=leave,
            opened_ns=opened_ns,
            reported_picture=reported_picture,
        )

    @property
    def is_closed(self) -> bool:
        return self.connection.connectionState == "closed"

    def is_over(self, now_ns: int) -> bool:
        """It has failed, was closed, or never came to be."""
        state = self.connection.connectionState
        is_late = state in ("new", "connecting") and now_ns - self.opened_ns > CONNECT_NS
        return is_late or state in ("failed", "closed")


@dataclass(frozen=True)
class NamedSink:
    """A sink that was opened by description."""

    sink: Sink
    kind: str
    label: str
    """Where it leads, in a few words without a secret."""

    def state(self) -> dict[str, str]:
        problem = problem_of(self.sink)
        return {"kind": self.kind, "label": self.label, **({"problem": problem} if problem else {})}


@dataclass
class Session:
    """A performance with its address (id) and its key (token)."""

    performance: Performance
    id: str = field(default_factory=lambda: secrets.token_urlsafe(9))
    token: str = field(default_factory=lambda: secrets.token_urlsafe(24))
    peers: dict[str, Peer] = field(default_factory=dict)
    sinks: dict[str, NamedSink] = field(default_factory=dict)
    conversations: set[asyncio.Task[Any]] = field(default_factory=set)
    """Tasks that serve open WebSockets; they end with the session."""
    attended_ns: int = 0

    def state(self) -> dict[str, Any]:
        """What GET /sessions/{id} tells: the performance, where else it goes, what its viewers see."""
        pictures = {peer_id: peer.reported_picture() for peer_id, peer in self.peers.items()}
        return {
            **self.performance.state(),
            "sinks": {sink_id: named.state() for sink_id, named in self.sinks.items()},
            "viewers": {
                peer_id: {
                    "rtp_time": picture.rtp_time,
                    "captured_ms": picture.capture_time_ns / NS_PER_MS,
                    "tick_ms": picture.tick_ns / NS_PER_MS,
                }
                for peer_id, picture in pictures.items()
                if picture is not None
            },
        }

    def add_peer(self, peer: Peer) -> str:
        """Returns the peer's id, which cannot be guessed."""
        peer_id = secrets.token_urlsafe(9)
        self.peers[peer_id] = peer
        return peer_id

    async def remove_peer(self, peer_id: str) -> None:
        """No error if that peer has gone already."""
        peer = self.peers.pop(peer_id, None)
        if peer is not None:
            await peer.leave()

    @contextmanager
    def conversing(self) -> Iterator[None]:
        """While it lasts the running task is one of the session's conversations."""
        task = asyncio.current_task()
        assert task is not None
        self.conversations.add(task)
        try:
            yield
        finally:
            self.conversations.discard(task)

    def admits(self, token: str) -> bool:
        return hmac.compare_digest(self.token.encode(), token.encode())


class Sessions:
    """All sessions by id, at most `limit`."""

    def __init__(self, clock: MediaClock, limit: int, idle_s: float) -> None:
        self._clock = clock
        self._limit = limit
        self._idle_ns = int(idle_s * NS_PER_S)
        self._by_id: dict[str, Session] = {}
        self.finished_frames = 0

    def __len__(self) -> int:
        return len(self._by_id)

    def __iter__(self) -> Iterator[Session]:
        return iter(list(self._by_id.values()))

    def check_room(self) -> None:
        """Raises SessionLimitError if there is no room for one more."""
        if len(self._by_id) >= self._limit:
            raise SessionLimitError(f"All {self._limit} sessions are taken; try again in a while.")

    def add(self, performance: Performance, name: str | None = None) -> Session:
        """Open a session for `performance` and start it; `name` becomes its id. Raises SessionLimitError."""
        self.check_room()
        session = Session(performance, attended_ns=self._clock.now_ns())
        if name is not None:
            session.id = name
        self._by_id[session.id] = session
        performance.start()
        return session

    def find(self, session_id: str) -> Session | None:
        return self._by_id.get(session_id)

    def get(self, session_id: str) -> Session:
        """Raises UnknownSessionError."""
        session = self.find(session_id)
        if session is None:
            raise UnknownSessionError("There is no such session; it may have ended.")
        return session

    async def end(self, session: Session) -> None:
        self._by_id.pop(session.id, None)
        self.finished_frames += session.performance.metrics.frames
        for conversation in session.conversations:
            conversation.cancel()
        await session.performance.close()

    async def end_all(self) -> None:
        for session in self:
            await self.end(session)

    async def sweep(self) -> None:
        """Drop peers whose connection is over, and sessions that nobody has attended for long."""
        now_ns = self._clock.now_ns()
        for session in self:
            for peer_id, peer in list(session.peers.items()):
                if peer.is_over(now_ns):
                    await session.remove_peer(peer_id)
            if session.performance.is_attended:
                session.attended_ns = now_ns
            elif now_ns - session.attended_ns > self._idle_ns:
                await self.end(session)
