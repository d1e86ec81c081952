"""Rewrites of two operations into one that pay only if nothing else reads the value in between."""

from __future__ import annotations

from tracejit.ir.graph import Builder, Graph, Node, Value
from tracejit.ir.text import walk
from tracejit.passes.match import FAST, FINITE, Level, make, producer, splat_of
from tracejit.passes.simplify import Report, Visit, uses

_REPEATABLE = {"reduce_sum", "reduce_prod", "reduce_max", "reduce_min", "reduce_all", "reduce_any"}


def chains(graph: Graph, level: Level, report: Report) -> Visit | None:
    """A visitor for `rebuild` that joins reductions of reductions, transposes of products; None if there are none."""
    if level < FINITE or not any(_starts(n, level) for g in walk(graph) for n in g.nodes):
        return None
    count = uses(graph)

    def visit(b: Builder, n: Node, inputs: tuple[Value, ...]) -> tuple[Value, ...] | None:
        if not _starts(n, level) or count[n.inputs[0]] > 1:
            return None
        new = _join(b, n, inputs[0])
        if new is None:
            return None
        report.note("rewritten", f"{n.op.name} of {n.inputs[0].node.op.name}", n.loc)  # type: ignore[union-attr]
        return (new,)

    return visit


def _starts(n: Node, level: Level) -> bool:
    """Whether n may be the second of two operations to join."""
    made = n.inputs[0].op if n.inputs else None
    if made is None:
        return False
    if n.op.name == "transpose":
        return made.name == "matmul"
    scaled = level >= FAST and n.op.name == "reduce_sum" and made.name in ("mul", "neg")
    return scaled or (n.op.name in _REPEATABLE and made is n.op)


def _join(b: Builder, n: Node, x: Value) -> Value | None:
    if n.op.name == "transpose":
        return _product_of_transposes(b, n, x)
    if producer(x, n.op.name):
        return _one_reduction(b, n, x)
    return _scale_later(b, n, x)


def _one_reduction(b: Builder, n: Node, x: Value) -> Value:
    inner = x.node
    assert inner is not None
    gone = inner.attr("axis")
    left = [a for a in range(len(inner.inputs[0].shape)) if a not in gone]
    axis = tuple(sorted([*gone, *[left[a] for a in n.attr("axis")]]))
    return make(b, n.op.name, inner.inputs[0], axis=axis)


def _product_of_transposes(b: Builder, n: Node, x: Value) -> Value | None:
    """(A·B)ᵀ = Bᵀ·Aᵀ, over the last two axes."""
    product, perm = x.node, n.attr("perm")
    last = len(perm) - 1
    if product is None or product.op.name != "matmul" or perm != (*range(last - 1), last, last - 1):
        return None
    flags = dict(product.attrs)
    ta, tb = not flags.get("tb", False), not flags.get("ta", False)
    return make(b, "matmul", *product.inputs[::-1], **{k: v for k, v in (("ta", ta), ("tb", tb)) if v})


def _scale_later(b: Builder, n: Node, x: Value) -> Value | None:
    """Σ c·x = c·Σ x."""
    if producer(x, "neg"):
        return make(b, "neg", make(b, "reduce_sum", x.node.inputs[0], axis=n.attr("axis")))  # type: ignore[union-attr]
    if not producer(x, "mul"):
        return None
    y, c = x.node.inputs  # type: ignore[union-attr]
    if splat_of(c) is None or y.shape != x.shape or c.shape:
        return None
    return make(b, "mul", make(b, "reduce_sum", y, axis=n.attr("axis")), c)
