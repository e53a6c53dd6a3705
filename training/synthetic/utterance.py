"""What a speech engine is asked for and what it gives."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from training.synthetic.visemes import TimedSymbol

Engine = Literal["espeak", "flite", "kokoro"]


class EngineMissingError(RuntimeError):
    """A speech engine is not installed; the message says how to install it."""


@dataclass(frozen=True, kw_only=True)
class Voice:
    """How to speak. Rate is in words per minute; pitch and pitch range are 0 to 99 and espeak's alone."""

    name: str = "en-us"
    """Of the engine's own voices; for espeak-ng optionally with a variant: "en-us+f3"."""
    rate_wpm: int = 165
    pitch: int = 50
    pitch_range: int = 50
    engine: Engine = "espeak"


@dataclass(frozen=True, kw_only=True, eq=False)
class Speech:
    """One utterance: mono sound in [-1, 1] and when each IPA phoneme sounds."""

    text: str
    samples: NDArray[np.float32]
    sample_rate: int
    phonemes: tuple[TimedSymbol, ...]
    words: tuple[TimedSymbol, ...] = ()
    """What is said when; empty where the engine does not tell."""

    @property
    def duration_s(self) -> float:
        return len(self.samples) / self.sample_rate
