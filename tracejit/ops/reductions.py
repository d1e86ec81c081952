"""The public reductions, cumulative sums and orders, under TensorFlow's names."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from tracejit.context import activity
from tracejit.errors import DTypeError, locate
from tracejit.fast import fast
from tracejit.ir.dim import Dim
from tracejit.ir.graph import Value
from tracejit.ir.op import Op
from tracejit.ir.sizes import known_equal, product
from tracejit.ir.types import as_dtype, float32, int32, int64, show_shape
from tracejit.ops import direct, directlinalg
from tracejit.ops import elementwise as E
from tracejit.ops import reduce as R
from tracejit.ops.args import Size, as_axes, as_axis, floating, operand
from tracejit.ops.check import check, named
from tracejit.ops.quick import at_once, planned, traced
from tracejit.ops.shape import place, reshape, slice_
from tracejit.tensor import Operand, Tensor, convert, run_silently, wrap

_EVERY = [tuple(range(rank)) for rank in range(65)]


def _sorted(axes: Any, rank: int) -> tuple[int, ...]:
    """A list of axes counted from the front, in order; at least one. Raises for anything unusual."""
    if (type(axes) is not list and type(axes) is not tuple) or not {int}.issuperset(map(type, axes)):
        raise ValueError("axes")
    over = sorted([a % rank for a in axes])
    if not over or len(set(over)) != len(over) or not all(-rank <= a < rank for a in axes):
        raise ValueError("axes")
    return tuple(over)


def _over(op: Op, x: Operand, axis: Any, keepdims: bool) -> Tensor:
    """A reduction row over axes in any form."""
    if type(x) is Tensor and not activity.busy:
        a = x._a
        n = a.ndim if type(a) is np.ndarray else 0
        if n and (type(axis) is not int or -n <= axis < n) and (not op.kinds or a.dtype.kind in op.kinds):
            try:
                over = _EVERY[n] if axis is None else (axis % n,) if type(axis) is int else _sorted(axis, n)
                y = wrap(run_silently(op.numpy, a, axis=over))
                return wrap(y._a.reshape(R.kept(a.shape, over))) if keepdims else y
            except Exception:  # explained below
                pass
    axes = as_axes(axis, x.ndim)
    if not axes:
        return E.identity(x)
    y = op(x, axis=axes)
    return reshape(y, shape=R.kept(tuple(x.shape), axes)) if keepdims else y


def count(x: Operand, axis: Any) -> Size:
    """How many elements are reduced to one."""
    axes = as_axes(axis, x.ndim)
    return product(tuple([d for i, d in enumerate(x.shape) if i in axes]))


def _divided(total: Any, n: Size) -> Tensor:
    return E.div(total, convert(n, total.dtype) if isinstance(n, Dim) else float(n))


def reduce_sum(input_tensor: Any, axis: Any = None, keepdims: bool = False, name: str | None = None) -> Tensor:
    """The sum over axes (None: all). The dtype stays, also for integers; booleans are counted as int32."""
    x = operand(input_tensor)
    return _over(R.reduce_sum, E.cast(x, dtype=int32) if x.dtype.kind == "b" else x, axis, keepdims)


def _accurate(x: Operand) -> Operand:
    """16-bit floats are summed as float32."""
    return E.cast(x, dtype=float32) if x.dtype.kind == "f" and x.dtype.bits == 16 else x


def reduce_mean(input_tensor: Any, axis: Any = None, keepdims: bool = False, name: str | None = None) -> Tensor:
    """The mean over axes. Of integers it is a floating number, as in NumPy: float64, or float32 for up to 16 bits
    (TensorFlow rounds it down to an integer).
    """
    if not activity.busy and (quick := planned(reduce_mean, input_tensor, axis, keepdims)) is not None:
        return quick
    x = floating(input_tensor)
    wide = _accurate(x)
    y = _divided(_over(R.reduce_sum, wide, axis, keepdims), count(x, axis))
    return y if wide is x else E.cast(y, dtype=x.dtype)


def reduce_max(input_tensor: Any, axis: Any = None, keepdims: bool = False, name: str | None = None) -> Tensor:
    """The largest element over axes, NaN if there is one. Equal ones share the gradient.

    Of no elements it is an error, as in NumPy (TensorFlow gives −inf, or the smallest integer).
    """
    return _extreme(R.reduce_max, R.reduce_any, input_tensor, axis, keepdims)


def reduce_min(input_tensor: Any, axis: Any = None, keepdims: bool = False, name: str | None = None) -> Tensor:
    """The smallest element over axes, NaN if there is one. Equal ones share the gradient.

    Of no elements it is an error, as in NumPy (TensorFlow gives inf, or the largest integer).
    """
    return _extreme(R.reduce_min, R.reduce_all, input_tensor, axis, keepdims)


def _extreme(op: Op, of_bools: Op, x: Any, axis: Any, keepdims: bool) -> Tensor:
    x = operand(x)
    if x.dtype.kind == "b":
        return _over(of_bools, x, axis, keepdims)
    if x.dtype.kind == "c":
        raise locate(DTypeError(f"dtype {x.dtype.name} has no order"))
    if type(x._a) is Value:
        _some(x, as_axes(axis, x.ndim))
    return _over(op, x, axis, keepdims)


def _some(x: Operand, axes: tuple[int, ...]) -> None:
    """Have the program check that there are elements where it finds out how many."""
    for d in [d for i, d in enumerate(x.shape) if i in axes and isinstance(d, Dim) and d.is_found]:
        n = convert(d, int64)
        message = f"no elements along axis {axes if len(axes) > 1 else axes[0]} of {show_shape(x.shape)}"
        check(E.greater(n, 0), error="ShapeError", message=named(message))


def reduce_prod(input_tensor: Any, axis: Any = None, keepdims: bool = False, name: str | None = None) -> Tensor:
    """The product over axes; the dtype stays."""
    x = operand(input_tensor)
    return _over(R.reduce_prod, E.cast(x, dtype=int32) if x.dtype.kind == "b" else x, axis, keepdims)


def _boolean(x: Any) -> Operand:
    x = operand(x)
    return x if x.dtype.kind == "b" else E.not_equal(x, 0)


def reduce_all(input_tensor: Any, axis: Any = None, keepdims: bool = False, name: str | None = None) -> Tensor:
    """Whether all elements over axes are true; numbers are true if they are not 0."""
    return _over(R.reduce_all, _boolean(input_tensor), axis, keepdims)


def reduce_any(input_tensor: Any, axis: Any = None, keepdims: bool = False, name: str | None = None) -> Tensor:
    """Whether any element over axes is true; numbers are true if they are not 0."""
    return _over(R.reduce_any, _boolean(input_tensor), axis, keepdims)


def count_nonzero(input: Any, axis: Any = None, keepdims: bool = False, dtype: Any = int64, name: Any = None) -> Tensor:
    """How many elements over axes are not 0."""
    if axis is None and not keepdims and dtype is int64 and (native := fast.count) is not None:
        if (r := native(input)) is not NotImplemented:
            return r  # type: ignore[no-any-return]
    if not activity.busy:
        if (quick := traced(count_nonzero, input, axis, keepdims, dtype)) is not None:
            return quick
        if axis is None and not keepdims and dtype is int64:
            if (quick := at_once(direct.count_nonzero, input)) is not None:
                return quick
    return _over(R.reduce_sum, E.cast(_boolean(input), dtype=as_dtype(dtype)), axis, keepdims)


def peak(x: Operand, axis: Any, finite: bool = True) -> Tensor:
    """The largest element over axes as a constant that exponents may be shifted by: axes kept, 0 of no elements and,
    if it has to be `finite`, where it is infinite.
    """
    axes = as_axes(axis, x.ndim)
    if any(isinstance(x.shape[a], Dim) and x.shape[a].is_found for a in axes):  # to be right where it is 0
        one_more = tuple([d + 1 if i in axes else d for i, d in enumerate(x.shape)])
        x = place(x, shape=one_more, start=(0,) * x.ndim, step=(1,) * x.ndim, fill=-math.inf)
    empty = any(known_equal(x.shape[a], 0) for a in axes)
    m = E.stop_gradient(_over(R.reduce_sum if empty else R.reduce_max, x, axes, True))
    return E.where(E.isfinite(m), m, 0.0) if finite else m


def reduce_logsumexp(input_tensor: Any, axis: Any = None, keepdims: bool = False, name: str | None = None) -> Tensor:
    """log Σ eˣ over axes without overflow; −inf of no elements. Its gradient is the softmax."""
    if not activity.busy and (quick := planned(reduce_logsumexp, input_tensor, axis, keepdims)) is not None:
        return quick
    x = floating(input_tensor)
    axes = as_axes(axis, x.ndim)
    m = peak(x, axes)
    y = E.add(E.log(_over(R.reduce_sum, E.exp(E.sub(x, m)), axes, True)), m)
    return y if keepdims else reshape(y, shape=tuple([d for i, d in enumerate(x.shape) if i not in axes]))


def reduce_variance(input_tensor: Any, axis: Any = None, keepdims: bool = False, name: str | None = None) -> Tensor:
    """The mean squared distance from the mean over axes (divided by n, not n − 1)."""
    if not activity.busy and (quick := planned(reduce_variance, input_tensor, axis, keepdims)) is not None:
        return quick
    x = floating(input_tensor)
    wide = _accurate(x)
    away = E.sub(wide, reduce_mean(wide, axis, True))
    squares = E.real(E.mul(away, E.conj(away))) if x.dtype.kind == "c" else E.square(away)
    y = reduce_mean(squares, axis, keepdims)
    return y if wide is x else E.cast(y, dtype=x.dtype)


def reduce_std(input_tensor: Any, axis: Any = None, keepdims: bool = False, name: str | None = None) -> Tensor:
    """The square root of the variance over axes."""
    if not activity.busy and (quick := planned(reduce_std, input_tensor, axis, keepdims)) is not None:
        return quick
    return E.sqrt(reduce_variance(input_tensor, axis, keepdims))


def reduce_euclidean_norm(input_tensor: Any, axis: Any = None, keepdims: bool = False, name: Any = None) -> Tensor:
    """√Σx² over axes."""
    if not activity.busy:
        if axis is None and not keepdims and (quick := at_once(directlinalg.euclidean_norm, input_tensor)) is not None:
            return quick
        if (quick := planned(reduce_euclidean_norm, input_tensor, axis, keepdims)) is not None:
            return quick
    return E.sqrt(reduce_sum(E.square(floating(input_tensor)), axis, keepdims))


def _position(op: Op) -> Callable[..., Tensor]:
    form = direct.position(op.name)

    def f(input: Any, axis: Any = None, output_type: Any = int64, name: str | None = None) -> Tensor:
        if not activity.busy and (quick := at_once(form, input, axis, output_type)) is not None:
            return quick
        x = operand(input)
        at = as_axis(0 if axis is None else axis, x.ndim)
        if type(x._a) is Value:
            _some(x, (at,))
        y = op(x, axis=at)
        d = as_dtype(output_type)
        if d.kind not in "iu":
            raise locate(DTypeError(f"output_type must be an integer type, not {d.name}"))
        return y if d is int64 else E.cast(y, dtype=d)

    f.__name__ = f.__qualname__ = op.name
    f.__doc__ = op.doc + " axis 0 unless given, as in TensorFlow."
    return f


argmax, argmin = _position(R.argmax), _position(R.argmin)


def _cumulative(op: Op, ufunc: np.ufunc) -> Callable[..., Tensor]:
    form, back = direct.running(ufunc), direct.running_back(ufunc)

    def f(x: Any, axis: Any = 0, exclusive: bool = False, reverse: bool = False, name: str | None = None) -> Tensor:
        if not activity.busy:
            if exclusive:
                quick = planned(f, x, axis, exclusive, reverse)
            else:
                quick = at_once(back if reverse else form, x, axis)
            if quick is not None:
                return quick  # type: ignore[no-any-return]
        x = operand(x)
        if x.dtype.kind == "b":
            x = E.cast(x, dtype=int32)
        return op(x, axis=as_axis(axis, x.ndim), exclusive=bool(exclusive), reverse=bool(reverse))

    f.__name__ = f.__qualname__ = op.name
    f.__doc__ = op.doc
    return f


cumsum, cumprod = _cumulative(R.cumsum, np.add), _cumulative(R.cumprod, np.multiply)


def cumulative_logsumexp(
    x: Any, axis: Any = 0, exclusive: bool = False, reverse: bool = False, name: str | None = None
) -> Tensor:
    """log Σ eˣ of the elements up to each along an axis, without overflow; with the options of cumsum.

    Of no elements, where it is `exclusive`, it is −∞.
    """
    y = floating(x)
    at = as_axis(axis, y.ndim)
    n = y.shape[at]
    if exclusive:
        y = _shifted(y, at, 1, reverse, -math.inf)
    reach = 1
    while n > reach:  # each element holds the sum of so many
        y = _log_sum(y, _shifted(y, at, reach, reverse, -math.inf))
        reach *= 2
    return y if type(y) is Tensor else E.identity(y)


def _shifted(x: Operand, axis: int, by: int, back: bool, fill: Any) -> Tensor:
    """Elements moved along an axis, `fill` in the places that they leave."""
    n = x.shape[axis]
    start, rest = [0] * x.ndim, list(x.shape)
    rest[axis] = n - by if n > by else 0
    start[axis] = by if back and n > by else 0
    kept = slice_(x, start=tuple(start), size=tuple(rest), step=(1,) * x.ndim)
    start[axis] = 0 if back else by if n > by else 0
    return place(kept, shape=tuple(x.shape), start=tuple(start), step=(1,) * x.ndim, fill=fill)


def _log_sum(x: Operand, y: Operand) -> Tensor:
    """log(eˣ + eʸ); equal infinities are what they are."""
    same = E.equal(x, y)
    high, low = E.maximum(x, y), E.minimum(x, y)
    return E.add(high, E.softplus(E.where(same, 0.0, E.sub(low, high))))


def is_non_decreasing(x: Any, name: str | None = None) -> Tensor:
    """Whether no element of the flattened tensor is below the one before it; true of fewer than two."""
    if not activity.busy and (quick := traced(is_non_decreasing, x)) is not None:
        return quick
    return _steps(x, E.less_equal)


def is_strictly_increasing(x: Any, name: str | None = None) -> Tensor:
    """Whether each element of the flattened tensor is above the one before it; true of fewer than two."""
    if not activity.busy and (quick := traced(is_strictly_increasing, x)) is not None:
        return quick
    return _steps(x, E.less)


def _steps(x: Any, relation: Op) -> Tensor:
    x = operand(x)
    n = product(tuple(x.shape))
    rest = n - 1 if n > 1 else 0
    flat = reshape(x, shape=(n,))
    parts = [slice_(flat, start=(k,), size=(rest,), step=(1,)) for k in ((0, 1) if n > 1 else (0, 0))]
    return R.reduce_all(relation(*parts), axis=(0,))  # type: ignore[no-any-return]


def moments(
    x: Any, axes: Any = None, shift: Any = None, keepdims: bool = False, name: str | None = None
) -> tuple[Tensor, Tensor]:
    """The mean and the variance over axes; of complex numbers the mean of |x − mean|², as a complex number."""
    if not activity.busy and (quick := planned(moments, x, axes, shift, keepdims)) is not None:
        return quick
    x = floating(x)
    mean = reduce_mean(x, axes, True)
    away = E.sub(x, mean)
    squares = E.mul(away, E.conj(away)) if x.dtype.kind == "c" else E.square(away)
    variance = reduce_mean(squares, axes, keepdims)
    if keepdims:
        return mean, variance
    return reshape(mean, shape=tuple(variance.shape)), variance
