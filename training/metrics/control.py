"""Does a driver move what it should, and nothing else? Differences of pictures, projected.

Notation: "out" are the model's pictures, "true" exact renders of the same performance. A change is the
difference between two pictures that differ in one driver. All work on flat arrays of one region.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Change = NDArray[np.float32]

LEAST_CHANGE = 2.0
"""A true change whose mean is below 2/255 in its region tells nothing, and is not scored."""


@dataclass(frozen=True, kw_only=True)
class Follow:
    """How one change follows the true one."""

    response: float
    """Projection of the change on the true change: <out, true> / <true, true>; 1 is right."""
    cosine: float
    """<out, true> / (|out| |true|): 1 if the change is right but for its size."""
    size: float
    """Mean |out| / mean |true|: the first pilots' response, which also counts what moves wrongly."""


def follow(out: Change, true: Change) -> Follow | None:
    """Compare two changes of a region (in 1/255), or None if the true one is below LEAST_CHANGE."""
    if out.shape != true.shape:
        raise ValueError(f"changes must have one shape, got {out.shape} and {true.shape}")
    true_mean = float(np.abs(true).mean())
    if true_mean < LEAST_CHANGE:
        return None
    o, t = out.ravel().astype(np.float64), true.ravel().astype(np.float64)
    product, norm = float(o @ t), float(t @ t)
    return Follow(
        response=product / norm,
        cosine=product / max(np.sqrt(norm * float(o @ o)), 1e-12),
        size=float(np.abs(out).mean()) / true_mean,
    )


@dataclass(frozen=True, kw_only=True)
class Leak:
    """What one driver moved of a factor that it does not drive."""

    share: float
    """Signed: 1 if the factor went all the way to what the driver's picture shows of it, 0 if it held."""
    weight: float
    """Length of the factor's own true change, for the mean over samples."""


def drift(error: Change, true: Change, nuisance: Change) -> float:
    """How far a picture's factor g stands off towards picture B's, as a share of the way.

    `error` is the model's picture less the exact one; `nuisance` the exact change if g went to B, `true` that
    of the driver f in question. In least squares error = a true + b nuisance, so that following f too little
    is not taken for moving g; b is returned. Two parallel changes cannot be told apart: the smallest solution
    is taken then.
    """
    basis = np.stack([true.ravel(), nuisance.ravel()], 1).astype(np.float64)
    (_, share), *_ = np.linalg.lstsq(basis, error.ravel().astype(np.float64), rcond=1e-6)
    return float(share)


def leak(before: float, after: float, nuisance: Change) -> Leak:
    """What driving f changed of g: the drift after it less the drift before.

    A model that shows too little of every expression drifts the same before and after, and that is no leak.
    """
    return Leak(share=after - before, weight=float(np.linalg.norm(nuisance)))


def mean_leak(leaks: list[Leak]) -> tuple[float, float]:
    """Mean of the shares' sizes, and mean of the signed shares; weighted by the nuisance's own change.

    The first also counts chance: errors that happen to look like the nuisance. The second is what goes
    steadily the driver's way. NaN where nothing was weighed.
    """
    shares, weights = (np.array([getattr(leak, key) for leak in leaks]) for key in ("share", "weight"))
    if not len(leaks) or weights.sum() == 0:
        return float("nan"), float("nan")
    return float(np.average(np.abs(shares), weights=weights)), float(np.average(shares, weights=weights))


def excess(out: Change, true: Change, nuisance: Change) -> tuple[float, float]:
    """For readings rather than pictures: length of (out - true), and of the nuisance's own true change.

    Sums over samples of the first over sums of the second give a cell of the matrix: wrong movement of a
    factor that should have held (or moved only as the exact render shows), relative to driving it.
    """
    return float(np.linalg.norm(out - true)), float(np.linalg.norm(nuisance))
