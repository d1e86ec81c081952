"""Matrices that every step of a loop multiplies by lie the way round that products read fastest."""

from __future__ import annotations

from tracejit.ir.graph import Builder, Graph, Node, Value
from tracejit.ir.sizes import hint
from tracejit.passes.match import make
from tracejit.passes.scans import Loop, emit_scan, loop_of, renewed

STEPS = 16  # from which one copy costs less than reading the columns of the matrix in every step


def turn(graph: Graph) -> Graph:
    """Scans whose products have a transposed right operand, the same in every step, take a transposed copy of it."""

    def visit(b: Builder, n: Node, env: dict[Value, Value]) -> tuple[Value, ...] | None:
        loop = loop_of(n)
        if loop is None or n.op.name != "scan" or hint(loop.length) < STEPS:
            return None
        products = [m for m in loop.body.nodes if _is_turned(m, loop)]
        return _turned(b, loop, env, products) if products else None

    return renewed(graph, visit) if any(n.op.name == "scan" for n in graph.nodes) else graph


def _is_turned(n: Node, loop: Loop) -> bool:
    if n.op.name != "matmul" or n.out.dtype.kind != "f" or not dict(n.attrs).get("tb"):
        return False
    x, y = n.inputs
    return y in loop.captured and x not in loop.captured and len(y.shape) == 2


def _turned(b: Builder, loop: Loop, env: dict[Value, Value], products: list[Node]) -> tuple[Value, ...]:
    node, at = loop.node, loop.n + loop.m
    inputs = [env[x] for x in node.inputs]
    matrices = list(dict.fromkeys([m.inputs[1] for m in products]))
    copies = [make(b, "copy", make(b, "transpose", env[loop.operand(y)], perm=(1, 0))) for y in matrices]
    inner = Builder()
    own = {p: inner.param(p.type) for p in loop.body.params}
    turned = {y: inner.param(c.type) for y, c in zip(matrices, copies, strict=True)}
    for m in loop.body.nodes:
        inner.loc = m.loc
        xs, attrs = tuple([own[x] for x in m.inputs]), m.attrs
        if m in products:
            xs, attrs = (xs[0], turned[m.inputs[1]]), tuple([kv for kv in attrs if kv[0] != "tb"])
        own.update(zip(m.outs, inner.emit(m.op, xs, attrs), strict=True))
    inner.loc = None
    body = inner.finish(loop.body.name, [own[r] for r in loop.body.results])
    return emit_scan(b, node, inputs[: loop.n], inputs[loop.n : at], [*inputs[at:], *copies], body)
