"""Flicker: change from frame to frame that is no movement."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def flicker(film_THWC: NDArray[np.uint8]) -> float:
    """Mean over pixels and time of |x[t-1] - 2 x[t] + x[t+1]| / 2, in 1/255.

    A picture that jumps to and fro between two values d apart reads d; one that fades steadily reads 0.
    Sharp things that move read more than 0, so a moving film is compared with the exact one.
    Raises ValueError for fewer than three frames.
    """
    if len(film_THWC) < 3:
        raise ValueError(f"needs at least three frames, got {len(film_THWC)}")
    before, now, after = film_THWC[:-2], film_THWC[1:-1], film_THWC[2:]
    return float(
        np.mean(
            [
                np.abs(a.astype(np.float32) - 2 * b.astype(np.float32) + c).mean() / 2
                for a, b, c in zip(before, now, after, strict=True)
            ]
        )
    )
