"""Draws that are tried again until they are accepted: each try of each element has random bits of its own."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from tracejit.context import context
from tracejit.ir.types import float64, int64, uint64
from tracejit.ops import array as A
from tracejit.ops import elementwise as E
from tracejit.ops import reduce as R
from tracejit.ops.args import Size
from tracejit.ops.gauss import normal64
from tracejit.ops.philox import philox, philox64
from tracejit.ops.regions import stage_while
from tracejit.tensor import Tensor, convert, quietly, wrap

Step = Callable[[Sequence[Tensor], Sequence[Tensor]], tuple[Sequence[Tensor], Tensor]]

_BLOCK = 16384  # elements at a time: what is between stays in the cache
_TRY = 40  # bits of an element's number; above them stands the number of the try
EXTRA = 1 << 20  # a try that no loop comes to: for bits that are needed once


def words(n: Tensor, tries: Any, source: Sequence[Any], count: int) -> list[Tensor]:
    """`count` (2 or 4) words of 64 random bits for a try of the elements with these numbers."""
    number = E.add(E.shift_left(E.cast(tries, dtype=uint64), _TRY), n)
    if context.trace is not None:
        first = E.mul(number, count)
        return [philox64(E.add(first, k), *source) for k in range(count)]
    key, draw = (x._a for x in source)
    return [wrap(w) for w in quietly(_pairs, number._a, draw, key, count // 2)]


def _pairs(number: np.ndarray, draw: np.ndarray, key: np.ndarray, count: int) -> list[np.ndarray]:
    """The same as arrays: each counter's two words at once."""
    outs = [np.empty(number.shape, np.uint64) for _ in range(2 * count)]
    for at in range(0, number.size, _BLOCK):
        part = slice(at, at + _BLOCK)
        for k in range(count):
            a, b, c, d = philox(number[part] * np.uint64(count) + np.uint64(k), draw, key)
            outs[2 * k][part] = a | (b << np.uint64(32))
            outs[2 * k + 1][part] = c | (d << np.uint64(32))
    return outs


def inside(bits: Tensor) -> Tensor:
    """Odd multiples of 2⁻⁵⁴ in (0, 1)."""
    return E.mul(E.add(E.cast(E.shift_right(bits, 11), dtype=float64), 0.5), 2.0**-53)  # type: ignore[no-any-return]


def gaussian(bits: Sequence[Tensor]) -> Tensor:
    """Normal numbers in float64: of two words to the last digit, of one word in steps of 2⁻³² of both."""
    if len(bits) > 1:
        turn = E.mul(E.cast(E.shift_right(bits[1], 11), dtype=float64), 2.0**-53)
        return normal64(inside(bits[0]), turn)  # type: ignore[no-any-return]
    u = E.mul(E.add(E.cast(E.bit_and(bits[0], 0xFFFFFFFF), dtype=float64), 0.5), 2.0**-32)
    turn = E.mul(E.cast(E.shift_right(bits[0], 32), dtype=float64), 2.0 * math.pi * 2.0**-32)
    return E.mul(E.sqrt(E.mul(E.log(u), -2.0)), E.cos(turn))  # type: ignore[no-any-return]


def until_done(step: Step, going: Tensor, states: Sequence[Tensor], given: Sequence[Tensor]) -> list[Tensor]:
    """`states, going = step(states, given)` again and again for the elements that go on, until none does.

    `going` and the states have one axis, `given` that axis or none. In a trace it is a loop in which each element takes
    its own number of steps; eagerly those that go on are picked out before each step.
    """
    if context.trace is None:
        return _picked(step, going, states, given)

    def body(on: Tensor, *old: Tensor) -> list[Any]:
        new, further = step(old, given)
        return [E.logical_and(further, on), *[E.where(on, y, x) for x, y in zip(old, new, strict=True)]]

    return stage_while(lambda on, *_: R.reduce_any(on, axis=(0,)), body, [going, *states])[1:]


def _picked(step: Step, going: Tensor, states: Sequence[Tensor], given: Sequence[Tensor]) -> list[Tensor]:
    on = going._a
    outs = [np.array(np.broadcast_to(s._a, on.shape)) for s in states]
    for at in range(0, on.size, _BLOCK):
        left = np.flatnonzero(on[at : at + _BLOCK]) + at
        now, own = [wrap(o[left]) for o in outs], [x if not x.ndim else wrap(x._a[left]) for x in given]
        while left.size:
            new, further = step(now, own)
            more = further._a
            for o, y in zip(outs, new, strict=True):
                o[left] = y._a
            left = left[more]
            now, own = [wrap(y._a[more]) for y in new], [x if not x.ndim else wrap(x._a[more]) for x in own]
    return [wrap(o) for o in outs]


def nowhere(mask: Tensor) -> bool:
    """Whether a mask is known to be false everywhere, which spares the bits for what it selects."""
    return context.trace is None and not mask._a.any()


def everywhere(value: float, shape: tuple[Size, ...], dtype: Any = float64) -> Tensor:
    return A.broadcast_to(convert(value, dtype), shape)


def counts(shape: tuple[Size, ...]) -> Tensor:
    """Zeros to count tries with."""
    return everywhere(0, shape, int64)
