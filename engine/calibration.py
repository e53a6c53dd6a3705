"""What a source's neutral face reads as, and how far its face reaches: listened to on command."""

from __future__ import annotations

from collections.abc import Hashable, Iterable
from dataclasses import dataclass, field
from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray

from engine.clock import NS_PER_S
from engine.codes import Code, Socket
from engine.patch_bay import Route
from engine.socket_fade import Spoken
from gcavt import code_space

Subject = Literal["neutral", "range"]

DURATION_NS: Final[dict[Subject, int]] = {"neutral": NS_PER_S, "range": 5 * NS_PER_S}
REACH_PERCENTILE: Final = 98
MIN_REACH: Final = 0.3
"""A weight that never came this far was not tried: it is left as it is."""
MAX_STRETCH: Final = 1.6


@dataclass
class _Recording:
    """Codes since the first one; over when its time is."""

    subject: Subject
    codes: dict[Socket, list[Code]] = field(default_factory=dict)
    start_ns: int | None = None

    def add(self, socket: Socket, code: Code, now_ns: int) -> None:
        self.start_ns = now_ns if self.start_ns is None else self.start_ns
        self.codes.setdefault(socket, []).append(code)

    def is_over(self, now_ns: int) -> bool:
        return self.start_ns is not None and now_ns - self.start_ns >= DURATION_NS[self.subject]


@dataclass
class RouteCalibration:
    """What is known about one route. Used in one thread."""

    version: int = 0
    """Rises whenever what is known changes at once."""
    neutral: dict[Socket, Code] = field(default_factory=dict)
    reach: dict[Socket, NDArray[np.float32]] = field(default_factory=dict)
    _recording: _Recording | None = None
    _first_second: _Recording | None = None
    _first_take: Hashable = None
    """The take whose first second was listened to; None where the neutral pose was asked for."""

    @property
    def is_running(self) -> bool:
        return self._recording is not None

    def forget(self) -> None:
        self.version += 1
        self.neutral.clear()
        self.reach.clear()
        self._recording = self._first_second = self._first_take = None

    def begin(self, subject: Subject) -> None:
        """Listen from the next code on."""
        self._recording = _Recording(subject)

    def observe(self, socket: Socket, code: Code, now_ns: int) -> None:
        """Take in a code as its source gave it."""
        if self._recording is None:
            return
        if self._recording.is_over(now_ns):
            self._learn(self._recording)
            self._recording = None
        else:
            self._recording.add(socket, code, now_ns)

    def follow_first_second(self, said: Spoken, now_ns: int) -> None:
        """Find a neutral pose without being asked: the median of what was seen so far, for one second.

        Another take of the source is listened to afresh, unless its neutral was asked for.
        """
        if self._first_take is not None and said.take != self._first_take:
            self._first_second = None
            self.neutral.pop("pose", None)
        if "pose" in self.neutral and self._first_second is None:
            return
        if self._first_second is None:
            self._first_second, self._first_take = _Recording("neutral"), said.take
        self._first_second.add("pose", said.code, now_ns)
        self.neutral["pose"] = _middle(self._first_second.codes["pose"])
        if self._first_second.is_over(now_ns):
            self._first_second = None

    def _learn(self, recording: _Recording) -> None:
        self.version += 1
        if recording.subject == "neutral":
            if "pose" in recording.codes:
                self._first_second = self._first_take = None
            self.neutral |= {socket: _middle(codes) for socket, codes in recording.codes.items()}
            return
        for socket, codes in recording.codes.items():
            if socket != "pose":
                self.reach[socket] = _stretch(codes, self.neutral.get(socket))


class Calibrations:
    """Of all routes. `serial` is the number of the newest command that was taken in."""

    def __init__(self) -> None:
        self.serial = 0
        self._routes: dict[Route, RouteCalibration] = {}

    def of(self, route: Route) -> RouteCalibration:
        return self._routes.setdefault(route, RouteCalibration())

    def command(self, serial: int, subject: Subject | None, routes: Iterable[Route]) -> None:
        """Listen to these routes from now on, or with None forget everything; each serial counts once."""
        if serial == self.serial:
            return
        self.serial = serial
        if subject is None:
            for calibration in self._routes.values():
                calibration.forget()
            return
        for route in routes:
            self.of(route).begin(subject)


def _middle(codes: list[Code]) -> Code:
    """The median code, as long as the codes are."""
    stacked = np.stack(codes)
    middle = np.median(stacked, axis=0)
    if len(middle) > code_space.POSE_DIM:
        middle *= np.linalg.norm(stacked, axis=1).mean() / np.linalg.norm(middle)
    return np.asarray(middle, np.float32)


def _stretch(codes: list[Code], neutral: Code | None) -> NDArray[np.float32]:
    """(52,) factors from 1 to MAX_STRETCH that bring each weight's reach to 1."""
    weights = code_space.expression_weights(np.stack(codes))
    if neutral is not None:
        weights = weights - code_space.expression_weights(neutral)
    reached = np.percentile(weights, REACH_PERCENTILE, axis=0)
    stretch = np.where(reached < MIN_REACH, 1.0, 1.0 / np.maximum(reached, MIN_REACH))
    return np.asarray(np.clip(stretch, 1.0, MAX_STRETCH), np.float32)
