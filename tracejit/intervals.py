"""Between which bounds integers lie, so that only what may leave an integer type is checked."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from tracejit.ir.dim import Dim
from tracejit.ir.graph import Value
from tracejit.ir.types import DType, int32, int64

Interval = tuple[int, int]
INT32: Interval = (int(int32.min), int(int32.max))
INT64: Interval = (int(int64.min), int(int64.max))
PYTHON: Interval = (-INT64[1], INT64[1])  # Python integers in a trace, of which each has a negative


class Limits:
    """Between which numbers an integer that a trace takes has to be; it is `now` in the call for which that is made."""

    __slots__ = ("low", "high", "now")

    def __init__(self, now: int) -> None:
        self.now = now
        self.low, self.high = INT32

    def narrow(self, low: int, high: int) -> Interval:
        """Keep it on the side of these limits on which it is now."""
        if self.now < low:
            low, high = INT32[0], low - 1
        elif self.now > high:
            low, high = high + 1, INT32[1]
        self.low, self.high = max(self.low, low), min(self.high, high)
        return self.low, self.high

    def hold(self, n: int) -> bool:
        return self.low <= n <= self.high

    @property
    def narrowed(self) -> bool:
        return (self.low, self.high) != INT32

    def __str__(self) -> str:
        if self.low == INT32[0]:
            return f"up to {self.high}"
        return f"from {self.low} on" if self.high == INT32[1] else f"from {self.low} to {self.high}"


def fits(a: Interval, b: Interval) -> bool:
    """Whether all of a lies in b."""
    return b[0] <= a[0] and a[1] <= b[1]


def _corners(f: Callable[[int, int], int]) -> Callable[[Interval, Interval], Interval]:
    """Of an operation that takes its extremes where its operands do."""

    def of(a: Interval, b: Interval) -> Interval:
        found = [f(x, y) for x in a for y in b]
        return min(found), max(found)

    return of


def _reach(a: Interval) -> int:
    return max(abs(a[0]), abs(a[1]))


def _around(n: int) -> Interval:
    return -n, n


def _bits(a: Interval, b: Interval) -> Interval:
    """Of or and xor: no bit beyond those of the operands."""
    n = 1 << max((x if x >= 0 else ~x).bit_length() for x in (*a, *b))
    return -n, n - 1


def _common_bits(a: Interval, b: Interval) -> Interval:
    """Of and: an operand that is not negative bounds the result."""
    limits = [x[1] for x in (a, b) if x[0] >= 0]
    return (0, min(limits)) if limits else _bits(a, b)


def _shifted(a: Interval, b: Interval) -> Interval:
    return _corners(lambda x, n: x << min(max(n, 0), 128))(a, b)


def _power(a: Interval, b: Interval) -> Interval:
    return _around(_reach(a) ** min(max(b[1], 0), 64) if _reach(a) > 1 else 1)


_OF_TWO: dict[str, Callable[[Interval, Interval], Interval]] = {
    "add": _corners(lambda x, y: x + y),
    "sub": _corners(lambda x, y: x - y),
    "mul": _corners(lambda x, y: x * y),
    "maximum": _corners(max),
    "minimum": _corners(min),
    "floordiv": lambda a, b: _corners(lambda x, y: x // y)(a, b) if b[0] > 0 else _around(_reach(a)),
    "floormod": lambda a, b: (0, b[1] - 1) if b[0] > 0 else _around(_reach(b)),
    "shift_left": _shifted,
    "shift_right": lambda a, b: (min(a[0], 0), max(a[1], 0)),
    "bit_and": _common_bits,
    "bit_or": _bits,
    "bit_xor": _bits,
    "pow": _power,
}
_OF_ONE: dict[str, Callable[[Interval], Interval]] = {
    "neg": lambda a: (-a[1], -a[0]),
    "abs": lambda a: (0, _reach(a)),
    "bit_not": lambda a: (~a[1], ~a[0]),
    "square": lambda a: (0, _reach(a) ** 2),
    "identity": lambda a: a,
    "cast": lambda a: a,
}


def outcome(name: str, given: Sequence[Interval]) -> Interval | None:
    """The bounds of an operation's integers for those of its operands, were no type to limit them; None: not known."""
    if name in _OF_TWO and len(given) == 2:
        return _OF_TWO[name](given[0], given[1])
    return _OF_ONE[name](given[0]) if name in _OF_ONE and len(given) == 1 else None


def bounds(v: Value, known: dict[Value, Interval]) -> Interval:
    """The bounds that an integer must have, were no type to limit it; `known` keeps what was found."""
    if v not in known:
        known[v] = _found(v, known)
    return known[v]


def _found(v: Value, known: dict[Value, Interval]) -> Interval:
    n = v.node
    if n is None:
        return _type_of(v)
    name = n.op.name
    if name == "constant":
        c = n.attr("value")
        if not c.shape and v.dtype.kind in "biu":
            return int(c.numpy()), int(c.numpy())
    elif name == "dim":
        return least_of(n.attr("size"), INT32[0]), INT32[1]
    elif all(i.dtype.kind in "biu" and (i.type.weak or i in known) for i in n.inputs):
        found = outcome(name, [bounds(i, known) for i in n.inputs])
        if found is not None:
            return found
    return _type_of(v)


def least_of(size: int | Dim, otherwise: int) -> int:
    """What a size, or a difference of sizes, is never below."""
    low = size.least if isinstance(size, Dim) else size
    return otherwise if low is None else max(low, otherwise)


def _type_of(v: Value) -> Interval:
    return PYTHON if v.type.weak and v.dtype is int64 else all_of(v.dtype)


def all_of(d: DType) -> Interval:
    """Those of a type."""
    return (int(d.min), int(d.max)) if d.kind in "biu" else INT64
