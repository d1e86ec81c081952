"""The door through which every operation goes: eagerly with NumPy, or into a trace."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from tracejit.context import activity, context
from tracejit.conversion import _fits, _floating, _strong, common_dtype, convert, convert_unharmed, strong, to_array
from tracejit.errors import ArgumentError, DTypeError, OutOfRangeError, TracejitError, locate
from tracejit.ir.graph import Value
from tracejit.ir.op import OPS, Op
from tracejit.ir.types import DType, TensorType, as_dtype, float32, int32, int64, weak_kind
from tracejit.operand import (
    _WIDEST,
    NUMPY_FUNCTIONS,
    NUMPY_UFUNCS,
    Operand,
    Tensor,
    TensorShape,
    _asarray,
    _ndarray,
    _steers,
    _weak_of,
    leaked,
    quietly,
    run_silently,
    wrap,
)
from tracejit.variable import Variable

__all__ = [
    "NUMPY_FUNCTIONS",
    "NUMPY_UFUNCS",
    "Operand",
    "Tensor",
    "TensorShape",
    "Variable",
    "WARM",
    "WHEN_WARM",
    "_WIDEST",
    "_bring",
    "_fits",
    "_floating",
    "_steers",
    "_strong",
    "_weak_of",
    "check",
    "common_dtype",
    "convert",
    "convert_unharmed",
    "door",
    "is_tensor",
    "leaked",
    "quietly",
    "run_silently",
    "strong",
    "to_array",
    "warm",
    "wrap",
]


def _prepare(op: Op, inputs: tuple) -> tuple[tuple, tuple]:
    """Operands as the op takes them: (what tapes know them by, tensors)."""
    mode = op.promote
    if mode == "none":
        cast = op.name == "cast" or op.family == "control"  # which take Python numbers as what they are
        keys = tuple([(x if cast else strong(x)) if isinstance(x, Operand) else convert(x) for x in inputs])
    else:
        if op.name == "mul" and any(type(x) in (list, tuple) for x in inputs):
            for x in inputs:  # `[x] * n` repeats the list
                if isinstance(x, Operand):
                    _steers(x)
        head: tuple = ()
        rest = inputs
        if mode == "select":
            c = inputs[0] if isinstance(inputs[0], Operand) else convert(inputs[0])
            head, rest = (c if c.dtype.kind == "b" else OPS["cast"](c, dtype=as_dtype("bool")),), inputs[1:]
        d, weak = common_dtype(rest)
        if mode == "float":
            d = _floating(d, weak)
        if op.result == "bool" and d.kind in "iu" and any(type(x) is int and not _fits(x, d) for x in rest):
            d, rest = _beyond(d, rest)
        if weak and d.kind == "i" and op.name == "pow" and not (type(inputs[1]) is int and inputs[1] >= 0):
            for x in (x for x in inputs if isinstance(x, Operand)):
                _steers(x)  # Python's n ** -1 is no integer
        keys = head + tuple([_bring(x, d, False) for x in rest])
    trace = context.trace
    values = tuple([k if type(k) is Tensor else trace.read(k) if trace is not None else wrap(k._a) for k in keys])
    return keys, values


def _bring(x: Any, d: DType, weak: bool) -> Operand:
    if isinstance(x, Operand):
        a = x._a
        if type(a) is Value:
            same = a.type.dtype is d and (not a.type.weak or weak)
        else:
            same = a.dtype is d.np or a.dtype == d.np
        return x if same else OPS["cast"](x, dtype=d, weak=True) if weak else OPS["cast"](x, dtype=d)
    if weak_kind(x) is not None:
        if weak:
            return context.trace.scalar(x, d, True)  # type: ignore[union-attr]
        if type(x) is int and d.kind in "iu" and not _fits(x, d):
            raise locate(DTypeError(f"the Python integer {x} does not fit {d.name}", remedy="cast the tensor first"))
        if context.trace is not None:
            return context.trace.scalar(x, d, False)
        return wrap(quietly(_asarray, x, d.np))
    return convert(x, d)


def _beyond(d: DType, xs: tuple) -> tuple[DType, tuple]:
    """Operands of a comparison with Python integers outside the dtype's range, which are as good as infinite."""
    if all(type(x) is int for x in xs):
        smaller = [sum(y < x for y in xs) for x in xs]  # only the order matters
        return int64, tuple(smaller)
    far = float("inf")
    return float32, tuple([x if type(x) is not int or _fits(x, d) else far if x > 0 else -far for x in xs])


def _at_once(op: Op, inputs: tuple, attrs: dict[str, Any]) -> Any:
    """The result where the operands are eager tensors that need no conversion, None otherwise and after an error."""
    arrays = []
    for x in inputs:
        if type(x) is not Tensor and type(x) is not Variable:
            return None
        a = x._a
        if type(a) is not _ndarray:
            return None
        arrays.append(a)
    if op.kinds and arrays and arrays[-1].dtype.kind not in op.kinds:
        return None
    mode = op.promote
    if mode != "none":
        d = arrays[-1].dtype
        for a in arrays[1 if mode == "select" else 0 : -1]:
            if a.dtype is not d:
                return None
        if (mode == "float" and d.kind not in "fc") or (mode == "select" and arrays[0].dtype.kind != "b"):
            return None
    elif op.dtypes == "b" and arrays[0].dtype.kind != "b":
        return None
    try:
        r = run_silently(op.numpy, *arrays, **attrs)
    except Exception:
        return None
    return tuple([wrap(y) for y in r]) if type(r) is tuple else wrap(r)


# Called, perhaps more than once, when some operation has been used a few hundred times.
WHEN_WARM: list[Callable[[], None]] = []
WARM = 256
_calls = WARM


def warm() -> None:
    for begin in WHEN_WARM:
        begin()


def door(op: Op, inputs: tuple, attrs: dict[str, Any]) -> Any:
    """Bring the operands together, evaluate, tell the tapes."""
    if not activity.busy:
        global _calls
        _calls -= 1
        if _calls <= 0:
            _calls = WARM
            warm()
        out = _at_once(op, inputs, attrs)
        if out is not None:
            return out
    keys, values = _prepare(op, inputs)
    trace = context.trace
    out = _eager(op, values, attrs) if trace is None else trace.evaluate(op, values, attrs)
    if context.tapes:
        outs = out if type(out) is tuple else (out,)
        for tape in context.tapes:
            tape.record(op, keys, values, attrs, outs)
    return out


Op.door = staticmethod(door)


def _eager(op: Op, values: tuple[Tensor, ...], attrs: dict[str, Any]) -> Any:
    for v in values:
        if type(v._a) is Value:
            raise leaked(v._a)
    asked = values if op.dtypes == "b" else values[-1:]  # operands of other ops have one dtype by now
    if op.kinds and any(v._a.dtype.kind not in op.kinds for v in asked):
        check(op, [v.type for v in values], attrs)
    try:
        r = quietly(op.numpy, *[v._a for v in values], **attrs)
    except TracejitError as e:
        raise locate(e) from None
    except Exception as e:
        if op.name == "host_call":
            raise  # errors of the user's functions are the user's
        raise _explained(op, values, attrs, e) from None
    return tuple([wrap(x) for x in r]) if type(r) is tuple else wrap(r)


def check(op: Op, types: Sequence[TensorType], attrs: dict[str, Any]) -> Any:
    """The op's result type, with its name and the operands in any error."""
    try:
        return op.infer(*types, **attrs)
    except TracejitError as e:
        shown = ", ".join(map(str, types))
        if not e.message.startswith(op.name):
            e.message = f"{op.name}({shown}): {e.message}"
        raise locate(e)  # noqa: B904


def _explained(op: Op, values: Sequence[Tensor], attrs: dict[str, Any], error: Exception) -> Exception:
    """What the shape rule says of operands that the kernel refused; the kernel's own words if it finds no fault."""
    try:
        check(op, [v.type for v in values], attrs)
    except TracejitError as e:
        return e
    shown = ", ".join(str(v.type) for v in values)
    kind = OutOfRangeError if isinstance(error, IndexError) else ArgumentError
    return locate(kind(f"{op.name}({shown}): {error}"))


def is_tensor(x: Any) -> bool:
    """Whether `x` is a Tensor or a Variable."""
    return isinstance(x, Operand)


def default_dtypes() -> tuple[DType, DType, DType]:
    return float32, int32, int64
