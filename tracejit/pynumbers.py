"""Python numbers that are inputs of a trace: their operators act like Python's, whose errors become checks."""

from __future__ import annotations

from typing import Any

from tracejit.context import context
from tracejit.errors import DivisionError, TracedValueError, locate
from tracejit.intervals import PYTHON, bounds, fits
from tracejit.ir.dim import Dim
from tracejit.ir.hooks import Hooks
from tracejit.ir.op import OPS, Op
from tracejit.ir.types import float64, int64
from tracejit.tensor import _WIDEST, NUMPY_UFUNCS, Operand, _bring, _floating, _steers, _strong, _weak_of, common_dtype
from tracejit.tracing import Trace

_DIVISIONS = {"div", "floordiv", "floormod"}


def is_number(x: Any) -> bool:
    """Whether an operand is a Python number: one that is written in the program, or one that a trace takes."""
    return _strong(x) is None and _weak_of(x) is not None


def arithmetic(op: Op, inputs: tuple, attrs: dict[str, Any]) -> Any:
    """An operator of the language: on Python numbers only, the result is one too, as precise as Python's."""
    trace = context.trace
    if not isinstance(trace, Trace) or not all(map(is_number, inputs)):
        return Op.door(op, inputs, attrs)
    d, _ = common_dtype(inputs)
    if op.promote == "float":
        d = _floating(d, True)
    if op.name in _DIVISIONS:
        _divisible(trace, inputs[1])
    elif op.name == "pow":
        _raisable(trace, inputs[0], inputs[1], d.kind == "i")
    values = tuple([_bring(_sized(x), _WIDEST[d.kind], True) for x in inputs])
    out = trace.evaluate(op, values, attrs)  # type: ignore[arg-type]
    if d.kind == "i" and out.dtype.kind == "i":
        _has_room(trace, op, values, out)
    for tape in context.tapes:
        tape.record(op, values, values, attrs, (out,))
    return out


TOO_LARGE = "of the Python integer {} exceeds int64"
NO_ROOM = "cannot convert {} to an integer of int64"
LIMITS = (TOO_LARGE, NO_ROOM)  # what messages end with of errors that plain Python does not have


def _of_sizes(name: str, operands: tuple) -> Any:
    """An operator of the language between a symbolic size and a number that is none."""
    return NotImplemented if context.trace is None else arithmetic(OPS[name], operands, {})


def _ufunc_of_sizes(name: str, operands: tuple) -> Any:
    """A function of NumPy's on symbolic sizes, which it takes for int64 unless there are arrays beside them."""
    f = NUMPY_UFUNCS.get(name)
    if f is None or context.trace is None:
        return NotImplemented
    if not all(map(is_number, operands)):
        return f(*operands)
    return f(*[OPS["cast"](_sized(x), dtype=int64) if isinstance(x, Dim) else x for x in operands])


Hooks.compute, Hooks.ufunc = staticmethod(_of_sizes), staticmethod(_ufunc_of_sizes)


def _sized(x: Any) -> Any:
    return OPS["dim"](size=x) if isinstance(x, Dim) else x


def _divisible(trace: Trace, y: Any) -> None:
    """Refuse to divide by zero, as Python does."""
    if isinstance(y, Dim):
        if y.equals(0):
            raise locate(DivisionError("division by zero"))
    elif isinstance(y, Operand):
        _require(trace, _compare("not_equal", y, 0), "division by zero")
    elif y == 0:
        raise locate(DivisionError("division by zero"))


def _raisable(trace: Trace, x: Any, y: Any, whole: bool) -> None:
    """Refuse powers that Python refuses, or that are complex. A power of integers may be none: it is worked out."""
    if whole and not (type(y) is int and y >= 0):
        for n in (x, y):
            if isinstance(n, Operand):
                _steers(n)
    if whole or (type(x) in (int, float) and x > 0):
        return
    if not (type(y) in (int, float) and y >= 0):
        refused = OPS["logical_and"](_compare("equal", x, 0), _compare("less", y, 0))
        message = "0.0 cannot be raised to a negative power"
        _require(trace, OPS["logical_not"](refused), message)
    if not (type(y) is int or (type(y) is float and y == int(y))):
        root = arithmetic(OPS["floor"], (y,), {}) if isinstance(y, Operand) else float(int(y))
        real = OPS["logical_or"](_compare("greater_equal", x, 0), _compare("equal", y, root))
        _require(trace, real, "a negative number to a fractional power is complex", "ArgumentError")


def _compare(name: str, x: Any, y: Any) -> Any:
    return arithmetic(OPS[name], (x, y), {})


def _has_room(trace: Trace, op: Op, values: tuple, out: Any) -> None:
    """Python's integers are as large as they need to be; those of a trace that may grow beyond int64 are checked."""
    if fits(bounds(out._a, trace.bounds), PYTHON):
        return
    trace.bounds[out._a] = PYTHON
    ok = _within(trace, op, values)
    if ok is None and op.name == "shift_left":  # by more than 62 bits anything but 0 leaves
        ok = OPS["logical_and"](_compare("less", values[1], 63), _compare("equal", out >> values[1], values[0]))
    elif op.name.startswith("bit_"):  # only the integer that has no negative is too far
        ok = _compare("greater_equal", out, PYTHON[0])
    elif ok is None:
        size = OPS["abs"](OPS[op.name](*[OPS["cast"](x, dtype=float64) for x in values]))
        ok = OPS["less"](size, 2.0**63 if op.name in ("add", "sub") else _NEAR)
    trace.require(ok._a, trace.value(values[0]), f"{op.name} {TOO_LARGE}")


_NEAR = 2.0**63 - 2.0**18  # below which products and powers are, however their factors were rounded


def _within(trace: Trace, op: Op, values: tuple) -> Any:
    """Whether an operand is in the range in which the result is an int64, where the other one is known; else None."""
    if op.name not in ("add", "sub", "mul"):
        return None
    low, high = PYTHON
    (a, b), (c, d) = (bounds(trace.value(v), trace.bounds) for v in values)
    k = 0 if c == d else 1
    if k == 1 and a != b:
        return None
    n = a if k else c
    if op.name == "mul":
        low, high = -(high // abs(n)), high // abs(n)  # by 0 there is always room
    elif op.name == "add":
        low, high = low - n, high - n
    else:
        low, high = (n - high, n - low) if k else (low + n, high + n)
    ok = _compare("greater_equal", values[k], low) if low > PYTHON[0] else None
    if high < PYTHON[1]:
        below = _compare("less_equal", values[k], high)
        ok = below if ok is None else OPS["logical_and"](ok, below)
    return ok


def _require(trace: Trace, ok: Any, message: str, error: str = "DivisionError") -> None:
    if ok._a not in trace.checked:
        trace.checked.add(ok._a)
        OPS["check"](ok, error=error, message=message)


def _only_of_numbers(name: str) -> property:
    """An attribute that Python's numbers have and tensors lack: it makes an input that was a number a constant."""

    def get(x: Operand) -> Any:
        _steers(x)
        if is_number(x):
            raise locate(TracedValueError(f"{name!r} asks for the value of a Python number of a loop or branch"))
        raise AttributeError(f"{type(x).__name__!r} object has no attribute {name!r}")

    return property(get, doc=f"`{name}` of a Python number that a trace takes.")


for _name in (
    "as_integer_ratio", "bit_count", "bit_length", "conjugate", "denominator", "hex", "imag", "is_integer",
    "numerator", "real", "to_bytes",
):  # fmt: skip
    setattr(Operand, _name, _only_of_numbers(_name))


def integral(op: Op, x: Operand) -> Any:
    """`round(x)`, `math.floor(x)` and the like: of a Python number an integer, of a tensor one of its dtype."""
    y = arithmetic(op, (x,), {})
    return as_integer(y) if is_number(y) else y


def as_integer(x: Operand) -> Any:
    """The Python integer that the whole part of a number is; what none is, or none of 64 bits, is an error."""
    if x.dtype.kind == "f":
        wide = OPS["cast"](x, dtype=float64)
        nan, infinite, room = OPS["isnan"](wide), OPS["isinf"](wide), OPS["less"](OPS["abs"](wide), 2.0**63)
        for ok, error, message in (
            (OPS["logical_not"](nan), "ArgumentError", "cannot convert float NaN to integer"),
            (OPS["logical_not"](infinite), "OverflowError", "cannot convert float infinity to integer"),
            (room, "OverflowError", NO_ROOM),
        ):
            OPS["check"](ok, *([wide] if ok is room else []), error=error, message=message)
    return OPS["cast"](x, dtype=int64, weak=True)
