"""Loops and branches made smaller: one loop for two alike, states that never change, branches known or cheap."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from tracejit.ir.graph import Builder, Graph, Node, Value
from tracejit.ir.op import OPS
from tracejit.tracing import constant

CHEAP = 24  # elementwise operations up to which both branches are computed and one selected
_LOOPS = ("while", "while_saving", "scan")


def has_control(graph: Graph) -> bool:
    return any(n.op.family == "control" and n.op.name != "check" for n in graph.nodes)


def share(graph: Graph) -> Graph:
    """A loop whose steps another one takes too, keeping more of what it sees, is replaced by that one.

    The gradient of a loop runs it again to keep its states; in one program the first run is then not needed. Regions
    are compared as objects, so this comes before any pass that makes new ones.
    """
    wider: dict[tuple[Any, ...], Node] = {}
    for n in graph.nodes:
        for key in ((_key(n), _told(n)), (_key(n), None)) if n.op.name in ("scan", "while_saving") else ():
            wider[key] = max(n, wider.get(key, n), key=lambda x: len(x.outs))
    replaced: dict[Node, Node] = {}
    for n in graph.nodes:
        w = wider.get((_key(n), _told(n))) if n.op.name in _LOOPS else None
        k = len(n.attr("body").results) if w is not None else 0
        if w is not None and w is not n and w.attr("body").results[:k] == n.attr("body").results:
            replaced[n] = w
    return _replayed(graph, replaced) if replaced else graph


def _key(n: Node) -> tuple[Any, ...]:
    """What loops have in common that take the same steps, whether with their effects or without."""
    body: Graph = n.attr("body")
    states = body.results[: n.attr("n")]
    if n.op.name == "scan":
        rest = tuple([(k, v) for k, v in n.attrs if k != "body"])
        return ("scan", n.inputs, body.params, states, rest)
    cond: Graph = n.attr("cond")
    return ("while", n.inputs, cond.params, cond.results, body.params, states)


def _told(n: Node) -> Any:
    """The size that a loop tells: what follows from one that keeps its states is of that size, and of no other."""
    return n.attr("steps") if n.op.name == "while_saving" else None


def _replayed(graph: Graph, replaced: dict[Node, Node]) -> Graph:
    """The graph with the later, wider loops in the place of the earlier ones."""
    b = Builder()
    env: dict[Value, Value] = {p: b.param(p.type) for p in graph.params}
    done: set[Node] = set()

    def emit(n: Node, like: Node | None = None) -> None:
        if n in done:
            return
        done.add(n)
        b.loc = n.loc
        outs = b.emit(n.op, tuple([env[v] for v in n.inputs]), _with_effects(n, like) if like else n.attrs)
        env.update(zip(n.outs, outs, strict=True))

    for n in graph.nodes:
        w = replaced.get(n)
        emit(w if w is not None else n, n if w is not None else None)
        if w is not None:
            env.update(zip(n.outs, [env[v] for v in w.outs[: len(n.outs)]], strict=True))
    b.loc = None
    return b.finish(graph.name, [env[r] for r in graph.results])


def _with_effects(wide: Node, n: Node) -> tuple[Any, ...]:
    """The attributes of the wider loop, with the effects of the one it replaces."""
    attrs = dict(wide.attrs)
    body: Graph = n.attr("body")
    if not body.pure:
        attrs["body"] = Graph(body.name, body.params, body.nodes, wide.attr("body").results)
    if "cond" in attrs:
        attrs["cond"] = n.attr("cond")
    return tuple(sorted(attrs.items()))


# --- one node at a time -----------------------------------------------------------------------------------------------
def visit(b: Builder, n: Node, inputs: tuple[Value, ...]) -> tuple[Value, ...] | None:
    """What a node of control flow becomes when it is emitted again; None to leave it."""
    if n.op.name == "cond":
        forms = (form(b, n, inputs) for form in (_known_branch, _both_branches, _fewer_results, _known_operands))
        return next((f for f in forms if f is not None), None)  # a branch without results has an empty form
    if n.op.name in _LOOPS:
        fixed = _fixed_states(b, n, inputs)
        return _known_operands(b, n, inputs) if fixed is None else fixed
    return None


def _known_operands(b: Builder, n: Node, inputs: tuple[Value, ...]) -> tuple[Value, ...] | None:
    """Numbers that regions only read are written in them, where operations simplify with them."""
    k = 1 if n.op.name == "cond" else n.attr("n") + (n.attr("m") if n.op.name == "scan" else 0)
    known = {i: v.node for i, v in enumerate(inputs) if i >= k and v.node is not None and _is_number(v.node)}
    if not known:
        return None
    skip = 1 if n.op.name == "cond" else 0  # its condition is no parameter
    told = {i - skip: c for i, c in known.items()}
    attrs = tuple([(name, _with_numbers(g, told) if type(g) is Graph else g) for name, g in n.attrs])
    return b.emit(n.op, tuple([v for i, v in enumerate(inputs) if i not in known]), attrs)


def _is_number(n: Node) -> bool:
    return n.op is constant and not n.out.shape and n.attr("value").array is None and n.attr("value").owner is None


def _with_numbers(g: Graph, known: Mapping[int, Node]) -> Graph:
    b = Builder()
    env = {p: b.param(p.type, p.origin) for i, p in enumerate(g.params) if i not in known}
    for i, c in known.items():
        env[g.params[i]] = b.emit(constant, (), c.attrs)[0]
    return b.finish(g.name, _inlined(b, g, [env[p] for p in g.params]))


def _inlined(b: Builder, g: Graph, args: Sequence[Value]) -> tuple[Value, ...]:
    env = dict(zip(g.params, args, strict=True))
    before = b.loc
    for n in g.nodes:
        b.loc = n.loc
        env.update(zip(n.outs, b.emit(n.op, tuple([env[v] for v in n.inputs]), n.attrs), strict=True))
    b.loc = before
    return tuple([env[r] for r in g.results])


def _known_branch(b: Builder, n: Node, inputs: tuple[Value, ...]) -> tuple[Value, ...] | None:
    p = inputs[0].node
    if p is None or p.op is not constant:
        return None
    taken = n.attr("then") if bool(p.attr("value").numpy().reshape(-1)[0]) else n.attr("orelse")
    return _inlined(b, taken, inputs[1:])


def _cheap(g: Graph) -> bool:
    """Whether computing a branch for nothing costs less than going around it, and cannot fail."""
    for n in g.nodes:
        if not n.pure or any(v.shape for v in n.outs):
            return False
        if n.op.family not in ("elementwise", "source") or (n.op.scalar is None and n.op is not constant):
            return False
    return len(g.nodes) <= CHEAP and not any(p.shape for p in g.params if p in g.results)


def _both_branches(b: Builder, n: Node, inputs: tuple[Value, ...]) -> tuple[Value, ...] | None:
    """Branches of a few operations on single elements: both are computed and one is selected."""
    then, orelse = n.attr("then"), n.attr("orelse")
    if not (_cheap(then) and _cheap(orelse)) or any(r.dtype.kind == "c" for r in n.outs):
        return None
    xs, ys = _inlined(b, then, inputs[1:]), _inlined(b, orelse, inputs[1:])
    return tuple([x if x is y else b.emit(OPS["where"], (inputs[0], x, y))[0] for x, y in zip(xs, ys, strict=True)])


def _fewer_results(b: Builder, n: Node, inputs: tuple[Value, ...]) -> tuple[Value, ...] | None:
    """Results that both branches take from the same operand are that operand."""
    then, orelse = n.attr("then"), n.attr("orelse")
    at = {p: i for i, p in enumerate(then.params)}
    also = {p: i for i, p in enumerate(orelse.params)}
    same = [
        at[x] if x in at and also.get(y) == at[x] else None for x, y in zip(then.results, orelse.results, strict=True)
    ]
    if all(s is None for s in same):
        return None
    kept = [i for i, s in enumerate(same) if s is None]
    outs: tuple[Value, ...] = ()
    if kept or not n.pure:
        attrs = (("orelse", _with_results(orelse, kept)), ("then", _with_results(then, kept)))
        outs = b.emit(n.op, inputs, attrs)
    it = iter(outs)
    return tuple([next(it) if s is None else inputs[1 + s] for s in same])


def _with_results(g: Graph, kept: Sequence[int]) -> Graph:
    return Graph(g.name, g.params, g.nodes, [g.results[i] for i in kept])


def _fixed_states(b: Builder, n: Node, inputs: tuple[Value, ...]) -> tuple[Value, ...] | None:
    """States that every step leaves as they are become operands that the steps only read."""
    k = n.attr("n")
    body: Graph = n.attr("body")
    fixed = [i for i in range(k) if body.results[i] is body.params[i]]
    if not fixed:
        return None
    moving = [i for i in range(k) if i not in fixed]
    order = [*moving, *range(k, len(inputs)), *fixed]

    def again(g: Graph, results: Sequence[Value]) -> Graph:
        return Graph(g.name, [g.params[i] for i in order], g.nodes, results)

    attrs = dict(n.attrs)
    attrs["body"] = again(body, [body.results[i] for i in moving] + list(body.results[k:]))
    if "cond" in attrs:
        attrs["cond"] = again(attrs["cond"], attrs["cond"].results)
    attrs["n"] = len(moving)
    outs: tuple[Value, ...] = ()
    if attrs["body"].results or not n.pure or n.op.name == "while_saving":
        outs = b.emit(n.op, tuple([inputs[i] for i in order]), tuple(sorted(attrs.items())))
    it = iter(outs)
    states = [inputs[i] if i in fixed else next(it) for i in range(k)]
    return (*states, *it)
