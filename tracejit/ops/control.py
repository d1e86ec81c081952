"""cond, while and scan: operations whose attributes are graphs, closed over what these read from around them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from tracejit.errors import DTypeError, ShapeError
from tracejit.ir.dim import Dim
from tracejit.ir.graph import Graph, Value
from tracejit.ir.op import Op
from tracejit.ir.types import TensorType, int64
from tracejit.ops.controlgrad import (
    jvp_cond,
    jvp_saving,
    jvp_scan,
    jvp_while,
    vjp_cond,
    vjp_saving,
    vjp_scan,
    vjp_while,
)  # fmt: skip


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


cond_op = Op(
    "cond", "control", _infer_cond, _run_cond, vjp=vjp_cond, jvp=jvp_cond, arity=None, dtypes="biufc",
    doc="The results of the region `then` if the first operand is true, else those of `orelse`.",
)  # fmt: skip
while_op = Op(
    "while", "control", _infer_while, _run_while, vjp=vjp_while, jvp=jvp_while, arity=None, dtypes="biufc",
    doc="The first n operands, replaced by the results of `body` while `cond` holds.",
)  # fmt: skip
saving_op = Op(
    "while_saving", "control", _infer_saving, _run_saving, vjp=vjp_saving, jvp=jvp_saving, arity=None, dtypes="biufc",
    doc="As `while`, then the number of steps; then what else the steps of `body` give, stacked.", special="tells",
)  # fmt: skip
scan_op = Op(
    "scan", "control", _infer_scan, _run_scan, vjp=vjp_scan, jvp=jvp_scan, arity=None, dtypes="biufc",
    doc="n states carried over `length` steps, which read a row of each of the next m operands; further results of the "
    "steps are stacked.",
)  # fmt: skip
