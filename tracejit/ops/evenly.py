"""Numbers that fill a space evenly, and orders of indices that need no memory: functions of positions alone."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np

from tracejit.errors import ArgumentError, ShapeError, locate
from tracejit.ir.types import as_dtype, float32, float64, int64, uint64
from tracejit.ops import elementwise as E
from tracejit.ops import shape as S
from tracejit.ops.args import as_size, operand, require
from tracejit.ops.check import require_range
from tracejit.ops.creation import counter
from tracejit.ops.flow import while_loop
from tracejit.ops.philox import philox64
from tracejit.ops.reductions import reduce_any
from tracejit.tensor import Tensor, convert

# S. Joe and F. Y. Kuo, "Constructing Sobol sequences with better two-dimensional projections" (SIAM J. Sci. Comput. 30,
# 2008), new-joe-kuo-6.21201: for each axis from the second a primitive polynomial, as bits, and initial numbers
_DIRECTIONS = """
3:1 7:1,3 11:1,3,1 13:1,1,1 19:1,1,3,3 25:1,3,5,13 37:1,1,5,5,17 41:1,1,5,5,5 47:1,1,7,11,19 55:1,1,5,1,1
59:1,1,1,3,11 61:1,3,5,5,31 67:1,3,3,9,7,49 91:1,1,1,15,21,21 97:1,3,1,13,27,49 103:1,1,1,15,7,5
109:1,3,1,15,13,25 115:1,1,5,5,19,61 131:1,3,7,11,23,15,103 137:1,3,7,13,13,15,69 143:1,1,3,13,7,35,63
145:1,3,5,9,1,25,53 157:1,3,1,13,9,35,107 167:1,3,1,5,27,61,31 171:1,1,5,11,19,41,61 185:1,3,5,3,3,13,69
191:1,1,7,13,1,19,1 193:1,3,7,5,13,19,59 203:1,1,3,9,25,29,41 211:1,3,5,13,23,1,55 213:1,3,7,3,13,59,17
229:1,3,1,3,5,53,69 239:1,1,5,5,23,33,13 241:1,1,7,7,1,61,123 247:1,1,7,9,13,61,49 253:1,3,3,5,3,55,33
285:1,3,1,15,31,13,49,245 299:1,3,5,15,31,59,63,97 301:1,3,1,11,11,11,77,249 333:1,3,1,11,27,43,71,9
351:1,1,7,15,21,11,81,45 355:1,3,7,3,25,31,65,79 357:1,3,1,1,19,11,3,205 361:1,1,5,9,19,21,29,157
369:1,3,7,11,1,33,89,185 391:1,3,3,3,15,9,79,71 397:1,3,7,11,15,39,119,27 425:1,1,3,1,11,31,97,225
451:1,1,1,3,23,43,57,177 463:1,3,7,7,17,17,37,71 487:1,3,1,5,27,63,123,213 501:1,1,3,5,11,43,53,133
529:1,3,5,5,29,17,47,173,479 539:1,3,3,11,3,1,109,9,69 545:1,1,1,5,17,39,23,5,343 557:1,3,1,5,25,15,31,103,499
563:1,1,1,11,11,17,63,105,183 601:1,1,5,11,9,29,97,231,363 607:1,1,5,15,19,45,41,7,383
617:1,3,7,7,31,19,83,137,221 623:1,1,1,3,23,15,111,223,83 631:1,1,5,13,31,15,55,25,161
637:1,1,3,13,25,47,39,87,257
"""
_BITS = 32


@functools.cache
def _directions() -> np.ndarray:
    """The direction numbers [axis, bit], the highest bit first."""
    rows = [r.split(":") for r in _DIRECTIONS.split()]
    v = np.zeros((1 + len(rows), _BITS), np.uint64)
    v[0] = 1
    for d, (polynomial, first) in enumerate(rows, 1):
        p, m = int(polynomial), [int(x) for x in first.split(",")]
        s = len(m)
        for i in range(s, _BITS):
            new = m[i - s] ^ (m[i - s] << s)
            for k in range(1, s):
                new ^= (m[i - k] << k) * (p >> (s - k) & 1)
            m.append(new)
        v[d] = m
    return v << np.arange(_BITS - 1, -1, -1, dtype=np.uint64)  # type: ignore[no-any-return]


def sobol_sample(dim: Any, num_results: Any, skip: Any = 0, dtype: Any = float32, name: str | None = None) -> Tensor:
    """Points of Sobol's sequence in the unit cube of `dim` axes: [num_results, dim], from point number `skip` on.

    The points are TensorFlow's, in Gray code's order without the origin. Raises `ArgumentError` for more than 64 axes
    and for a dtype that is not float32 or float64.
    """
    d, n = as_dtype(dtype), as_size(num_results, "num_results")
    axes, table = int(as_size(dim, "dim")), _directions()
    require(1 <= axes <= len(table), f"dim is 1 … {len(table)}, not {axes}")
    require(d.kind == "f" and d.bits >= 32, f"sobol_sample has no dtype {d.name}")
    i = E.add(E.cast(counter(n, 2, 0, int64), dtype=uint64), E.cast(operand(skip), dtype=uint64))
    i = E.add(i, 1)
    gray = E.bit_xor(i, E.shift_right(i, 1))
    bits = S.broadcast_to(convert(0, uint64), shape=(n, axes))
    for k in range(_BITS):
        on = E.not_equal(E.bit_and(gray, 1 << k), 0)
        bits = E.bit_xor(bits, E.where(on, convert(table[:axes, k]), convert(0, uint64)))
    return E.cast(E.mul(E.cast(bits, dtype=float64), 2.0**-_BITS), dtype=d)  # type: ignore[no-any-return]


def random_index_shuffle(index: Any, seed: Any, max_index: Any, rounds: int = 4, name: str | None = None) -> Tensor:
    """Where each index goes in a random order of 0 … max_index that the seed (three integers) says.

    index   integers of any shape; the result has their shape and dtype. Raises `OutOfRangeError` outside the range
    rounds  of a Feistel network of Philox's bits over the next power of 4, repeated for what falls outside of the range

    No list of all indices is made. The orders are not those that TensorFlow has for a seed.
    """
    i, s, last = operand(index), operand(seed), int(as_size(max_index, "max_index"))
    if i.dtype.kind not in "iu":
        raise locate(ArgumentError(f"index holds integers, not {i.dtype.name}"))
    if s.dtype.kind not in "iu" or tuple(s.shape) != (3,):
        raise locate(ShapeError(f"seed {s.type} is not three integers"))
    require(last >= 0 and rounds >= 4, f"max_index is 0 or more and rounds 4 or more, not {last} and {rounds}")
    require_range(i, last + 1, "index {} is not one of {high}", negative=False)
    half = max(1, -(-last.bit_length() // 2))
    mask = (1 << half) - 1
    wide = E.cast(s, dtype=uint64)
    key, draw = E.bit_xor(wide[0], E.shift_left(wide[1], 32)), wide[2]

    def once(x: Tensor) -> Tensor:
        left, right = E.shift_right(x, half), E.bit_and(x, mask)
        for k in range(rounds):
            mixed = philox64(E.add(right, k << half), key, draw)
            left, right = right, E.bit_and(E.bit_xor(left, mixed), mask)
        return E.bit_or(E.shift_left(left, half), right)  # type: ignore[no-any-return]

    def outside(x: Tensor) -> Tensor:
        return E.greater(x, last)  # type: ignore[no-any-return]

    first = once(E.cast(i, dtype=uint64))
    (y,) = while_loop(lambda x: reduce_any(outside(x)), lambda x: (E.where(outside(x), once(x), x),), (first,))
    return E.cast(y, dtype=i.dtype)  # type: ignore[no-any-return]
