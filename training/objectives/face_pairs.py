"""Batches of many people's faces, real ones among them, in pairs of frames of one person.

What a person's look makes wrong is the same in both frames of a pair, so a loss can ask for their motion.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from engine.errors import BadMediaError
from training.datasets.faces import Faces
from training.datasets.real_frames import RealFrame, RealFrames, varied

HELD_OUT_PEOPLE = 40
"""A quarter of them, where there are less than four times as many."""


class FacePairs:
    def __init__(self, faces: Faces, real_frames: RealFrames | None, real_share: float) -> None:
        """Raises BadMediaError where fewer than two people were tracked twice."""
        self.faces = faces
        self.real_frames = real_frames
        self.real_share = real_share if real_frames is not None else 0.0
        people = [rows for rows in faces.people if len(rows) > 1]
        if len(people) < 2:
            raise BadMediaError("image encoders learn from pairs of frames of at least two people")
        held_out = min(HELD_OUT_PEOPLE, (len(people) + 3) // 4)
        self.people, self.held_out = people[:-held_out], people[-held_out:]

    def draw(self, rng: np.random.Generator, batch_size: int, turn_deg: float) -> list[RealFrame]:
        """Pairs, one after the other; rendered faces turned by up to turn_deg, real ones as RealFrames do."""
        real = round(batch_size * self.real_share / 2)
        frames = []
        for _ in range(batch_size // 2 - real):
            for row in rng.choice(self.people[rng.integers(len(self.people))], 2, replace=False):
                frames.append(varied(self.faces.frame(row), rng, turn_deg))
        for _ in range(real):
            assert self.real_frames is not None
            frames += self.real_frames.draw_pair(rng)
        return frames

    def held_out_rows(self) -> NDArray[np.intp]:
        """The frames of all who are held out."""
        return np.concatenate(self.held_out)
