"""Reductions over axes, and the positions of extremes."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from tracejit.errors import ShapeError
from tracejit.ir.dim import Dim
from tracejit.ir.op import Op
from tracejit.ir.sizes import known_equal
from tracejit.ir.types import TensorType, int64, show_shape
from tracejit.ops.define import check_kind
from tracejit.ops.elementwise import cast, conjugate, copysign, equal, isinf, multiply_no_nan, sign, where
from tracejit.ops.kernels import is_half
from tracejit.ops.shape import broadcast_to, reshape
from tracejit.tensor import Tensor


def kept(shape: tuple, axis: tuple[int, ...]) -> tuple:
    """The shape with the reduced axes at size 1."""
    return tuple(1 if i in axis else d for i, d in enumerate(shape))


def spread(g: Tensor, x: Tensor, axis: tuple[int, ...]) -> Tensor:
    """A reduced value repeated over the reduced axes."""
    return broadcast_to(reshape(g, shape=kept(tuple(x.shape), axis)), shape=tuple(x.shape))


def reduction(
    name: str, numpy: Callable[..., Any], dtypes: str, vjp: Any = None, jvp: Any = None, empty: bool = True, **row: Any
) -> Op:
    """A row for a reduction over `axis`, a sorted tuple of axes; the reduced axes vanish."""

    def infer(x: TensorType, *, axis: tuple[int, ...]) -> TensorType:
        check_kind(x.dtype, dtypes)
        if any(not 0 <= a < x.rank for a in axis) or len(set(axis)) != len(axis):
            raise ShapeError(f"axes {axis} of {show_shape(x.shape)}")
        if not empty and any(known_equal(x.shape[a], 0) for a in axis):
            raise ShapeError(f"no elements along axis {axis} of {show_shape(x.shape)}")
        return TensorType(x.dtype, [d for i, d in enumerate(x.shape) if i not in axis], x.weak)

    return Op(name, "reduce", infer, numpy, vjp=vjp, jvp=jvp, dtypes=dtypes, **row)


def _linear(op: Callable[[], Op]) -> Any:
    return lambda t, y, x, *, axis: None if t[0] is None else op()(t[0], axis=axis)


def _total(ufunc: np.ufunc) -> Callable[..., Any]:
    """The reduction in the operand's dtype; 16-bit floats are rounded once, at the end."""

    def run(x: np.ndarray, *, axis: tuple[int, ...]) -> Any:
        if is_half(x.dtype):
            return ufunc.reduce(x, axis, np.float32).astype(x.dtype)
        return ufunc.reduce(x, axis, x.dtype)

    return run


reduce_sum: Op = reduction(
    "reduce_sum", _total(np.add), "iufc",
    vjp=lambda g, y, x, *, axis: (spread(g, x, axis),), jvp=_linear(lambda: reduce_sum), linear=True,
    doc="The sum over axes.",
)  # fmt: skip


def _extreme_vjp(g: Tensor, y: Tensor, x: Tensor, *, axis: tuple[int, ...]) -> tuple:
    hit = cast(equal(x, spread(y, x, axis)), dtype=x.dtype)
    share = spread(g / reduce_sum(hit, axis=axis), x, axis)
    return (share * hit,)


def _extreme_jvp(t: tuple, y: Tensor, x: Tensor, *, axis: tuple[int, ...]) -> Any:
    hit = cast(equal(x, spread(y, x, axis)), dtype=x.dtype)
    return reduce_sum(t[0] * hit, axis=axis) / reduce_sum(hit, axis=axis)


reduce_max: Op = reduction(
    "reduce_max", lambda x, *, axis: np.maximum.reduce(x, axis), "iuf", vjp=_extreme_vjp, jvp=_extreme_jvp, empty=False,
    doc="The largest over axes; equal ones share the gradient.",
)  # fmt: skip
reduce_min: Op = reduction(
    "reduce_min", lambda x, *, axis: np.minimum.reduce(x, axis), "iuf", vjp=_extreme_vjp, jvp=_extreme_jvp, empty=False,
    doc="The smallest over axes; equal ones share the gradient.",
)  # fmt: skip


def zeros_besides(x: Tensor, zero: Tensor, total: Callable[[Tensor], Tensor]) -> Tensor:
    """The product of the zeros among x without the element itself: 1 where there are none, 0 elsewhere.

    `total` gives each element the sum over all that are multiplied with it. Power sums say what the product of up to
    three is, so that its derivatives up to the third are right, too.
    """
    z = where(zero, x, 0)
    n, one, two, three = (total(t) - t for t in (cast(zero, dtype=x.dtype), z, z * z, z * z * z))
    pair = (one * one - two) * 0.5
    triple = (one * one * one - one * two * 3.0 + three * 2.0) * (1 / 6)
    return where(equal(n, 0), 1, where(equal(n, 1), one, where(equal(n, 2), pair, where(equal(n, 3), triple, 0))))


def _others(x: Tensor, axis: tuple[int, ...]) -> Tensor:
    """For each element the product of the others, right also where there are zeros and infinities."""

    def total(t: Tensor) -> Tensor:
        return spread(reduce_sum(t, axis=axis), x, axis)

    zero = equal(x, 0.0)
    zeros = zeros_besides(x, zero, total)
    if x.dtype.kind != "f":
        safe = where(zero, 1.0, x)
        return spread(reduce_prod(safe, axis=axis), x, axis) / safe * zeros
    huge = isinf(x)
    safe = where(zero, 1.0, where(huge, sign(x), x))
    rest = spread(reduce_prod(safe, axis=axis), x, axis) / safe
    none, finite = (_none_besides(hit, x, axis) for hit in (zero, huge))
    between = where(finite, multiply_no_nan(rest, zeros), math.nan)  # 0 · ∞ has no value
    return where(none, where(finite, rest, copysign(math.inf, rest)), between)


def _none_besides(hit: Tensor, x: Tensor, axis: tuple[int, ...]) -> Tensor:
    """Whether no other element is hit."""
    n = cast(hit, dtype=x.dtype)
    return equal(spread(reduce_sum(n, axis=axis), x, axis), n)


reduce_prod: Op = reduction(
    "reduce_prod", _total(np.multiply), "iufc",
    vjp=lambda g, y, x, *, axis: (spread(g, x, axis) * conjugate(_others(x, axis)),),
    jvp=lambda t, y, x, *, axis: reduce_sum(multiply_no_nan(_others(x, axis), t[0]), axis=axis),
    domain=(0.5, 1.5), doc="The product over axes.",
)  # fmt: skip
reduce_all: Op = reduction(
    "reduce_all", lambda x, *, axis: np.logical_and.reduce(x, axis), "b", doc="Whether all are true."
)
reduce_any: Op = reduction(
    "reduce_any", lambda x, *, axis: np.logical_or.reduce(x, axis), "b", doc="Whether any is true."
)


def _arg_infer(x: TensorType, *, axis: int) -> TensorType:
    check_kind(x.dtype, "biuf")
    if not 0 <= axis < x.rank:
        raise ShapeError(f"axis {axis} of {show_shape(x.shape)}")
    n: int | Dim = x.shape[axis]
    if known_equal(n, 0):
        raise ShapeError(f"no elements along axis {axis} of {show_shape(x.shape)}")
    return TensorType(int64, [d for i, d in enumerate(x.shape) if i != axis])


argmax: Op = Op(
    "argmax", "reduce", _arg_infer, lambda x, *, axis: np.argmax(x, axis=axis), dtypes="biuf",
    doc="The index of the first largest element along an axis, int64.",
)  # fmt: skip
argmin: Op = Op(
    "argmin", "reduce", _arg_infer, lambda x, *, axis: np.argmin(x, axis=axis), dtypes="biuf",
    doc="The index of the first smallest element along an axis, int64.",
)  # fmt: skip


# --- running sums and products ----------------------------------------------------------------------------------------
def _scan_infer(x: TensorType, *, axis: int, exclusive: bool, reverse: bool) -> TensorType:
    check_kind(x.dtype, "iufc")
    if not 0 <= axis < x.rank:
        raise ShapeError(f"axis {axis} of {show_shape(x.shape)}")
    return x.strong()


def _scan(ufunc: np.ufunc, neutral: int) -> Callable[..., np.ndarray]:
    def run(x: np.ndarray, *, axis: int, exclusive: bool, reverse: bool) -> np.ndarray:
        y = np.flip(x, axis) if reverse else x
        if exclusive and x.shape[axis]:
            rest = y[(slice(None),) * axis + (slice(0, -1),)]
            first = np.full([1 if i == axis else n for i, n in enumerate(x.shape)], neutral, x.dtype)
            y = np.concatenate([first, rest], axis)
        wide = np.float32 if is_half(x.dtype) else x.dtype
        y = ufunc.accumulate(y, axis=axis, dtype=wide).astype(x.dtype, copy=False)
        return np.flip(y, axis) if reverse else y

    return run


def _zeros_so_far(x: Tensor, zero: Tensor, attrs: dict[str, Any]) -> tuple[Tensor, Tensor, Tensor]:
    """The product of the zeros up to each place; that product without one of them, which is its factor for each zero,
    in two parts: what it is, and what the zero left out is to be multiplied with and taken away.

    They are 0 and 1, with the derivatives of products of up to two.
    """
    n = cumsum(cast(zero, dtype=x.dtype), **attrs)
    s = cumsum(where(zero, x, 0), **attrs)
    single, double = equal(n, 1), equal(n, 2)
    return where(equal(n, 0), 1, where(single, s, 0)), where(single, 1, where(double, s, 0)), where(double, 1, s * 0)


def _cumprod_vjp(g: Tensor, y: Tensor, x: Tensor, **attrs: Any) -> tuple:
    zero = equal(x, 0)
    safe = where(zero, 1, x)
    back = {**attrs, "reverse": not attrs["reverse"]}
    rest = cumprod(safe, **attrs)
    usual, first, less = (
        cumsum(g * conjugate(multiply_no_nan(rest, t)), **back) for t in _zeros_so_far(x, zero, attrs)
    )
    return (where(zero, first - conjugate(x) * less, usual / conjugate(safe)),)


def _cumprod_jvp(t: tuple, y: Tensor, x: Tensor, **attrs: Any) -> Any:
    zero = equal(x, 0)
    safe = where(zero, 1, x)
    zeros, first, less = _zeros_so_far(x, zero, attrs)
    own = where(zero, t[0], 0)
    factor = zeros * cumsum(where(zero, 0, t[0]) / safe, **attrs)
    factor = factor + first * cumsum(own, **attrs) - less * cumsum(own * x, **attrs)
    return multiply_no_nan(cumprod(safe, **attrs), factor)


cumsum: Op = Op(
    "cumsum", "opaque", _scan_infer, _scan(np.add, 0), dtypes="iufc", linear=True,
    vjp=lambda g, y, x, *, axis, exclusive, reverse: (cumsum(g, axis=axis, exclusive=exclusive, reverse=not reverse),),
    jvp=lambda t, y, x, **attrs: None if t[0] is None else cumsum(t[0], **attrs),
    doc="Running sums along an axis; `exclusive` leaves out the element itself, `reverse` starts at the end.",
)  # fmt: skip
cumprod: Op = Op(
    "cumprod", "opaque", _scan_infer, _scan(np.multiply, 1), vjp=_cumprod_vjp, jvp=_cumprod_jvp, dtypes="iufc",
    domain=(0.5, 1.5), doc="Running products along an axis, with the options of cumsum.",
)  # fmt: skip


def _argsort_infer(x: TensorType, *, axis: int, descending: bool) -> TensorType:
    check_kind(x.dtype, "biuf")
    if not 0 <= axis < x.rank:
        raise ShapeError(f"axis {axis} of {show_shape(x.shape)}")
    return TensorType(int64, x.shape)


def in_float32(x: np.ndarray) -> np.ndarray:
    """16-bit floats as float32: NumPy does not put them in order where there are NaNs, and is slower."""
    return x.astype(np.float32) if is_half(x.dtype) else x


def _argsort(x: np.ndarray, *, axis: int, descending: bool) -> np.ndarray:
    x = in_float32(x)
    if not descending:
        return np.argsort(x, axis=axis, kind="stable")
    # ascending order of the reversed array, read backwards, keeps equal elements in their order
    back = np.flip(np.argsort(np.flip(x, axis), axis=axis, kind="stable"), axis)
    return x.shape[axis] - 1 - back


def _top_k_infer(x: TensorType, *, axis: int, k: Any) -> TensorType:
    check_kind(x.dtype, "biuf")
    return TensorType(int64, (*x.shape[:axis], k))


def _top_k(x: np.ndarray, *, axis: int, k: int) -> np.ndarray:
    x = in_float32(x)
    n = x.shape[-1]
    if k == 0 or n < 64 or 4 * k > n or (x.dtype.kind == "f" and np.isnan(x).any()):
        return np.ascontiguousarray(_argsort(x, axis=axis, descending=True)[..., :k])
    least = np.partition(x, n - k, axis=-1)[..., n - k, None]
    above, equal = x > least, x == least
    room = k - np.count_nonzero(above, axis=-1, keepdims=True)
    at = np.nonzero(above | (equal & (np.cumsum(equal, axis=-1) <= room)))[-1].reshape(*x.shape[:-1], k)
    order = _argsort(np.take_along_axis(x, at, -1), axis=axis, descending=True)
    return np.take_along_axis(at, order, -1)


top_k: Op = Op(
    "top_k", "opaque", _top_k_infer, _top_k, dtypes="biuf",
    doc="The positions of the k largest elements along the last axis, int64, the largest first, equal ones in order.",
)  # fmt: skip
argsort: Op = Op(
    "argsort", "opaque", _argsort_infer, _argsort, dtypes="biuf",
    doc="The positions that sort along an axis, int64; equal elements keep their order.",
)  # fmt: skip
