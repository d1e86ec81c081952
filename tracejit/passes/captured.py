"""Constants that stand for tensors from outside: which these are, and the graph with some of them as parameters."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from tracejit.ir.graph import Attrs, Builder, Graph, Node, Value
from tracejit.ir.text import walk
from tracejit.tracing import constant

_CLOSED = ("cond", "while", "while_saving", "scan", "recompute")  # further operands are parameters of all their regions


def owners(graph: Graph) -> list[Any]:
    """Weak references to the tensors that the constants of a graph and its regions stand for, each tensor once."""
    found = {id(t): n.attr("value").owner for g in walk(graph) for n in g.nodes if (t := _owner(n)) is not None}
    return list(found.values())


def with_parameters(graph: Graph, tensors: Sequence[Any]) -> Graph:
    """The graph with parameters, behind those that it has, in the place of the constants that stand for these."""
    return _with(graph, {id(t): t.type for t in tensors})


def _owner(n: Node) -> Any:
    """The tensor that a node stands for, if it still exists."""
    ref = n.attr("value").owner if n.op is constant else None
    return None if ref is None else ref()


def _with(graph: Graph, types: Mapping[int, Any]) -> Graph:
    b = Builder()
    env: dict[Value, Value] = {p: b.param(p.type, p.origin) for p in graph.params}
    given = {k: b.param(t) for k, t in types.items()}
    for n in graph.nodes:
        b.loc = n.loc
        if id(_owner(n)) in given:
            env[n.out] = given[id(_owner(n))]
            continue
        inputs, attrs = tuple([env[v] for v in n.inputs]), n.attrs
        if n.op.name in _CLOSED:
            attrs, more = _closed(n, types)
            inputs += tuple([given[k] for k in more])
        env.update(zip(n.outs, b.emit(n.op, inputs, attrs), strict=True))
    b.loc = None
    return b.finish(graph.name, [env[r] for r in graph.results])


def _closed(n: Node, types: Mapping[int, Any]) -> tuple[Attrs, list[int]]:
    """The attributes of a node whose regions take such tensors as operands, and which."""
    inside = {id(r()) for _, g in n.attrs if type(g) is Graph for r in owners(g)}
    some = {k: t for k, t in types.items() if k in inside}
    if not some:
        return n.attrs, []
    return tuple([(name, _with(g, some) if type(g) is Graph else g) for name, g in n.attrs]), list(some)
