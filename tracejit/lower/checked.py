"""Checks in native code of loops: those that follow each other are one branch, ranges take one comparison."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import takewhile
from typing import Any

from tracejit.ir.graph import Node, Value
from tracejit.lower.llvm import Fn, Val, const
from tracejit.lower.scalar import S
from tracejit.tracing import constant

_BELOW = {"less": 0, "less_equal": 1}
_FINITE = ("isnan", "isinf")


def run_of(nodes: Sequence[Node], first: int) -> list[Node]:
    """The check at a place and those right behind it."""
    return list(takewhile(lambda n: n.op.name == "check", nodes[first:]))


def needed(run: Sequence[Node]) -> list[Node]:
    """The checks of which none fails if these do not: a number below a limit is no NaN, and finite."""
    limited = {x for n in run if (x := limited_by(n.inputs[0])) is not None}
    return [n for n in run if _not_special(n.inputs[0]) not in limited] if limited else list(run)


def limited_by(c: Value) -> Value | None:
    """The float whose magnitude a condition keeps below a number."""
    n = c.node
    if n is None or n.op.name != "less" or _number(n.inputs[1]) is None:
        return None
    a = n.inputs[0].node
    return a.inputs[0] if a is not None and a.op.name == "abs" and a.out.dtype.kind == "f" else None


def fits(c: Value, bits: int) -> bool:
    """Whether such a condition keeps the float within the integers of so many bits."""
    limit = _number(c.node.inputs[1]) if c.node is not None else None
    return limit is not None and limit <= 2.0 ** (bits - 1)


def _not_special(c: Value) -> Value | None:
    """The number that is said not to be NaN, or not to be infinite."""
    n = c.node
    if n is None or n.op.name != "logical_not":
        return None
    inner = n.inputs[0].node
    return inner.inputs[0] if inner is not None and inner.op.name in _FINITE else None


def _number(v: Value) -> Any:
    n = v.node
    if n is None or n.op is not constant or n.attr("value").array is not None:
        return None
    return n.attr("value").splat.item()


def test(f: Fn, c: Value, env: dict[Value, Any]) -> Val:
    """A condition: whether an integer is between two numbers takes one comparison."""
    whole: S = env[c]
    parts = [v.node for v in c.node.inputs] if c.node is not None and c.node.op.name == "logical_and" else []
    above = next((p for p in parts if p is not None and p.op.name == "greater_equal"), None)
    below = next((p for p in parts if p is not None and p.op.name in _BELOW), None)
    if above is None or below is None or above.inputs[0] is not below.inputs[0]:
        return whole.v
    v, low, high = above.inputs[0], _number(above.inputs[1]), _number(below.inputs[1])
    if v.dtype.kind != "i" or low is None or high is None:
        return whole.v
    span = high - low + _BELOW[below.op.name]
    if not 0 < span < 1 << v.dtype.bits:
        return whole.v
    x: Val = env[v].v
    return f.cmp("ult", f.sub(x, const(x.ty, low)), const(x.ty, span))
