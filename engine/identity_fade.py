"""How the avatar's face passes into another: what the generator knows of both is mixed, not their pictures.

So both are one head in one pose all the way, and a picture costs one run of the generator as ever.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Final

import numpy as np

from engine.clock import NS_PER_MS, NS_PER_S
from engine.socket_fade import NATURAL_PERIOD_NS

if TYPE_CHECKING:
    from engine.puppeteer import IdentityState

NATURAL_CHANGE: Final = 2.0
"""Mean change of a picture's values (0 to 255) in 40 ms that a fade does not exceed: less than a moving
head's, so that both together look like one (`gcavt bench switch`)."""
UNWATCHED_NS: Final = NS_PER_S
"""Where no picture was drawn for this long nobody has been watching."""


class IdentityFade:
    """The identity over time. Used in one thread."""

    def __init__(self) -> None:
        self._target: IdentityState | None = None
        self._start: IdentityState | None = None
        self._shown: IdentityState | None = None
        self._shown_ns = 0
        self._gone_ns = 0.0
        self._duration_ns = 0.0

    def is_under_way(self, target: IdentityState) -> bool:
        """Whether the step to `target` is one from another face."""
        return self._shown is not None and self._shown is not target

    def step(
        self, target: IdentityState, now_ns: int, crossfade_ms: float, *, pace: float = 1.0
    ) -> IdentityState:
        """What to draw now. Faces that look very different take longer than crossfade_ms.

        pace: below 1 while the head itself moves so fast that both together would look like a jump.
        """
        if target is not self._target:
            self._start, self._gone_ns = self._shown, 0.0
            self._duration_ns = max(crossfade_ms * NS_PER_MS, _natural_duration_ns(self._shown, target))
            self._target = target
        elapsed_ns = now_ns - self._shown_ns
        if elapsed_ns < UNWATCHED_NS:  # after pictures that failed to come it goes on from where it was
            elapsed_ns = min(elapsed_ns, NATURAL_PERIOD_NS)
        self._gone_ns += pace * elapsed_ns
        self._shown, self._shown_ns = self._at(target), now_ns
        return self._shown

    def _at(self, target: IdentityState) -> IdentityState:
        if self._start is None or self._gone_ns >= self._duration_ns:
            self._start = None
            return target
        return mixed(self._start, target, self._gone_ns / self._duration_ns)


def mixed(start: IdentityState, end: IdentityState, share: float) -> IdentityState:
    """`end` so far as it is drawn: the start at share 0, itself at 1. Both are of the same model."""
    share = float(np.float32(share))
    tensors = {
        name: (1 - share) * start.tensors[name] + share * tensor for name, tensor in end.tensors.items()
    }
    portrait = (1 - share) * start.portrait_HWC + share * end.portrait_HWC
    return replace(end, tensors=tensors, portrait_HWC=portrait.astype(np.uint8))


def _natural_duration_ns(start: IdentityState | None, end: IdentityState) -> float:
    if start is None:
        return 0.0
    change = np.abs(end.portrait_HWC.astype(np.int16) - start.portrait_HWC).mean()
    return float(change) / NATURAL_CHANGE * NATURAL_PERIOD_NS
