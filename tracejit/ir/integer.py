"""What Python does with integers beyond arithmetic, for objects that stand for one: bits, rounding, other numbers."""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np


class Integer:
    """An integer with arithmetic of its own; for all else it is asked which number it is."""

    __slots__ = ()

    if TYPE_CHECKING:  # what a class of such objects has to have

        def __int__(self) -> int: ...

    def __invert__(self: Any) -> Any:
        return -self - 1

    def __lshift__(self: Any, other: object) -> Any:
        return self * (1 << other) if isinstance(other, int) and other >= 0 else whole(operator.lshift, self, other)

    def __rshift__(self: Any, other: object) -> Any:
        return self // (1 << other) if isinstance(other, int) and other >= 0 else whole(operator.rshift, self, other)

    def __rlshift__(self, other: object) -> Any:
        return whole(operator.lshift, other, self)

    def __rrshift__(self, other: object) -> Any:
        return whole(operator.rshift, other, self)

    def __and__(self, other: object) -> Any:
        return whole(operator.and_, self, other)

    def __or__(self, other: object) -> Any:
        return whole(operator.or_, self, other)

    def __xor__(self, other: object) -> Any:
        return whole(operator.xor, self, other)

    __rand__, __ror__, __rxor__ = __and__, __or__, __xor__

    def __float__(self) -> float:
        return float(int(self))

    def __complex__(self) -> complex:
        return complex(int(self))

    def __trunc__(self) -> Any:
        return self

    __floor__ = __ceil__ = __trunc__

    def __round__(self, digits: int | None = None) -> Any:
        return self if digits is None or digits >= 0 else round(int(self), digits)


def is_numpy(x: object) -> bool:
    return isinstance(x, np.generic)  # np.float64 is a float


def whole(f: Callable[[Any, Any], Any], a: Any, b: Any) -> Any:
    """The number itself, which the trace from here on holds for only."""
    if is_numpy(a) or is_numpy(b) or not all(isinstance(x, (int, float, complex, Integer)) for x in (a, b)):
        return NotImplemented
    return f(*[int(x) if isinstance(x, Integer) else x for x in (a, b)])
