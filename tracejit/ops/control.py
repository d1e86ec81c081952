"""cond, while and scan: operations whose attributes are graphs, closed over what these read from around them."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from tracejit.autodiff.forward import ForwardAccumulator
from tracejit.autodiff.reverse import zeros_like
from tracejit.autodiff.tape import GradientTape
from tracejit.context import context, tracing
from tracejit.errors import ControlFlowError, DTypeError, ShapeError, locate
from tracejit.ir.dim import Dim
from tracejit.ir.found import fresh
from tracejit.ir.graph import Builder, Graph, Value
from tracejit.ir.op import OPS, Op
from tracejit.ir.types import TensorType, bool_, int64, show_shape
from tracejit.tensor import Operand, Tensor, Variable, common_dtype, convert
from tracejit.tracing import Trace, replay, run, trace_graph
from tracejit.tree import Structure, flatten

Body = Callable[..., Any]


# --- the operations ---------------------------------------------------------------------------------------------------
def _strong(t: TensorType) -> TensorType:
    return TensorType(t.dtype, t.shape)


def _types(values: Sequence[Value]) -> tuple[TensorType, ...]:
    return tuple([v.type for v in values])


def _one_or_all(types: tuple[TensorType, ...]) -> Any:
    return types[0] if len(types) == 1 else types


def _fits(graph: Graph, given: Sequence[TensorType], what: str) -> None:
    """The parameters of a region take these operands."""
    if len(graph.params) != len(given):
        raise ShapeError(f"{what} has {len(graph.params)} parameters for {len(given)} operands")
    for p, t in zip(graph.params, given, strict=True):
        if p.dtype is not t.dtype:
            raise DTypeError(f"{what} takes {p.type}, the operand is {t}")
        if tuple(p.shape) != tuple(t.shape):
            raise ShapeError(f"{what} takes {p.type}, the operand is {t}")


def _is_test(t: TensorType) -> None:
    if t.dtype.kind != "b" or t.shape:
        raise ShapeError(f"the condition is a 0-d bool, not {t}")


def _infer_cond(p: TensorType, *xs: TensorType, then: Graph, orelse: Graph) -> Any:
    _is_test(p)
    _fits(then, xs, "then")
    _fits(orelse, xs, "orelse")
    for a, b in zip(_types(then.results), _types(orelse.results), strict=True):
        if a.dtype is not b.dtype or tuple(a.shape) != tuple(b.shape):
            raise ShapeError(f"the branches give {a} and {b}")
    return _one_or_all(_types(then.results))


def _infer_while(*xs: TensorType, cond: Graph, body: Graph, n: int) -> Any:
    _fits(cond, xs, "cond")
    _fits(body, xs, "body")
    _is_test(cond.results[0].type)
    _fits(body, [*_types(body.results[:n]), *xs[n:]], "the next step")
    return _one_or_all(_types(body.results[:n]))


def _infer_saving(*xs: TensorType, cond: Graph, body: Graph, n: int, steps: Dim) -> Any:
    _infer_while(*xs, cond=cond, body=body, n=n)
    made = [TensorType(t.dtype, (steps, *t.shape)) for t in _types(body.results[n:])]
    return (*_types(body.results[:n]), TensorType(int64, ()), *made)


def _infer_scan(*xs: TensorType, body: Graph, n: int, m: int, length: int | Dim, reverse: bool) -> Any:
    rows = [TensorType(t.dtype, t.shape[1:]) for t in xs[n : n + m]]
    for t in xs[n : n + m]:
        if t.shape[0] != length:
            raise ShapeError(f"a scan of {length} steps over {t}")
    _fits(body, [*xs[:n], *rows, *xs[n + m :]], "body")
    _fits(body, [*_types(body.results[:n]), *rows, *xs[n + m :]], "the next step")
    made = [TensorType(t.dtype, (length, *t.shape)) for t in _types(body.results[n:])]
    return _one_or_all((*_types(body.results[:n]), *made))


def _out(ys: Sequence[Any]) -> Any:
    return ys[0] if len(ys) == 1 else tuple(ys)


def _run_cond(p: Any, *xs: Any, then: Graph, orelse: Graph) -> Any:
    return _out((then if p else orelse).run(xs))


def _run_while(*xs: Any, cond: Graph, body: Graph, n: int) -> Any:
    state, rest = xs[:n], xs[n:]
    while cond.run((*state, *rest))[0]:
        state = body.run((*state, *rest))
    return _out(state)


def _run_saving(*xs: Any, cond: Graph, body: Graph, n: int, steps: Any = None) -> Any:
    state, rest = xs[:n], xs[n:]
    made = []
    while cond.run((*state, *rest))[0]:
        out = body.run((*state, *rest))
        state = out[:n]
        made.append(out[n:])
    rows = [
        np.stack([s[i] for s in made]) if made else np.zeros((0, *v.shape), v.dtype.np)
        for i, v in enumerate(body.results[n:])
    ]
    return (*state, np.int64(len(made)), *rows)


def _run_scan(*xs: Any, body: Graph, n: int, m: int, length: int, reverse: bool) -> Any:
    state, rows, rest = xs[:n], xs[n : n + m], xs[n + m :]
    made = [np.empty((length, *v.shape), v.dtype.np) for v in body.results[n:]]
    for i in reversed(range(length)) if reverse else range(length):
        out = body.run((*state, *[r[i] for r in rows], *rest))
        state = out[:n]
        for a, y in zip(made, out[n:], strict=True):
            a[i] = y
    return _out((*state, *made))


# --- derivatives ------------------------------------------------------------------------------------------------------
def _inexact(values: Sequence[Any]) -> list[int]:
    return [i for i, v in enumerate(values) if v.dtype.is_inexact]


def _filled(gs: Any, ys: Any) -> list[Any]:
    """The cotangents of all results as a list, None for those that have none."""
    return list(gs) if isinstance(gs, tuple) else [gs]


def _pulled(graph: Graph, xs: Sequence[Tensor], targets: Sequence[int], gs: Sequence[Tensor], wanted: Sequence[int]):
    """The gradients of some operands of a graph from the cotangents of some of its results, zeros if not connected."""
    with GradientTape(watch_accessed_variables=False) as tape:
        tape.watch(*[xs[i] for i in wanted])
        ys = replay(graph, xs)
    return tape.gradient(
        [ys[i] for i in targets], [xs[i] for i in wanted], output_gradients=list(gs), unconnected_gradients="zero"
    )


def _pushed(graph: Graph, xs: Sequence[Tensor], moved: Sequence[int], ts: Sequence[Tensor], wanted: Sequence[int]):
    """The results of a graph, and the tangents of some of them from those of some operands."""
    with ForwardAccumulator([xs[i] for i in moved], list(ts)) as acc:
        ys = replay(graph, xs)
    return ys, [t if t is not None else zeros_like(ys[i]) for i in wanted for t in [acc.jvp(ys[i])]]


def _graph(f: Body, types: Sequence[TensorType], name: str) -> Graph:
    return trace_graph(f, [_strong(t) for t in types], name)


def _spread(n: int, at: Sequence[int], values: Sequence[Any]) -> tuple[Any, ...]:
    out: list[Any] = [None] * n
    for i, v in zip(at, values, strict=True):
        out[i] = v
    return tuple(out)


def _vjp_cond(g: Any, y: Any, p: Tensor, *xs: Tensor, then: Graph, orelse: Graph) -> tuple[Any, ...]:
    targets, wanted = _inexact(then.results), _inexact(xs)
    if not wanted:
        return (None,) * (1 + len(xs))
    gs = [(g if type(g) is tuple else (g,))[i] for i in targets]
    types = [*[x.type for x in xs], *[c.type for c in gs]]

    def pull(branch: Graph) -> Graph:
        k = len(xs)
        return _graph(
            lambda *a: tuple(_pulled(_quiet(branch), a[:k], targets, a[k:], wanted)), types, f"d_{branch.name}"
        )

    made = OPS["cond"](p, *xs, *gs, then=pull(then), orelse=pull(orelse))
    return (None, *_spread(len(xs), wanted, made if type(made) is tuple else (made,)))


def _jvp_cond(ts: Any, y: Any, p: Tensor, *xs: Tensor, then: Graph, orelse: Graph) -> Any:
    moved = [i for i, t in enumerate(ts[1:]) if t is not None]
    wanted = _inexact(then.results)
    given = [ts[1 + i] for i in moved]
    k = len(xs)

    def push(branch: Graph) -> Graph:
        return _graph(
            lambda *a: tuple(_pushed(branch, a[:k], moved, a[k:], wanted)[1]),
            [*[x.type for x in xs], *[t.type for t in given]],
            f"t_{branch.name}",
        )

    if not wanted:
        return (None,) * len(then.results) if len(then.results) > 1 else None
    made = OPS["cond"](p, *xs, *given, then=push(then), orelse=push(orelse))
    return _out(_spread(len(then.results), wanted, made if type(made) is tuple else (made,)))


def _quiet(graph: Graph) -> Graph:
    """The graph without its effects, for steps that are taken a second time. The values stay the same objects."""
    if graph.pure:
        return graph
    if all(n.pure or not n.outs for n in graph.nodes):
        return Graph(graph.name, graph.params, [n for n in graph.nodes if n.pure], graph.results)
    b = Builder()
    env = {p: b.param(p.type) for p in graph.params}
    for n in graph.nodes:
        if n.pure or n.outs:
            b.loc = n.loc
            attrs = tuple([(k, _quiet(v) if type(v) is Graph else v) for k, v in n.attrs])
            env.update(zip(n.outs, b.emit(n.op, tuple([env[v] for v in n.inputs]), attrs), strict=True))
    b.loc = None
    return b.finish(graph.name, [env[r] for r in graph.results])


def _vjp_while(g: Any, y: Any, *xs: Tensor, cond: Graph, body: Graph, n: int) -> tuple[Any, ...]:
    """The states of all steps are kept; a scan goes back over them."""
    return _backwards_while(list(g) if type(g) is tuple else [g], [], xs, cond, body, n, fresh())


def _vjp_saving(g: Any, y: Any, *xs: Tensor, cond: Graph, body: Graph, n: int, steps: Dim) -> tuple[Any, ...]:
    """The same loop with the states before each step among its rows, and a scan the other way."""
    return _backwards_while(list(g[:n]), list(g[n + 1 :]), xs, cond, body, n, steps)


def _backwards_while(
    gs: list[Tensor], of_made: list[Tensor], xs: Sequence[Tensor], cond: Graph, body: Graph, n: int, steps: Dim
) -> tuple[Any, ...]:
    body = _quiet(body)
    keeping = Graph(body.name, body.params, body.nodes, (*body.results, *body.params[:n]))
    out = OPS["while_saving"](*xs, cond=_quiet(cond), body=keeping, n=n, steps=steps)
    return _backwards(body, n, gs, xs, (), out[1 + len(body.results) :], steps, False, of_made)


def _backwards(
    body: Graph, n: int, gs: list[Tensor], xs: Sequence[Tensor], rows: Sequence[Tensor], saved: Sequence[Tensor],
    length: int | Dim, reverse: bool, of_made: Sequence[Tensor] = (),
) -> tuple[Any, ...]:  # fmt: skip
    """Cotangents of the operands of a loop: initial states, rows, captures.

    `saved` are the states before each step, `gs` the cotangents of the last states, `of_made` those of the stacked
    results.
    """
    m = len(rows)
    captured = list(xs[n + m :])
    states, caps = _inexact(xs[:n]), _inexact(captured)
    row_at = _inexact(rows)
    made_at = [n + i for i in _inexact(body.results[n:])]
    if not states and not caps and not row_at:
        return (None,) * len(xs)
    wanted = [*states, *[n + i for i in row_at], *[n + m + i for i in caps]]
    given = [gs[i] for i in states]
    sums = [zeros_like(captured[i]) for i in caps]
    scanned = [*saved, *rows, *[of_made[i - n] for i in made_at]]
    a, b, c = len(states), len(sums), len(made_at)

    def back(*args: Tensor) -> tuple[Tensor, ...]:
        g, acc, rest = args[:a], args[a : a + b], args[a + b :]
        state, row, rest = rest[:n], rest[n : n + m], rest[n + m :]
        gy, own = rest[:c], rest[c:]
        found = _pulled(body, (*state, *row, *own), [*states, *made_at], (*g, *gy), wanted)
        before, of_rows, of_caps = found[:a], found[a : a + len(row_at)], found[a + len(row_at) :]
        return (*before, *[OPS["add"](x, y) for x, y in zip(acc, of_caps, strict=True)], *of_rows)

    types = [t.type for t in (*given, *sums)]
    types += [TensorType(t.dtype, t.type.shape[1:]) for t in scanned]
    types += [t.type for t in captured]
    graph = _graph(back, types, f"d_{body.name}")
    out = OPS["scan"](
        *given, *sums, *scanned, *captured, body=graph, n=a + b, m=len(scanned), length=length, reverse=not reverse
    )
    out = out if type(out) is tuple else (out,)
    return (
        *_spread(n, states, out[:a]),
        *_spread(m, row_at, out[a + b :]),
        *_spread(len(captured), caps, out[a : a + b]),
    )


def _vjp_scan(
    g: Any, y: Any, *xs: Tensor, body: Graph, n: int, m: int, length: int | Dim, reverse: bool
) -> tuple[Any, ...]:
    """The same scan with the states before each step as results, and a scan the other way."""
    gs = list(g) if type(g) is tuple else [g]
    saved: tuple[Tensor, ...] = ()
    body = _quiet(body)
    if n:
        keeping = Graph(body.name, body.params, body.nodes, (*body.results, *body.params[:n]))
        out = OPS["scan"](*xs, body=keeping, n=n, m=m, length=length, reverse=reverse)
        saved = (out if type(out) is tuple else (out,))[len(body.results) :]
    return _backwards(body, n, gs[:n], xs, xs[n : n + m], saved, length, reverse, gs[n:])


def _jvp_loop(ts: Any, xs: Sequence[Tensor], body: Graph, n: int, m: int) -> tuple[list[int], list[int], list[Tensor]]:
    """The states that carry a tangent, the other operands that have one, and these tangents."""
    states = _inexact(xs[:n])
    others = [i for i in range(n, len(xs)) if ts[i] is not None]
    first = [ts[i] if ts[i] is not None else zeros_like(xs[i]) for i in states]
    return states, others, first


def _jvp_while(ts: Any, y: Any, *xs: Tensor, cond: Graph, body: Graph, n: int) -> Any:
    states, others, first = _jvp_loop(ts, xs, body, n, 0)
    given = [ts[i] for i in others]
    a = len(states)
    types = [*[x.type for x in xs[:n]], *[t.type for t in first], *[x.type for x in xs[n:]], *[t.type for t in given]]

    def split(args: Sequence[Tensor]) -> tuple[Sequence[Tensor], Sequence[Tensor], Sequence[Tensor]]:
        rest = args[n + a :]
        return (*args[:n], *rest[: len(xs) - n]), args[n : n + a], rest[len(xs) - n :]

    def push(*args: Tensor) -> tuple[Tensor, ...]:
        own, moving, fixed = split(args)
        ys, tangents = _pushed(body, own, [*states, *others], [*moving, *fixed], states)
        return (*ys, *tangents)

    def test(*args: Tensor) -> Tensor:
        return replay(cond, split(args)[0])[0]

    graphs = {"cond": _graph(test, types, cond.name), "body": _graph(push, types, f"t_{body.name}")}
    out = OPS["while"](*xs[:n], *first, *xs[n:], *given, n=n + a, **graphs)
    return _out(_spread(n, states, out[n:])) if type(out) is tuple else None


def _jvp_saving(ts: Any, y: Any, *xs: Tensor, cond: Graph, body: Graph, n: int, steps: Dim) -> Any:
    states, others, first = _jvp_loop(ts, xs, body, n, 0)
    given = [ts[i] for i in others]
    a, made = len(states), _inexact(body.results[n:])
    types = [*[x.type for x in xs[:n]], *[t.type for t in first], *[x.type for x in xs[n:]], *[t.type for t in given]]

    def push(*args: Tensor) -> tuple[Tensor, ...]:
        rest = args[n + a :]
        own = (*args[:n], *rest[: len(xs) - n])
        moving = [*args[n : n + a], *rest[len(xs) - n :]]
        ys, tangents = _pushed(body, own, [*states, *others], moving, [*states, *[n + i for i in made]])
        return (*ys[:n], *tangents[:a], *ys[n:], *tangents[a:])

    def test(*args: Tensor) -> Tensor:
        return replay(cond, (*args[:n], *args[n + a : a + len(xs)]))[0]

    graphs = {"cond": _graph(test, types, cond.name), "body": _graph(push, types, f"t_{body.name}")}
    out = OPS["while_saving"](*xs[:n], *first, *xs[n:], *given, n=n + a, steps=steps, **graphs)
    k = len(body.results) - n
    rows = out[n + a + 1 + k :]
    return (*_spread(n, states, out[n : n + a]), None, *_spread(k, made, rows))


def _jvp_scan(
    ts: Any, y: Any, *xs: Tensor, body: Graph, n: int, m: int, length: int | Dim, reverse: bool
) -> Any:
    states, others, first = _jvp_loop(ts, xs, body, n, m)
    rows = [i for i in others if i < n + m]
    caps = [i for i in others if i >= n + m]
    a, r = len(states), len(rows)
    made = _inexact(body.results[n:])

    def row(t: Tensor) -> TensorType:
        return TensorType(t.dtype, t.type.shape[1:])

    types = [*[x.type for x in xs[:n]], *[t.type for t in first], *[row(x) for x in xs[n : n + m]]]
    types += [*[row(ts[i]) for i in rows], *[x.type for x in xs[n + m :]], *[ts[i].type for i in caps]]

    def push(*args: Tensor) -> tuple[Tensor, ...]:
        at = itertools.accumulate([0, n, a, m, r, len(xs) - n - m, len(caps)])
        cut = list(at)
        s, ds, x, dx, c, dc = [args[i:j] for i, j in itertools.pairwise(cut)]
        ys, tangents = _pushed(
            body, (*s, *x, *c), [*states, *rows, *caps], [*ds, *dx, *dc], [*states, *[n + i for i in made]]
        )
        return (*ys[:n], *tangents[:a], *ys[n:], *tangents[a:])

    out = OPS["scan"](
        *xs[:n], *first, *xs[n : n + m], *[ts[i] for i in rows], *xs[n + m :], *[ts[i] for i in caps],
        body=_graph(push, types, f"t_{body.name}"), n=n + a, m=m + r, length=length, reverse=reverse,
    )  # fmt: skip
    out = out if type(out) is tuple else (out,)
    k = len(body.results) - n
    return _out((*_spread(n, states, out[n : n + a]), *_spread(k, made, out[n + a + k :])))


cond_op = Op(
    "cond", "control", _infer_cond, _run_cond, vjp=_vjp_cond, jvp=_jvp_cond, arity=None, dtypes="biufc",
    doc="The results of the region `then` if the first operand is true, else those of `orelse`.",
)  # fmt: skip
while_op = Op(
    "while", "control", _infer_while, _run_while, vjp=_vjp_while, jvp=_jvp_while, arity=None, dtypes="biufc",
    doc="The first n operands, replaced by the results of `body` while `cond` holds.",
)  # fmt: skip
saving_op = Op(
    "while_saving", "control", _infer_saving, _run_saving, vjp=_vjp_saving, jvp=_jvp_saving, arity=None, dtypes="biufc",
    doc="As `while`, then the number of steps; then what else the steps of `body` give, stacked.", special="tells",
)  # fmt: skip
scan_op = Op(
    "scan", "control", _infer_scan, _run_scan, vjp=_vjp_scan, jvp=_jvp_scan, arity=None, dtypes="biufc",
    doc="n states carried over `length` steps, which read a row of each of the next m operands; further results of the "
    "steps are stacked.",
)  # fmt: skip


# --- tracing regions --------------------------------------------------------------------------------------------------
class Region:
    """A function traced inside the trace at hand, not yet closed: `leaves` is its result, flat."""

    def __init__(self, f: Body, args: Sequence[TensorType], name: str) -> None:
        outer: Any = context.trace
        self.trace, self.name = Trace(outer), name
        self.trace.heard = bool(context.tapes) or outer.heard
        self.params = [self.trace.param(t) for t in args]
        self.leaves, self.structure = flatten(run(self.trace, f, self.params))

    def call(self, f: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Call `f` with its operations in this region."""
        with tracing(self.trace):
            return f(*args, **kwargs)

    def outside(self) -> dict[int, tuple[Any, Value]]:
        """What the region reads from around it, by identity: the operand out there, and the parameter in here."""
        found: dict[int, tuple[Any, Value]] = {k: (o, t._a) for k, (o, t) in self.trace.captures.items()}
        return found | {k: (v, t._a) for k, (v, t) in self.trace.reads.items()}

    def close(self, results: Sequence[Tensor], order: Sequence[int], types: dict[int, TensorType]) -> Graph:
        """The region as a graph whose parameters are its own and then, in this order, what is captured."""
        values = [self.trace.value(t) for t in results]
        found = self.outside()
        b = Builder()
        env: dict[Value, Value] = {t._a: b.param(t.type) for t in self.params}
        for k in order:
            p = b.param(types[k])
            if k in found:
                env[found[k][1]] = p
        for n in self.trace.builder.finish(self.name, values).nodes:
            b.loc = n.loc
            env.update(zip(n.outs, b.emit(n.op, tuple([env[v] for v in n.inputs]), n.attrs), strict=True))
        b.loc = None
        return b.finish(self.name, [env[v] for v in values])


def _union(regions: Sequence[Region], first: Sequence[Variable]) -> tuple[list[Any], list[int], dict[int, TensorType]]:
    """What several regions capture: the operands, the Variables `first` leading, their identities and types."""
    operands: dict[int, Any] = {id(v): v for v in first}
    types: dict[int, TensorType] = {}
    for r in regions:
        for k, (o, p) in r.outside().items():
            operands.setdefault(k, o)
            types.setdefault(k, p.type)
    return list(operands.values()), list(operands), types


def _written(regions: Sequence[Region]) -> list[Variable]:
    found = {id(v): v for r in regions for v in r.trace.written()}
    for r in regions:
        for v in found.values():
            r.trace.read(v)
    return list(found.values())


def _assign_all(variables: Sequence[Variable], values: Sequence[Tensor]) -> None:
    trace: Any = context.trace
    for v, t in zip(variables, values, strict=True):
        trace.assign(v, t)


def is_value(x: Any) -> bool:
    """Whether control flow carries `x` as a tensor: tensors, arrays, numbers and sizes."""
    return isinstance(x, (Operand, np.ndarray, np.generic, bool, int, float, complex, Dim))


def as_test(p: Any) -> Tensor:
    """A 0-d bool for a condition. Raises `ShapeError` for anything with more or fewer than one element."""
    t = convert(p)
    if tuple(t.shape) and t.size != 1:
        raise locate(ShapeError(f"a condition has one element, this is {t.type}", remedy="tj.reduce_any or reduce_all"))
    if tuple(t.shape):
        t = OPS["reshape"](t, shape=())
    return t if t.dtype.kind == "b" else OPS["cast"](t, dtype=bool_)


def same(a: Any, b: Any) -> bool:
    """Whether two Python values are one, so that it need not be carried as a tensor."""
    if a is b:
        return True
    return type(a) is type(b) and isinstance(a, (bool, int, float, complex, str, bytes)) and a == b


def stage_cond(p: Any, then: Body, orelse: Body) -> tuple[list[Any], Structure]:
    """Both branches traced as regions of one node; the leaves of the result and their structure."""
    test = as_test(p)
    regions = [Region(then, (), "then"), Region(orelse, (), "orelse")]
    a, b = regions
    if a.structure != b.structure:
        raise locate(ControlFlowError(f"the branches give different structures: {a.structure} and {b.structure}"))
    pairs: list[tuple[Tensor, Tensor]] = []
    leaves: list[Any] = []
    for x, y in zip(a.leaves, b.leaves, strict=True):
        if same(x, y):
            leaves.append((x,))
        elif is_value(x) and is_value(y):
            leaves.append(None)
            pairs.append(agreed(a, x, b, y))
        else:
            raise locate(ControlFlowError(f"the branches give {x!r} and {y!r}, which no tensor can stand for"))
    it = iter(emit_cond(test, a, b, pairs))
    return [next(it) if x is None else x[0] for x in leaves], a.structure


def emit_cond(test: Tensor, a: Region, b: Region, pairs: Sequence[tuple[Tensor, Tensor]]) -> list[Tensor]:
    """The node for two traced branches, which give these pairs of results; Variables are assigned what they become."""
    writes = _written((a, b))
    results = [[x for x, _ in pairs], [y for _, y in pairs]]
    for r, out in zip((a, b), results, strict=True):
        out += [r.call(r.trace.read, v) for v in writes]
        for t in out:
            r.trace.value(t)  # what a region gives as it came from outside is captured by this
    operands, order, types = _union((a, b), ())
    then, orelse = [r.close(out, order, types) for r, out in zip((a, b), results, strict=True)]
    ys: Any = ()
    if results[0] or not (then.pure and orelse.pure):
        ys = cond_op(test, *operands, then=then, orelse=orelse)
        ys = ys if type(ys) is tuple else (ys,)
    k = len(ys) - len(writes)
    _assign_all(writes, ys[k:])
    return list(ys[:k])


def agreed(a: Region, x: Any, b: Region, y: Any) -> tuple[Tensor, Tensor]:
    """Two branches' results with one dtype, NumPy's promotion of both, and one shape."""
    s, t = a.call(_weakly, x), b.call(_weakly, y)
    xs = [s if isinstance(x, Operand) else x, t if isinstance(y, Operand) else y]
    d, weak = common_dtype(xs)
    s, t = a.call(_cast, s, d, weak), b.call(_cast, t, d, weak)
    if tuple(s.shape) != tuple(t.shape):
        raise locate(
            ShapeError(f"the branches give shapes {show_shape(s.shape)} and {show_shape(t.shape)}")
        )
    return s, t


def _cast(t: Tensor, d: Any, weak: bool) -> Tensor:
    if t.dtype is d and t.type.weak == weak:
        return t
    return OPS["cast"](t, dtype=d, weak=True) if weak else OPS["cast"](t, dtype=d)


def stage_while(test: Body, body: Body, init: Sequence[Any]) -> list[Tensor]:
    """A loop as one node: `test` and `body` take the state's leaves, `body` returns as many."""
    return stage_rows(test, body, init, 0)[0]


def stage_rows(test: Body, body: Body, init: Sequence[Any], more: int) -> tuple[list[Tensor], list[Tensor]]:
    """The same with `more` further values from each step, which are stacked."""
    trace: Any = context.trace
    given = [x if isinstance(x, Operand) else _weakly(x) for x in init]
    state: list[Any] = [trace.read(t) if isinstance(t, Variable) else t for t in given]
    for _ in range(4):
        inner = Region(body, [t.type for t in state], "body")
        if len(inner.leaves) != len(state) + more:
            raise locate(
                ControlFlowError(f"the body returns {len(inner.leaves)} values for a state of {len(state)}")
            )
        made = [inner.call(convert, x) for x in inner.leaves[len(state) :]]
        inner.leaves = inner.leaves[: len(state)]
        results, state, settled = _settled(inner, state)
        if settled:
            break
    outer = Region(test, [t.type for t in state], "cond")
    ok = outer.call(as_test, outer.leaves[0])
    if outer.trace.written():
        raise locate(ControlFlowError("the condition of a loop assigns to a Variable"))
    writes = _written([inner])
    for v in writes:
        outer.trace.read(v)
    results = results + [inner.call(inner.trace.read, v) for v in writes]
    for r, t in [*[(inner, t) for t in (*results, *made)], (outer, ok)]:
        r.trace.value(t)
    operands, order, types = _union([inner, outer], writes)
    body_graph = inner.close([*results, *made], order, types)
    n = len(state) + len(writes)
    attrs: dict[str, Any] = {"cond": outer.close([ok], order, types), "body": body_graph, "n": n}
    ys = saving_op(*state, *operands, **attrs, steps=fresh()) if more else while_op(*state, *operands, **attrs)
    ys = ys if type(ys) is tuple else (ys,)
    _assign_all(writes, ys[len(state) : n])
    return list(ys[: len(state)]), list(ys[n + 1 :])


def _weakly(x: Any) -> Tensor:
    """A Python number as a tensor whose dtype is still open; anything else converted."""
    if isinstance(x, Operand):
        return x if type(x) is Tensor else convert(x)
    if type(x) in (bool, int, float, complex):
        d, weak = common_dtype([x])
        return context.trace.scalar(x, d, weak and d.kind != "b")  # type: ignore[union-attr]
    return convert(x)


def _settled(inner: Region, state: list[Tensor]) -> tuple[list[Tensor], list[Tensor], bool]:
    """The body's results in the types of the state, or the state in wider types and False."""
    out, wider, same = [], [], True
    for i, (t, x) in enumerate(zip(state, inner.leaves, strict=True)):
        y = inner.call(_weakly, x)
        d, weak = common_dtype([t, y if isinstance(x, Operand) else x])
        if tuple(y.shape) != tuple(t.shape):
            raise locate(
                ShapeError(
                    f"value {i} of the loop's state has shape {show_shape(t.shape)} before a step and "
                    f"{show_shape(y.shape)} after it"
                )
            )
        if d is not t.dtype or weak != t.type.weak:
            same = False
        out.append(inner.call(_cast, y, d, weak))
        wider.append(_cast(t, d, weak))
    return out, wider, same


def stage_scan(
    body: Body, init: Sequence[Any], rows: Sequence[Tensor], length: int | Dim, reverse: bool
) -> tuple[list[Tensor], list[Tensor]]:
    """A loop over rows as one node: `body(states, rows)` returns the new states and what is to be stacked, as lists."""
    state = [x if type(x) is Tensor else _weakly(x) if not isinstance(x, Operand) else convert(x) for x in init]
    n = len(state)
    row_types = [TensorType(t.dtype, t.type.shape[1:]) for t in rows]
    for _ in range(4):
        inner = Region(lambda *a: body(list(a[:n]), list(a[n:])), [*[t.type for t in state], *row_types], "body")
        if inner.structure.kind is not tuple or len(inner.leaves) < n:
            raise locate(ControlFlowError("the body of a scan returns its states and what is to be stacked"))
        made = [inner.call(convert, x) for x in inner.leaves[n:]]
        inner.leaves = inner.leaves[:n]
        results, state, settled = _settled(inner, state)
        if settled:
            break
    writes = _written([inner])
    news = [inner.call(inner.trace.read, v) for v in writes]
    for t in [*results, *news, *made]:
        inner.trace.value(t)
    operands, order, types = _union([inner], writes)
    total = n + len(writes)
    # Variables are states too: they stand between the states and the rows
    graph = _moved(inner, results, news, made, order, types, n, len(writes))
    ys = scan_op(
        *state, *operands[: len(writes)], *rows, *operands[len(writes) :],
        body=graph, n=total, m=len(rows), length=length, reverse=reverse,
    )  # fmt: skip
    ys = ys if type(ys) is tuple else (ys,)
    _assign_all(writes, ys[n:total])
    return list(ys[:n]), list(ys[total:])


def _moved(
    inner: Region, results: list[Tensor], news: list[Tensor], made: list[Tensor], order: list[int],
    types: dict[int, TensorType], n: int, w: int,
) -> Graph:  # fmt: skip
    g = inner.close([*results, *news, *made], order, types)
    own = len(inner.params)
    params = (*g.params[:n], *g.params[own : own + w], *g.params[n:own], *g.params[own + w :])
    return Graph(g.name, params, g.nodes, g.results)
