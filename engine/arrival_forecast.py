"""When a camera's next picture is due, by the last ones."""

from __future__ import annotations

SMOOTHING = 0.1
MAX_MISSED = 4
"""After a longer pause than so many pictures the rate is learnt anew."""


class ArrivalForecast:
    """Follows the arrivals of one source, of which some may not have been noted."""

    def __init__(self) -> None:
        self._last_ns: int | None = None
        self._period_ns: float | None = None

    def note(self, arrival_ns: int) -> None:
        last_ns, self._last_ns = self._last_ns, arrival_ns
        if last_ns is None or arrival_ns <= last_ns:
            return
        interval_ns = arrival_ns - last_ns
        pictures = 1 if self._period_ns is None else max(1, round(interval_ns / self._period_ns))
        if self._period_ns is None or pictures > MAX_MISSED:
            self._period_ns = float(interval_ns)
        else:
            self._period_ns += SMOOTHING * (interval_ns / pictures - self._period_ns)

    def is_due(self, now_ns: int, within_ns: int) -> bool:
        """Whether a picture is to be expected from `within_ns` ago until `within_ns` from now."""
        if self._last_ns is None or self._period_ns is None:
            return False
        passed = (now_ns - self._last_ns) / self._period_ns
        return 1 <= round(passed) <= MAX_MISSED and abs(passed - round(passed)) * self._period_ns <= within_ns
