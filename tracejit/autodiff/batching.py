"""vectorized_map and vmap: a function of one row, traced and called again with all rows at once."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from tracejit.autodiff.batchloops import replay_rows
from tracejit.autodiff.batchrules import Batch, Size
from tracejit.autograph.calls import callee
from tracejit.autograph.ranges import TensorRange
from tracejit.context import context, tracing
from tracejit.errors import ArgumentError, ControlFlowError, ShapeError, locate
from tracejit.ir.dim import Dim
from tracejit.ir.found import sizes_told, told_within
from tracejit.ir.graph import Graph, Value
from tracejit.ir.op import OPS
from tracejit.ir.types import TensorType, float32, int32
from tracejit.ops.args import as_axis
from tracejit.ops.array import moveaxis
from tracejit.ops.flow import along, leading
from tracejit.tensor import Operand, Tensor, Variable, convert, wrap
from tracejit.tracing import Trace, run
from tracejit.tree import Structure, flatten, map_structure, unflatten


# --- one row ----------------------------------------------------------------------------------------------------------
class Row:
    """A function traced for one row: its graph, what it captures, and the counters that each row moves on."""

    def __init__(self, f: Callable[..., Any], types: Sequence[TensorType]) -> None:
        outer: Any = context.trace
        inner = Trace(outer)
        inner.heard = bool(context.tapes) or (outer is not None and outer.heard)
        inner.asked = bool(context.tapes) or (outer is not None and outer.asked)
        params = [inner.param(t) for t in types]
        leaves, self.structure = flatten(run(inner, f, params))
        with tracing(inner):
            results = [inner.value(_settled(convert(x))) for x in leaves]
        self.moves: list[tuple[Variable, np.ndarray]] = []
        self.other_writes: list[Variable] = []
        for v in inner.written():
            step = _step(inner.env[id(v)]._a, inner.reads[id(v)][1]._a)
            if step is None:
                self.other_writes.append(v)
            else:
                self.moves.append((v, step))
        self.graph: Graph = inner.builder.finish("row", results)
        outside: dict[Value, Any] = {t._a: o if isinstance(o, Operand) else wrap(o) for o, t in inner.captures.values()}
        outside |= {t._a: v for v, t in inner.reads.values()}
        self.captured = [outside[p] for p in self.graph.params[len(params) :]]


def _settled(t: Tensor) -> Tensor:
    """A tensor made of Python numbers only in the dtype that these have as results."""
    if not t.type.weak:
        return t
    d = float32 if t.dtype.kind == "f" else int32 if t.dtype.kind in "iu" else t.dtype
    return OPS["cast"](t, dtype=d)


def _step(new: Value, old: Value) -> np.ndarray | None:
    """What a Variable of integers grows by from row to row, None if that is no constant."""
    if old.dtype.kind not in "iu":
        return None
    total: np.ndarray = np.zeros(tuple(map(int, old.shape)), old.dtype.np)
    while new is not old:
        n = new.node
        if n is None or n.op.name not in ("add", "identity"):
            return None
        if n.op.name == "add":
            constants = [i for i, x in enumerate(n.inputs) if x.node is not None and x.node.op.name == "constant"]
            if len(constants) != 1:
                return None
            made = n.inputs[constants[0]].node
            assert made is not None
            total = total + made.attr("value").numpy()
            new = n.inputs[1 - constants[0]]
        else:
            new = n.inputs[0]
    return total


def _counted(v: Variable, step: np.ndarray, b: Batch) -> Tensor:
    """The values that the rows find in a Variable which each of them moves on by a step."""
    rank = len(step.shape)
    rows = OPS["iota"](shape=(b.n, *[1] * rank), axis=0, dtype=v.dtype)
    return OPS["add"](v, OPS["mul"](rows, wrap(step)))


def _moved_on(v: Variable, step: np.ndarray, n: Size) -> None:
    times = OPS["cast"](convert(n), dtype=v.dtype) if isinstance(n, Dim) else wrap(np.asarray(n, step.dtype))
    total = OPS["mul"](wrap(step), times) if isinstance(n, Dim) else wrap(np.asarray(step * np.asarray(n, step.dtype)))
    v.assign(OPS["add"](v, total))


# --- all rows ---------------------------------------------------------------------------------------------------------
def _over_rows(
    f: Callable[..., Any], rows: list[Tensor], n: Size, fallback: Callable[[str], None]
) -> tuple[list[Tensor], list[bool], Structure]:
    """The results of `f(*leaves)` for all rows, and which of them have a batch axis."""
    row = Row(f, [TensorType(t.dtype, tuple(t.shape)[1:]) for t in rows])
    if row.other_writes:
        fallback(f"it assigns to {row.other_writes[0]._label()}")
        out = along(lambda _, leaves: ((), f(*leaves)), (), rows, flatten(list(rows))[1], n, False)[1]
        leaves, structure = flatten(out)
        return leaves, [True] * len(leaves), structure
    b = Batch(n, sizes=_found_around(row.graph), fallback=fallback)
    b.ran = dict.fromkeys(b.sizes)
    counted = {id(v): _counted(v, step, b) for v, step in row.moves}
    captured = [counted.get(id(x), x) for x in row.captured]
    has = [True] * len(rows) + [id(x) in counted for x in row.captured]
    ys, marks = replay_rows(row.graph, [*rows, *captured], has, b)
    for v, step in row.moves:
        _moved_on(v, step, n)
    return [y if type(y) is Tensor else convert(y) for y in ys], marks, row.structure


def _found_around(graph: Graph) -> dict[str, Size]:
    """The sizes that the traces around have found already, and that operations of a row find again."""
    trace: Any = context.trace
    again, found = told_within(graph), dict[str, Size]()
    while trace is not None and again:
        found |= {s: d for s, d in sizes_told(trace.builder.nodes).items() if s in again}
        trace = trace.parent
    return found


def _said(name: str, warn: bool, refuse: bool) -> Callable[[str], None]:
    """What is done where rows have to be gone through one by one: nothing, a warning, or an error."""

    def say(what: str) -> None:
        if refuse:
            raise locate(ControlFlowError(f"{name} has no form for all rows at once: {what}"))
        if warn:
            warnings.warn(f"{name} goes through the rows one by one: {what}", RuntimeWarning, stacklevel=2)

    return say


def vectorized_map(fn: Callable[..., Any], elems: Any, fallback_to_while_loop: bool = True, warn: bool = True) -> Any:
    """`fn(row)` for each row of the leading axis of `elems`, stacked: all rows at once.

    Parameters
    ----------
    fn : a function of one row, in the structure of `elems`; traced once, so its Python code runs once
    elems : a tensor or a nest of tensors with one leading axis; what has one row there has it for all
    fallback_to_while_loop : go through the rows one by one where there is no other way: for Python functions and
        Variables that are assigned. Otherwise this raises `ControlFlowError`
    warn : say so with a `RuntimeWarning`

    The result is that of `map_fn`, random draws included. Where a condition differs between rows both branches are
    computed and selected from; a loop runs until the last row is done.
    """
    rows, structure, n = leading(_one_for_all(elems))

    def f(*leaves: Tensor) -> Any:
        return callee(fn)(unflatten(structure, list(leaves)))

    ys, marks, made = _over_rows(f, rows, n, _said("vectorized_map", warn, not fallback_to_while_loop))
    b = Batch(n)
    return unflatten(made, [b.spread(y, h) for y, h in zip(ys, marks, strict=True)])


def _one_for_all(elems: Any) -> Any:
    """Tensors of one row repeated as often as others have rows."""
    flat, structure = flatten(elems)
    given = [x if isinstance(x, TensorRange) else convert(x) for x in flat]
    shapes = [tuple(t.shape) for t in given if not isinstance(t, TensorRange)]
    rows = [s[0] for s in shapes if s and s[0] != 1]
    if not rows or len(rows) == len(flat):
        return elems

    def repeated(t: Any) -> Any:
        if isinstance(t, TensorRange) or not t.shape or t.shape[0] != 1:
            return t
        return OPS["broadcast_to"](t, shape=(rows[0], *t.shape[1:]))

    return unflatten(structure, [repeated(t) for t in given])


# --- vmap -------------------------------------------------------------------------------------------------------------
def _axes(axes: Any, tree: Any, what: str) -> list[Any]:
    """An axis for each leaf: `axes` is one for all, or a nest that stands for the upper part of `tree`."""
    if axes is None or isinstance(axes, (int, np.integer)):
        return [axes] * len(flatten(tree)[0])
    if isinstance(axes, dict) and isinstance(tree, dict) and axes.keys() == tree.keys():
        return [a for k in flatten({k: k for k in tree})[0] for a in _axes(axes[k], tree[k], what)]
    if isinstance(axes, (list, tuple)) and isinstance(tree, (list, tuple)) and len(axes) == len(tree):
        return [a for x, t in zip(axes, tree, strict=True) for a in _axes(x, t, what)]
    raise locate(ArgumentError(f"{what} {axes!r} does not go with {map_structure(lambda _: 0, tree)}"))


def vmap(fn: Callable[..., Any], in_axes: Any = 0, out_axes: Any = 0) -> Callable[..., Any]:
    """A function that takes arguments with one more axis and gives results with one more, for all rows at once.

    Parameters
    ----------
    fn : a function of tensors and nests of them
    in_axes : the axis to go along, for all arguments, for each, or for nests within them; None for an argument that is
        the same for every row. Keyword arguments go along axis 0
    out_axes : where the axis stands in the results, likewise; None for a result that does not depend on the row
    """

    def call(*args: Any, **kwargs: Any) -> Any:
        leaves, structure = flatten((args, kwargs))
        own = list(in_axes) if isinstance(in_axes, (list, tuple)) else in_axes
        axes = _axes(own, list(args), "in_axes") + [0] * len(flatten(kwargs)[0])
        along = [i for i, a in enumerate(axes) if a is not None]
        if not along:
            raise locate(ArgumentError("vmap needs an argument to go along: every axis is None"))
        given = [convert(leaves[i]) for i in along]
        rows = [moveaxis(t, as_axis(axes[i], len(t.shape)), 0) for t, i in zip(given, along, strict=True)]
        rows, _, n = leading(rows)

        def f(*own: Tensor) -> Any:
            new = list(leaves)
            for i, t in zip(along, own, strict=True):
                new[i] = t
            args, kwargs = unflatten(structure, new)
            return callee(fn)(*args, **kwargs)

        ys, marks, made = _over_rows(f, rows, n, _said("vmap", True, False))
        back = _axes(out_axes, unflatten(made, ys), "out_axes")
        return unflatten(made, [_put_back(y, h, a, n) for y, h, a in zip(ys, marks, back, strict=True)])

    call.__name__ = getattr(fn, "__name__", "vmap")
    call.__doc__ = getattr(fn, "__doc__", None)
    return call


def _put_back(y: Tensor, has: bool, axis: Any, n: Size) -> Tensor:
    if axis is None:
        if has:
            raise locate(ShapeError("a result depends on the row, and out_axes gives it no axis"))
        return y
    full = Batch(n).spread(y, has)
    return moveaxis(full, 0, as_axis(axis, len(full.shape))) if axis else full
