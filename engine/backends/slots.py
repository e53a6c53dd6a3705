"""Which row of a batch each request takes, so that what is on the device already need not be copied again."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from engine.backends.backend import Tensors

Held = Sequence[Mapping[str, NDArray[np.float32]]]
"""Per row, the arrays of which the device has a copy that is still good."""


def place(requests: Sequence[Tensors], held: Held) -> list[int]:
    """A row for each request: where its arrays that cannot be written lie, else one that holds nothing.

    Only if there is none of those is a row taken that holds somebody else's. There must be enough rows.
    """
    free = sorted(range(len(held)), key=lambda row: bool(held[row]))
    rows: dict[int, int] = {}
    for index, request in enumerate(requests):
        found = next((row for row in free if _lies_there(request, held[row])), None)
        if found is not None:
            free.remove(found)
            rows[index] = found
    return [rows[index] if index in rows else free.pop(0) for index in range(len(requests))]


def _lies_there(request: Tensors, held: Mapping[str, NDArray[np.float32]]) -> bool:
    lasting = [name for name, array in request.items() if not array.flags.writeable]
    return bool(lasting) and all(held.get(name) is request[name] for name in lasting)
