"""The door through which every operation goes: eagerly with NumPy, or into a trace."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from tracejit.context import activity, context
from tracejit.conversion import _fits, _floating, _strong, common_dtype, convert, convert_unharmed, strong, to_array
from tracejit.errors import DTypeError, TracejitError, kernel_error, locate
from tracejit.intervals import all_of, bounds
from tracejit.intervals import fits as within
from tracejit.ir.graph import Value
from tracejit.ir.op import OPS, Op
from tracejit.ir.types import (
    DType,
    TensorType,
    _by_np,
    as_dtype,
    float32,
    int32,
    int64,
    promote,
    uint64,
    weak_kind,
)
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
    only_known,
    quietly,
    run_silently,
    wrap,
)
from tracejit.spreading import together
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
    "autocast",
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
    "used",
    "warm",
    "wrap",
]


def _prepare(op: Op, inputs: tuple) -> tuple[tuple, tuple]:
    """Operands as the op takes them: (what tapes know them by, tensors)."""
    # what branches and loops read is read inside them
    if context.autocast is not None and op.name != "cast" and op.family != "control":
        inputs = tuple([autocast(x) for x in inputs])
    mode = op.promote
    if mode == "none":
        cast = op.name == "cast" or op.family == "control"  # which take Python numbers as what they are
        keys = tuple([(x if cast else strong(x)) if isinstance(x, Operand) else convert(x) for x in inputs])
    else:
        if op.name == "mul" and any(type(x) in (list, tuple) for x in inputs):
            for x in inputs:  # `[x] * n` repeats the list
                if isinstance(x, Operand):
                    only_known(x, "the repetition of a list")
        head: tuple = ()
        rest = inputs
        if mode == "select":
            c = inputs[0] if isinstance(inputs[0], Operand) else convert(inputs[0])
            head, rest = (c if c.dtype.kind == "b" else OPS["cast"](c, dtype=as_dtype("bool")),), inputs[1:]
        d, weak = common_dtype(rest)
        if mode == "float":
            d = _floating(d, weak)
        if op.result == "bool" and d.kind in "iu":
            d, rest = _exactly(d, rest)
        if weak and d.kind == "i" and op.name == "pow" and not (type(inputs[1]) is int and inputs[1] >= 0):
            for x in (x for x in inputs if isinstance(x, Operand)):
                _steers(x)  # Python's n ** -1 is no integer
        keys = head + tuple([_bring(x, d, False) for x in rest])
    trace = context.trace
    if trace is not None and len(keys) > 1 and op.family == "elementwise":
        keys = together(keys)
    values = tuple([k if type(k) is Tensor else trace.read(k) if trace is not None else wrap(k._a) for k in keys])
    return keys, values


def autocast(x: Any) -> Any:
    """`x`; a floating Variable in the type that the scope at hand reads it in."""
    d = context.autocast
    if d is None or not isinstance(x, Variable) or x.dtype.kind != "f" or x.dtype is d:
        return x
    return OPS["cast"](x, dtype=d)


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


def _exactly(d: DType, xs: tuple) -> tuple[DType, tuple]:
    """Operands of a comparison with Python integers, none of which is narrowed."""
    if any(type(x) is int and not _fits(x, d) for x in xs):
        return _beyond(d, xs)
    trace: Any = context.trace
    if d.bits < 64 and trace is not None:
        weak = [x._a for x in xs if isinstance(x, Operand) and type(x._a) is Value and x._a.type.weak]
        if any(v.dtype.kind == "i" and not within(bounds(v, trace.bounds), all_of(d)) for v in weak):
            return int64, xs
    return d, xs


def _signs_differ(xs: tuple) -> bool:
    """Whether integers with a sign are compared with uint64: no integer type holds both."""
    if len(xs) != 2:
        return False
    a, b = (_strong(x) for x in xs)
    if a is uint64:
        return b.kind == "i" if b is not None else _is_integer(xs[1])
    return b is uint64 and (a.kind == "i" if a is not None else _is_integer(xs[0]))


def _is_integer(x: Any) -> bool:
    """Whether an operand is a Python integer that a trace takes."""
    return isinstance(x, Operand) and type(x._a) is Value and x._a.dtype.kind == "i"


def _compare_signs(op: Op, xs: tuple) -> Any:
    """The comparison by parts: a negative number is less than any without a sign, others are compared as uint64."""
    k = 0 if _strong(xs[1]) is uint64 else 1
    x = OPS["cast"](xs[k], dtype=int64)
    pair = [xs[0], xs[1]]
    pair[k] = OPS["cast"](x, dtype=uint64)
    if op.name in ("not_equal", *(("less", "less_equal") if k == 0 else ("greater", "greater_equal"))):
        return OPS["logical_or"](OPS["less"](x, 0), Op.door(op, tuple(pair), {}))
    return OPS["logical_and"](OPS["greater_equal"](x, 0), Op.door(op, tuple(pair), {}))


def _beyond(d: DType, xs: tuple) -> tuple[DType, tuple]:
    """Operands of a comparison with Python integers outside the dtype's range, which are as good as infinite."""
    if all(type(x) is int for x in xs):
        smaller = [sum(y < x for y in xs) for x in xs]  # only the order matters
        return int64, tuple(smaller)
    far = float("inf")
    return float32, tuple([x if type(x) is not int or _fits(x, d) else far if x > 0 else -far for x in xs])


def _at_once(op: Op, inputs: tuple, attrs: dict[str, Any]) -> Any:
    """The result where the operands are eager and easily brought together, None otherwise and after an error."""
    arrays: list[Any] = []
    foreign = False
    for x in inputs:
        if type(x) is Tensor or type(x) is Variable:
            x = x._a
            if type(x) is not _ndarray:
                return None
        else:
            foreign = True
        arrays.append(x)
    mode = op.promote
    try:
        if mode != "none":
            head = 1 if mode == "select" else 0
            if foreign or _differ(arrays, head) or (mode == "float" and arrays[-1].dtype.kind not in "fc"):
                if (foreign and len(arrays) == 1) or not _brought_together(op, arrays, head):
                    return None
            if head and (type(arrays[0]) is not _ndarray or arrays[0].dtype.kind != "b"):
                return None
        elif foreign or (op.dtypes == "b" and arrays[0].dtype.kind != "b"):
            return None
        if op.kinds and arrays and arrays[-1].dtype.kind not in op.kinds:
            return None
        r = run_silently(op.numpy, *arrays, **attrs)
    except Exception:
        return None
    return tuple([wrap(y) for y in r]) if type(r) is tuple else wrap(r)


def _differ(arrays: list[Any], head: int) -> bool:
    d = arrays[-1].dtype
    for a in arrays[head:-1]:
        if a.dtype is not d:
            return True
    return False


def _brought_together(op: Op, xs: list[Any], head: int) -> bool:
    """Put arrays of one dtype in the place of arrays, some perhaps the user's own, and Python numbers, which give way;
    the first `head` stay as they are. False where there is more to it.
    """
    d: DType | None = None
    for x in xs[head:]:
        if type(x) is _ndarray:
            own = _by_np.get(x.dtype)
            if own is None or own.np is not x.dtype or (own is uint64 and op.result == "bool"):
                return False
            d = own if d is None else promote(d, own)
        elif type(x) is not int and type(x) is not float:
            return False
    if d is None:
        return False
    for x in xs[head:]:
        if type(x) is not _ndarray and d.kind not in ("iuf" if type(x) is int else "f"):
            return False
    if op.promote == "float":
        d = _floating(d, False)
    for i in range(head, len(xs)):
        x = xs[i]
        if type(x) is not _ndarray:
            xs[i] = run_silently(_asarray, x, d.np)
        elif x.dtype is not d.np:
            xs[i] = run_silently(x.astype, d.np)
    return True


# Called, perhaps more than once, when some operation has been used a few hundred times.
WHEN_WARM: list[Callable[[], None]] = []
WARM = 256
_calls = WARM


def warm() -> None:
    for begin in WHEN_WARM:
        begin()


def used() -> None:
    """Count an operation that does not come through the door."""
    global _calls
    _calls -= 1
    if _calls <= 0:
        _calls = WARM
        warm()


def door(op: Op, inputs: tuple, attrs: dict[str, Any]) -> Any:
    """Bring the operands together, evaluate, tell the tapes."""
    if not activity.busy:
        global _calls
        _calls -= 1
        if _calls <= 0:
            _calls = WARM
            warm()
        if op.native is not None and not attrs and (out := op.native(*inputs)) is not NotImplemented:
            return out
        out = _at_once(op, inputs, attrs)
        if out is not None:
            return out
    if op.result == "bool" and op.promote == "common" and _signs_differ(inputs):
        return _compare_signs(op, inputs)
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
        if not e.where and not e.call:
            e.call = f"{op.name}({shown})"
        raise locate(e)  # noqa: B904


def _explained(op: Op, values: Sequence[Tensor], attrs: dict[str, Any], error: Exception) -> Exception:
    """What the shape rule says of operands that the kernel refused; the kernel's own words if it finds no fault."""
    try:
        check(op, [v.type for v in values], attrs)
    except TracejitError as e:
        return e
    shown = ", ".join(str(v.type) for v in values)
    explained = kernel_error(error)(str(error))
    explained.call = f"{op.name}({shown})"
    return locate(explained)


def is_tensor(x: Any) -> bool:
    """Whether `x` is a Tensor or a Variable."""
    return isinstance(x, Operand)


def default_dtypes() -> tuple[DType, DType, DType]:
    return float32, int32, int64
