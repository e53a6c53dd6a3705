"""When pictures of several sessions are drawn together: how long the first of them waits for the others."""

from __future__ import annotations

from collections import deque
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Final

from engine.clock import NS_PER_MS

SPARE_LOAD: Final = 0.7
"""A device that would be busy for less than this share of the time, drawing one by one, waits for nobody."""
GRACE_NS: Final = 4 * NS_PER_MS
"""How much later than foreseen a session's next picture may come before it is waited for no longer."""
REMEMBERED_RUNS: Final = 16
MAX_MISSED: Final = 4
"""A session that skipped so many pictures is gone."""
SMOOTHING: Final = 0.2


@dataclass(frozen=True, kw_only=True)
class Waiting:
    """A picture that is to be drawn."""

    session: Hashable
    deadline_ns: int
    """When it should be ready."""


@dataclass
class _Rhythm:
    last_ns: int
    period_ns: float | None = None


class BatchPolicy:
    """Learns how long batches take and when sessions ask; told every time, so that tests bring their own.

    Pictures are collected until the earliest deadline less the time that drawing them takes, until the batch
    is full, or until nobody else is foreseen to come in time: a lone session never waits.
    """

    def __init__(self, largest: int) -> None:
        self.largest = largest
        self._runs_ns: dict[int, deque[int]] = {}
        self._rhythms: dict[Hashable, _Rhythm] = {}

    def note_request(self, session: Hashable, now_ns: int) -> None:
        rhythm = self._rhythms.get(session)
        if rhythm is None:
            self._rhythms[session] = _Rhythm(now_ns)
            return
        interval_ns, rhythm.last_ns = now_ns - rhythm.last_ns, now_ns
        if rhythm.period_ns is None or interval_ns > MAX_MISSED * rhythm.period_ns:
            rhythm.period_ns = float(interval_ns)
        else:
            rhythm.period_ns += SMOOTHING * (interval_ns - rhythm.period_ns)

    def forget(self, session: Hashable) -> None:
        self._rhythms.pop(session, None)

    def note_run(self, pictures: int, duration_ns: int) -> None:
        """The first run of every size is passed over: it compiles."""
        if pictures in self._runs_ns:
            self._runs_ns[pictures].append(duration_ns)
        else:
            self._runs_ns[pictures] = deque(maxlen=REMEMBERED_RUNS)

    def run_time_ns(self, pictures: int) -> int:
        """The longest that so many, or the next more ever drawn, took of late; 0: nothing is known."""
        known = sorted(count for count, runs_ns in self._runs_ns.items() if runs_ns)
        if not known:
            return 0
        nearest = next((count for count in known if count >= pictures), known[-1])
        return max(self._runs_ns[nearest]) * max(1, -(-pictures // nearest))

    def start_ns(self, waiting: Sequence[Waiting], now_ns: int) -> int:
        """When to begin with those that wait, if nobody else comes before; not after now_ns: at once."""
        if len(waiting) >= self.largest:
            return now_ns
        run_ns = self.run_time_ns(len(waiting) + 1)
        latest_ns = min(picture.deadline_ns for picture in waiting) - run_ns
        if self._load(now_ns) < SPARE_LOAD:
            return now_ns
        present = {picture.session for picture in waiting}
        due_ns = [
            due
            for session, rhythm in self._rhythms.items()
            if session not in present and (due := _next_ns(rhythm)) is not None
            if now_ns <= due + GRACE_NS and due <= latest_ns
        ]
        return min(latest_ns, max(due_ns) + GRACE_NS) if due_ns else now_ns

    def _load(self, now_ns: int) -> float:
        """Share of the time that drawing everybody's pictures one by one would take."""
        one_ns = self.run_time_ns(1)
        return sum(
            one_ns / rhythm.period_ns
            for rhythm in self._rhythms.values()
            if rhythm.period_ns and now_ns - rhythm.last_ns < MAX_MISSED * rhythm.period_ns
        )


def _next_ns(rhythm: _Rhythm) -> int | None:
    return None if rhythm.period_ns is None else round(rhythm.last_ns + rhythm.period_ns)
