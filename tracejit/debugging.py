"""`tracejit.debugging`: assertions about tensors, which hold eagerly and each time a traced function runs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from tracejit.context import context
from tracejit.errors import DTypeError, ShapeError, locate
from tracejit.ir.op import OPS
from tracejit.ir.sizes import known_equal
from tracejit.ir.types import DType, as_dtype, float32, show_shape
from tracejit.ops.check import ERRORS, named
from tracejit.tensor import Operand, Tensor, convert


def _require(ok: Any, message: str, data: Sequence[Any], error: str = "ArgumentError") -> None:
    """An error with this text, whose `{}` are the data, unless all elements of `ok` hold."""
    t = convert(ok)
    if t.ndim:
        t = OPS["reduce_all"](t, axis=tuple(range(t.ndim)))
    tensors = [convert(x) for x in data]
    if context.trace is None:
        if not bool(t):
            shown = [np.array2string(np.asarray(x.numpy()), threshold=8, edgeitems=3) for x in tensors]
            raise locate(ERRORS[error](message.format(*shown)))  # type: ignore[arg-type]
        return
    OPS["check"](t, *tensors, error=error, message=named(message))


def _said(message: str | None, what: str) -> str:
    text = what if not message else f"{message}: {what}"
    return text.replace("{", "{{").replace("}", "}}").replace("{{}}", "{}")


def Assert(condition: Any, data: Sequence[Any], summarize: int | None = None, name: str | None = None) -> None:
    """Raise `ArgumentError` showing `data` unless the condition holds."""
    shown = list(data) if isinstance(data, (list, tuple)) else [data]
    _require(condition, "assertion failed: " + " ".join("{}" for _ in shown), shown)


def _comparison(op: str, sign: str) -> Callable[..., None]:
    def check(
        x: Any, y: Any, message: str | None = None, summarize: int | None = None, name: str | None = None
    ) -> None:
        a = x if isinstance(x, Operand) else convert(x) if isinstance(y, Operand) is False else x
        _require(OPS[op](a, y), _said(message, f"x {sign} y does not hold everywhere: x = {{}}, y = {{}}"), [x, y])

    check.__name__ = check.__qualname__ = f"assert_{op}"
    check.__doc__ = f"Raise `ArgumentError` unless `x {sign} y` holds for all elements, with broadcasting."
    return check


assert_equal = _comparison("equal", "==")
assert_none_equal = _comparison("not_equal", "!=")
assert_less = _comparison("less", "<")
assert_less_equal = _comparison("less_equal", "<=")
assert_greater = _comparison("greater", ">")
assert_greater_equal = _comparison("greater_equal", ">=")


def assert_near(
    x: Any, y: Any, rtol: Any = None, atol: Any = None, message: str | None = None, summarize: int | None = None,
    name: str | None = None,
) -> None:  # fmt: skip
    """Raise `ArgumentError` unless `|x - y| <= atol + rtol * |y|` everywhere; both are ten epsilons by default."""
    a, b = convert(x), convert(y)
    eps = 10.0 * float(np.finfo(a.dtype.np).eps) if a.dtype.kind in "fc" and a.dtype.name != "bfloat16" else 0.08
    room = OPS["add"](OPS["mul"](OPS["abs"](b), eps if rtol is None else rtol), eps if atol is None else atol)
    near = OPS["less_equal"](OPS["abs"](OPS["sub"](a, b)), room)
    _require(near, _said(message, "x and y differ by more than the tolerance: x = {}, y = {}"), [a, b])


def _sign(op: str, sign: str, name: str) -> Callable[..., None]:
    def check(x: Any, message: str | None = None, summarize: int | None = None, name: str | None = None) -> None:
        _require(OPS[op](convert(x), 0), _said(message, f"x {sign} 0 does not hold everywhere: x = {{}}"), [x])

    check.__name__ = check.__qualname__ = name
    check.__doc__ = f"Raise `ArgumentError` unless `x {sign} 0` holds for all elements."
    return check


assert_positive = _sign("greater", ">", "assert_positive")
assert_non_negative = _sign("greater_equal", ">=", "assert_non_negative")
assert_negative = _sign("less", "<", "assert_negative")
assert_non_positive = _sign("less_equal", "<=", "assert_non_positive")


def assert_all_finite(x: Any, message: str | None = None, name: str | None = None) -> Tensor:
    """`x`, or `ArgumentError` if an element is NaN or infinite."""
    return check_numerics(x, message or "not all elements are finite")


def check_numerics(tensor: Any, message: str, name: str | None = None) -> Tensor:
    """The tensor, or `ArgumentError` with the message if an element is NaN or infinite."""
    t = convert(tensor)
    if t.dtype.kind not in "fc":
        raise locate(DTypeError(f"check_numerics takes floating tensors, not {t.type}"))
    _require(OPS["isfinite"](t), _said(message, "NaN or infinity in {}"), [t])
    return t


def assert_rank(x: Any, rank: int, message: str | None = None, name: str | None = None) -> None:
    """Raise `ShapeError` unless x has this rank."""
    t = convert(x)
    if t.ndim != rank:
        raise locate(ShapeError(_text(message, f"rank {rank} is wanted, the tensor is {t.type}")))


def assert_rank_at_least(x: Any, rank: int, message: str | None = None, name: str | None = None) -> None:
    """Raise `ShapeError` unless x has this rank or a higher one."""
    t = convert(x)
    if t.ndim < rank:
        raise locate(ShapeError(_text(message, f"rank {rank} or more is wanted, the tensor is {t.type}")))


def assert_rank_in(x: Any, ranks: Sequence[int], message: str | None = None, name: str | None = None) -> None:
    """Raise `ShapeError` unless x has one of these ranks."""
    t = convert(x)
    if t.ndim not in ranks:
        wanted = " or ".join(map(str, ranks))
        raise locate(ShapeError(_text(message, f"rank {wanted} is wanted, the tensor is {t.type}")))


def assert_shapes(shapes: Any, data: Any = None, message: str | None = None, name: str | None = None) -> None:
    """Raise `ShapeError` unless tensors have these shapes; equal strings in them are equal sizes, None is any."""
    known: dict[str, Any] = {}
    for x, want in shapes.items() if isinstance(shapes, dict) else shapes:
        t = convert(x)
        want = tuple(want) if isinstance(want, (list, tuple)) else (want,)
        fits = len(want) == t.ndim
        for d, w in zip(t.shape, want, strict=False):
            if isinstance(w, str):
                w = known.setdefault(w, d)
            fits = fits and (w is None or known_equal(d, w))
        if not fits:
            raise locate(ShapeError(_text(message, f"shape {want} is wanted, the tensor is {t.type}")))


def assert_type(tensor: Any, tf_type: Any, message: str | None = None, name: str | None = None) -> None:
    """Raise `DTypeError` unless the tensor has this dtype."""
    t = convert(tensor)
    if t.dtype is not as_dtype(tf_type):
        raise locate(DTypeError(_text(message, f"dtype {as_dtype(tf_type).name} is wanted, the tensor is {t.type}")))


def assert_integer(x: Any, message: str | None = None, name: str | None = None) -> None:
    """Raise `DTypeError` unless x holds integers."""
    t = convert(x)
    if t.dtype.kind not in "iu":
        raise locate(DTypeError(_text(message, f"integers are wanted, the tensor is {t.type}")))


def assert_same_float_dtype(tensors: Any = None, dtype: Any = None) -> DType:
    """The floating dtype that all tensors have, `dtype` if that is given. Raises `DTypeError` for any other.

    None among the tensors does not count; without any the dtype is float32.
    """
    want = None if dtype is None else as_dtype(dtype)
    for x in tensors or ():
        t = None if x is None else convert(x)
        if t is not None and want is None:
            want = t.dtype
        if t is not None and t.dtype is not want:
            raise locate(DTypeError(f"{want.name if want else ''} is wanted, the tensor is {t.type}"))
    want = want or float32
    if want.kind != "f":
        raise locate(DTypeError(f"a floating dtype is wanted, not {want.name}"))
    return want


def assert_proper_iterable(values: Any) -> None:
    """Raise `DTypeError` if this is no iterable, or one that is a single value: a tensor, an array, a string."""
    if isinstance(values, (Operand, np.ndarray, str, bytes)) or not hasattr(values, "__iter__"):
        raise locate(DTypeError(f"a list or tuple of values is wanted, not a {type(values).__name__}"))


def is_numeric_tensor(tensor: Any) -> bool:
    """Whether this is a tensor of numbers (booleans are none)."""
    return isinstance(tensor, Operand) and tensor.dtype.kind != "b"


def assert_scalar(tensor: Any, message: str | None = None, name: str | None = None) -> Tensor:
    """The tensor, or `ShapeError` if it has axes."""
    t = convert(tensor)
    if t.ndim:
        raise locate(ShapeError(_text(message, f"a 0-d tensor is wanted, not shape {show_shape(t.shape)}")))
    return t


def _text(message: str | None, what: str) -> str:
    return f"{message}: {what}" if message else what


__all__ = [
    "Assert", "assert_all_finite", "assert_equal", "assert_greater", "assert_greater_equal", "assert_less",
    "assert_integer", "assert_less_equal", "assert_near", "assert_negative", "assert_non_negative",
    "assert_non_positive", "assert_none_equal", "assert_positive", "assert_proper_iterable", "assert_rank",
    "assert_rank_at_least", "assert_rank_in", "assert_same_float_dtype", "assert_scalar", "assert_shapes",
    "assert_type", "check_numerics", "is_numeric_tensor",
]  # fmt: skip
