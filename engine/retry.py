"""How long to wait before something that failed is tried again."""

from __future__ import annotations

FIRST_S = 0.5
LONGEST_S = 10.0


class Backoff:
    """Waits that double with every failure, from half a second to ten."""

    def __init__(self, first_s: float = FIRST_S, longest_s: float = LONGEST_S) -> None:
        self._first_s = first_s
        self._longest_s = longest_s
        self._next_s = first_s

    def next_s(self) -> float:
        """Seconds to wait now; twice as long the next time."""
        wait_s, self._next_s = self._next_s, min(self._longest_s, 2 * self._next_s)
        return wait_s

    def reset(self) -> None:
        """It worked: the next failure waits little again."""
        self._next_s = self._first_s
