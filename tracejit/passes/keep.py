"""What the steps of a loop compute again is stacked by the loop that computed it first, if that moves less memory."""

from __future__ import annotations

from collections.abc import Iterator

from tracejit.ir.found import symbols_of, told_within
from tracejit.ir.graph import Builder, Graph, Node, Value
from tracejit.ir.op import OPS
from tracejit.passes.partition import FULL, Flow, repeatable
from tracejit.passes.scans import Loop, loop_of, nbytes, regraph, renewed, within

ROUNDS = 8  # loops that read what other loops stack, one after another
_ROW = 256  # bytes: what one more stacked result costs in each step, whatever its size


def keep(graph: Graph) -> Graph:
    """A scan that goes over what another loop has stacked takes more rows from that loop instead of computing them.

    That is what the gradient of a loop does. Products, reductions and costly functions are not computed twice; cheap
    elementwise values are, from the rows at hand, where keeping them would move more bytes. The bits stay the same.
    """
    for _ in range(ROUNDS):
        pair = next(_pairs(graph), None)
        if pair is None:
            break
        graph = _kept(graph, *pair)
    return within(graph, keep)


def _pairs(graph: Graph) -> Iterator[tuple[Loop, Loop, list[tuple[Value, Value]]]]:
    """Two loops, and the values of the second's steps to be read with the values of the first's that they are."""
    stacked: dict[Value, Loop] = {}
    for n in graph.nodes:
        loop = loop_of(n)
        if loop is None:
            continue
        if n.op.name == "scan":
            read = n.inputs[loop.n : loop.n + loop.m]
            for first in {stacked[x].node: stacked[x] for x in read if x in stacked}.values():
                again = _again(first, loop)
                wanted = _wanted(first, loop, again) if again else []
                if wanted:
                    yield first, loop, wanted
        if n.op.name != "while":
            stacked.update(dict.fromkeys(n.outs[loop.first :], loop))


def _again(first: Loop, second: Loop) -> dict[Value, Value]:
    """The values of the second loop's steps that the first's steps had, step by step, with these."""
    had: dict[Value, Value] = {}
    out, inputs = dict(zip(first.node.outs[first.first :], first.made, strict=True)), first.node.inputs
    rows = dict(zip(inputs[first.n : first.n + first.m], first.rows, strict=True))
    captured = dict(zip(inputs[first.n + first.m :], first.captured, strict=True))
    for p in second.rows:
        x = second.operand(p)
        if x in out or x in rows:
            had[p] = out.get(x) or rows[x]
    for p in second.captured:
        if second.operand(p) in captured:
            had[p] = captured[second.operand(p)]
    table = {(n.op, n.inputs, n.attrs): n.outs for n in first.body.nodes if n.pure and n.op.family != "control"}
    found = told_within(second.body)  # which may differ from step to step
    for n in second.body.nodes:
        if not n.pure or n.op.family == "control" or not all(x in had for x in n.inputs) or symbols_of(n) & found:
            continue
        inputs = tuple([had[x] for x in n.inputs])
        made = table.get((n.op, inputs, n.attrs))
        if made is None and len(inputs) == 2 and "commutative" in n.op.special:
            made = table.get((n.op, inputs[::-1], n.attrs))
        if made is not None:
            had.update(zip(n.outs, made, strict=True))
    return had


def _wanted(first: Loop, second: Loop, had: dict[Value, Value]) -> list[tuple[Value, Value]]:
    """The cheapest cut between what the first loop's steps computed and what else the second's steps read of it."""
    others = [n for n in second.body.nodes if not n.outs or not all(v in had for v in n.outs)]
    read = {x for n in others for x in n.inputs if x in had} | {x for x in second.body.results if x in had}
    there = {had[p] for p in second.rows if p in had} | set(first.made)
    flow = Flow()
    for v in had:
        if (v.node is None and v not in second.rows) or (v.node is not None and v.node.op.family == "source"):
            continue  # it is there in every step
        size = nbytes(v) + _ROW
        flow.edge((v, 0), (v, 1), size if had[v] in there else 2 * size)
        if v.node is None or not repeatable(v.node.op):
            flow.edge("first", (v, 0), FULL)
        else:
            for x in v.node.inputs:
                flow.edge((x, 1), (v, 0), FULL)
        if v in read:
            flow.edge((v, 1), "second", FULL)
    side = flow.cut("first", "second")
    cut = [v for v in had if (v, 0) in side and (v, 1) not in side and v.node is not None]
    return [(v, had[v]) for v in cut]


def _kept(graph: Graph, first: Loop, second: Loop, wanted: list[tuple[Value, Value]]) -> Graph:
    """The graph in which the first loop stacks these values and the second goes over them."""
    made = list(dict.fromkeys([*first.made, *[w for _, w in wanted]]))
    rows: list[Value] = []

    def visit(b: Builder, n: Node, env: dict[Value, Value]) -> tuple[Value, ...] | None:
        if n is first.node:
            outs = _stacking(b, first, env, made)
            rows.extend([outs[first.first + made.index(w)] for _, w in wanted])
            known = [made.index(v) for v in first.made]
            return (*outs[: first.first], *[outs[first.first + i] for i in known])
        if n is second.node:
            inputs = [env[x] for x in n.inputs]
            at = second.n + second.m
            params = [*second.body.params[:at], *[v for v, _ in wanted], *second.captured]
            attrs = dict(n.attrs)
            attrs.update(body=regraph(second.body, params, second.body.results), m=second.m + len(wanted))
            return b.emit(OPS["scan"], (*inputs[:at], *rows, *inputs[at:]), tuple(sorted(attrs.items())))
        return None

    return renewed(graph, visit)


def _stacking(b: Builder, loop: Loop, env: dict[Value, Value], made: list[Value]) -> tuple[Value, ...]:
    body = Graph(loop.body.name, loop.body.params, loop.body.nodes, [*loop.body.results[: loop.n], *made])
    attrs = dict(loop.node.attrs)
    attrs["body"] = body
    return b.emit(loop.node.op, tuple([env[x] for x in loop.node.inputs]), tuple(sorted(attrs.items())))
