"""Which source feeds which socket, and how strongly."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final, Literal, TypeGuard, get_args

from engine.codes import SOCKETS, Socket
from engine.errors import ControlError, UnknownSourceError

SOUND_SUFFIX: Final = ":audio"
RESERVED_NAMES: Final = ("idle", "microphone", "clip")
MAX_GAIN: Final = 2.0
MAX_CROSSFADE_MS: Final = 5_000
PoseMode = Literal["absolute", "relative"]
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
    if not is_name(name):
        raise UnknownSourceError(
            f"{name!r} is no name for a source: 1 to 32 letters, digits, '_', '.' or '-', no colon."
        )


def is_name(name: str) -> bool:
    """Whether a source could be called so."""
    return _NAME.fullmatch(name) is not None


def routes(connected: Mapping[str, Mapping[str, bool]]) -> list[Route]:
    """All that a socket could be fed by; connected: each source's {"video", "audio"}."""
    offered = [Route(name) for name, has in connected.items() if has["video"]]
    offered += [Route(name, is_sound=True) for name, has in connected.items() if has["audio"]]
    return [*ALWAYS, *(route for route in offered if route not in ALWAYS)]


@dataclass(frozen=True, kw_only=True)
class Gains:
    """How strongly each socket's motion is shown: 0 not at all, 1 as it is, 2 twice as much."""

    pose: float = 1.0
    expression: float = 1.0
    mouth: float = 1.0

    def of(self, socket: Socket) -> float:
        return {"pose": self.pose, "expression": self.expression, "mouth": self.mouth}[socket]

    def patched(self, changes: object) -> Gains:
        """Raises ControlError unless `changes` names sockets with numbers from 0 to MAX_GAIN."""
        if not isinstance(changes, Mapping):
            raise ControlError(f'gains must be an object such as {{"pose": 1.2}}, got {changes!r}.')
        for socket, gain in changes.items():
            if socket not in SOCKETS:
                raise ControlError(f"There is no gain {socket!r}; the gains are: {', '.join(SOCKETS)}.")
            if not _is_number(gain) or not 0 <= gain <= MAX_GAIN:
                raise ControlError(f"The gain of {socket} must be 0 to {MAX_GAIN:g}, got {gain!r}.")
        return replace(self, **{str(socket): float(gain) for socket, gain in changes.items()})


@dataclass(frozen=True, kw_only=True)
class PatchBay:
    """What feeds the three moving sockets. A change makes a new one, so that a frame sees one state."""

    pose: Route = IDLE
    expression: Route = IDLE
    mouth: Route = IDLE
    gains: Gains = field(default_factory=Gains)
    pose_mode: PoseMode = "absolute"
    """relative: the source's motion about its own neutral moves the avatar about its own rest."""
    crossfade_ms: int = 200
    """From what is shown to what comes next, where a socket is re-patched."""

    def patched(
        self, changes: Mapping[str, object], connected: Mapping[str, Mapping[str, bool]] | None = None
    ) -> PatchBay:
        """With these changes made. Raises UnknownSourceError naming the choices, ControlError for the rest.

        connected: the sources there are beyond those that always may be chosen, with what they carry.
        """
        offered = routes(connected or {})
        patched: dict[str, Any] = {}
        for key, value in changes.items():
            if key in SOCKETS:
                patched[key] = _chosen(key, value, offered)
            elif key == "gains":
                patched[key] = self.gains.patched(value)
            elif key == "pose_mode":
                patched[key] = _pose_mode(value)
            elif key == "crossfade_ms":
                patched[key] = _crossfade_ms(value)
            else:
                raise UnknownSourceError(
                    f"There is no socket {key!r}; the sockets are: identity, {', '.join(SOCKETS)}; "
                    "the settings are: gains, pose_mode, crossfade_ms, calibrate, background."
                )
        return replace(self, **patched)

    def route_of(self, socket: Socket) -> Route:
        return {"pose": self.pose, "expression": self.expression, "mouth": self.mouth}[socket]

    def chain(self, socket: Socket) -> tuple[Route, ...]:
        """What feeds the socket, then what does while that is silent: after a seen mouth the heard one."""
        route = self.route_of(socket)
        if route == IDLE:
            return ()
        if socket == "mouth" and not route.is_sound:
            return (route, Route(route.source, is_sound=True))
        return (route,)

    def sockets_fed_by(self, source: str) -> frozenset[Socket]:
        """The sockets that this source's pictures feed."""
        return frozenset(socket for socket in SOCKETS if self.route_of(socket) == Route(source))

    def uses(self, source: str) -> bool:
        return any(self.route_of(socket).source == source for socket in SOCKETS)

    @property
    def leading(self) -> Route:
        """What decides which moment a picture belongs to: the lips must fit the sound."""
        return next((r for r in (self.mouth, self.pose, self.expression) if r != IDLE), IDLE)


def _chosen(socket: str, source: object, offered: list[Route]) -> Route:
    choices = [route for route in offered if socket == "mouth" or not route.is_sound]
    route = Route.parse(source) if isinstance(source, str) else None
    if route not in choices:
        raise UnknownSourceError(
            f"{socket} cannot be fed by {source!r}; choices: {', '.join(map(str, choices))}."
        )
    return route


def _pose_mode(value: object) -> PoseMode:
    modes: tuple[PoseMode, ...] = get_args(PoseMode)
    for mode in modes:
        if value == mode:
            return mode
    raise ControlError(f"pose_mode must be {' or '.join(modes)}, got {value!r}.")


def _crossfade_ms(value: object) -> int:
    if not _is_number(value) or not 0 <= value <= MAX_CROSSFADE_MS:
        raise ControlError(f"crossfade_ms must be 0 to {MAX_CROSSFADE_MS}, got {value!r}.")
    return round(value)


def _is_number(value: object) -> TypeGuard[float]:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
