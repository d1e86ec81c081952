"""Control flow under TensorFlow's names: Python's own eagerly, nodes with regions in a trace."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from tracejit.autograph import places
from tracejit.autograph.attempts import Unheard, unheard
from tracejit.autograph.branches import State, if_exp
from tracejit.autograph.calls import callee, keep
from tracejit.autograph.logic import and_
from tracejit.autograph.loops import staged
from tracejit.autograph.ranges import TensorRange, counted
from tracejit.context import context, tracing
from tracejit.errors import ArgumentError, ControlFlowError, ConversionError, DTypeError, ShapeError, locate
from tracejit.ir.dim import Dim
from tracejit.ir.op import OPS
from tracejit.ir.sizes import fit
from tracejit.ir.types import TensorType, int32
from tracejit.ops.array import cut
from tracejit.ops.regions import as_test, is_value, stage_cond, stage_scan, stage_while
from tracejit.ops.tensor_array import TensorArray
from tracejit.tensor import Operand, Tensor, convert
from tracejit.tracing import Trace, run
from tracejit.tree import flatten, unflatten

Body = Callable[..., Any]


def cond(pred: Any, true_fn: Body | None = None, false_fn: Body | None = None, name: str | None = None) -> Any:
    """The result of `true_fn()` if the one element of `pred` is true, else that of `false_fn()`.

    In a trace both are traced and one runs; results are brought to one dtype, and their shapes must be equal. Eagerly
    the function that is chosen is called. Raises `ControlFlowError` or `ShapeError` for results that do not fit.
    """
    if true_fn is None or false_fn is None:
        raise locate(ArgumentError("cond needs true_fn and false_fn"))
    if context.trace is None or not isinstance(pred, (Operand, np.ndarray)):
        return true_fn() if pred else false_fn()
    try:
        with places.uncarried(unheard):
            leaves, structure = stage_cond(pred, callee(true_fn), callee(false_fn))
    except Unheard:  # a statement carries what they do to Python objects
        return if_exp(pred, callee(true_fn), callee(false_fn))
    return unflatten(structure, leaves)


def case(
    pred_fn_pairs: Any, default: Body | None = None, exclusive: bool = False, strict: bool = False,
    name: str | None = None,
) -> Any:  # fmt: skip
    """The result of the first function whose predicate holds, else that of `default`.

    Without `default` it is a `ControlFlowError` if no predicate holds; with `exclusive` also if more than one does.
    """
    pairs = list(pred_fn_pairs.items() if isinstance(pred_fn_pairs, Mapping) else pred_fn_pairs)
    if not pairs:
        raise locate(ArgumentError("case needs at least one pair of a predicate and a function"))
    if exclusive:
        _one_at_most([p for p, _ in pairs])

    def rest(i: int) -> Any:
        if i == len(pairs):
            return default()  # type: ignore[misc]
        if i == len(pairs) - 1 and default is None:
            _one_must_hold(pairs[i][0])
            return callee(pairs[i][1])() if context.trace is not None else pairs[i][1]()
        return cond(pairs[i][0], pairs[i][1], lambda: rest(i + 1))

    return rest(0)


def _one_at_most(predicates: Sequence[Any]) -> None:
    message = "case is exclusive, and more than one of its predicates holds"
    if context.trace is None or not any(isinstance(p, (Operand, np.ndarray)) for p in predicates):
        if sum(map(bool, predicates)) > 1:
            raise locate(ControlFlowError(message))
        return
    count = functools.reduce(OPS["add"], [OPS["cast"](as_test(p), dtype=int32) for p in predicates])
    OPS["check"](OPS["less_equal"](count, 1), error="ControlFlowError", message=message)


def _one_must_hold(last: Any) -> None:
    message = "case has no default, and none of its predicates holds"
    if context.trace is not None and isinstance(last, (Operand, np.ndarray)):
        OPS["check"](as_test(last), error="ControlFlowError", message=message)
    elif not last:
        raise locate(ControlFlowError(message))


def switch_case(
    branch_index: Any, branch_fns: Any, default: Body | None = None, name: str | None = None
) -> Any:
    """The result of the function with this number; `default`, or the last one, for other numbers."""
    if isinstance(branch_fns, Mapping):
        table = dict(branch_fns)
    else:
        pairs = [f if isinstance(f, tuple) else (i, f) for i, f in enumerate(branch_fns)]
        table = dict(pairs)
    if not table:
        raise locate(ArgumentError("switch_case needs at least one function"))
    other = default if default is not None else table[max(table)]
    index = branch_index if isinstance(branch_index, Operand) else convert(branch_index)
    if index.dtype.kind not in "iu":
        raise locate(DTypeError(f"branch_index is an integer, not {index.type}"))
    return case([(OPS["equal"](index, int(k)), f) for k, f in sorted(table.items())], default=other)


def while_loop(
    cond: Body, body: Body, loop_vars: Any, shape_invariants: Any = None, parallel_iterations: int = 10,
    back_prop: bool = True, swap_memory: bool = False, maximum_iterations: Any = None, name: str | None = None,
) -> Any:  # fmt: skip
    """`loop_vars = body(*loop_vars)` while `cond(*loop_vars)` holds, at most `maximum_iterations` times.

    Parameters
    ----------
    cond, body : take the loop variables one by one; `body` returns as many, in the same structure
    loop_vars : a list or tuple of tensors, numbers or nests of them; dtypes that change are promoted
    shape_invariants : shapes, in which None is a size that steps may change; a function with a loop that does so runs
        as plain Python
    parallel_iterations, back_prop, swap_memory : taken for TensorFlow's sake

    Raises `ShapeError` if another shape changes from one step to the next in a trace.
    """
    if not isinstance(loop_vars, (list, tuple)):
        raise locate(ArgumentError(f"loop_vars is a list or a tuple, not {type(loop_vars).__name__}"))
    if any(isinstance(v, TensorArray) for v in loop_vars):
        return _with_arrays(cond, body, loop_vars, maximum_iterations)
    flat, structure = flatten(loop_vars)
    limited = maximum_iterations is not None
    if context.trace is not None:
        cond, body = callee(cond), callee(body)

    def unpacked(leaves: Sequence[Any]) -> Any:
        return unflatten(structure, list(leaves))

    def test(*leaves: Any) -> Any:
        own = leaves[1:] if limited else leaves
        ok = cond(*unpacked(own))
        return OPS["logical_and"](as_test(ok), OPS["less"](leaves[0], maximum_iterations)) if limited else ok

    def step(*leaves: Any) -> Any:
        own = leaves[1:] if limited else leaves
        out = body(*unpacked(own))
        if len(loop_vars) == 1 and not (isinstance(out, (list, tuple)) and len(out) == 1):
            out = [out]
        made, s = flatten(out)
        if len(made) != len(flat):
            raise locate(ControlFlowError(f"the body returns {s} for loop variables {structure}"))
        return [OPS["add"](leaves[0], 1), *made] if limited else made

    state: list[Any] = [*([0] if limited else []), *flat]
    if context.trace is not None:
        try:
            with places.uncarried(unheard):
                state = list(_staged(test, step, state, shape_invariants))
        except Unheard:  # a statement carries what they do to Python objects
            state = keep["converted_as"](_steps)(test, step, [convert(x) for x in state])
    else:
        state = [_carried(x) for x in state]
        while bool(test(*state)):
            state = [_carried(x) for x in step(*state)]
    return unpacked(state[1:] if limited else state)


def _steps(test: Body, step: Body, state: list[Any]) -> list[Any]:
    while test(*state):
        state = step(*state)
    return state


def _staged(test: Body, step: Body, state: list[Any], invariants: Any) -> list[Tensor]:
    try:
        return stage_while(test, step, state)
    except ShapeError as e:
        if invariants is None or not _is_open(invariants):
            raise
        raise locate(ConversionError(f"{e.message}, as shape_invariants allow it to change", e.remedy)) from None


def _is_open(x: Any) -> bool:
    """Whether there is None among shapes: a size that is open."""
    if isinstance(x, Mapping):
        return any(map(_is_open, x.values()))
    if isinstance(x, (list, tuple)):
        return any(map(_is_open, x))
    return x is None or (hasattr(x, "shape") and _is_open(x.shape))


def _with_arrays(cond: Body, body: Body, loop_vars: Any, most: Any) -> Any:
    """A `while_loop` whose variables may grow: one of converted code."""
    box: list[Any] = [tuple(loop_vars), 0]
    if context.trace is not None:
        cond, body = callee(cond), callee(body)

    def put(new: Sequence[Any]) -> None:
        box[0], box[1] = tuple(new[:-1]), new[-1]

    def test() -> Any:
        ok = cond(*box[0])
        return ok if most is None else and_(lambda: ok, lambda: box[1] < most)

    def step() -> None:
        out = body(*box[0])
        box[0] = tuple(out) if isinstance(out, (list, tuple)) and len(out) == len(loop_vars) else (out,)
        box[1] = box[1] + 1

    if context.trace is None:
        while bool(test()):
            step()
    else:
        names = [f"loop variable {i}" for i in range(len(loop_vars))]
        staged(test, step, State(lambda: (*box[0], box[1]), put, [*names, "the number of steps"]))
    return type(loop_vars)(box[0]) if type(loop_vars) in (list, tuple) else box[0]


def _carried(x: Any) -> Any:
    """What a loop carries on: values as tensors, what else there is as it is."""
    return convert(x) if is_value(x) and not isinstance(x, Tensor) else x


def leading(elems: Any) -> tuple[list[Tensor], Any, int | Dim]:
    """The tensors of a nest, its structure, and the size of the leading axis that they share."""
    flat, structure = flatten(elems)
    rows = [counted(x) if isinstance(x, TensorRange) else convert(x) for x in flat]
    if not rows or any(not t.ndim for t in rows):
        raise locate(ArgumentError("the elements to go through are tensors with a leading axis"))
    sizes = [t.shape[0] for t in rows]
    length = next((n for n in sizes if not isinstance(n, Dim)), sizes[0])
    if not all(fit(n, length) for n in sizes):
        shapes = ", ".join(str(tuple(t.shape)) for t in rows)
        raise locate(ShapeError(f"the leading axes of the elements differ: {shapes}"))
    return rows, structure, length


def along(
    body: Callable[[Any, Any], tuple[Any, Any]], init: Any, rows: list[Tensor], structure: Any, length: int | Dim,
    reverse: bool,
) -> tuple[Any, Any]:  # fmt: skip
    """States carried along the rows: the last states, and what each step gave, stacked. `body(state, row)`."""
    first, of_state = flatten(init)
    of_made: list[Any] = []

    def step(states: list[Any], xs: list[Any]) -> tuple[Any, ...]:
        state, made = body(unflatten(of_state, states), unflatten(structure, xs))
        new, s = flatten(state)
        if s != of_state:
            raise locate(ControlFlowError(f"a step returns {s}, it took {of_state}"))
        leaves, kind = flatten(made)
        of_made[:] = [kind]
        return (*new, *leaves)

    if context.trace is not None:
        with places.uncarried(unheard):
            last, stacked = stage_scan(step, first, rows, length, reverse)
        return unflatten(of_state, last), unflatten(of_made[0], stacked)
    states: list[Any] = [convert(x) for x in first]
    stacked = _stacked(step, states, rows, int(length), reverse)
    return unflatten(of_state, states), unflatten(of_made[0], stacked)


def _stacked(
    step: Callable[..., tuple[Any, ...]], states: list[Any], rows: list[Tensor], length: int, reverse: bool
) -> list[Tensor]:
    """An eager loop: `states` become the last ones, what the steps make besides is stacked."""
    n = len(states)
    if not length:
        return _empty(step, states, rows)
    found: list[tuple[Any, ...]] = []
    order = range(length)
    for i in reversed(order) if reverse else order:
        out = step(list(states), [t[i] for t in rows])
        states[:] = [x if isinstance(x, Operand) else convert(x) for x in out[:n]]
        found.append(out[n:])
    if reverse:
        found.reverse()
    return [convert(list(column)) for column in zip(*found, strict=True)]


def _empty(step: Callable[..., tuple[Any, ...]], states: list[Any], rows: list[Tensor]) -> list[Tensor]:
    """No steps: what they would make, found by tracing one."""
    inner = Trace(None)
    types = [*[t.type for t in states], *[TensorType(t.dtype, tuple(t.shape)[1:]) for t in rows]]
    params = [inner.param(t) for t in types]
    n = len(states)
    out = run(inner, lambda *a: step(list(a[:n]), list(a[n:])), params)
    with tracing(inner):
        made = [convert(x).type for x in out[n:]]
    zero = [OPS["cast"](0, dtype=t.dtype) for t in made]
    return [OPS["broadcast_to"](z, shape=(0, *t.shape)) for z, t in zip(zero, made, strict=True)]


def scan(
    fn: Body, elems: Any, initializer: Any = None, parallel_iterations: int = 10, back_prop: bool = True,
    swap_memory: bool = False, infer_shape: bool = True, reverse: bool = False, name: str | None = None,
) -> Any:  # fmt: skip
    """The running results of `acc = fn(acc, row)` over the leading axis of `elems`, stacked.

    Without an initializer the first row is the first result. `reverse` goes from the last row to the first.
    """
    rows, structure, length = leading(elems)
    fn = _called(fn)
    if initializer is None:
        head, rows, length = _headless(rows, length, reverse)
        start = unflatten(structure, head)
        if isinstance(length, int) and length == 0:
            return unflatten(structure, [OPS["reshape"](t, shape=(1, *t.shape)) for t in head])
    else:
        start = initializer

    def step(acc: Any, row: Any) -> tuple[Any, Any]:
        new = fn(acc, row)
        return new, new

    out = along(step, start, rows, structure, length, reverse)[1]
    if initializer is not None:
        return out
    made, s = flatten(out)
    return unflatten(s, [_joined(h, t, reverse) for h, t in zip(head, made, strict=True)])


def _called(f: Body, traced: bool = False) -> Body:
    """A function of the user's as traces call it, if there is one now."""
    return callee(f) if traced or context.trace is not None else f  # type: ignore[no-any-return]


def _headless(rows: list[Tensor], length: int | Dim, reverse: bool) -> tuple[list[Tensor], list[Tensor], int | Dim]:
    if isinstance(length, int) and length == 0:
        raise locate(ArgumentError("there are no elements to go through, and no initializer"))
    if reverse:
        return [t[-1] for t in rows], [cut(t, 0, 0, length - 1) for t in rows], length - 1
    return [t[0] for t in rows], [cut(t, 0, 1, length - 1) for t in rows], length - 1


def _joined(head: Tensor, rest: Tensor, reverse: bool) -> Tensor:
    first = OPS["reshape"](OPS["cast"](head, dtype=rest.dtype), shape=(1, *head.shape))
    return OPS["concat"](*((rest, first) if reverse else (first, rest)), axis=0)


def _fold(fn: Body, elems: Any, initializer: Any, reverse: bool) -> Any:
    rows, structure, length = leading(elems)
    fn = _called(fn)
    start = initializer
    if initializer is None:
        head, rows, length = _headless(rows, length, reverse)
        start = unflatten(structure, head)
    if isinstance(length, int) and length == 0:
        return start
    return along(lambda acc, row: (fn(acc, row), ()), start, rows, structure, length, reverse)[0]


def foldl(
    fn: Body, elems: Any, initializer: Any = None, parallel_iterations: int = 10, back_prop: bool = True,
    swap_memory: bool = False, name: str | None = None,
) -> Any:  # fmt: skip
    """`acc = fn(acc, row)` over the leading axis of `elems`, from the first row; the last result."""
    return _fold(fn, elems, initializer, False)


def foldr(
    fn: Body, elems: Any, initializer: Any = None, parallel_iterations: int = 10, back_prop: bool = True,
    swap_memory: bool = False, name: str | None = None,
) -> Any:  # fmt: skip
    """`acc = fn(acc, row)` over the leading axis of `elems`, from the last row; the last result."""
    return _fold(fn, elems, initializer, True)


def map_fn(
    fn: Body, elems: Any, dtype: Any = None, parallel_iterations: int | None = None, back_prop: bool = True,
    swap_memory: bool = False, infer_shape: bool = True, name: str | None = None, fn_output_signature: Any = None,
) -> Any:  # fmt: skip
    """`fn(row)` for each row of the leading axis of `elems`, stacked; `vectorized_map` is faster."""
    rows, structure, length = leading(elems)
    fn = _called(fn, not length)
    return along(lambda acc, row: ((), fn(row)), (), rows, structure, length, False)[1]
