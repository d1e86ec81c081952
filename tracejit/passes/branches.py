"""What both branches compute, or what is computed after them too, is computed once, before them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from tracejit.ir.found import symbols_of
from tracejit.ir.graph import Builder, Graph, Node, Value
from tracejit.passes.partition import repeatable
from tracejit.passes.scans import within
from tracejit.tracing import constant

_FAMILIES = ("elementwise", "shape", "source", "index", "reduce", "contract", "opaque")
_BRANCHES = ("then", "orelse")


def shared(graph: Graph) -> Graph:
    """The graph, and its regions, in which work that branches share with each other or with the graph is before them.

    Work that costs less than its result's way through memory stays where it is.
    """
    graph = within(graph, shared)
    numbers = _Numbers(graph)
    moves = {n: numbers.common(n) for n in graph.nodes if n.op.name == "cond"}
    return _Moved(graph, numbers, moves).graph if any(moves.values()) else graph


class _Numbers:
    """Numbers for the values of a graph and of its branches: values of one number are equal."""

    def __init__(self, graph: Graph) -> None:
        self._known: dict[Any, int] = {}
        self.of: dict[Value, int] = {p: self._number(p) for p in graph.params}
        self.maker: dict[int, Node] = {}  # what computes a number in a branch
        self.inside: dict[tuple[Node, str], list[Node]] = {}  # what of a branch could be computed before it
        for n in graph.nodes:
            for name in _BRANCHES if n.op.name == "cond" else ():
                self._branch(n, name)
            self._node(n)
        self.outer = {self.of[v] for n in graph.nodes if _movable(n) for v in n.outs}

    def _number(self, key: Any) -> int:
        return self._known.setdefault(key, len(self._known))

    def _node(self, n: Node) -> None:
        for i, v in enumerate(n.outs):
            key = (n.op, tuple([self.of[x] for x in n.inputs]), n.attrs, i) if _movable(n) else v
            self.of[v] = self._number(key)

    def _branch(self, n: Node, name: str) -> None:
        g: Graph = n.attr(name)
        self.of.update(zip(g.params, [self.of[v] for v in n.inputs[1:]], strict=True))
        here = set(g.params)
        found = self.inside[n, name] = []
        for x in g.nodes:
            if _movable(x) and here.issuperset(x.inputs):
                self._node(x)
                here.update(x.outs)
                found.append(x)
                self.maker.setdefault(self.of[x.out], x)

    def common(self, n: Node) -> list[int]:
        """The numbers to be computed before a branch, in an order in which that can be done."""
        then, orelse = [{self.of[x.out] for x in self.inside[n, name]} for name in _BRANCHES]
        both = (then & orelse) | ((then | orelse) & self.outer)
        worth = [self.of[x.out] for x in self._inside(n) if not repeatable(x.op)]
        return list(dict.fromkeys(k for k in worth if k in both))

    def _inside(self, n: Node) -> Iterator[Node]:
        for name in _BRANCHES:
            yield from self.inside[n, name]


def _movable(n: Node) -> bool:
    if not n.pure or len(n.outs) != 1 or n.op.family not in _FAMILIES or symbols_of(n):
        return False
    return "random" not in n.op.special and "tells" not in n.op.special


class _Moved:
    """The graph emitted again, with some numbers before its branches."""

    def __init__(self, graph: Graph, numbers: _Numbers, moves: dict[Node, list[int]]) -> None:
        self.b, self.numbers = Builder(), numbers
        self.env: dict[Value, Value] = {p: self.b.param(p.type, p.origin) for p in graph.params}
        self.have = {numbers.of[p]: v for p, v in self.env.items()}
        for n in graph.nodes:
            self.b.loc = n.loc
            if moves.get(n):
                outs = self._branching(n, moves[n])
            elif n.outs and all(numbers.of[v] in self.have for v in n.outs):
                outs = tuple([self.have[numbers.of[v]] for v in n.outs])
            else:
                outs = self.b.emit(n.op, tuple([self.env[v] for v in n.inputs]), n.attrs)
            self.env.update(zip(n.outs, outs, strict=True))
            self.have.update(zip([numbers.of[v] for v in n.outs], outs, strict=True))
        self.b.loc = None
        self.graph = self.b.finish(graph.name, [self.env[r] for r in graph.results])

    def _value(self, k: int) -> Value:
        """The value with a number, computed now if it was not before."""
        if k not in self.have:
            n = self.numbers.maker[k]
            inputs = tuple([self._value(self.numbers.of[x]) for x in n.inputs])
            before, self.b.loc = self.b.loc, n.loc
            (self.have[k],) = self.b.emit(n.op, inputs, n.attrs)
            self.b.loc = before
        return self.have[k]

    def _branching(self, n: Node, moved: list[int]) -> tuple[Value, ...]:
        for k in moved:
            self._value(k)
        read = {v for name in _BRANCHES for v in self._read(n.attr(name), moved)}
        moved = [k for k in moved if k in read]
        values = [self.have[k] for k in moved]
        attrs = tuple([(name, self._without(n.attr(name), moved) if name in _BRANCHES else a) for name, a in n.attrs])
        return self.b.emit(n.op, (*[self.env[v] for v in n.inputs], *values), attrs)

    def _read(self, g: Graph, moved: list[int]) -> set[int]:
        """The numbers that a branch reads still."""
        of, gone = self.numbers.of, set(moved)
        left = [x for x in g.nodes if not (len(x.outs) == 1 and of.get(x.out) in gone)]
        return {of[v] for v in (*[v for x in left for v in x.inputs], *g.results) if v in of}

    def _without(self, g: Graph, moved: list[int]) -> Graph:
        """A branch that is given these numbers."""
        b = Builder()
        env = {p: b.param(p.type, p.origin) for p in g.params}
        given = {k: b.param(self.have[k].type) for k in moved}
        for x in g.nodes:
            b.loc = x.loc
            k = self.numbers.of.get(x.out) if len(x.outs) == 1 else None
            if k in given and x.op is not constant:
                env[x.out] = given[k]
            else:
                env.update(zip(x.outs, b.emit(x.op, tuple([env[v] for v in x.inputs]), x.attrs), strict=True))
        b.loc = None
        return b.finish(g.name, [env[r] for r in g.results])
