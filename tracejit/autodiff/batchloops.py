"""A graph of one row called again for all rows: each op by its rule, branches and loops with rows that differ."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from tracejit.autodiff.batchrules import GUARDED, Batch, chosen, rule_of
from tracejit.autodiff.transforms import lost
from tracejit.context import context
from tracejit.errors import locate
from tracejit.ir.dim import Dim
from tracejit.ir.found import fresh
from tracejit.ir.graph import Graph, Node, Value
from tracejit.ir.op import OPS
from tracejit.ir.types import TensorType, int64
from tracejit.ops.check import require_all
from tracejit.ops.flow import along
from tracejit.ops.regions import stage_cond, stage_while
from tracejit.tensor import convert
from tracejit.tracing import trace_graph
from tracejit.tree import flatten

Marks = list[bool]


def replay_rows(graph: Graph, args: Sequence[Any], has: Sequence[bool], b: Batch) -> tuple[list[Any], Marks]:
    """The results of a graph for operands some of which have a leading batch axis, and which results have one."""
    env: dict[Value, tuple[Any, bool]] = {}
    env.update(zip(graph.params, zip(args, has, strict=True), strict=True))
    for n in graph.nodes:
        xs, flags = [env[v][0] for v in n.inputs], [env[v][1] for v in n.inputs]
        ys, marks = _call(n, _typed(n, xs), flags, b)
        env.update(zip(n.outs, zip(ys, marks, strict=True), strict=True))
    results = [(_as_number(env[r][0]) if r.type.weak else env[r][0], env[r][1]) for r in graph.results]
    return [x for x, _ in results], [h for _, h in results]


def _call(n: Node, xs: list[Any], has: Marks, b: Batch) -> tuple[list[Any], Marks]:
    """One op for all rows."""
    op = n.op
    if b.n is not None and _calls(n):
        if b.fallback:
            b.fallback(f"{op.name} calls a Python function")
        return _one_by_one(n, xs, has, b), [True] * len(n.outs)
    marks = _marked(n, has, set(b.counts))
    if op.name in CONTROL:
        return CONTROL[op.name](n, xs, has, b), marks
    if not any(has) and (b.mask is None or op.name not in GUARDED):
        y = op(*xs, **b.attrs(n.attrs))
    else:
        rule = rule_of(op)
        if rule is None:
            if b.fallback:
                b.fallback(f"{op.name} has no rule")
            return _one_by_one(n, xs, has, b), marks
        y = rule(b, op, xs, has, b.attrs(n.attrs))
    return list(y) if type(y) is tuple else [y], marks


def _typed(n: Node, xs: list[Any]) -> list[Any]:
    """Operands that are Python numbers, as tensors of the types that the op was traced for."""
    if n.op.family != "elementwise" or not any(v.type.weak for v in n.inputs):
        return xs
    return [OPS["cast"](x, dtype=v.dtype) if v.type.weak else x for x, v in zip(xs, n.inputs, strict=True)]


def _as_number(x: Any) -> Any:
    return x if x.type.weak else OPS["cast"](x, dtype=x.dtype, weak=True)


def _exact(x: Any, p: Value) -> Any:
    """A Python number, of a loop's state or of a branch, as a tensor as precise as it was traced."""
    return OPS["cast"](x, dtype=p.dtype) if p.type.weak or x.type.weak else x


def _calls(n: Node) -> bool:
    """Whether a node calls back into Python, in a region too."""
    return n.op.name == "host_call" or (
        not n.pure and any(_calls(m) for _, g in n.attrs if type(g) is Graph for m in g.nodes)
    )


def _one_by_one(n: Node, xs: Sequence[Any], has: Sequence[bool], b: Batch) -> list[Any]:
    """The op on one row after the other."""
    rows = [x for x, h in zip(xs, has, strict=True) if h]
    single = Batch(None, None, b.sizes, b.counts)

    def step(_: Any, given: Any) -> tuple[Any, Any]:
        it = iter(given)
        own = [next(it) if h else x for x, h in zip(xs, has, strict=True)]
        return (), _call(n, own, [False] * len(own), single)[0]

    assert b.n is not None
    return list(along(step, (), rows, flatten(list(rows))[1], b.n, False)[1])


# --- which results differ between rows --------------------------------------------------------------------------------
def _marked(n: Node, has: Sequence[bool], uneven: set[str]) -> Marks:
    """Which results of a node have a batch axis if these operands have one.

    `uneven` are the numbers of steps that differ between rows; those of the node are added.
    """
    if n.op.name == "cond":
        both = [_graph_marks(n.attr(k), has[1:], uneven) for k in ("then", "orelse")]
        return [True] * len(n.outs) if has[0] else [x or y for x, y in zip(*both, strict=True)]
    if n.op.name in ("while", "while_saving"):
        marks, apart = loop_marks(n, has, uneven)
        if n.op.name == "while":
            return marks
        symbols = n.attr("steps").symbols
        uneven.difference_update(symbols)
        uneven.update(symbols if apart else ())
        made = _graph_marks(n.attr("body"), [*marks, *has[n.attr("n") :]], uneven)[n.attr("n") :]
        return [*marks, apart, *[apart or m for m in made]]
    if n.op.name == "scan":
        length, k = n.attr("length"), n.attr("n")
        if isinstance(length, Dim) and length.symbols & uneven:
            return [True] * len(n.outs)
        marks = _carried(n.attr("body"), k, has, uneven)
        return [*marks, *_graph_marks(n.attr("body"), [*marks, *has[k:]], uneven)[k:]]
    return [any(has)] * len(n.outs)


def _graph_marks(graph: Graph, has: Sequence[bool], uneven: set[str]) -> Marks:
    env = dict(zip(graph.params, has, strict=True))
    for n in graph.nodes:
        env.update(zip(n.outs, _marked(n, [env[v] for v in n.inputs], uneven), strict=True))
    return [env[r] for r in graph.results]


def _carried(body: Graph, n: int, has: Sequence[bool], uneven: set[str]) -> Marks:
    """The states that differ between rows, at the beginning or after some step."""
    marks = list(has[:n])
    while True:
        new = [x or y for x, y in zip(marks, _graph_marks(body, [*marks, *has[n:]], uneven), strict=False)]
        if new == marks:
            return marks
        marks = new


def loop_marks(n: Node, has: Sequence[bool], uneven: set[str]) -> tuple[Marks, bool]:
    """The states of a `while` that differ between rows, and whether the number of steps does."""
    k = n.attr("n")
    marks = _carried(n.attr("body"), k, has, uneven)
    apart = _graph_marks(n.attr("cond"), [*marks, *has[k:]], uneven)[0]
    return ([True] * k if apart else marks), apart


def _aligned(ys: Sequence[Any], has: Sequence[bool], marks: Sequence[bool], b: Batch) -> list[Any]:
    """Results with a batch axis where there is to be one."""
    return [b.spread(y, h) if m else y for y, h, m in zip(ys, has, marks, strict=True)]


# --- branches ---------------------------------------------------------------------------------------------------------
def _cond(n: Node, xs: list[Any], has: Marks, b: Batch) -> list[Any]:
    p, args, flags = xs[0], xs[1:], has[1:]
    marks = _marked(n, has, set(b.counts))
    if has[0]:
        ys, hy = replay_rows(n.attr("then"), args, flags, b.narrowed(p).inside())
        zs, hz = replay_rows(n.attr("orelse"), args, flags, b.narrowed(OPS["logical_not"](p)).inside())
        ys, zs = ([_exact(x, v) for x, v in zip(xs, n.outs, strict=True)] for xs in (ys, zs))
        return [chosen(p, y, z, (h, k), b) for y, z, h, k in zip(ys, zs, hy, hz, strict=True)]

    def branch(graph: Graph) -> Callable[[], Any]:
        return lambda: _aligned(*replay_rows(graph, args, flags, b.inside()), marks, b)

    then, orelse = branch(n.attr("then")), branch(n.attr("orelse"))
    if context.trace is None:
        return list(then() if p else orelse())
    return stage_cond(p, then, orelse)[0]


# --- loops ------------------------------------------------------------------------------------------------------------
def _loop(test: Callable[..., Any], step: Callable[..., Any], state: list[Any]) -> list[Any]:
    if context.trace is not None:
        return stage_while(test, step, state)
    state = [convert(x) for x in state]
    while bool(test(*state)):
        state = step(*state)
    return state


class _Steps:
    """A loop over many rows as a condition and a step of its states.

    If the number of steps differs between rows, the first state says which rows go on, and the second counts the steps
    of each where that is asked for.
    """

    def __init__(self, n: Node, xs: list[Any], has: Marks, b: Batch, counting: bool = False) -> None:
        k = n.attr("n")
        self.cond, self.body, self.b, self.counting = n.attr("cond"), n.attr("body"), b, counting
        self.marks, self.apart = loop_marks(n, has, set(b.counts))
        self.made = _marked(n, has, set(b.counts))[k + 1 :]  # of what the steps stack
        self.rest, self.flags = xs[k:], [*self.marks, *has[k:]]
        first = [_exact(x, p) for x, p in zip(xs, self.body.params[:k], strict=False)]
        first = _aligned(first, has[:k], self.marks, b)
        self.head = (1 + counting) if self.apart else 0
        if self.apart:
            none = OPS["cast"](0, dtype=int64)
            first = [self._going(first, b), *[b.spread(convert(none)) for _ in range(counting)], *first]
        self.first = first

    def _going(self, state: Sequence[Any], b: Batch) -> Any:
        (ok,), (h,) = replay_rows(self.cond, [*state, *self.rest], self.flags, b.inside())
        ok = b.spread(ok, h)
        return ok if b.mask is None else OPS["logical_and"](ok, b.mask)

    def test(self, *state: Any) -> Any:
        if self.apart:
            return OPS["reduce_any"](state[0], axis=(0,))
        (ok,), _ = replay_rows(self.cond, [*state, *self.rest], self.flags, self.b.inside())
        mask = self.b.mask
        return ok if mask is None else OPS["logical_and"](ok, OPS["reduce_any"](mask, axis=(0,)))

    def step(self, *state: Any) -> list[Any]:
        own = state[self.head :]
        inner = self.b.within(state[0]) if self.apart else self.b
        new, h = replay_rows(self.body, [*own, *self.rest], self.flags, inner.inside())
        if not self.apart:
            return _aligned(new, h, [*self.marks, *self.made], self.b)
        kept = [chosen(state[0], y, x, (k, True), self.b) for y, x, k in zip(new, own, h, strict=False)]
        counts = [OPS["add"](c, OPS["cast"](state[0], dtype=int64)) for c in state[1 : self.head]]
        made = [self.b.spread(y, k) for y, k in zip(new[len(own) :], h[len(own) :], strict=True)]
        made = [chosen(state[0], y, OPS["cast"](0, dtype=y.dtype), (True, False), self.b) for y in made]
        return [self._going(kept, inner), *counts, *kept, *made]


def _while(n: Node, xs: list[Any], has: Marks, b: Batch) -> list[Any]:
    loop = _Steps(n, xs, has, b)
    return list(_loop(loop.test, loop.step, loop.first))[loop.head :]


def _while_saving(n: Node, xs: list[Any], has: Marks, b: Batch) -> list[Any]:
    """Rows that are done stand still in the steps that others still take; `scan` leaves these steps out.

    A loop that was gone through before takes the same steps again, for the rows that counted then.
    """
    (symbol,) = n.attr("steps").symbols
    if symbol in b.sizes:
        b = b.within(b.ran.get(symbol, b.mask))
    else:
        b.ran[symbol] = b.mask
    loop = _Steps(n, xs, has, b, counting=True)
    if context.trace is None:
        last, count, saved = _saved_now(loop)
        b.sizes[symbol] = int(count)
    else:
        last, count, saved, b.sizes[symbol] = _saved_later(loop, b.sizes.get(symbol))
    b.counts.pop(symbol, None)
    if loop.apart:
        b.counts[symbol] = last[1], count
        count = last[1]
    saved = [b.rows_first(s) if m else s for s, m in zip(saved, loop.made, strict=True)]
    return [*last[loop.head :], count, *saved]


def _saved_now(loop: _Steps) -> tuple[list[Any], Any, list[Any]]:
    state, seen = [convert(x) for x in loop.first], []
    k = len(state)
    while bool(loop.test(*state)):
        out = loop.step(*state)
        state = out[:k]
        seen.append(out[k:])
    saved = []
    for i, t in enumerate(loop.body.results[len(loop.marks) :]):
        rows = [OPS["reshape"](s[i], shape=(1, *s[i].shape)) for s in seen]
        lead = (loop.b.n,) if loop.made[i] else ()
        empty = OPS["broadcast_to"](OPS["cast"](0, dtype=t.dtype), shape=(0, *lead, *t.shape))
        saved.append(OPS["concat"](*rows, axis=0) if rows else empty)
    return state, convert(len(seen), int64), saved


def _saved_later(loop: _Steps, known: Any) -> tuple[list[Any], Any, list[Any], Dim]:
    """As one node, closed over what its regions read. `known` is the size that equal loops before it have made."""
    state, k = [convert(x) for x in loop.first], len(loop.first)
    rest, mask = list(loop.rest), [loop.b.mask] if loop.b.mask is not None else []
    operands = [*state, *rest, *mask]
    types = [TensorType(t.dtype, tuple(t.shape)) for t in operands]
    own = loop.b

    def closed(f: Callable[..., Any], name: str) -> Graph:
        def g(*args: Any) -> Any:
            loop.rest = list(args[k : k + len(rest)])
            loop.b = own.closed(args[-1] if mask else None)
            return tuple(made) if isinstance(made := f(*args[:k]), list) else made

        try:
            return trace_graph(g, types, name)
        finally:
            loop.rest, loop.b = rest, own

    steps = known if isinstance(known, Dim) else fresh()
    graphs = {"cond": closed(loop.test, "cond"), "body": closed(loop.step, "body")}
    out = OPS["while_saving"](*operands, **graphs, n=k, steps=steps)
    return list(out[:k]), out[k], list(out[k + 1 :]), steps


def _scan(n: Node, xs: list[Any], has: Marks, b: Batch) -> list[Any]:
    old = n.attr("length")
    counts = b.counts.get(next(iter(old.symbols))) if isinstance(old, Dim) and len(old.symbols) == 1 else None
    if counts is not None:
        return _uneven_scan(n, xs, has, b, *counts)
    attrs = b.attrs(n.attrs)
    body, k, m = attrs["body"], attrs["n"], attrs["m"]
    marks = _marked(n, has, set(b.counts))
    rest, flags = xs[k + m :], [*marks[:k], *has[k:]]

    def step(state: Any, row: Any) -> tuple[Any, Any]:
        out = _aligned(*replay_rows(body, [*state, *row, *rest], flags, b.inside()), marks, b)
        return out[:k], out[k:]

    first = [_exact(x, p) for x, p in zip(xs, body.params[:k], strict=False)]
    first, rows = _aligned(first, has[:k], marks[:k], b), _by_steps(xs[k : k + m], has[k:], b)
    last, made = along(step, first, rows, flatten(list(rows))[1], attrs["length"], attrs["reverse"])
    return [*last, *[b.rows_first(y) if f else y for y, f in zip(made, marks[k:], strict=True)]]


def _by_steps(xs: Sequence[Any], has: Sequence[bool], b: Batch) -> list[Any]:
    return [b.steps_first(x) if h else convert(x) for x, h in zip(xs, has, strict=False)]


def _uneven_scan(n: Node, xs: list[Any], has: Marks, b: Batch, counts: Any, total: Any) -> list[Any]:
    """A scan over the steps of a loop of which each row took its own number: the others leave its states alone."""
    attrs = b.attrs(n.attrs)
    body, k, m, back = attrs["body"], attrs["n"], attrs["m"], attrs["reverse"]
    rest, flags = xs[k + m :], [True] * k + list(has[k:])

    def step(state: Any, row: Any) -> tuple[Any, Any]:
        at, own = state[0], state[1:]
        going = OPS["less"](at, counts)
        ys, h = replay_rows(body, [*own, *row, *rest], flags, b.narrowed(going).inside())
        kept = [chosen(going, y, x, (f, True), b) for y, x, f in zip(ys, own, h, strict=False)]
        made = [b.spread(y, f) for y, f in zip(ys[k:], h[k:], strict=True)]
        made = [chosen(going, y, OPS["cast"](0, dtype=y.dtype), (True, False), b) for y in made]
        return [OPS["add"](at, -1 if back else 1), *kept], made

    begin = OPS["sub"](total, 1) if back else OPS["cast"](0, dtype=int64)
    own = [_exact(x, p) for x, p in zip(xs, body.params[:k], strict=False)]
    first = [begin, *_aligned(own, has[:k], [True] * k, b)]
    rows = _by_steps(xs[k : k + m], has[k:], b)
    last, made = along(step, first, rows, flatten(list(rows))[1], attrs["length"], back)
    return [*last[1:], *[b.rows_first(y) for y in made]]


# --- gradients of the user's own --------------------------------------------------------------------------------------
def _custom_vjp(n: Node, xs: list[Any], has: Marks, b: Batch) -> list[Any]:
    k, grad, wanted = n.attr("n"), n.attr("grad"), n.attr("wanted")
    beyond = dict(n.attrs).get("beyond")
    if beyond is not None and (beyond.writes or beyond.lost):
        raise locate(beyond.lost or lost(beyond.name))
    end = k + len(wanted)
    if any(has):
        need = [True] * k + list(wanted) + [False] * (len(xs) - end)
        xs = [b.spread(x, h) if w else x for x, h, w in zip(xs, has, need, strict=True)]
        flags, inner = [True] * k + list(has[end:]), b.within(None).closed(None)
        types = [TensorType(t.dtype, tuple(t.shape)) for t in (*xs[:k], *xs[end:])]

        def back(*args: Any) -> tuple[Any, ...]:
            ys, h = replay_rows(grad, args, flags, inner)
            return tuple(_aligned(ys, h, [True] * len(ys), inner))

        grad = trace_graph(back, types, grad.name)
    more = {} if beyond is None else {"beyond": beyond}
    y = n.op(*xs, n=k, grad=grad, wanted=wanted, **more)
    return list(y) if type(y) is tuple else [y]


def _recompute(n: Node, xs: list[Any], has: Marks, b: Batch) -> list[Any]:
    """The body for all rows; what it computes is kept for a gradient as that of any other operation is."""
    ys, marks = replay_rows(n.attr("body"), xs, has, b)
    return [b.spread(y, h) for y, h in zip(ys, marks, strict=True)] if any(has) else ys


def _barrier(n: Node, xs: list[Any], has: Marks, b: Batch) -> list[Any]:
    if any(has):
        xs = [b.spread(x, h) for x, h in zip(xs, has, strict=True)]
    y = n.op(*xs, n=n.attr("n"))
    return list(y) if type(y) is tuple else [y]


# --- sizes that values tell -------------------------------------------------------------------------------------------
def _count_up(n: Node, xs: list[Any], has: Marks, b: Batch) -> list[Any]:
    if not has[0]:
        return [_told(n, OPS["count_up"](xs[0], size=_size(n, b)), b)]
    line = _common_size(n, xs[0], b)
    return [OPS["broadcast_to"](line, shape=(b.n, line.shape[0]))]


def _tell(n: Node, xs: list[Any], has: Marks, b: Batch) -> list[Any]:
    y = _common_size(n, xs[0], b) if has[0] else _told(n, OPS["tell"](xs[0], size=_size(n, b)), b)
    return [OPS["broadcast_to"](convert(False), shape=(*[b.n] * has[0], y.shape[0], 0))]


def _positions(n: Node, xs: list[Any], has: Marks, b: Batch) -> list[Any]:
    mask = xs[0]
    if not has[0]:
        return [_told(n, OPS["positions"](mask, size=_size(n, b)), b)]
    line = _common_size(n, OPS["reduce_sum"](OPS["cast"](mask, dtype=int64), axis=(1,)), b)
    order = OPS["argsort"](OPS["logical_not"](mask), axis=1, descending=False)
    return [OPS["gather"](order, line, axis=1)]


def _size(n: Node, b: Batch) -> Dim:
    """A size that an operation tells: that of before, where it was called before."""
    known = b.sizes.get(str(n.attr("size")))
    return known if isinstance(known, Dim) else fresh()


def _told(n: Node, y: Any, b: Batch) -> Any:
    b.sizes[str(n.attr("size"))] = y.shape[0]
    return y


def _common_size(n: Node, counts: Any, b: Batch) -> Any:
    """0, 1, … as far as the size that all rows tell. Raises `ControlFlowError` if they tell different ones."""
    counts = OPS["maximum"](OPS["cast"](counts, dtype=int64), 0)
    if b.mask is not None:
        counts = OPS["where"](b.mask, counts, 0)
    most = OPS["reduce_max"](OPS["concat"](convert([0], int64), counts, axis=0), axis=(0,))
    same = OPS["equal"](counts, most)
    if b.mask is not None:
        same = OPS["logical_or"](same, OPS["logical_not"](b.mask))
    message = "the rows have parts of different sizes, {}, which one tensor cannot hold"
    require_all(same, message, [counts], "ControlFlowError")
    return _told(n, OPS["count_up"](most, size=_size(n, b)), b)


CONTROL: dict[str, Callable[[Node, list[Any], Marks, Batch], list[Any]]] = {
    "cond": _cond, "while": _while, "while_saving": _while_saving, "scan": _scan, "custom_vjp": _custom_vjp,
    "recompute": _recompute, "barrier": _barrier, "count_up": _count_up, "positions": _positions,
    "tell": _tell,
}  # fmt: skip
# rules that need the node: its regions are called again, or its attributes name what it tells
