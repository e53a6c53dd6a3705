"""The live sessions of one server: who may enter, how many there may be, when one has been left."""

from __future__ import annotations

import hmac
import secrets
from collections.abc import Iterator
from dataclasses import dataclass, field

from engine.clock import NS_PER_S, MediaClock
from engine.errors import SessionLimitError, UnknownSessionError
from engine.performance import Performance
from engine.sinks.webrtc import WebRtcSink


@dataclass
class Session:
    """A performance with its address (id) and its key (token)."""

    performance: Performance
    id: str = field(default_factory=lambda: secrets.token_urlsafe(9))
    token: str = field(default_factory=lambda: secrets.token_urlsafe(24))
    viewers: dict[str, WebRtcSink] = field(default_factory=dict)
    attended_ns: int = 0

    def add_viewer(self, sink: WebRtcSink) -> str:
        """Send the performance to `sink` too; returns the viewer's id."""
        viewer_id = secrets.token_urlsafe(9)
        self.viewers[viewer_id] = sink
        self.performance.watch(sink)
        return viewer_id

    async def remove_viewer(self, viewer_id: str) -> None:
        """No error if that viewer has gone already."""
        sink = self.viewers.pop(viewer_id, None)
        if sink is not None:
            await self.performance.unwatch(sink)

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

    def add(self, performance: Performance) -> Session:
        """Open a session for `performance` and start it. Raises SessionLimitError."""
        self.check_room()
        session = Session(performance, attended_ns=self._clock.now_ns())
        self._by_id[session.id] = session
        performance.start()
        return session

    def get(self, session_id: str) -> Session:
        """Raises UnknownSessionError."""
        session = self._by_id.get(session_id)
        if session is None:
            raise UnknownSessionError("There is no such session; it may have ended.")
        return session

    async def end(self, session: Session) -> None:
        self._by_id.pop(session.id, None)
        self.finished_frames += session.performance.metrics.frames
        await session.performance.close()

    async def end_all(self) -> None:
        for session in self:
            await self.end(session)

    async def sweep(self) -> None:
        """Drop viewers whose connection is over, and sessions that nobody has attended for long."""
        now_ns = self._clock.now_ns()
        for session in self:
            for viewer_id, sink in list(session.viewers.items()):
                if sink.is_over:
                    await session.remove_viewer(viewer_id)
            await session.performance.drop_lost_sources()
            if session.performance.is_attended:
                session.attended_ns = now_ns
            elif now_ns - session.attended_ns > self._idle_ns:
                await self.end(session)
