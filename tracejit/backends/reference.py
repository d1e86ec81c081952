"""Runs any graph with the rows' NumPy functions: the truth that everything else is compared with."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from tracejit.errors import ArgumentError, ShapeError, TracejitError
from tracejit.ir.dim import Dim
from tracejit.ir.graph import Attrs, Const, Graph, Node, Value, next_scope
from tracejit.ir.sizes import size_at
from tracejit.ir.text import solve
from tracejit.ir.types import TensorType
from tracejit.tracing import at_sizes, constant


def bind(graph: Graph, arrays: Sequence[np.ndarray]) -> dict[str, int]:
    """The sizes of the symbols, read from the parameters' shapes. Raises `ShapeError` for arrays that do not fit."""
    sizes: dict[str, int] = {}
    pairs = [(d, n) for p, a in zip(graph.params, arrays, strict=True) for d, n in zip(p.shape, a.shape, strict=False)]
    for d, n in pairs:
        if isinstance(d, Dim):
            known = solve(d, n)
            if known is not None:
                sizes.setdefault(next(iter(d.symbols)), known)
    for i, (p, a) in enumerate(zip(graph.params, arrays, strict=True)):
        if a.ndim != p.type.rank or any(_differs(d, n, sizes) for d, n in zip(p.shape, a.shape, strict=True)):
            raise ShapeError(f"argument {i} of graph {graph.name} has shape {a.shape}, it takes {p.type}")
    return sizes


class _Sizes(dict[str, int]):
    def __missing__(self, name: str) -> int:
        raise ArgumentError(f"no parameter's shape tells the size {name}", remedy=f"give sizes={{{name!r}: …}}")


def _differs(d: int | Dim, n: int, sizes: Mapping[str, int]) -> bool:
    if isinstance(d, Dim):
        return d.symbols <= sizes.keys() and size_at(d, sizes) != n
    return d != n


def run(graph: Graph, arrays: Sequence[np.ndarray], sizes: Mapping[str, int] | None = None) -> tuple[np.ndarray, ...]:
    """The results for these arguments.

    Parameters
    ----------
    graph : any graph, traced or optimized
    arrays : one per parameter; cast to the parameter's dtype
    sizes : of the symbols; read from the shapes where not given
    """
    if len(arrays) != len(graph.params):
        raise ArgumentError(f"graph {graph.name} takes {len(graph.params)} arrays, {len(arrays)} were given")
    args = [np.asarray(a, p.dtype.np) for a, p in zip(arrays, graph.params, strict=True)]
    known = _Sizes(bind(graph, args), **(sizes or {}))
    env: dict[Value, np.ndarray] = dict(zip(graph.params, args, strict=True))
    last = {v: n for n in graph.nodes for v in n.inputs}
    kept = set(graph.results)
    with np.errstate(all="ignore"):
        for n in graph.nodes:
            ys = _evaluate(n, [env[v] for v in n.inputs], known)
            env.update(zip(n.outs, ys, strict=True))
            if n.op.family == "control":
                learn(n, ys, known)
            for v in n.inputs:
                if last[v] is n and v not in kept:
                    env.pop(v, None)
    return tuple([env[r] for r in graph.results])


def learn(n: Node, ys: Sequence[np.ndarray], sizes: dict[str, int]) -> None:
    """Sizes that only the node's own results tell, such as the number of steps of a loop."""
    for v, a in zip(n.outs, ys, strict=True):
        for d, k in zip(v.shape, a.shape, strict=True):
            if isinstance(d, Dim) and not d.symbols <= sizes.keys():
                known = solve(d, k)
                if known is not None:
                    sizes[next(iter(d.symbols))] = known


def _evaluate(n: Node, xs: list[np.ndarray], sizes: dict[str, int]) -> list[np.ndarray]:
    if n.op is constant:
        return [n.attr("value").numpy(sizes)]
    try:
        y = n.op.numpy(*xs, **_attrs_at(without_found(n, sizes), sizes))
    except TracejitError as e:
        e.where = e.where or ([n.loc] if n.loc is not None else [])
        raise
    ys = y if type(y) is tuple else (y,)
    return [np.asarray(a) for a in ys]


def without_found(n: Node, sizes: Mapping[str, int]) -> Attrs:
    """The attributes of a node without the sizes that it will tell itself."""
    if n.op.family != "control":
        return n.attrs
    return tuple([(k, v) for k, v in n.attrs if not isinstance(v, Dim) or v.symbols <= sizes.keys()])


def _attrs_at(attrs: Attrs, sizes: dict[str, int]) -> dict[str, Any]:
    plain = at_sizes(attrs, sizes)
    return {k: graph_at(v, sizes) if isinstance(v, Graph) else v for k, v in plain.items()}


def graph_at(graph: Graph, sizes: dict[str, int]) -> Graph:
    """The graph with the known sizes in the place of symbols: what a region's own NumPy function is given."""

    def at(x: Any) -> Any:
        if isinstance(x, Dim):
            return size_at(x, sizes) if x.symbols <= sizes.keys() else x
        if isinstance(x, TensorType):
            return TensorType(x.dtype, at(x.shape), x.weak)
        if isinstance(x, Const):
            return x if x.array is not None else Const(None, x.splat, at(x.shape), x.dtype)
        if isinstance(x, Graph):
            return graph_at(x, sizes)
        return tuple([at(y) for y in x]) if type(x) is tuple else x

    if not sizes:
        return graph
    scope = next_scope()
    env = {p: Value(None, at(p.type), scope, i) for i, p in enumerate(graph.params)}
    nodes = []
    for n in graph.nodes:
        attrs = tuple([(k, at(v)) for k, v in n.attrs])
        types = [at(v.type) for v in n.outs]
        nodes.append(Node(n.op, tuple([env[v] for v in n.inputs]), attrs, types, scope, n.loc))
        env.update(zip(n.outs, nodes[-1].outs, strict=True))
    return Graph(graph.name, [env[p] for p in graph.params], nodes, [env[r] for r in graph.results])


Graph.runner = run
