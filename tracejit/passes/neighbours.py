"""Rewrite rules for sums of placed values: what stands side by side among zeros is one, as gradients of slices."""

from __future__ import annotations

from typing import Any

from tracejit.ir.graph import Builder, Node, Value
from tracejit.ir.op import Op
from tracejit.passes.match import FINITE, Rewrite, make, producer, rewrite

NEIGHBOURS: list[Rewrite] = []
DEPTH = 8  # sums within sums that are looked into


@rewrite(NEIGHBOURS, "sum of neighbours that were placed", "add", FINITE)
def _joined_places(b: Builder, op: Op, inputs: tuple[Value, ...], attrs: dict[str, Any]) -> Value | None:
    """The gradient of a split is a concat."""
    for whole, part in (inputs, inputs[::-1]):
        if _zero_filled(part) and whole.shape == part.shape:
            made = _with_neighbour(b, whole, part, 0)
            if made is not None:
                return made
    return None


def _maker(v: Value) -> Node:
    assert v.node is not None
    return v.node


def _zero_filled(v: Value) -> bool:
    if not producer(v, "place"):
        return False
    n = _maker(v)
    return bool(n.attr("fill") == 0) and all(type(s) is int and s == 1 for s in n.attr("step"))


def _with_neighbour(b: Builder, whole: Value, part: Value, depth: int) -> Value | None:
    """`whole` + `part`, where `part` is joined with the summand that it was placed beside."""
    if _zero_filled(whole):
        return _side_by_side(b, whole, part) or _side_by_side(b, part, whole)
    if not producer(whole, "add") or depth == DEPTH:
        return None
    x, y = _maker(whole).inputs
    for one, other in ((x, y), (y, x)):
        if one.shape == whole.shape == other.shape:
            made = _with_neighbour(b, one, part, depth + 1)
            if made is not None:
                return make(b, "add", made, other)
    return None


def _side_by_side(b: Builder, first: Value, second: Value) -> Value | None:
    """One place for two that touch along one axis, `first` in front."""
    x, y = _maker(first).inputs[0], _maker(second).inputs[0]
    p, q = _maker(first).attr("start"), _maker(second).attr("start")
    apart = [i for i in range(len(p)) if p[i] != q[i]]
    if len(apart) != 1:
        return None
    axis = apart[0]
    alike = all(x.shape[i] == y.shape[i] for i in range(len(p)) if i != axis)
    if not alike or p[axis] + x.shape[axis] != q[axis]:
        return None
    return make(b, "place", make(b, "concat", x, y, axis=axis), **dict(_maker(first).attrs))
