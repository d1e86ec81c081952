"""How far an integer that a loop carries can get, where each step adds no more than a bounded number to it."""

from __future__ import annotations

from collections.abc import Callable

from tracejit.intervals import Interval, all_of, fits
from tracejit.ir.graph import Graph, Node, Value
from tracejit.tracing import constant

MOST = 1 << 52  # steps, which take weeks
Known = Callable[[Value], Interval | None]


def reach(loop: Node, i: int, first: Interval, steps: int, known: Known) -> Interval:
    """The bounds of state number i of a loop, wherever a step begins, for those that it starts with.

    `known` gives bounds of integers that hold in every step.
    """
    whole = all_of(loop.outs[i].dtype)
    gain = _of_state(loop, i, known)
    if gain is None:
        return whole
    found = first[0] + steps * min(gain[0], 0), first[1] + steps * max(gain[1], 0)
    return found if fits(found, whole) else whole


def most_steps(loop: Node, known: Known) -> int:
    """How many steps a loop takes at most: as many as a counter has numbers."""
    if loop.op.name == "scan" and isinstance(n := loop.attr("length"), int):
        return n
    most = MOST
    for i, p in enumerate(loop.attr("body").params[: loop.attr("n")]):
        gain, at = _of_state(loop, i, known), known(p)
        if gain is not None and at is not None and (gain[0] > 0 or gain[1] < 0):
            most = min(most, at[1] - at[0] + 1)
    return most


def _of_state(loop: Node, i: int, known: Known) -> Interval | None:
    body: Graph = loop.attr("body")
    if body.params[i].dtype.kind not in "iu":
        return None
    return _Gains(body.params[i], known).of(body.results[i])


def nothing_known(v: Value) -> Interval | None:
    return None


class _Gains:
    """Bounds of what values have more than `p`; None for anything that is not p with numbers added."""

    def __init__(self, p: Value, known: Known) -> None:
        self.p, self.known = p, known
        self.found: dict[Value, Interval | None] = {p: (0, 0)}
        self.small: dict[Value, Interval | None] = {}

    def of(self, v: Value) -> Interval | None:
        if v not in self.found:
            self.found[v] = None if v.node is None else self._find(v, v.node)
        return self.found[v]

    def _find(self, v: Value, n: Node) -> Interval | None:
        name = n.op.name
        if name == "cond":
            return _joined([self._through(n, k, v.index) for k in ("then", "orelse")])
        if name == "where":
            return _joined([self.of(x) for x in n.inputs[1:]])
        if name == "cast" and n.inputs[0].dtype is v.dtype:
            return self.of(n.inputs[0])
        if name == "add":
            x, y = n.inputs
            return _sum(self.of(x), self._number(y)) or _sum(self.of(y), self._number(x))
        if name == "sub" and (less := self._number(n.inputs[1])) is not None:
            return _sum(self.of(n.inputs[0]), (-less[1], -less[0]))
        return None

    def _number(self, v: Value) -> Interval | None:
        return _small(v, self.small) or self.known(v)

    def _through(self, n: Node, branch: str, i: int) -> Interval | None:
        """The same in a branch that p is handed to."""
        g: Graph = n.attr(branch)
        inside = [q for q, x in zip(g.params, n.inputs[1:], strict=True) if x is self.p]
        return _Gains(inside[0], nothing_known).of(g.results[i]) if inside else None


def _small(v: Value, done: dict[Value, Interval | None]) -> Interval | None:
    """The bounds of what is known without the loop: constants, one of two of them, bools as integers."""
    if v not in done:
        done[v] = None if v.node is None else _by_itself(v, v.node, done)
    return done[v]


def _by_itself(v: Value, n: Node, done: dict[Value, Interval | None]) -> Interval | None:
    if n.op is constant:
        c = n.attr("value")
        return (int(c.splat), int(c.splat)) if c.array is None and v.dtype.kind in "iu" else None
    if n.op.name == "where":
        return _joined([_small(x, done) for x in n.inputs[1:]])
    if n.op.name == "cast" and v.dtype.kind in "iu":
        if n.inputs[0].dtype.kind == "b":
            return 0, 1
        found = _small(n.inputs[0], done)
        return found if found is not None and fits(found, all_of(v.dtype)) else None
    return None


def _sum(a: Interval | None, b: Interval | None) -> Interval | None:
    return None if a is None or b is None else (a[0] + b[0], a[1] + b[1])


def _joined(parts: list[Interval | None]) -> Interval | None:
    known = [a for a in parts if a is not None]
    return (min(a[0] for a in known), max(a[1] for a in known)) if len(known) == len(parts) else None
