"""Loops over ranges count: numbers that grow evenly are states of steps on single elements, not rows of an array."""

from __future__ import annotations

from tracejit.ir.dim import Dim
from tracejit.ir.found import symbols_in
from tracejit.ir.graph import Builder, Graph, Node, Value
from tracejit.ir.text import walk
from tracejit.passes.match import make
from tracejit.passes.ranges import Range, range_of, wrapped
from tracejit.passes.scans import emit_scan, loop_of, renewed, within

_PLACES = ("gather", "slice", "transpose", "reshape", "broadcast_to", "put", "update", "copy", "dim")
_CONTROL = ("cond", "while", "scan", "check")


def counters(graph: Graph) -> Graph:
    """The graph, and its regions, in which loops on single elements count where they went over a range's rows.

    No array of numbers is then made and read, and an inner loop's range does not stand in an outer loop's steps.
    """
    graph = within(graph, counters)

    def visit(b: Builder, n: Node, env: dict[Value, Value]) -> tuple[Value, ...] | None:
        loop = loop_of(n)
        if loop is None or not loop.m or symbols_in(loop.length) or not on_elements(loop.body):
            return None
        found = {p: range_of(x) for p, x in zip(loop.rows, n.inputs[loop.n :], strict=False)}
        ranges = {p: t for p, r in found.items() if r is not None and (t := _turned(r, n)) is not None}
        return _counting(b, n, env, ranges) if ranges else None

    return renewed(graph, visit) if any(n.op.name == "scan" for n in graph.nodes) else graph


def on_elements(body: Graph) -> bool:
    """Whether steps compute with single elements only, some of which they read from arrays or write to them."""
    for g in walk(body):
        for n in g.nodes:
            if n.op.name in _PLACES or n.op.name in _CONTROL:
                continue
            if not n.pure or n.op.family not in ("elementwise", "source") or any(v.shape for v in n.outs):
                return False
    return True


def _turned(r: Range, n: Node) -> Range | None:
    """The range in the order in which the steps take it; None where its end is not known."""
    if not n.attr("reverse"):
        return r
    length: int | Dim = n.attr("length")
    if type(r.start) is not int or type(length) is not int:
        return None
    return Range(r.start + max(length - 1, 0) * r.step, -r.step, r.dtype)


def _counting(b: Builder, n: Node, env: dict[Value, Value], ranges: dict[Value, Range]) -> tuple[Value, ...]:
    """The scan with one more state for each range among its rows."""
    loop = loop_of(n)
    assert loop is not None
    rows = [p for p in loop.rows if p not in ranges]
    first = [wrapped(b, r.start, r.dtype) if type(r.start) is int else env[r.start] for r in ranges.values()]  # type: ignore[index]
    inner = Builder()
    params = [*loop.states, *ranges, *rows, *loop.captured]
    now = {p: inner.param(p.type) for p in params}
    inside = dict(now)
    for x in loop.body.nodes:
        inner.loc = x.loc
        inside.update(zip(x.outs, inner.emit(x.op, tuple([inside[v] for v in x.inputs]), x.attrs), strict=True))
    inner.loc = n.loc
    results = [inside[r] for r in loop.body.results]
    onward = [make(inner, "add", now[p], wrapped(inner, r.step, r.dtype)) for p, r in ranges.items()]
    body = inner.finish(loop.body.name, [*results[: loop.n], *onward, *results[loop.n :]])
    given = dict(zip(loop.body.params, [env[x] for x in n.inputs], strict=True))
    states = [*[given[p] for p in loop.states], *first]
    outs = emit_scan(b, n, states, [given[p] for p in rows], [given[p] for p in loop.captured], body)
    return (*outs[: loop.n], *outs[loop.n + len(ranges) :])
