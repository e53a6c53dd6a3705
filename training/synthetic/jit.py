"""One typed decorator for compiled loops, so that every kernel is cached and mypy keeps its signature."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar, cast

import numba

Kernel = TypeVar("Kernel", bound=Callable[..., Any])


def jit(kernel: Kernel) -> Kernel:
    """Compile `kernel` on its first call; the machine code is kept on disk beside the source."""
    return cast(Kernel, numba.njit(cache=True, fastmath=True)(kernel))
