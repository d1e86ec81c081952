"""Arrays that a native loop carries and writes by elements: where that can be done in the one buffer they have."""

from __future__ import annotations

from tracejit.ir.graph import Graph, Node, Value
from tracejit.ir.sizes import is_unit

PICKS = ("gather", "slice", "transpose", "reshape", "broadcast_to")
_WRITES = ("put", "update")
_SAME = (*_WRITES, "reshape", "copy")  # whose first operand may lie where their result does
_LOOPS = ("while", "scan")
# what writes elements, copies that need not be made, and arrays that branches and loops give back
Written = set[Node | Value]


def puts(body: Graph, i: int) -> Written | None:
    """What writes elements of state i, an array, in its buffer: in a step, or in branches and loops of it.

    None if one could be seen before its time, or where something else becomes of the array.
    """
    found = _chain(body, {body.params[i]}, {body.params[i]}, i)
    return found if found and any(type(n) is Node and n.op.name in _WRITES for n in found) else None


def _chain(g: Graph, own: set[Value], flat: set[Value], i: int) -> Written | None:
    """The same of result i of a region. `own` are parameters that show the array, `flat` those that are all of it."""
    at = {n: k for k, n in enumerate(g.nodes)}
    found: Written = set()
    last, others = g.results[i], [r for k, r in enumerate(g.results) if k != i]
    while True:
        users = []
        for n in g.nodes:
            if own.isdisjoint(n.inputs):
                continue
            users.append(n)
            if n.op.name in PICKS:
                own.update(v for v in n.outs if v.shape)
            if n.op.name == "reshape" and n.inputs[0] in flat:
                flat.add(n.out)
            if n.op.name == "copy" and n.inputs[0] in flat and n.out is last:  # it lies where it belongs already
                flat.add(n.out)
                found.add(n)
        if not own.isdisjoint(others):
            return None
        if last in flat:
            return found
        places = [(n, k) for n in users for k in range(len(n.outs)) if _is_written(n, k, own)]
        if len(places) != 1 or any(at[n] > at[places[0][0]] for n in users):
            return None
        n, k = places[0]
        inner = _by(n, k, own, flat)
        if inner is None:
            return None
        found |= inner
        own, flat = {n.outs[k]}, {n.outs[k]}


def _is_written(n: Node, k: int, own: set[Value]) -> bool:
    if n.op.name in _WRITES:
        return n.inputs[0] in own
    return n.op.name in (*_LOOPS, "cond") and bool(n.outs[k].shape) and operand(n, k) in own


def _by(n: Node, k: int, own: set[Value], flat: set[Value]) -> Written | None:
    """What a node writes with that gives the array as its result k."""
    x = operand(n, k)
    if x not in flat:
        return None
    if n.op.name == "update":
        return {n} if all(map(is_unit, n.inputs[1].shape)) else None
    if n.op.name == "put":
        x, i, v = n.inputs
        return None if i.shape or v.shape or len(x.shape) != 1 else {n}
    if x.shape != n.outs[k].shape:
        return None
    if n.op.name in _LOOPS:
        if any(v in own for j, v in enumerate(n.inputs) if j != k):
            return None
        p = n.attr("body").params[k]
        inner = _chain(n.attr("body"), {p}, {p}, k)
        return None if inner is None else {*inner, n.outs[k]}
    found: Written = {n.outs[k]}
    for g in (n.attr("then"), n.attr("orelse")):
        given = list(zip(g.params, n.inputs[1:], strict=True))
        inner = _chain(g, {p for p, v in given if v in own}, {p for p, v in given if v in flat}, k)
        if inner is None:
            return None
        found |= inner
    return found


def operand(n: Node, k: int) -> Value | None:
    """The array that a node of control flow, or a write, gives back changed as its result k."""
    if n.op.name in _WRITES:
        return n.inputs[0]
    if n.op.name in _LOOPS:
        return n.inputs[k] if k < n.attr("n") else None
    both = {_root(n, g, g.results[k]) for g in (n.attr("then"), n.attr("orelse"))}
    return both.pop() if len(both) == 1 else None


def _root(n: Node, g: Graph, v: Value) -> Value | None:
    """The operand of a branch from which its result is made by writing elements."""
    while v.node is not None:
        m = v.node
        if m.op.name in _SAME:
            v = m.inputs[0]
            continue
        x = operand(m, v.index) if m.op.name in (*_LOOPS, "cond") else None
        if x is None:
            return None
        v = x
    return n.inputs[1 + g.params.index(v)] if v in g.params else None
