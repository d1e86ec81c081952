"""Axes that may have to be repeated: as they are where sizes turn out equal, read at positions that stay where not."""

from __future__ import annotations

from tracejit.ir.dim import Dim
from tracejit.ir.graph import Builder, Const, Graph, Node, Value
from tracejit.ir.text import walk
from tracejit.ir.types import int64
from tracejit.passes.match import make
from tracejit.passes.scans import renewed, within

_OPS = ("stretch", "shrink")
Size = int | Dim


def meeting(graph: Graph) -> list[tuple[Size, Size]]:
    """Sizes one of which may have to be repeated for the other, but those in parts that wait for their own sizes."""
    nodes = [n for g in walk(graph, "sized") for n in g.nodes if n.op.name in _OPS]
    pairs = [p for n in nodes for p in zip(n.inputs[0].shape, n.out.shape, strict=True)]
    return list(dict.fromkeys((d, e) for d, e in pairs if not _same(d, e)))


def unstretched(graph: Graph) -> Graph:
    """The graph for sizes that are equal where they meet: nothing is repeated."""
    b = Builder()
    env: dict[Value, Value] = {p: b.param(p.type) for p in graph.params}
    for n in graph.nodes:
        inputs = tuple([env[v] for v in n.inputs])
        if n.op.name in _OPS:
            env[n.out] = inputs[0]
            continue
        attrs = n.attrs
        if n.op.name != "sized":
            attrs = tuple([(k, unstretched(v) if type(v) is Graph else v) for k, v in attrs])
        node = Node(n.op, inputs, attrs, [v.type for v in n.outs], b.scope, n.loc)
        b.nodes.append(node)
        env.update(zip(n.outs, node.outs, strict=True))
    return b.finish(graph.name, [env[r] for r in graph.results])


def gathered(graph: Graph) -> Graph:
    """The graph for all sizes: along such an axis position i is read where it exists, else the only one."""
    if not meeting(graph):
        return graph

    def visit(b: Builder, n: Node, env: dict[Value, Value]) -> tuple[Value, ...] | None:
        if n.op.name not in _OPS:
            return None
        x, narrow = env[n.inputs[0]], n.inputs[0].shape if n.op.name == "stretch" else n.out.shape
        for axis, (d, e) in enumerate(zip(n.inputs[0].shape, n.out.shape, strict=True)):
            if _same(d, e):
                continue
            one, many = (d, e) if n.op.name == "stretch" else (e, d)
            at = _positions(b, one, many)
            if n.op.name == "stretch":
                x = make(b, "gather", x, at, axis=axis)
            else:
                x = make(b, "scatter_sum", x, at, size=narrow[axis], axis=axis)
        return (x,)

    return within(renewed(graph, visit), gathered)


def _same(d: Size, e: Size) -> bool:
    return d.same(e) if isinstance(d, Dim) else type(e) is int and d == e


def _positions(b: Builder, one: Size, many: Size) -> Value:
    """0, 1, … up to the last position of an axis, which is repeated."""
    line = make(b, "iota", shape=(many,), axis=0, dtype=int64)
    if not isinstance(one, Dim):
        return make(b, "minimum", line, _number(b, one - 1))
    size = make(b, "cast", make(b, "dim", size=one), dtype=int64)
    return make(b, "minimum", line, make(b, "sub", size, _number(b, 1)))


def _number(b: Builder, n: int) -> Value:
    return make(b, "constant", value=Const(None, n, (), int64))
