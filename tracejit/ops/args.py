"""Arguments that are shapes, sizes and axes: Python ints, symbolic sizes, and tensors whose value is known."""

from __future__ import annotations

import operator
from collections.abc import Sequence
from typing import Any

import numpy as np

from tracejit.context import context
from tracejit.errors import ArgumentError, DTypeError, ShapeError, TracedValueError, locate
from tracejit.ir.dim import Dim
from tracejit.ir.graph import Value
from tracejit.ir.op import OPS
from tracejit.ir.sizes import hint, is_unit, product
from tracejit.ir.types import as_dtype
from tracejit.ops.found import told
from tracejit.publicnames import shown_value
from tracejit.tensor import Operand, Variable, autocast, convert, strong

Size = int | Dim
LARGEST = 64  # elements up to which a traced integer tensor's value is worked out

_KNOWN = {
    "cast", "identity", "stop_gradient", "reshape", "transpose", "slice", "concat", "broadcast_to", "gather",
    "add", "sub", "mul", "floordiv", "floormod", "neg", "maximum", "minimum", "reduce_sum", "reduce_prod",
}  # fmt: skip


def known(v: Value, done: dict[Value, np.ndarray | None] | None = None) -> np.ndarray | None:
    """The value of a traced integer tensor as an array of ints and Dims, None where it depends on the arguments."""
    done = {} if done is None else done
    if v not in done:
        done[v] = _known(v, done)
    return done[v]


def _known(v: Value, done: dict[Value, np.ndarray | None]) -> np.ndarray | None:
    n = v.node
    if n is None or v.dtype.kind not in "iu" or any(isinstance(d, Dim) for d in v.shape):
        return None
    if hint(product(v.shape)) > LARGEST:
        return None
    attrs = dict(n.attrs)
    if n.op.name == "constant":
        return attrs["value"].numpy().astype(object)
    if n.op.name == "iota" and len(v.shape) == 1:
        return np.arange(int(v.shape[0])).astype(object)
    if n.op.name == "dim":
        return _boxed(attrs["size"])
    if n.op.name not in _KNOWN:
        return None
    inputs: list[np.ndarray] = []
    for i in n.inputs:
        a = known(i, done)
        if a is None:
            return None
        inputs.append(a)
    if n.op.name in ("cast", "identity", "stop_gradient"):
        return inputs[0]
    if n.op.name == "gather":
        inputs[1] = inputs[1].astype(np.int64)
    if n.op.name in ("floordiv", "floormod"):
        f = np.frompyfunc(operator.floordiv if n.op.name == "floordiv" else operator.mod, 2, 1)
        return np.asarray(f(*inputs), object)
    return np.asarray(n.op.numpy(*inputs, **attrs), object)


def _boxed(x: Any) -> np.ndarray:
    a = np.empty((), object)
    a[()] = x
    return a


def as_size(x: Any, what: str = "a size") -> Size:
    """An int or a Dim from a Python or NumPy integer, a Dim, or a 0-d integer tensor whose value is known."""
    if type(x) is int or isinstance(x, Dim):
        return x
    if isinstance(x, Operand):
        if any(not is_unit(d) for d in x.shape):
            raise locate(ShapeError(f"{what} is one integer, not a tensor {x.type}"))
        return as_sizes(x, what)[0]
    try:
        return operator.index(x)
    except TypeError:
        raise locate(DTypeError(f"{what} must be an integer, not {shown_value(x)}")) from None


def as_sizes(x: Any, what: str = "shape") -> tuple[Size, ...]:
    """A tuple of ints and Dims from a shape in any form: a number, a sequence, an array, a tensor."""
    if type(x) is tuple and all(type(d) is int for d in x):
        return x
    if isinstance(x, Operand):
        if x.dtype.kind not in "iu":
            raise locate(DTypeError(f"{what} must hold integers, not {x.dtype.name}"))
        if type(x._a) is Value:
            a = known(x._a)
        else:
            a = x._value(what)
        if a is None:
            a = x._value(what)  # raises, or makes the trace begin again with the value as a constant
        return tuple([d if isinstance(d, Dim) else int(d) for d in a.reshape(-1).tolist()])
    if isinstance(x, np.ndarray):
        if x.dtype.kind in "fcSU" and x.size:
            raise locate(DTypeError(f"{what} must hold integers, not {x.dtype}"))
        return tuple(int(d) for d in x.reshape(-1))
    if isinstance(x, Sequence) and not isinstance(x, str):
        return tuple([as_size(d, what) for d in x])
    return (as_size(x, what),)


def as_axis(axis: Any, rank: int, what: str = "axis") -> int:
    """An axis counted from the front. Raises `ShapeError` outside −rank … rank − 1."""
    a = int(as_size(axis, what))
    if not -rank <= a < rank:
        allowed = f"{-rank} … {rank - 1} for a tensor of {rank} axes" if rank else "a 0-d tensor, which has none"
        raise locate(ShapeError(f"{what} {a} is outside {allowed}"))
    return a + rank if a < 0 else a


def as_axes(axis: Any, rank: int) -> tuple[int, ...]:
    """Sorted axes from None (all of them), an int or a sequence."""
    if axis is None:
        return tuple(range(rank))
    axes = tuple([as_axis(a, rank) for a in as_sizes(axis, "axis")])
    if len(set(axes)) != len(axes):
        raise locate(ShapeError(f"axis {axis} names an axis twice"))
    return tuple(sorted(axes))


def listed(x: Any, what: str) -> list[Any]:
    """The tensors of a sequence, or the slices of a tensor along its first axis."""
    try:
        parts = iter(x)
    except TypeError:
        raise locate(DTypeError(f"{what} is a sequence of tensors, not {shown_value(x)}")) from None
    return list(parts)


def operand(x: Any, dtype: Any = None) -> Operand:
    """A Tensor or Variable as it is, anything else as a Tensor; `dtype` casts."""
    if isinstance(x, Operand) and (dtype is None or x.dtype is as_dtype(dtype)):
        return strong(x if context.autocast is None else autocast(x))
    return convert(x, dtype)


def factors(*xs: Operand) -> list[Operand]:
    """Operands of a product or convolution: float32 in the type of 16 bits that `autocast` computes in."""
    d = context.autocast
    if d is None or d.bits != 16:
        return list(xs)
    return [OPS["cast"](x, dtype=d) if x.dtype.kind == "f" and x.dtype.bits == 32 else x for x in xs]


def floating(x: Any) -> Operand:
    """The operand, integers as floating numbers: float32 for up to 16 bits, float64 for more."""
    t = operand(x)
    if t.dtype.kind in "fc":
        return t
    return convert(t, "float32" if t.dtype.bits <= 16 else "float64")


def waits(x: Operand) -> bool:
    """Whether the values of a tensor are known only when the program runs."""
    if isinstance(x, Variable):
        return context.trace is not None
    if type(x._a) is not Value or context.trace is None or known(x._a) is not None:
        return False
    context.trace.need_value(x._a)  # type: ignore[attr-defined]
    return True


def open_size(x: Any, what: str = "a size") -> Size:
    """A size; from a tensor that only the program knows one that the program finds out (negative ones are 0)."""
    if isinstance(x, Operand) and x.dtype.kind in "iu" and all(map(is_unit, x.shape)) and waits(x):
        return told(OPS["maximum"](OPS["reshape"](x, shape=()), 0))
    return as_size(x, what)


def eager_only(x: Operand, what: str) -> np.ndarray:
    """The array of a tensor on whose values the shape of a result depends."""
    if type(x._a) is Value:
        if context.trace is not None:
            context.trace.need_value(x._a)  # type: ignore[attr-defined]
        raise locate(
            TracedValueError(
                f"{what}: the shape of the result depends on the values of a traced tensor {x._a.type}",
                remedy="use tj.where(condition, a, b), or multiply by the mask, which keep the shape",
            )
        )
    return x._value(what)


def require(condition: bool, message: str, remedy: str | None = None) -> None:
    """Raise `ArgumentError` with the user's line unless the condition holds."""
    if not condition:
        raise locate(ArgumentError(message, remedy))
