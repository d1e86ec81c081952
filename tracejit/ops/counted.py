"""Integers that are sums of loops' counters: how far two lie apart, and whether they stay within an axis."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from tracejit.context import context
from tracejit.intervals import INT32, fits
from tracejit.ir.dim import Dim
from tracejit.ir.graph import Value
from tracejit.ir.types import int32, int64
from tracejit.ops.args import Size, known
from tracejit.tensor import Operand, Tensor

DEEP = 32  # operations through which a bound is followed
LARGE = 4096  # elements of a constant up to which its bounds are looked for
Limits = tuple[Size, Size]


@dataclass
class Sum:
    """Multiples of values, and the rest."""

    terms: dict[Value, int]
    rest: Size

    def plus(self, other: Sum, sign: int = 1) -> Sum:
        terms = dict(self.terms)
        for v, k in other.terms.items():
            terms[v] = terms.get(v, 0) + sign * k
        return Sum({v: k for v, k in terms.items() if k}, self.rest + sign * other.rest)

    def times(self, k: int) -> Sum:
        return Sum({v: k * c for v, c in self.terms.items() if k}, self.rest * k)

    def number(self) -> int | None:
        return self.rest if not self.terms and type(self.rest) is int else None

    def limits(self) -> Limits | None:
        low = high = self.rest
        for v, k in self.terms.items():
            found = _limits(v)
            if found is None:
                return None
            low, high = low + k * found[k < 0], high + k * found[k > 0]
        return low, high


def limit(t: Operand, limits: Sequence[Size] | None) -> None:
    """Enter between which sizes a counter of the region at hand lies, wherever it is asked for."""
    trace: Any = context.trace
    v = t._a
    if limits is None or type(v) is not Value or trace is None or v.scope != trace.builder.scope:
        return
    while v.node is not None and v.node.op.name == "cast" and _is_wide(v.node.inputs[0]):
        v = v.node.inputs[0]
    if v.node is not None and v.node.op.name == "constant":
        return
    low, high = trace.limits[v] = limits[0], limits[1]
    if type(low) is type(high) is int and low <= high:
        trace.bounds[v] = low, high


def limits_of(t: Any) -> Limits | None:
    """Between which sizes the elements of integers lie, if their operations tell."""
    if isinstance(t, Operand) and not (type(t._a) is Value and t.dtype.kind in "iu"):
        return None
    return _sum_of(t).limits()


def range_limits(start: Any, stop: Any, step: Any) -> Limits | None:
    """Those of the numbers of a range, which has some."""
    if type(step) is not int or not step:
        return None
    first, last = limits_of(start), limits_of(stop)
    if first is None or last is None:
        return None
    return (first[0], last[1] - 1) if step > 0 else (last[0] + 1, first[1])


def inside(first: Any, last: Any, d: Size, step: int) -> tuple[Any, Size] | None:
    """Where a slice begins and how many elements it has, if its bounds are counters that never leave an axis of size d,
    nor come from its end; None where that is not known."""
    if step < 1 or last is None:
        return None
    a, b = (_sum_of(0 if x is None else x) for x in (first, last))
    apart = b.plus(a, -1)
    if apart.terms or not at_least(apart.rest, 0) or not (type(apart.rest) is int or step == 1):
        return None
    low, high = a.limits(), b.limits()
    if low is None or high is None or not at_least(low[0], 0) or not at_least(d - high[1], 0):
        return None
    start = first if a.terms else a.rest
    return start, apart.rest if step == 1 else (apart.rest + step - 1) // step


def settle(first: Any, last: Any, d: Size, step: int) -> None:
    """Where one number of the call says where a slice of a known length begins: the trace is for calls in which that
    lies as it does now, within an axis of size d or beyond one of its ends."""
    if step < 1 or last is None or type(d) is not int:
        return
    a, b = (_sum_of(0 if x is None else x) for x in (first, last))
    steering = [v for v in a.terms if v in getattr(_trace_of(v), "numbers", ())]
    if b.plus(a, -1).terms or len(steering) != 1:
        return
    (v,) = steering
    k = a.terms[v]
    low, high = (x.plus(Sum({v: k}, 0), -1).limits() for x in (a, b))
    if low is None or high is None or not type(low[0]) is type(high[1]) is int:
        return
    ends = -low[0], d - high[1]  # between which the multiple of the number has to be
    least, most = (-(-ends[0] // k), ends[1] // k) if k > 0 else (-(ends[1] // -k), -ends[0] // -k)
    if least <= most:
        trace = _trace_of(v)
        trace.limits[v] = trace.bounds[v] = trace.numbers[v].narrow(least, most)


def at_least(n: Size, low: int) -> bool:
    """Whether a size is known never to be below a number; nothing is decided for that."""
    return n.compare(low, ">=") is True if isinstance(n, Dim) else n >= low


def _sum_of(x: int | Dim | Tensor) -> Sum:
    return _sum(x._a) if isinstance(x, Operand) else Sum({}, x)


def _sum(v: Value, deep: int = DEEP) -> Sum:
    own = Sum({v: 1}, 0)
    trace = _trace_of(v)
    if trace is None or v in trace.limits or not deep:
        return own
    if v.node is None:
        outer = next((o for o, p in trace.captures.values() if p._a is v), None)
        a = outer._a if isinstance(outer, Tensor) else None
        return _sum(a, deep - 1) if type(a) is Value else own
    found = _combined(v, deep - 1)
    if found is None:
        return own
    within = found.limits() if v.dtype is int32 else (0, 0)  # which does not hold all that sums of int64 may be
    ends = [] if within is None else [x for x in within if type(x) is int]
    return found if within is not None and all(fits((x, x), INT32) for x in ends) else own


def _combined(v: Value, deep: int) -> Sum | None:
    """What the operation that gives a value says of it."""
    n: Any = v.node
    name = n.op.name
    value = known(v) if not v.shape else None
    if value is not None:
        return Sum({}, value.item())
    if not all(map(_is_wide, (v, *n.inputs))):
        return None
    if name in ("add", "sub", "mul"):
        a, b = (_sum(x, deep) for x in n.inputs)
        if name != "mul":
            return a.plus(b, 1 if name == "add" else -1)
        k, other = (a.number(), b) if b.number() is None else (b.number(), a)
        return None if k is None else other.times(k)
    if name == "neg":
        return _sum(n.inputs[0], deep).times(-1)
    return _sum(n.inputs[0], deep) if name in ("cast", "identity") else None


def _is_wide(v: Value) -> bool:
    return v.dtype in (int32, int64)


def _trace_of(v: Value) -> Any:
    """The trace that a value belongs to: the one at hand or one around it."""
    trace: Any = context.trace
    while trace is not None and trace.builder.scope != v.scope:
        trace = trace.parent
    return trace


def _limits(v: Value) -> Limits | None:
    """Those of a value that is no sum."""
    trace = _trace_of(v)
    if trace is None or v in trace.limits:
        return None if trace is None else trace.limits[v]
    n = v.node
    if n is None:
        return None
    if n.op.name == "iota":
        return 0, v.shape[n.attr("axis")] - 1
    if n.op.name == "gather" and v.dtype.kind in "iu":
        return _sum(n.inputs[0]).limits()
    if n.op.name == "constant" and v.dtype.kind in "iu":
        a = n.attr("value").numpy()
        return (int(a.min()), int(a.max())) if 0 < a.size <= LARGE else None
    if n.op.name in ("floormod", "floordiv"):
        return _divided(n.op.name, *[_sum(x) for x in n.inputs])
    return None


def _divided(name: str, a: Sum, b: Sum) -> Limits | None:
    k = b.number()
    if k is None or k < 1:
        return None
    if name == "floormod":
        return 0, k - 1
    found = a.limits()
    if found is None or not type(found[0]) is type(found[1]) is int:
        return None
    return found[0] // k, found[1] // k
