"""Arrays whose numbers grow evenly: what `range` gives, and what arithmetic makes of it."""

from __future__ import annotations

from typing import NamedTuple

from tracejit.ir.graph import Builder, Const, Value
from tracejit.ir.types import DType
from tracejit.passes.match import make, splat_of


class Range(NamedTuple):
    """`start + i * step` for row i, in the integers of `dtype`, which wrap around; start may be a single element."""

    start: int | Value
    step: int
    dtype: DType


def range_of(v: Value) -> Range | None:
    """The range that an array with one axis is."""
    n = v.node
    if n is None or len(v.shape) != 1 or v.dtype.kind not in "iu":
        return None
    if n.op.name == "iota":
        return Range(0, 1, v.dtype)
    if n.op.name == "cast" and n.inputs[0].node is not None and n.inputs[0].node.op.name == "iota":
        size, held = v.shape[0], n.inputs[0].dtype
        exact = held.bits >= 32 or (type(size) is int and size <= int(held.max) + 1)
        return Range(0, 1, v.dtype) if exact and v.dtype.bits >= held.bits else None
    if n.op.name == "neg" or (n.op.name == "sub" and number_in(n.inputs[0]) is not None):
        r, by = range_of(n.inputs[-1]), 0 if n.op.name == "neg" else number_in(n.inputs[0])
        known = r is not None and type(r.start) is int and by is not None
        return Range(by - r.start, -r.step, r.dtype) if known else None  # type: ignore[operator, union-attr]
    if n.op.name not in ("add", "sub", "mul"):
        return None
    x, y = n.inputs if n.inputs[0].shape or n.op.name == "sub" else n.inputs[::-1]
    return _moved(n.op.name, range_of(x), y)


def _moved(op: str, r: Range | None, y: Value) -> Range | None:
    """What adding, subtracting or multiplying by one number makes of a range."""
    by = number_in(y)
    if r is None or type(r.start) is not int:
        return None
    if by is None:
        return r._replace(start=y) if op == "add" and r.start == 0 and not y.shape else None
    if op == "mul":
        return Range(r.start * by, r.step * by, r.dtype)
    return r._replace(start=r.start + (by if op == "add" else -by))


def number_in(v: Value) -> int | None:
    """The one integer that a value consists of."""
    while v.node is not None and v.node.op.name in ("broadcast_to", "reshape", "copy"):
        v = v.node.inputs[0]
    s = splat_of(v)
    return None if s is None or v.dtype.kind not in "iu" else int(s)


def wrapped(b: Builder, x: int, d: DType, shape: tuple[int, ...] = ()) -> Value:
    """An integer as a constant, wrapped around as the dtype does."""
    low, count = int(d.min), 1 << d.bits
    return make(b, "constant", value=Const(None, (x - low) % count + low, shape, d))
