"""Loops over rows that each take their own number of steps: vectors of rows in registers, each vector its own loop."""

from __future__ import annotations

from collections.abc import Sequence

from tracejit.ir.dim import Dim
from tracejit.ir.graph import Graph, Node, Value
from tracejit.lower import laneperiods
from tracejit.lower.elements import plain
from tracejit.lower.llvm import Fn, Module, Val, i64
from tracejit.lower.registers import text as text_of_region
from tracejit.lower.scalar import S
from tracejit.lower.scalarmath import LLVMScalar
from tracejit.tracing import constant

Shape = tuple[int | Dim, ...]
BITS = 512  # of a register
REGISTERS = 24  # for the values that a step reads


# --- what fits --------------------------------------------------------------------------------------------------------
def fits(n: Node) -> bool:
    """Whether a loop goes on while any element of a mask is true, and changes nothing where it is false.

    Then no element's steps depend on those of others, and any part of them may stop as soon as its own are done.
    """
    if n.op.name != "while" or not n.outs or not n.outs[0].shape:
        return False
    return _loop(n, n.outs[0].shape)


def _loop(n: Node, shape: Shape) -> bool:
    body: Graph = n.attr("body")
    cond: Graph = n.attr("cond")
    k = n.attr("n")
    values = (*n.inputs, *n.outs, *body.params)
    if not n.pure or not all(plain(v) and tuple(v.shape) in ((), shape) for v in values):
        return False
    mask = _mask(n, shape)
    if mask is None or any(tuple(v.shape) != shape for v in (*n.outs, *body.params[:k])):
        return False
    active = body.params[mask]
    for i, r in enumerate(body.results):
        made = r.node
        if made is None:
            return False
        if i == mask:
            kept = made.op.name == "logical_and" and active in made.inputs
        else:
            kept = made.op.name == "where" and made.inputs[0] is active and made.inputs[2] is body.params[i]
        if not kept:
            return False
    return len(cond.nodes) == 1 and all(_step(x, shape) for x in body.nodes)


def _mask(n: Node, shape: Shape) -> int | None:
    """The number of the state that says which elements go on."""
    cond: Graph = n.attr("cond")
    last = cond.results[0].node
    if last is None or last.op.name != "reduce_any" or len(last.attr("axis")) != len(shape):
        return None
    found = [i for i, p in enumerate(cond.params[: n.attr("n")]) if p is last.inputs[0]]
    return found[0] if found else None


def _step(n: Node, shape: Shape) -> bool:
    if n.op is constant:
        return n.attr("value").array is None and plain(n.out) and tuple(n.out.shape) in ((), shape)
    if n.op.name == "while":
        return _loop(n, shape)
    if n.op.family != "elementwise" or n.op.scalar is None or not n.pure:
        return False
    return all(plain(v) and tuple(v.shape) in ((), shape) for v in (*n.inputs, n.out))


def text(n: Node) -> str:
    p = _repeating(n)
    return "\n".join(["lanes", *([p.text()] if p is not None else []), text_of_region(n)])


def ends_early(n: Node) -> bool:
    """Whether rows end as soon as their states, and those of all others in a vector, repeat."""
    return _repeating(n) is not None


def _repeating(n: Node) -> laneperiods.Periods | None:
    mask = _mask(n, tuple(n.outs[0].shape))
    return None if mask is None else laneperiods.of(n, mask)


def width(n: Node) -> int:
    """How many elements a vector has: up to four registers of each value, of which one computes while others wait."""
    values = sum(v.dtype.kind != "b" for v in n.inputs if v.shape)
    each = 4 if 4 * values <= REGISTERS else 2 if 2 * values <= REGISTERS else 1
    sizes = [v.dtype.size for v in (*n.inputs, *n.outs)]
    stack = [n]
    while stack:
        x = stack.pop()
        for _, g in x.attrs:
            if type(g) is Graph:
                sizes += [v.dtype.size for y in g.nodes for v in y.outs]
                stack += g.nodes
    return each * BITS // (8 * max(sizes))


# --- its code ---------------------------------------------------------------------------------------------------------
def emit(module: Module, name: str, node: Node) -> None:
    """`void name(ptr frame, ptr idx, i64 lo, i64 hi)`: vectors lo … hi − 1; idx: operands, results, how many rows."""
    f = module.function(name, [("frame", "ptr"), ("idx", "ptr"), ("lo", "i64"), ("hi", "i64")])
    frame, idx, lo, hi = f.args
    w = width(node)
    m = LLVMScalar(f, w)
    one = LLVMScalar(f, 1)
    values = [*node.inputs, *node.outs]
    slots = [
        f.gep(frame, f.cast("zext", f.load("i32", f.gep(idx, 4 * k)), "i64"), "i64") for k in range(len(values) + 1)
    ]
    pointers = [f.load("ptr", s) for s in slots[:-1]]
    total = f.load("i64", slots[-1])
    given = list(zip(pointers, node.inputs, strict=False))
    same = {p: m.broadcast(one.load(p, v.dtype, None)) for p, v in given if not v.shape}

    def vector(i: Val) -> None:
        at = f.mul(i, i64(w))
        mask = f.mask(f.sub(total, at), w)

        def place(p: Val, v: Value) -> Val:
            return f.gep(p, at, m.memory(v.dtype))

        args = [m.load(place(p, v), v.dtype, mask) if v.shape else same[p] for p, v in given]
        for x, p, v in zip(_run(f, m, node, args), pointers[len(args) :], node.outs, strict=True):
            m.store(x, place(p, v), mask)

    f.loop(lo, hi, vector)
    f.ret_()


def _run(f: Fn, m: LLVMScalar, n: Node, xs: Sequence[S]) -> list[S]:
    """A loop's last states; it ends when the mask is false everywhere, as it is for rows that are not there."""
    k = n.attr("n")
    mask = _mask(n, tuple(n.outs[0].shape))
    body: Graph = n.attr("body")
    first = [m.broadcast(x) for x in xs[:k]]
    assert mask is not None
    p = _repeating(n)
    watch = laneperiods.Watch(f, m, p, first) if p is not None else None

    def step(*vs: Val) -> list[Val]:
        states = [S(v, x.dtype) for v, x in zip(vs, first, strict=False)]
        env: dict[Value, S] = dict(zip(body.params, [*states, *xs[k:]], strict=True))
        for y in body.nodes:
            given = [env[v] for v in y.inputs]
            if y.op is constant:
                env[y.out] = m.const(y.attr("value").splat.item(), y.out.dtype)
            elif y.op.name == "while":
                env.update(zip(y.outs, _run(f, m, y, given), strict=True))
            else:
                env[y.out] = y.op.scalar(m, *given, **dict(y.attrs))  # type: ignore[misc]
        new = [m.broadcast(env[r]) for r in body.results]
        if watch is None:
            return [s.v for s in new]
        new, left = watch.after(new, vs[-1], [env[b.limit] for b in watch.p.bounds])
        return [*[s.v for s in new], left]

    def go_on(*vs: Val) -> Val:
        return f.intrinsic("vector.reduce.or", vs[mask], ty="i1")

    start = [*[x.v for x in first], *([watch.start] if watch is not None else [])]
    return [S(v, x.dtype) for v, x in zip(f.while_(start, go_on, step), first, strict=False)]
