"""Derivatives of branches and loops: loops that keep their states, and scans that go back over them."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from typing import Any

from tracejit.autodiff.forward import ForwardAccumulator
from tracejit.autodiff.reverse import zeros_like
from tracejit.autodiff.tape import GradientTape
from tracejit.context import context
from tracejit.ir.dim import Dim
from tracejit.ir.found import fresh
from tracejit.ir.graph import Builder, Graph
from tracejit.ir.op import OPS
from tracejit.ir.types import TensorType
from tracejit.tensor import Tensor
from tracejit.tracing import replay, trace_graph

Body = Callable[..., Any]


def _strong(t: TensorType) -> TensorType:
    return TensorType(t.dtype, t.shape)


def _out(ys: Sequence[Any]) -> Any:
    return ys[0] if len(ys) == 1 else tuple(ys)


def _inexact(values: Sequence[Any]) -> list[int]:
    return [i for i, v in enumerate(values) if v.dtype.is_inexact]


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


def vjp_cond(g: Any, y: Any, p: Tensor, *xs: Tensor, then: Graph, orelse: Graph) -> tuple[Any, ...]:
    targets, wanted = _inexact(then.results), _inexact(xs)
    if not wanted:
        return (None,) * (1 + len(xs))
    gs = [(g if type(g) is tuple else (g,))[i] for i in targets]
    types = [*[x.type for x in xs], *[c.type for c in gs]]

    def pull(branch: Graph) -> Graph:
        k = len(xs)
        return _graph(
            lambda *a: tuple(_pulled(quiet(branch), a[:k], targets, a[k:], wanted)), types, f"d_{branch.name}"
        )

    made = OPS["cond"](p, *xs, *gs, then=pull(then), orelse=pull(orelse))
    return (None, *_spread(len(xs), wanted, made if type(made) is tuple else (made,)))


def jvp_cond(ts: Any, y: Any, p: Tensor, *xs: Tensor, then: Graph, orelse: Graph) -> Any:
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


def quiet(graph: Graph) -> Graph:
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
            attrs = n.attrs if n.op.name == "custom_vjp" else tuple([(k, _second(v)) for k, v in n.attrs])
            env.update(zip(n.outs, b.emit(n.op, tuple([env[v] for v in n.inputs]), attrs), strict=True))
    b.loc = None
    return b.finish(graph.name, [env[r] for r in graph.results])


def _second(x: Any) -> Any:
    """An attribute of a node, for when the node is taken a second time."""
    if type(x) is Graph:
        return quiet(x)
    return x.again() if hasattr(x, "again") else x


def vjp_while(g: Any, y: Any, *xs: Tensor, cond: Graph, body: Graph, n: int) -> tuple[Any, ...]:
    """The states of all steps are kept; a scan goes back over them."""
    return _backwards_while(list(g) if type(g) is tuple else [g], [], xs, cond, body, n, None)


def vjp_saving(g: Any, y: Any, *xs: Tensor, cond: Graph, body: Graph, n: int, steps: Dim) -> tuple[Any, ...]:
    """The same loop with the states before each step among its rows, and a scan the other way."""
    return _backwards_while(list(g[:n]), list(g[n + 1 :]), xs, cond, body, n, steps)


def _backwards_while(
    gs: list[Tensor], of_made: list[Tensor], xs: Sequence[Tensor], cond: Graph, body: Graph, n: int, steps: Dim | None
) -> tuple[Any, ...]:
    cond, body, keeping, steps = _keeping(xs, cond, body, n, steps)
    out = OPS["while_saving"](*xs, cond=cond, body=keeping, n=n, steps=steps)
    return _backwards(body, n, gs, xs, (), out[1 + len(body.results) :], steps, False, of_made)


def _keeping(
    xs: Sequence[Tensor], cond: Graph, body: Graph, n: int, steps: Dim | None
) -> tuple[Graph, Graph, Graph, Dim]:
    """A loop's condition and body without effects, a body that gives the states before each step too, and how many
    steps there are: the same objects for all gradients of one loop, so that it is gone through once."""
    trace: Any = context.trace
    key = (cond, body, steps, *[trace.value(x) for x in xs]) if trace is not None else None
    if key is not None and key in trace.keeping:
        return trace.keeping[key]  # type: ignore[no-any-return]
    test, again = quiet(cond), quiet(body)
    made = Graph(again.name, again.params, again.nodes, (*again.results, *again.params[:n]))
    found = test, again, made, fresh() if steps is None else steps
    if key is not None and test.pure and again.pure:  # what Python gives may differ each time
        trace.keeping[key] = found
    return found


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


def vjp_scan(
    g: Any, y: Any, *xs: Tensor, body: Graph, n: int, m: int, length: int | Dim, reverse: bool
) -> tuple[Any, ...]:
    """The same scan with the states before each step as results, and a scan the other way."""
    gs = list(g) if type(g) is tuple else [g]
    saved: tuple[Tensor, ...] = ()
    body = quiet(body)
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


def jvp_while(ts: Any, y: Any, *xs: Tensor, cond: Graph, body: Graph, n: int) -> Any:
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


def jvp_saving(ts: Any, y: Any, *xs: Tensor, cond: Graph, body: Graph, n: int, steps: Dim) -> Any:
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


def jvp_scan(
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
