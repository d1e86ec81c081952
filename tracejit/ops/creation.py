"""Tensors made from values and shapes; while tracing they are splats and counters, never arrays."""

from __future__ import annotations

import builtins
import math
from typing import Any

import numpy as np

from tracejit.context import activity
from tracejit.dlpack import imported
from tracejit.errors import ArgumentError, ShapeError, locate
from tracejit.fast import fast
from tracejit.ir.dim import Dim
from tracejit.ir.found import fresh
from tracejit.ir.graph import Const, Value
from tracejit.ir.sizes import at_least, now_unit, product
from tracejit.ir.types import DType, as_dtype, bool_, float32, float64, int32, int64, show_shape, uint64
from tracejit.ops import direct, found
from tracejit.ops import elementwise as E
from tracejit.ops.args import Size, as_axis, known, operand, require
from tracejit.ops.check import check, named, require_room
from tracejit.ops.define import numpy_name
from tracejit.ops.extents import extent, extents, is_late, number
from tracejit.ops.quick import at_once, exact, planned, traced
from tracejit.ops.shape import broadcast_to, iota, reshape
from tracejit.tensor import Operand, Tensor, common_dtype, convert, convert_unharmed, run_silently, wrap
from tracejit.tracing import constant as constant_row


def splat(shape: tuple[Size, ...], value: Any, dtype: DType) -> Tensor:
    """One Python value everywhere."""
    for d in shape:
        require_room(d, "ShapeError", f"shape {show_shape(shape)} has a negative size: {{}}", d)
        if not at_least(d, 0):
            raise locate(ShapeError(f"shape {show_shape(shape)} has a negative size"))
    if value in (0, 1) and not activity.busy:
        try:
            return wrap(run_silently(direct.filled if value else np.zeros, shape, dtype.np))
        except Exception:  # explained below
            pass
    return constant_row(value=Const(None, value, shape, dtype))


def counter(n: Size, rank: int = 1, axis: int = 0, dtype: DType = int32) -> Tensor:
    """0, 1, 2 … n − 1 along one of `rank` axes, the others of size 1."""
    return iota(shape=tuple(n if i == axis else 1 for i in builtins.range(rank)), axis=axis, dtype=dtype)


def convert_to_tensor(value: Any, dtype: Any = None, dtype_hint: Any = None, name: str | None = None) -> Tensor:
    """A Tensor from a Tensor, Variable, NumPy array, Python number, or nested lists of these.

    Python floats become float32, ints int32 (int64 if they need it). A tensor of another dtype is cast if `dtype` is
    given. Raises `DTypeError` for what is no number and for integers outside the dtype's range, `ShapeError` for
    ragged lists.
    """
    if (native := fast.convert) is not None and (r := native(value, dtype)) is not NotImplemented:
        return r
    return convert_unharmed(value, dtype)


def from_dlpack(x: Any) -> Tensor:
    """A Tensor with a copy of what an array of another library holds, by way of DLPack, as the Array API has it.

    Raises `ArgumentError` for what is no such array, or does not lie in the memory of the CPU.
    """
    if not hasattr(x, "__dlpack__"):
        raise locate(ArgumentError(f"from_dlpack takes an array with __dlpack__, not {type(x).__name__}"))
    try:
        return convert_unharmed(imported(x))
    except (BufferError, RuntimeError) as e:
        raise locate(ArgumentError(f"from_dlpack cannot read this {type(x).__name__}: {e}")) from None


_KINDS = {float: float32, int: int32, bool: bool_}  # of Python numbers


def constant(value: Any, dtype: Any = None, shape: Any = None, name: str = "Const") -> Tensor:
    """A Tensor with this value; `shape` reshapes it, or repeats a single element."""
    if shape is None and (native := fast.convert) is not None and (r := native(value, dtype)) is not NotImplemented:
        return r
    if shape is not None and (kind := _KINDS.get(type(value))) is not None and not activity.busy:
        if (quick := at_once(direct.repeated, shape, kind if dtype is None else dtype, value)) is not None:
            return quick
    t = convert_unharmed(value, dtype)
    if shape is None:
        return t
    want = extents(shape)
    single = now_unit(product(tuple(t.shape)))
    return broadcast_to(reshape(t, shape=()), shape=want) if single else reshape(t, shape=want)


def zeros(shape: Any, dtype: Any = float32, name: str | None = None, layout: Any = None) -> Tensor:
    """Zeros (False for bool) of a shape."""
    if (native := fast.zeros) is not None and (r := native(shape, dtype)) is not NotImplemented:
        return r  # type: ignore[no-any-return]
    if type(dtype) is DType and not activity.busy and (type(shape) is tuple or type(shape) is list):
        try:
            t: Tensor = object.__new__(Tensor)
            t._a = run_silently(np.zeros, shape, dtype.np)
            return t
        except Exception:  # explained below
            pass
    return splat(extents(shape), 0, as_dtype(dtype))


def ones(shape: Any, dtype: Any = float32, name: str | None = None, layout: Any = None) -> Tensor:
    """Ones (True for bool) of a shape."""
    if not activity.busy and (quick := at_once(direct.filled, shape, dtype)) is not None:
        return quick
    return splat(extents(shape), 1, as_dtype(dtype))


def fill(dims: Any, value: Any, name: str | None = None, layout: Any = None) -> Tensor:
    """One value, a number or a 0-d tensor, in every element of shape `dims`."""
    if (type(value) is float or type(value) is int) and not activity.busy:
        if (quick := at_once(direct.filled, dims, float32 if type(value) is float else int32, value)) is not None:
            return quick
    t = convert(value)
    if t.ndim:
        raise locate(ShapeError(f"fill repeats one element, the value has shape {show_shape(t.shape)}"))
    return broadcast_to(t, shape=extents(dims, "dims"))


def _like(x: Any, value: int, dtype: Any) -> Tensor:
    if dtype is None and type(x) is Tensor and not activity.busy:
        return (ones if value else zeros)(x._a.shape, x.dtype)
    t = operand(x)
    return splat(tuple(t.shape), value, t.dtype if dtype is None else as_dtype(dtype))


@numpy_name("zeros_like")
def zeros_like(input: Any, dtype: Any = None, name: str | None = None, layout: Any = None) -> Tensor:
    """Zeros with the shape, and by default the dtype, of `input`."""
    return _like(input, 0, dtype)


@numpy_name("ones_like")
def ones_like(input: Any, dtype: Any = None, name: str | None = None, layout: Any = None) -> Tensor:
    """Ones with the shape, and by default the dtype, of `input`."""
    return _like(input, 1, dtype)


@numpy_name("full_like")
def full_like(input: Any, fill_value: Any, dtype: Any = None, name: str | None = None) -> Tensor:
    """One value with the shape, and by default the dtype, of `input`."""
    t = operand(input)
    return broadcast_to(convert_unharmed(fill_value, t.dtype if dtype is None else dtype), shape=tuple(t.shape))


def eye(
    num_rows: Any, num_columns: Any = None, batch_shape: Any = None, dtype: Any = float32, name: str | None = None
) -> Tensor:
    """The identity matrix, or a matrix with ones on the main diagonal, repeated over `batch_shape`."""
    if batch_shape is None and not activity.busy:
        if (quick := at_once(direct.eye, num_rows, num_columns, dtype)) is not None:
            return quick
    rows = extent(num_rows, "num_rows")
    columns = rows if num_columns is None else extent(num_columns, "num_columns")
    require(not any(type(n) is int and n < 0 for n in (rows, columns)), f"eye of {rows} rows and {columns} columns")
    m = E.cast(E.equal(counter(rows, 2, 0), counter(columns, 2, 1)), dtype=as_dtype(dtype))
    return m if batch_shape is None else broadcast_to(m, shape=(*extents(batch_shape, "batch_shape"), rows, columns))


def _bound(x: Any) -> Any:
    """A bound of a range: arrays and nests as tensors."""
    if type(x) in (list, tuple) or isinstance(x, (np.ndarray, np.generic)):
        x = operand(x)
    if isinstance(x, Operand) and x.ndim:
        raise locate(ShapeError(f"the bounds and the delta of a range are single numbers, not {x.type}"))
    return x


def _end(x: Any) -> Any:
    """A bound of a range as a Python number or Dim."""
    if isinstance(x, Operand):
        a = known(x._a) if type(x._a) is Value else None
        return x._value("a bound of a range").item() if a is None else a.item()
    return x


_NO_STEP = "a range needs a delta that is not 0"
_ENDLESS = "a range has a finite number of elements"


def _count(start: Any, limit: Any, delta: Any) -> Size:
    """How many elements a range has."""
    if delta == 0:
        raise locate(ArgumentError(_NO_STEP))
    if isinstance(start, Dim) or isinstance(limit, Dim):
        delta = int(delta)
        n = limit - start if delta > 0 else start - limit
        n = n if abs(delta) == 1 else (n + abs(delta) - 1) // abs(delta)
        return 0 if n < 0 else n
    if all(type(x) is int for x in (start, limit, delta)):
        return max(0, -((start - limit) // delta))
    n = (limit - start) / delta
    require(math.isfinite(n), _ENDLESS)
    return max(0, math.ceil(n))


def range(start: Any, limit: Any = None, delta: Any = 1, dtype: Any = None, name: str = "range") -> Tensor:
    """start, start + delta, … up to but without limit; `range(n)` starts at 0.

    int32 for Python ints, float32 for Python floats; the dtype of the bounds if they are tensors.
    """
    if limit is None:
        start, limit = 0, start
    if dtype is None and (native := fast.steps) is not None:
        if (quick := native(start, limit, delta)) is not NotImplemented:
            return quick  # type: ignore[no-any-return]
    if dtype is None and not activity.busy and type(start) is type(limit) is type(delta) is int:
        if -(2**31) <= start <= 2**31 and -(2**31) <= limit <= 2**31 and delta:
            try:
                return wrap(run_silently(np.arange, start, limit, delta, int32.np))  # type: ignore[arg-type]
            except Exception:  # explained below
                pass
    if dtype is None and not activity.busy and (quick := at_once(direct.steps, start, limit, delta)) is not None:
        return quick
    bounds = start, limit, delta = _bound(start), _bound(limit), _bound(delta)
    if dtype is not None:
        d = as_dtype(dtype)
    else:
        d = common_dtype(bounds)[0]
        if d is int32 and any(type(x) is int and not -(2**31) <= x <= 2**31 for x in (start, limit)):
            d = int64
    require(d.kind in "iuf", f"a range has no dtype {d.name}")
    if any(_is_found(x) for x in bounds):
        steps = E.cast(found.count_up(_count_found(*bounds), size=fresh()), dtype=d)
    else:
        start, limit, delta = _end(start), _end(limit), _end(delta)
        steps = counter(_count(start, limit, delta), dtype=d)
    if not (type(delta) is int and delta == 1):
        steps = E.mul(steps, convert(delta, d))
    return steps if type(start) is int and start == 0 else E.add(steps, convert(start, d))


def _is_found(x: Any) -> bool:
    """Whether a bound of a range is a number that the program computes."""
    a = x._a if isinstance(x, Operand) else None
    return type(a) is Value and not a.type.weak and a.dtype.kind in "iuf" and known(a) is None


def _count_found(start: Any, limit: Any, delta: Any) -> Tensor:
    """What `_count` says of bounds that the program computes."""
    exact = common_dtype((start, limit, delta))[0].kind in "iu"
    a, b, step = (operand(x, int64 if exact else float64) for x in (start, limit, delta))
    check(E.not_equal(step, 0), error="ArgumentError", message=named(_NO_STEP))
    if not exact:
        real = E.ceil(E.div(E.sub(b, a), step))
        check(E.isfinite(real), error="ArgumentError", message=named(_ENDLESS))
        return E.maximum(E.cast(real, dtype=int64), 0)
    n = E.maximum(E.neg(E.floordiv(E.sub(a, b), step)), 0)
    return E.where(E.less(limit, start), 0, n) if common_dtype((start, limit))[0] is uint64 else n


def linspace(start: Any, stop: Any, num: Any, name: str | None = None, axis: Any = 0) -> Tensor:
    """`num` values at equal distances from start to stop, both included, along a new axis."""
    if not activity.busy and type(axis) is int and axis in (0, -1):
        if (quick := at_once(direct.linspace, start, stop, num)) is not None:
            return quick
    n = extent(num, "num", least=1)
    late = is_late(n)
    require(late or n > 0, f"linspace needs one value or more, not {n}")
    d, weak = common_dtype((start, stop))
    d = d if d.kind in "fc" else float32 if weak or d.bits <= 16 else as_dtype("float64")
    a, b = operand(start, d), operand(stop, d)
    if now_unit(n):
        return reshape(a, shape=_with_axis(tuple(a.shape), axis))
    at = as_axis(axis, a.ndim + 1)
    a, b = (reshape(x, shape=_with_axis(tuple(x.shape), at)) for x in (a, b))
    last: Any = E.maximum(number(n - 1), 1) if late else n - 1  # the only one of one value is not the last
    step = E.div(E.sub(b, a), float(last) if type(last) is int else E.cast(convert(last), dtype=d))
    i = counter(n, a.ndim, at)
    return E.where(E.equal(i, last), b, E.add(a, E.mul(E.cast(i, dtype=d), step)))


def _with_axis(shape: tuple, axis: Any) -> tuple:
    at = as_axis(axis, len(shape) + 1)
    return (*shape[:at], 1, *shape[at:])


def one_hot(
    indices: Any,
    depth: Any,
    on_value: Any = None,
    off_value: Any = None,
    axis: Any = None,
    dtype: Any = None,
    name: str | None = None,
) -> Tensor:
    """`on_value` (1) where the position along the new axis equals the index, `off_value` (0) elsewhere.

    The new axis is the last unless `axis` says otherwise. An index outside 0 … depth − 1 gives only `off_value`.
    float32 unless `dtype` or the values say otherwise.
    """
    if not activity.busy:
        if on_value is None and off_value is None and (axis is None or axis == -1):
            quick = at_once(direct.one_hot, indices, depth, dtype)
        else:
            quick = planned(one_hot, indices, depth, on_value, off_value, axis, dtype)
        if quick is not None:
            return quick  # type: ignore[no-any-return]
    i = operand(indices)
    if i.dtype.kind not in "iu":
        raise locate(ArgumentError(f"one_hot takes integer indices, not {i.dtype.name}"))
    at = as_axis(-1 if axis is None else axis, i.ndim + 1)
    n = extent(depth, "depth")
    kind = int64 if i.dtype.bits == 64 or i.dtype.name == "uint32" else int32
    hit = E.equal(
        reshape(E.cast(i, dtype=kind), shape=_with_axis(tuple(i.shape), at)), counter(n, i.ndim + 1, at, kind)
    )
    given = [v for v in (on_value, off_value) if v is not None]
    d = as_dtype(dtype) if dtype is not None else common_dtype(given)[0] if given else float32
    if not given:
        return E.cast(hit, dtype=d)
    on, off = (operand(default if v is None else v, d) for v, default in ((on_value, 1), (off_value, 0)))
    return E.where(hit, on, off)


def cast(x: Any, dtype: Any, name: str | None = None) -> Tensor:
    """x with another element type. Floats become integers by dropping the fraction; what is outside the range
    becomes the nearest integer in it, NaN becomes 0. Integers wrap around. Complex numbers lose the imaginary part.
    """
    if (native := fast.cast) is not None and (r := native(x, dtype)) is not NotImplemented:
        return r
    d = as_dtype(dtype)
    if type(x) is Tensor and not activity.busy and d.kind != "c":
        a = x._a
        if a.dtype is not d.np and a.dtype.kind in "biuf":
            try:
                return wrap(run_silently(a.astype, d.np) if d.kind in "fb" else run_silently(E.cast.numpy, a, dtype=d))
            except Exception:  # explained below
                pass
    if isinstance(x, Operand) and x.dtype.kind == "i":
        return E.cast(x, dtype=d)  # an integer of Python's need not fit int32 in between
    return E.cast(operand(x), dtype=d)


def saturate_cast(value: Any, dtype: Any, name: str | None = None) -> Tensor:
    """x with another element type, values outside its range replaced by the nearest in it."""
    if not activity.busy and (quick := traced(saturate_cast, value, dtype)) is not None:
        return quick
    t, d = operand(value), as_dtype(dtype)
    if d.kind in "iu" and t.dtype.kind in "iu":
        low, high = max(d.min, t.dtype.min), min(d.max, t.dtype.max)
        t = E.minimum(E.maximum(t, low), high)
    elif d.kind == "f" and t.dtype.kind == "f" and d.bits < t.dtype.bits:
        t = E.minimum(E.maximum(t, float(d.min)), float(d.max))
    return E.cast(t, dtype=d)


def identity(input: Any, name: str | None = None) -> Tensor:
    """The same value as a Tensor; of a Variable, its value now."""
    if (native := fast.identity) is not None and (r := native(input)) is not NotImplemented:
        return r
    return E.identity(input)


def stop_gradient(input: Any, name: str | None = None) -> Tensor:
    """The same value, through which no gradient flows."""
    if (native := fast.identity) is not None and (r := native(input)) is not NotImplemented:
        return r
    return E.stop_gradient(input)


exact(lambda indices, depth, dtype: one_hot(indices, depth, dtype=dtype), direct.one_hot)
exact(range, direct.steps)
