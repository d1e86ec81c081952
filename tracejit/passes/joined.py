"""Joined arrays that would be copied to be transposed are joined transposed: then their parts can be computed there."""

from __future__ import annotations

from tracejit.ir.graph import Builder, Graph, Node, Value
from tracejit.passes.layout import needs_copy
from tracejit.passes.match import make


def joined(graph: Graph) -> Graph:
    """The graph with the joints moved behind transposes that the elements have to be brought into order for."""
    hits = {t: c for n in needs_copy(graph) if (t := _transpose(n)) is not None and (c := _joint(t)) is not None}
    if hits:
        reads = [*graph.results, *[v for n in graph.nodes for v in n.inputs]]
        hits = {t: c for t, c in hits.items() if reads.count(t.out) == 1 and reads.count(c.out) == 1}
    if not hits:
        return graph
    gone = set(hits.values())
    b = Builder()
    env: dict[Value, Value] = {p: b.param(p.type) for p in graph.params}
    for n in graph.nodes:
        b.loc = n.loc
        if n in hits:
            perm, parts = n.attr("perm"), [make(b, "transpose", env[v], perm=n.attr("perm")) for v in hits[n].inputs]
            env[n.out] = make(b, "concat", *parts, axis=perm.index(hits[n].attr("axis")))
        elif n not in gone:
            again = Node(n.op, tuple([env[v] for v in n.inputs]), n.attrs, [o.type for o in n.outs], b.scope, n.loc)
            b.nodes.append(again)
            env.update(zip(n.outs, again.outs, strict=True))
    b.loc = None
    return b.finish(graph.name, [env[r] for r in graph.results])


def _transpose(n: Node) -> Node | None:
    """The transpose that a reshape reads."""
    t = n.inputs[0].node
    return t if n.op.name == "reshape" and t is not None and t.op.name == "transpose" else None


def _joint(t: Node) -> Node | None:
    c = t.inputs[0].node
    return c if c is not None and c.op.name == "concat" and c.out.dtype.kind != "c" else None
