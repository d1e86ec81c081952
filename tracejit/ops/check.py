"""Checks: conditions that must hold when a program runs, each with the error that says which value broke it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from tracejit.context import context
from tracejit.errors import (
    ArgumentError,
    ControlFlowError,
    DivisionError,
    DTypeError,
    OutOfRangeError,
    ShapeError,
    UnsetAttributeError,
    UnsetError,
    locate,
    public_name,
)
from tracejit.ir.dim import Dim
from tracejit.ir.graph import Value
from tracejit.ir.op import OPS, Op
from tracejit.ir.types import DType, TensorType, int32, int64, show_shape
from tracejit.ops import elementwise as E
from tracejit.ops.args import Size, known
from tracejit.ops.reduce import reduce_all
from tracejit.tensor import Operand, Tensor, Variable, convert

ERRORS: dict[str, type[Exception]] = {
    "ArgumentError": ArgumentError, "AssertionError": AssertionError, "ControlFlowError": ControlFlowError,
    "DTypeError": DTypeError, "KeyError": KeyError, "DivisionError": DivisionError, "OutOfRangeError": OutOfRangeError,
    "OverflowError": OverflowError, "ShapeError": ShapeError,
    "UnsetError": UnsetError, "UnsetAttributeError": UnsetAttributeError,
}  # fmt: skip
_VIEWS = {"cast", "identity", "reshape", "transpose", "slice", "broadcast_to", "stop_gradient"}
_SHOWN = 8  # elements of an array that a message shows


def _infer(ok: TensorType, *data: TensorType, error: str, message: str, bounds: tuple = ()) -> tuple:
    if ok.dtype.kind != "b" or ok.shape:
        raise ShapeError(f"a check takes one bool, not {ok}")
    return ()


def _enforce(ok: np.ndarray, *data: np.ndarray, error: str, message: str, bounds: tuple = ()) -> tuple:
    if not ok:
        raise ERRORS[error](_text(data, message, bounds))
    return ()


def _text(data: tuple[np.ndarray, ...], message: str, bounds: tuple) -> str:
    shown = [x.item() if not x.ndim else np.array2string(x, threshold=_SHOWN, edgeitems=3) for x in data]
    if not bounds:
        return message.format(*shown)
    low, high = bounds
    outside = data[0][(data[0] < low) | (data[0] >= high)]
    return message.format(int(outside.reshape(-1)[0]), *shown[1:], low=low, high=high)


check: Op = Op(
    "check", "control", _infer, _enforce, dtypes="biufc", arity=None, pure=False,
    doc="An error if the bool is false. The message's fields are the other operands; where there are bounds, the first "
    "is an element of the first operand outside low ≤ x < high. Takes effect before any Variable changes.",
)  # fmt: skip


def named(message: str) -> str:
    """The message with the function that the user calls."""
    name = public_name() if context.trace is not None else ""
    return f"{name}: {message}" if name else message


def require_index(i: Operand, n: Size, axis: int) -> None:
    """Refuse positions outside −n … n − 1 on an axis of size n: now if they are known, else when the program runs."""
    require_range(i, n, f"index {{}} is outside axis {axis} of size {{high}}")


def require_range(i: Operand, n: Size, message: str, negative: bool = True) -> None:
    """Refuse integers outside −n … n − 1, or 0 … n − 1, with `OutOfRangeError`."""
    if isinstance(i, Variable) and context.trace is not None:
        i = E.identity(i)
    values = known(i._a) if type(i._a) is Value else i._value("an index")
    if values is not None and not isinstance(n, Dim) and not _has_sizes(values):
        low = -n if negative else 0
        if values.size and (values.min() < low or values.max() >= n):
            raise locate(OutOfRangeError(_text((values,), message, (low, n))))
        return
    trace: Any = context.trace
    if trace is None or any(type(d) is int and d == 0 for d in i.shape) or (type(i._a) is Value and _below(i._a, n)):
        return
    d = _wide(i.dtype, n)
    x = i if d is i.dtype else E.cast(i, dtype=d)
    ok = E.less(x, n)
    if d.kind == "i" and i.dtype.kind != "u":
        ok = E.logical_and(E.greater_equal(x, -n if negative else 0), ok)
    if ok.ndim:
        ok = reduce_all(ok, axis=tuple(range(ok.ndim)))
    if (ok._a, message) in trace.checked:  # the same positions of the same axis
        return
    trace.checked.add((ok._a, message))
    OPS["check"](ok, i, error="OutOfRangeError", message=named(message), bounds=(-n if negative else 0, n))


def require_room(rest: Size, error: str, message: str, *data: Size) -> None:
    """Refuse a difference of sizes below 0 where only the program finds it out; `{}` are the data."""
    trace: Any = context.trace
    if trace is None or not isinstance(rest, Dim) or not rest.is_found or rest.compare(0, ">=") is not None:
        return
    if (">=", rest, True) in trace.checked:
        return
    trace.checked.add((">=", rest, True))
    left, *shown = [E.cast(OPS["dim"](size=n), dtype=int64) if isinstance(n, Dim) else n for n in (rest, *data)]
    shown = [convert(n, int64) for n in shown]
    OPS["check"](E.greater_equal(left, 0), *shown, error=error, message=named(message))


def require_other(d: Dim, k: int, message: str) -> None:
    """Refuse one number as a size that the program finds out."""
    trace: Any = context.trace
    if trace is not None and d.compare(k, "==") is None and ("!=", d, k) not in trace.checked:
        trace.checked.add(("!=", d, k))
        OPS["check"](E.not_equal(OPS["dim"](size=d), k), error="ShapeError", message=named(message))


def require_below(i: Operand, n: Size) -> None:
    """Refuse segment numbers of n and above."""
    d = _wide(i.dtype, n)
    x = E.cast(i, dtype=d)
    require_range(E.maximum(x, 0) if d.kind == "i" else x, n, "segment {} is not one of {high}", negative=False)


def as_flag(x: Any, what: str) -> bool:
    """An argument that is True or False."""
    try:
        return bool(x)
    except ValueError:
        raise locate(ShapeError(f"{what} is True or False, not an array of shape {show_shape(np.shape(x))}")) from None


def require_all(ok: Tensor, message: str, data: Sequence[Operand], error: str = "ArgumentError") -> None:
    """Refuse what does not hold everywhere, now if it is known, else when the program runs; `{}` are the data."""
    t: Any = reduce_all(ok, axis=tuple(range(ok.ndim))) if ok.ndim else ok
    if context.trace is None:
        if not t._a:
            raise locate(ERRORS[error](_text(tuple([x._value("data") for x in data]), message, ())))  # type: ignore[arg-type]
        return
    OPS["check"](t, *data, error=error, message=named(message))


def require_powers(y: Any) -> None:
    """Refuse negative powers of integers, which are fractions: now if they are known, else when the program runs."""
    message = "a negative power of integers is no integer: {}. Cast the base to float first"
    if not isinstance(y, Operand):
        if np.any(np.less(y, 0)):
            raise locate(ArgumentError(message.format(np.min(y))))
    elif y.dtype.kind == "i" and may_be_negative(y):
        ok = E.greater_equal(y, 0)
        OPS["check"](reduce_all(ok, axis=tuple(range(ok.ndim))), y, error="ArgumentError", message=named(message))


def may_be_negative(i: Operand) -> bool:
    """Whether an integer tensor has negative elements; of a traced one, whether it may have some."""
    if i.dtype.kind != "i":
        return False
    values = known(i._a) if type(i._a) is Value else i._value("a segment number")
    if values is None or _has_sizes(values):
        return not (type(i._a) is Value and i._a.node is not None and i._a.node.op.name in ("iota", "argmax", "argmin"))
    return bool(values.size and values.min() < 0)


def _has_sizes(values: np.ndarray) -> bool:
    return values.dtype == object and any(isinstance(x, Dim) for x in values.reshape(-1))


def _wide(d: DType, n: Size) -> DType:
    """An integer type that holds the positions and the size."""
    if d.bits == 64:
        return d
    return int64 if d.bits == 32 and (d.kind == "u" or (type(n) is int and n > int32.max)) else int32


def _below(v: Value, n: Size) -> bool:
    """Whether the ops that made a position keep it below n: an order, the place of an extreme, a counter."""
    while v.node is not None and v.node.op.name in _VIEWS:
        v = v.node.inputs[0]
    node = v.node
    if node is None:
        return False
    if node.op.name == "positions":
        return _same(node.inputs[0].shape[0], n)
    if node.op.name in ("argsort", "top_k", "argmax", "argmin"):
        return _same(node.inputs[0].shape[node.attr("axis")], n)
    return node.op.name == "iota" and _same(node.attr("shape")[node.attr("axis")], n)


def _same(a: Size, b: Size) -> bool:
    return a.same(b) if isinstance(a, Dim) else a == b
