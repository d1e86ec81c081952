"""Values from outside as tensors, and the dtype that operands have in common."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from tracejit.context import activity, context
from tracejit.errors import ArgumentError, DTypeError, ShapeError, locate
from tracejit.ir.dim import Dim
from tracejit.ir.graph import Value
from tracejit.ir.op import OPS
from tracejit.ir.sizes import fit
from tracejit.ir.types import DType, _by_np, as_dtype, canonical, float32, float64, int32, promote, promote_weak
from tracejit.operand import Operand, Tensor, _asarray, _ndarray, _weak_of, quietly, run_silently, wrap


def to_array(x: Any, dtype: DType | None = None) -> np.ndarray:
    """A NumPy array from a Python value: floats become float32 and integers int32 unless they are too large for it.

    NumPy arrays keep their dtype. Nothing is narrowed silently: an integer that fits no type raises `DTypeError`.
    """
    if isinstance(x, (np.ndarray, np.generic)):
        a = x if isinstance(x, np.ndarray) else quietly(_asarray, x)
        if type(x) is not np.ndarray and np.any(getattr(x, "_mask", False)):
            remedy = "give x.filled(value), or the values and the mask for tj.where"
            raise locate(ArgumentError("a tensor has no masked elements, as this array has", remedy))
        if dtype is not None and a.dtype != dtype.np:
            return _converted(a, dtype)
        return quietly(canonical, a)
    try:
        a = _asarray(x)
    except ValueError as e:
        raise locate(ShapeError(f"the nested lists have no regular shape: {e}")) from None
    if dtype is not None:
        if dtype.name == "uint64" and a.dtype == np.float64 and all(type(n) is int for n in _elements(x)):
            if all(0 <= n < 2**64 for n in _elements(x)):  # of which NumPy makes float64 if some are below 2^63
                return quietly(np.array, x, np.uint64)
        if a.dtype.kind in "biufcV":
            return _converted(a, dtype)
        if dtype.kind in "fc" and _only_integers(a):
            return quietly(lambda: a.astype(np.float64).astype(dtype.np))
    elif a.dtype == np.float64:
        return quietly(a.astype, np.float32 if _only_python(x) else np.float64)
    elif a.dtype == np.int64 and _only_python(x):
        fits = not a.size or (int(a.min()) >= -(2**31) and int(a.max()) < 2**31)
        return quietly(a.astype, np.int32 if fits else np.int64)
    elif a.dtype in _by_np:
        return quietly(a.astype, as_dtype(a.dtype).np)
    if _only_integers(a):
        raise locate(DTypeError(f"the integer {max(a.reshape(-1).tolist(), key=abs)} fits no element type"))
    raise locate(DTypeError(f"a value of type {type(x).__name__} ({a.dtype}) cannot become a tensor"))


def _only_integers(a: np.ndarray) -> bool:
    """Whether an array holds Python integers, some of which are too large for NumPy's types."""
    return a.dtype == object and a.size > 0 and all(type(n) is int for n in a.reshape(-1).tolist())


def _converted(a: np.ndarray, dtype: DType) -> np.ndarray:
    """The array in the dtype that was asked for, if its values are of that kind and in that range."""
    kind = a.dtype.kind
    if kind not in "biufcV" and not _only_integers(a):
        raise locate(DTypeError(f"an array of {a.dtype} cannot become a tensor"))
    if (dtype.kind in "iu" and kind == "f") or (dtype.kind in "iuf" and kind == "c"):
        values = "complex" if kind == "c" else "floating-point"
        raise locate(DTypeError(f"cannot make {dtype.name} from {values} values", remedy="tj.cast(x, dtype)"))
    if dtype.kind in "iu" and kind in "iu" and a.size:
        lo, hi = np.iinfo(dtype.np).min, np.iinfo(dtype.np).max
        if int(a.min()) < lo or int(a.max()) > hi:
            raise locate(DTypeError(f"a value is outside {dtype.name}'s range {lo} … {hi}"))
    return quietly(a.astype, dtype.np)  # type: ignore[no-any-return]


_PLAIN = frozenset((bool, int, float, complex))


def _only_python(x: Any) -> bool:
    """Whether a nest holds Python numbers only (their dtype is our choice) and none that bring a dtype along."""
    if type(x) in (list, tuple):
        return _PLAIN.issuperset(map(type, x)) or all(map(_only_python, x))
    if type(x) in _PLAIN or type(x) is range:
        return True
    if isinstance(x, np.generic) or any(hasattr(x, name) for name in _ARRAYS):
        return False
    if isinstance(x, Sequence) and not isinstance(x, (str, bytes)):
        return all(map(_only_python, x)) and not _is_buffer(x)
    return not _is_buffer(x)


_ARRAYS = ("__array__", "__array_interface__", "__array_struct__")


def _is_buffer(x: Any) -> bool:
    try:
        memoryview(x).release()
    except TypeError:
        return False
    return True


def convert_unharmed(x: Any, dtype: Any = None) -> Tensor:
    """As `convert`, but refuses a tensor whose values the dtype need not hold, as it does an array's."""
    if dtype is not None and isinstance(x, Operand):
        d, a = as_dtype(dtype), x._a
        if type(a) is not Value:
            _converted(a, d)
        elif not a.type.weak and not _holds(a.type.dtype, d):
            raise locate(DTypeError(f"a traced tensor {a.type} need not fit {d.name}", remedy="tj.cast"))
    return convert(x, dtype)


def _holds(a: DType, b: DType) -> bool:
    """Whether `b` takes values of `a` as an array's are taken: rounded perhaps, but of the same kind and range."""
    if a.kind in "iu" and b.kind in "iu":
        return bool(b.min <= a.min and a.max <= b.max)
    return not (a.kind in "fc" and b.kind in "biu") and not (a.kind == "c" and b.kind == "f")


def convert(x: Any, dtype: Any = None) -> Tensor:
    """A Tensor from a Tensor, Variable, array, Python number or nest of them. The public `convert_to_tensor`."""
    if dtype is None and not activity.busy and (quick := _likely(x)) is not None:
        return quick
    d = None if dtype is None else as_dtype(dtype)
    if isinstance(x, Operand):
        t: Any = x if type(x) is Tensor else OPS["identity"](x)
        if type(t._a) is Value and t._a.type.weak:
            return _strong_number(t, d)
        return t if d is None or t.dtype is d else OPS["cast"](t, dtype=d)
    if type(x) in (list, tuple) and _holds_tensors(x):
        d = d or common_dtype(list(_elements(x)))[0]
        parts = [convert(y, d) for y in x]
        first = parts[0].shape
        if any(len(p.shape) != len(first) or not all(map(fit, p.shape, first)) for p in parts):
            raise locate(ShapeError(f"the nested lists have no regular shape: {', '.join(str(p.type) for p in parts)}"))
        return OPS["concat"](*[OPS["reshape"](p, shape=(1, *p.shape)) for p in parts], axis=0)
    trace = context.trace
    if isinstance(x, Dim) and trace is not None:
        return _strong_number(OPS["dim"](size=x), d)
    if hasattr(x, "__tensor__"):
        return convert(x.__tensor__(), d)
    a = to_array(x, d)
    if trace is not None and d is not None and isinstance(x, np.ndarray) and x.dtype != d.np:
        return OPS["cast"](trace.lift(np.asarray(x), x), dtype=d)  # what is edited later is converted then
    if trace is not None:
        return trace.lift(a, x)
    if a is x or a.base is not None:
        a = quietly(a.copy)
    return wrap(a)


_LIKELY = {float: np.dtype(np.float32), int: np.dtype(np.int32)}


def _likely(x: Any) -> Tensor | None:
    """What `convert` makes of a number, of a list of floats or ints, and of an array, while nothing is traced."""
    kind = type(x)
    try:
        if kind is _ndarray:
            d = _by_np.get(x.dtype)
            return wrap(run_silently(x.copy)) if d is not None and d.np is x.dtype else None
        if (kind is list or kind is tuple) and len(kinds := set(map(type, x))) == 1:
            kind = kinds.pop()
        dtype = _LIKELY.get(kind)
        return None if dtype is None else wrap(run_silently(np.array, x, dtype))
    except (OverflowError, RuntimeError):
        return None


def strong(x: Operand) -> Operand:
    """A Python number that is an input of a trace as the tensor that it becomes where an operation takes it."""
    a = x._a
    return _strong_number(x, None) if type(a) is Value and a.type.weak else x


def _strong_number(x: Operand, dtype: DType | None) -> Tensor:
    kind = x._a.type.dtype.kind
    if dtype is not None and dtype.kind in "iu" and kind == "f":
        raise locate(DTypeError(f"cannot make {dtype.name} from floating-point values", remedy="tj.cast(x, dtype)"))
    return OPS["cast"](x, dtype=dtype or promote_weak(None, "i" if kind in "iu" else kind))  # type: ignore[no-any-return]


def _elements(x: Any) -> Iterator[Any]:
    """What a nest of lists and tuples holds, from left to right."""
    if type(x) in (list, tuple):
        for y in x:
            yield from _elements(y)
    else:
        yield x


def _holds_tensors(x: Any) -> bool:
    if _PLAIN.issuperset(map(type, x)):
        return False
    return any(isinstance(y, (Operand, Dim)) or (type(y) in (list, tuple) and _holds_tensors(y)) for y in x)


# --- promotion -----------------------------------------------------------------------------------------------------
def _strong(x: Any) -> DType | None:
    """The dtype that counts in promotion, None for Python scalars and weak traced values."""
    if isinstance(x, Operand):
        a = x._a
        if type(a) is Value:
            return None if a.type.weak else a.type.dtype
        return _by_np[a.dtype]
    if isinstance(x, (np.ndarray, np.generic)):
        return as_dtype(x.dtype)
    return None


def _weak_nest(x: Any) -> str | None:
    """The kind of a list of Python numbers, whose dtype gives way as a number's does."""
    if type(x) not in (list, tuple):
        return None
    kinds = []
    for y in _elements(x):
        kind = None if isinstance(y, Operand) and _strong(y) is not None else _weak_of(y)
        if kind is None or (type(y) is int and not _fits(y, int32)):
            return None
        kinds.append(kind)
    return max(kinds, key="bifc".index) if kinds else None


def common_dtype(xs: Sequence[Any]) -> tuple[DType, bool]:
    """The promoted dtype of the operands, and whether it is weak (all operands are Python scalars)."""
    strong: DType | None = None
    kinds = ""
    for x in xs:
        d = _strong(x)
        if d is None and (w := _weak_of(x) or _weak_nest(x)) is not None:
            kinds += w
            continue
        if d is None:
            d = convert(x).dtype
        strong = d if strong is None else promote(strong, d)
    if not kinds:
        assert strong is not None
        return strong, False
    weak = max(kinds, key="bifc".index)
    return promote_weak(strong, weak), strong is None


def _floating(d: DType, weak: bool) -> DType:
    """The floating type that an integer operand of a floating function becomes: NumPy's rule without float16."""
    if d.kind in "fc":
        return d
    return float32 if weak or d.bits <= 16 else float64


def _fits(x: int, d: DType) -> bool:
    return d.min <= x <= d.max
