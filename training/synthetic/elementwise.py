"""Arithmetic that formulas are written in, so that one source serves compiled loops and torch alike.

A function marked `formula` may call only these, other formulas and operators. Called from a kernel it is
compiled for single numbers; called from Python it works on torch tensors of any shape, on any device.
Constants are np.float32: a plain 0.5 would turn a kernel's products into doubles.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, TypeVar

import numpy as np
from numba.extending import overload

_ZERO, _ONE = np.float32(0), np.float32(1)
Formula = TypeVar("Formula", bound=Callable[..., Any])


def formula(function: Formula) -> Formula:
    """Let kernels compile `function` while Python, and so torch, still calls it as it stands."""
    # Inlined: a call would pass the scene's lights and the picture's arrays anew for every pixel.
    overload(function, jit_options={"fastmath": True}, strict=False, inline="always")(lambda *_: function)
    return function


def where(condition: Any, yes: Any, no: Any) -> Any:
    """`yes` where the condition holds, else `no`; both are evaluated."""
    import torch  # whoever calls this with tensors has loaded it; rendering on the CPU needs no torch

    return torch.where(condition, yes, no)


def least(x: Any, bound: Any) -> Any:
    return x.clamp(max=bound)


def greatest(x: Any, bound: Any) -> Any:
    return x.clamp(min=bound)


def unit(x: Any) -> Any:
    """x, kept in [0, 1]."""
    return x.clamp(0, 1)


def whole(x: Any) -> Any:
    """The integer towards zero."""
    return x.long()


def floor(x: Any) -> Any:
    return x.floor()


def square_root(x: Any) -> Any:
    return x.sqrt()


def sine(x: Any) -> Any:
    return x.sin()


def exponential(x: Any) -> Any:
    return x.exp()


def arc_cosine(x: Any) -> Any:
    return x.acos()


def angle_of(y: Any, x: Any) -> Any:
    """The angle of the point (x, y), as atan2."""
    return y.atan2(x)


@overload(where, strict=False)
def _(condition: Any, yes: Any, no: Any) -> Any:
    return lambda condition, yes, no: yes if condition else no


@overload(least, strict=False)
def _(x: Any, bound: Any) -> Any:
    return lambda x, bound: min(x, bound)


@overload(greatest, strict=False)
def _(x: Any, bound: Any) -> Any:
    return lambda x, bound: max(x, bound)


@overload(unit, strict=False)
def _(x: Any) -> Any:
    return lambda x: min(max(x, _ZERO), _ONE)


@overload(whole, strict=False)
def _(x: Any) -> Any:
    return lambda x: int(x)


@overload(floor, strict=False)
def _(x: Any) -> Any:
    return lambda x: np.float32(math.floor(x))  # as a number of the same kind, not an integer


@overload(square_root, strict=False)
def _(x: Any) -> Any:
    return lambda x: math.sqrt(x)


@overload(sine, strict=False)
def _(x: Any) -> Any:
    return lambda x: math.sin(x)


@overload(exponential, strict=False)
def _(x: Any) -> Any:
    return lambda x: math.exp(x)


@overload(arc_cosine, strict=False)
def _(x: Any) -> Any:
    return lambda x: math.acos(x)


@overload(angle_of, strict=False)
def _(y: Any, x: Any) -> Any:
    return lambda y, x: math.atan2(y, x)
