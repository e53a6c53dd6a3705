"""Which source feeds which socket, and how a socket's code passes from one source to the next."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from engine.clock import NS_PER_MS
from engine.errors import UnknownSourceError

Code = NDArray[np.float32]
Socket = Literal["pose", "expression", "mouth"]

SOCKETS: tuple[Socket, ...] = ("pose", "expression", "mouth")
PICTURE_SOURCES = ("camera", "clip")
"""Sources with a face to follow. `microphone` is the sound that the camera's publisher sends along."""
CHOICES: Mapping[str, tuple[str, ...]] = {
    "pose": ("camera", "clip", "idle"),
    "expression": ("camera", "clip", "idle"),
    "mouth": ("camera", "microphone", "clip", "idle"),
}


@dataclass(frozen=True, kw_only=True)
class PatchBay:
    """What feeds the three moving sockets. A change makes a new one, so that a frame sees one state."""

    pose: str = "idle"
    expression: str = "idle"
    mouth: str = "idle"

    def patched(self, changes: Mapping[str, object]) -> PatchBay:
        """With these sockets fed by other sources. Raises UnknownSourceError naming the choices."""
        for socket, source in changes.items():
            if socket not in CHOICES:
                known = ", ".join(("identity", *SOCKETS))
                raise UnknownSourceError(f"There is no socket {socket!r}; the sockets are: {known}.")
            if source not in CHOICES[socket]:
                choices = ", ".join(CHOICES[socket])
                raise UnknownSourceError(f"{socket} cannot be fed by {source!r}; choices: {choices}.")
        return replace(self, **{socket: str(source) for socket, source in changes.items()})

    def source_of(self, socket: Socket) -> str:
        return {"pose": self.pose, "expression": self.expression, "mouth": self.mouth}[socket]

    def sockets_fed_by(self, source: str) -> frozenset[Socket]:
        return frozenset(socket for socket in SOCKETS if self.source_of(socket) == source)

    @property
    def sound_source(self) -> str:
        """Whose sound goes with the picture: the clip's when it moves the mouth, else the publisher's."""
        return "clip" if self.mouth == "clip" else "camera"


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
