"""Which source feeds which socket, and how a socket's code passes from one source to the next."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Final

import numpy as np

from engine.clock import NS_PER_MS
from engine.codes import SOCKETS, Code, Socket
from engine.errors import UnknownSourceError

SOUND_SUFFIX: Final = ":audio"
RESERVED_NAMES: Final = ("idle", "microphone", "clip")
_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,31}")


@dataclass(frozen=True)
class Route:
    """Where a socket's codes come from: a source's pictures or its sound."""

    source: str
    """Name of a source; empty for idle."""
    is_sound: bool = False

    @classmethod
    def parse(cls, text: str) -> Route:
        """From `camera`, `camera:audio`, `microphone` (short for that) or `idle`."""
        if text == "idle":
            return IDLE
        if text == "microphone":
            return cls("camera", is_sound=True)
        return cls(text.removesuffix(SOUND_SUFFIX), text.endswith(SOUND_SUFFIX))

    def __str__(self) -> str:
        if self == Route("camera", is_sound=True):
            return "microphone"
        return (self.source or "idle") + (SOUND_SUFFIX if self.is_sound else "")


IDLE: Final = Route("")
ALWAYS: Final = tuple(Route.parse(text) for text in ("camera", "microphone", "clip", "idle", "clip:audio"))
"""What may be chosen before it is connected: the camera may come later, the clip is opened on demand."""


def check_name(name: str) -> None:
    """Raises UnknownSourceError unless a source may be connected under this name."""
    if name in RESERVED_NAMES:
        raise UnknownSourceError(f"The name {name!r} is taken by a source of our own; choose another.")
    if not _NAME.fullmatch(name):
        raise UnknownSourceError(
            f"{name!r} is no name for a source: 1 to 32 letters, digits, '_', '.' or '-', no colon."
        )


def routes(connected: Mapping[str, Mapping[str, bool]]) -> list[Route]:
    """All that a socket could be fed by; connected: each source's {"video", "audio"}."""
    offered = [Route(name) for name, has in connected.items() if has["video"]]
    offered += [Route(name, is_sound=True) for name, has in connected.items() if has["audio"]]
    return [*ALWAYS, *(route for route in offered if route not in ALWAYS)]


@dataclass(frozen=True, kw_only=True)
class PatchBay:
    """What feeds the three moving sockets. A change makes a new one, so that a frame sees one state."""

    pose: Route = IDLE
    expression: Route = IDLE
    mouth: Route = IDLE

    def patched(
        self, changes: Mapping[str, object], connected: Mapping[str, Mapping[str, bool]] | None = None
    ) -> PatchBay:
        """With these sockets fed by other sources. Raises UnknownSourceError naming the choices.

        connected: the sources there are beyond those that always may be chosen, with what they carry.
        """
        offered = routes(connected or {})
        patched = {socket: _chosen(socket, source, offered) for socket, source in changes.items()}
        return replace(self, **patched)

    def route_of(self, socket: Socket) -> Route:
        return {"pose": self.pose, "expression": self.expression, "mouth": self.mouth}[socket]

    def sockets_fed_by(self, source: str) -> frozenset[Socket]:
        """The sockets that this source's pictures feed."""
        return frozenset(socket for socket in SOCKETS if self.route_of(socket) == Route(source))

    def uses(self, source: str) -> bool:
        return any(self.route_of(socket).source == source for socket in SOCKETS)

    @property
    def voice_source(self) -> str:
        """Whose sound moves the mouth; empty if none does."""
        return self.mouth.source if self.mouth.is_sound else ""

    @property
    def leading(self) -> Route:
        """What decides which moment a picture belongs to: the lips must fit the sound."""
        return next((r for r in (self.mouth, self.pose, self.expression) if r != IDLE), IDLE)


def _chosen(socket: str, source: object, offered: list[Route]) -> Route:
    if socket not in SOCKETS:
        known = ", ".join(("identity", *SOCKETS))
        raise UnknownSourceError(f"There is no socket {socket!r}; the sockets are: {known}.")
    choices = [route for route in offered if socket == "mouth" or not route.is_sound]
    route = Route.parse(source) if isinstance(source, str) else None
    if route not in choices:
        raise UnknownSourceError(
            f"{socket} cannot be fed by {source!r}; choices: {', '.join(map(str, choices))}."
        )
    return route


class SocketFade:
    """The code of one socket over time: follows its source, holds when that goes silent, fades at changes."""

    def __init__(self, *, crossfade_ms: float, hold_ms: float, ease_ms: float) -> None:
        self._crossfade_ns = crossfade_ms * NS_PER_MS
        self._hold_ns = hold_ms * NS_PER_MS
        self._ease_ns = ease_ms * NS_PER_MS
        self._source = ""
        self._is_idle = True
        self._held: tuple[Code, int] | None = None
        self._shown: Code | None = None
        self._fade_from: tuple[Code, int, float] | None = None

    def step(self, source: str, fresh: Code | None, idle: Code, now_ns: int) -> Code:
        """The code to show now.

        fresh: what `source` says this time, None if it said nothing; idle: what to show without a source.
        """
        if source != self._source:
            self._source = source
            self._held = None
            self._begin_fade(now_ns, self._crossfade_ns)
        if fresh is not None:
            self._held = (fresh, now_ns)
        is_idle = source == "idle" or self._held is None or now_ns - self._held[1] > self._hold_ns
        if is_idle != self._is_idle:
            self._is_idle = is_idle
            self._begin_fade(now_ns, self._ease_ns if is_idle and source != "idle" else self._crossfade_ns)
        target = idle if is_idle or self._held is None else self._held[0]
        self._shown = self._faded(target, now_ns)
        return self._shown

    def _begin_fade(self, now_ns: int, duration_ns: float) -> None:
        if self._shown is not None:
            self._fade_from = (self._shown, now_ns, duration_ns)

    def _faded(self, target: Code, now_ns: int) -> Code:
        if self._fade_from is None:
            return target
        start, start_ns, duration_ns = self._fade_from
        progress = (now_ns - start_ns) / duration_ns if duration_ns else 1.0
        if progress >= 1.0:
            self._fade_from = None
            return target
        return between(start, target, progress * progress * (3 - 2 * progress))


def between(start: Code, end: Code, share: float) -> Code:
    """From `start` (share 0) to `end` (1); codes of equal length keep that length on the way.

    Content and expression codes live on a sphere: a straight line would cut through it and mumble.
    """
    code = (1 - share) * start + share * end
    start_length, end_length, length = (float(np.linalg.norm(c)) for c in (start, end, code))
    if length > 0 and np.isclose(start_length, end_length, rtol=1e-3):
        code = code * (end_length / length)
    return np.asarray(code, np.float32)
