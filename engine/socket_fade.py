"""How a socket's code passes from one source to the next, and what it does while its source is silent.

No step of a transition is larger than those that moving faces make themselves, however far apart the two
sides are: the fade then takes longer than it was asked to. About a switch the sources' own fastest steps are
taken gently too, in all sockets (`motion_budget`); what is late then comes in no faster than either.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from engine.clock import NS_PER_MS, NS_PER_S
from engine.codes import Code, Socket
from engine.patch_bay import Route
from gcavt.code_space import POSE_DIM

POSE_MOTION: Final = np.array([10.3, 19.3, 3.1, 6.4, 6.2, 1.7, *[10.0] * 6], np.float32)
"""How far a face's landmarks move in the picture, in percent of its height, per unit of a pose's pitch, yaw,
roll, x, y and z (MediaPipe on pictures of `lite`). Beyond those six an exact code is 0."""
POSE_CHANGE: Final = np.array([9.5, 17.5, 8.5, 15.0, 11.0, 9.7, *[10.0] * 6], np.float32)
"""How much the picture's brightness changes per unit of each, so scaled that natural motion has the same p99
by both: a roll moves few landmarks far, but all of the hair."""
NATURAL_STEP: Final[Mapping[Socket, float]] = {"pose": 3.0, "expression": 8.0, "mouth": 8.0}
"""`distance` in 40 ms that 1 % of natural steps exceed: p99 on the built-in clip, read by `lite` from every
picture, is 3.2 (from every other, as live), 10.2 and 10.5 (voice: 9.3)."""
NATURAL_PERIOD_NS: Final = NS_PER_S // 25
FADE_SHARE: Final = 0.55
"""No step of a cross-fade exceeds this share of a natural step: other sockets move meanwhile."""
GENTLE_NS: Final = 600 * NS_PER_MS
"""How long motion stays gentle after a fade is over: what it holds back comes in meanwhile."""
CUT_STEPS: Final = 2.5
"""A source that changes by this many natural steps at once was cut, not moved (the largest motion on the
built-in clip is 1.6)."""
STILL_NS: Final = 100 * NS_PER_MS
"""A source may be silent for this long, as a camera of 12 pictures a second is, before anything happens."""

PATIENCE: Final = 1.6
"""A source that speaks seldom, as a webcam in the dark does, is waited for this many of its usual gaps."""
MAX_GAP_NS: Final = 320 * NS_PER_MS
GAP_WEIGHT: Final = 0.3


@dataclass(frozen=True)
class Spoken:
    """What a route, or idle, says at one tick."""

    code: Code
    take: Hashable
    """Another take is another run of media, or read otherwise: its codes need not follow on the last ones."""


class SocketFade:
    """The code of one socket over time.

    Follows the first route of its chain that speaks. One that falls silent is held, moved on as idle heads
    move, and after `hold_ms` given up for the next of the chain, or for idle.
    """

    def __init__(self, natural_step: float, *, hold_ms: float, ease_ms: float) -> None:
        self.effective: Route | None = None
        """What feeds the socket now; None for idle."""
        self._natural_step = natural_step
        self._hold_ns = hold_ms * NS_PER_MS
        self._ease_ns = ease_ms * NS_PER_MS
        self._spoken: dict[Route, tuple[Spoken, int]] = {}
        self._usual_gap_ns: dict[Route, float] = {}
        self._take: Hashable = None
        self._target: Code | None = None
        self._own_step = 0.0
        self._still_from: Code | None = None
        self._wanted: Code | None = None
        self._longest = math.inf
        self._shown: Code | None = None
        self._shown_ns = 0
        self._is_late = False
        self._fade: _Fade | None = None

    @property
    def is_fading(self) -> bool:
        """Between two sources."""
        return self._fade is not None and self._fade.duration_ns > 0

    def aim(
        self,
        chain: Sequence[Route],
        spoken: Mapping[Route, Spoken],
        idle: Spoken,
        now_ns: int,
        crossfade_ms: float,
    ) -> None:
        """Take in what was said; idle: what to show without a source."""
        self._listen(chain, spoken, now_ns)
        effective = self._choose(chain, now_ns)
        target, take, is_still = self._aim(effective, idle, now_ns)
        if effective != self.effective or take != self._take:
            self._begin(self._duration_ns(effective, chain, crossfade_ms))
        elif is_still != (self._still_from is not None) or self._is_cut(target):
            self._begin(0)
        if not is_still:
            self._still_from = None
        elif self._still_from is None:
            self._still_from = idle.code
        self._own_step = 0.0 if self._target is None else distance(target, self._target)
        self.effective, self._take, self._target = effective, take, target

    def stride(self, now_ns: int, *, is_gentle: bool) -> float:
        """How far it wants to go from what is shown, in natural steps.

        is_gentle: something has been switched, here or elsewhere in the same face.
        """
        assert self._target is not None, "aim comes first"
        self._wanted = self._target if self._fade is None else self._fade.at(self._target, now_ns)
        natural = self._natural_step * min(1.0, (now_ns - self._shown_ns) / NATURAL_PERIOD_NS)
        if self._shown is None or natural <= 0:
            self._longest = math.inf
            return 0.0
        self._longest = self._most_steps(is_gentle) * natural
        if not is_gentle and self._fade is None:
            # what a switch has held back is made up for, never at a leap
            self._longest = max(self._longest, self._own_step)
        way = distance(self._shown, self._wanted)
        if self._wanted is self._target and way <= self._longest:
            self._fade = None  # it has caught up, even if others that move make it take this step slowly
        return min(way, self._longest) / natural

    def move(self, now_ns: int, *, pace: float = 1.0) -> Code:
        """The code to show now, after that share of the stride."""
        assert self._target is not None and self._wanted is not None, "stride comes first"
        if self._shown is None:
            self._shown = self._target
        elif pace < 1:
            way = distance(self._shown, self._wanted)
            self._shown = stepped(self._shown, self._wanted, pace * min(way, self._longest))
        else:
            self._shown = stepped(self._shown, self._wanted, self._longest)
        self._shown_ns = now_ns
        self._is_late = self._shown is not self._target
        if not self._is_late:
            self._fade = None
        return self._shown

    def _most_steps(self, is_gentle: bool) -> float:
        """The longest step, in natural ones."""
        if self.is_fading:
            return FADE_SHARE
        return 1.0 if is_gentle or self._is_late or self._fade is not None else math.inf

    def _duration_ns(self, effective: Route | None, chain: Sequence[Route], crossfade_ms: float) -> float:
        """A voice speaks up out of silence at natural speed, or its first word would be mumbled."""
        if effective is None and chain:
            return self._ease_ns
        if effective is not None and effective.is_sound and self.effective is None:
            return 0
        return crossfade_ms * NS_PER_MS

    def _listen(self, chain: Sequence[Route], spoken: Mapping[Route, Spoken], now_ns: int) -> None:
        kept = {*chain, self.effective}
        for route in spoken.keys() & self._spoken.keys():
            gap_ns = min(now_ns - self._spoken[route][1], MAX_GAP_NS)
            usual_ns = self._usual_gap_ns.get(route, gap_ns)
            self._usual_gap_ns[route] = usual_ns + GAP_WEIGHT * (gap_ns - usual_ns)
        self._spoken = {route: said for route, said in self._spoken.items() if route in kept}
        self._spoken |= {route: (said, now_ns) for route, said in spoken.items() if route in chain}

    def _choose(self, chain: Sequence[Route], now_ns: int) -> Route | None:
        """The first that speaks; what was shown before serves until then, if not for too long."""
        candidates = [*chain, self.effective] if chain and self.effective is not None else chain
        return next((route for route in candidates if route and self._speaks(route, now_ns)), None)

    def _speaks(self, route: Route, now_ns: int) -> bool:
        patience_ns = max(self._hold_ns, PATIENCE * self._usual_gap_ns.get(route, 0))
        return route in self._spoken and now_ns - self._spoken[route][1] <= patience_ns

    def _aim(self, effective: Route | None, idle: Spoken, now_ns: int) -> tuple[Code, Hashable, bool]:
        """Where the code should be, the take it belongs to, and whether its source is silent."""
        if effective is None:
            return idle.code, idle.take, False
        said, heard_ns = self._spoken[effective]
        if now_ns - heard_ns <= STILL_NS:
            return said.code, said.take, False
        start = idle.code if self._still_from is None else self._still_from
        return moved(said.code, idle.code - start), said.take, True

    def _is_cut(self, target: Code) -> bool:
        return self._target is not None and distance(target, self._target) > CUT_STEPS * self._natural_step

    def _begin(self, duration_ns: float) -> None:
        if self._shown is not None:
            self._fade = _Fade(self._shown, self._shown_ns, duration_ns)


@dataclass(frozen=True)
class _Fade:
    start: Code
    start_ns: int
    duration_ns: float

    def at(self, target: Code, now_ns: int) -> Code:
        """On the way; `target` itself when the time is over."""
        progress = (now_ns - self.start_ns) / self.duration_ns if self.duration_ns else 1.0
        if progress >= 1.0:
            return target
        return between(self.start, target, progress * progress * (3 - 2 * progress))


def between(start: Code, end: Code, share: float) -> Code:
    """From `start` (share 0) to `end` (1), or beyond; codes of equal length keep that length on the way.

    Content and expression codes live on a sphere: a straight line would cut through it and mumble.
    """
    return moved(end, (share - 1) * (end - start), is_on_sphere=_are_equally_long(start, end))


def moved(code: Code, step: Code, *, is_on_sphere: bool = True) -> Code:
    """The code moved by a difference of two others; poses in a straight line, others at their length."""
    target = np.asarray(code + step, np.float32)
    length = float(np.linalg.norm(target))
    if len(code) <= POSE_DIM or not is_on_sphere or length == 0:
        return target
    return np.asarray(target * (np.linalg.norm(code) / length), np.float32)


def stepped(start: Code, end: Code, longest: float) -> Code:
    """`end`, or as far towards it as a step of `longest` goes."""
    way = distance(start, end)
    if way <= longest:
        return end
    share = longest / way
    code = between(start, end, share)
    reached = distance(start, code)
    if reached <= longest:  # nothing at all, where the step is lost in rounding
        return code
    # along a sphere equal shares are not equally far
    return between(start, end, share * longest / reached)


def _are_equally_long(one: Code, other: Code) -> bool:
    return bool(np.isclose(np.linalg.norm(one), np.linalg.norm(other), rtol=1e-3))


def distance(one: Code, other: Code) -> float:
    """How far apart two codes look: for poses in percent of the face's height."""
    step = one - other
    if len(step) != POSE_DIM:
        return float(np.linalg.norm(step))
    return float(max(np.linalg.norm(step * POSE_MOTION), np.linalg.norm(step * POSE_CHANGE)))
