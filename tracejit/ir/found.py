"""Sizes that a program finds out when it runs: symbols that no argument's shape tells."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping
from typing import Any

from tracejit.ir.dim import FOUND, Dim
from tracejit.ir.graph import Builder, Const, Graph, Node, Value

# operations, and the attributes that name what they tell
TELLERS = {"while_saving": "steps", "count_up": "size", "positions": "size", "tell": "size"}
PREFIX = FOUND
LIKELY = 5040  # what decisions while tracing take such a size for; many numbers divide it; checked when it is found
_numbers = itertools.count()
_newest = [""]


def fresh(most: int | Dim | None = None) -> Dim:
    """A size that some operation of the program will tell, and that is never above `most`."""
    _newest[0] = name = f"{PREFIX}{next(_numbers)}"
    return Dim.symbol(name, LIKELY, most)


def newest() -> str:
    """The latest of them: where it stays the same, a trace has none."""
    return _newest[0]


def symbols_in(x: object) -> set[str]:
    """The symbols of found sizes in a size, a shape, an attribute or a graph."""
    if isinstance(x, Dim):
        return {s for s in x.symbols if s.startswith(PREFIX)}
    if isinstance(x, (tuple, list)):
        return {s for y in x for s in symbols_in(y)}
    if isinstance(x, Graph):  # but those that it tells itself
        inside = {s for n in x.nodes for s in symbols_of(n)} - {s for n in x.nodes for s in told_by(n)}
        return _of_values(x.params) | inside
    shape = getattr(x, "shape", None)  # of a constant
    return symbols_in(shape) if type(shape) is tuple else set()


def _of_values(values: Iterable[Value]) -> set[str]:
    return {s for v in values for s in symbols_in(tuple(v.shape))}


def symbols_of(n: Node) -> set[str]:
    """Those that a node has to know, or tells: of its operands, its results and its attributes."""
    return _of_values(n.inputs) | _of_values(n.outs) | {s for _, v in n.attrs for s in symbols_in(v)}


def open_in(x: object) -> dict[str, Dim]:
    """The other symbols in a size, a shape, an attribute, a node or a graph: what arguments' shapes tell."""
    if isinstance(x, Dim):
        return {s: x for s in x.symbols if not s.startswith(PREFIX)}
    if isinstance(x, Node):
        return open_in((*[tuple(v.shape) for v in (*x.inputs, *x.outs)], *[v for _, v in x.attrs]))
    if isinstance(x, Graph):
        x = (*[tuple(p.shape) for p in x.params], *x.nodes)
    elif not isinstance(x, (tuple, list)):
        x = getattr(x, "shape", None)  # of a constant
    return {s: d for y in x for s, d in open_in(y).items()} if isinstance(x, (tuple, list)) else {}


def told_by(n: Node) -> set[str]:
    """Those that a node finds out."""
    if n.op.name in TELLERS:
        return symbols_in(n.attr(TELLERS[n.op.name]))
    return _of_values(n.outs) - _of_values(n.inputs) if n.op.name == "sized" else set()


def untold(graph: Graph, around: frozenset[str] = frozenset()) -> set[str]:
    """Those that a graph needs and that nothing in it or `around` it tells: it could not run."""
    needed = {s for n in graph.nodes for s in symbols_of(n)} | _of_values(graph.results)
    return needed - around - given(graph) - {s for n in graph.nodes for s in told_by(n)}


def told_within(graph: Graph) -> set[str]:
    """Those that the nodes of a graph find out, in its regions too."""
    inside = [told_within(v) for n in graph.nodes for _, v in n.attrs if type(v) is Graph]
    return {s for n in graph.nodes for s in told_by(n)}.union(*inside)


def sizes_told(nodes: Iterable[Node]) -> dict[str, Dim]:
    """What the nodes that tell a size tell, by its symbol."""
    told = [n.attr(TELLERS[n.op.name]) for n in nodes if n.op.name in TELLERS]
    return {s: d for d in told for s in d.symbols}


def given(graph: Graph) -> set[str]:
    """Those that the parameters of a graph tell."""
    return _of_values(graph.params)


def tellers_of(graph: Graph) -> dict[str, Value]:
    """For each size that the graph finds out a value along one of whose axes it lies."""
    out: dict[str, Value] = {}
    for n in graph.nodes:
        for s in told_by(n):
            v = next((v for v in n.outs if any(isinstance(d, Dim) and str(d) == s for d in v.shape)), None)
            if v is not None:
                out.setdefault(s, v)
    return out


def renamed(x: Any, names: Mapping[str, Any]) -> Any:
    """A size, a shape, an attribute or a graph with other sizes in the place of those of these names."""
    if isinstance(x, Dim):
        if x.symbols.isdisjoint(names):
            return x
        sizes: dict[str, Any] = {s: Dim.symbol(s, LIKELY if s.startswith(PREFIX) else 2) for s in x.symbols}
        return x.evaluate({**sizes, **names})
    if type(x) is tuple:
        return tuple([renamed(y, names) for y in x])
    if type(x) is Const and x.array is None:
        shape = renamed(x.shape, names)
        return x if shape == x.shape else Const(None, x.splat, shape, x.dtype)
    if type(x) is not Graph or symbols_in(x).union(told_within(x)).isdisjoint(names):
        return x
    b = Builder()
    env = {p: b.param(type(p.type)(p.dtype, renamed(p.type.shape, names), p.type.weak), p.origin) for p in x.params}
    for n in x.nodes:
        b.loc = n.loc
        outs = b.emit(n.op, tuple([env[v] for v in n.inputs]), renamed(n.attrs, names))
        env.update(zip(n.outs, outs, strict=True))
    b.loc = None
    return b.finish(x.name, [env[r] for r in x.results])
