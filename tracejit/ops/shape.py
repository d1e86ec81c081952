"""Movement ops: each output element is one input element (or a fill), found by an index map."""

from __future__ import annotations

from typing import Any

import numpy as np

from tracejit.errors import ShapeError
from tracejit.ir.dim import Dim
from tracejit.ir.op import OPS, Op
from tracejit.ir.sizes import at_least, divide, fit, is_unit, know_units, known_equal, product, shown, surer
from tracejit.ir.types import DType, TensorType, show_shape
from tracejit.ops.define import sum_to
from tracejit.tensor import Tensor

Shape = tuple[int | Dim, ...]


def _linear_jvp(op_of: Any) -> Any:
    def jvp(t: tuple, y: Tensor, *x: Tensor, **attrs: Any) -> Any:
        return None if t[0] is None else op_of()(t[0], **attrs)

    return jvp


# --- reshape ----------------------------------------------------------------------------------------------------------
def resolve_shape(have: Shape, want: tuple) -> Shape:
    """The shape asked for, with a −1 worked out. Raises `ShapeError` if the element counts differ."""
    want = tuple(want)
    free = [i for i, d in enumerate(want) if type(d) is int and d == -1]
    if len(free) > 1:
        raise ShapeError(f"shape {show_shape(want)} leaves more than one dimension open")
    total = product(have)
    given = f"cannot reshape {show_shape(have)} ({shown(total)} elements)"
    if free:
        rest = product(tuple(d for i, d in enumerate(want) if i != free[0]))
        if known_equal(rest, 0):
            raise ShapeError(f"cannot work out the -1 in {show_shape(want)} for no elements")
        try:
            d = divide(total, rest)
        except ShapeError:
            raise ShapeError(f"{given} to {show_shape(want)}") from None
        if not fit(d * rest, total):
            raise ShapeError(f"{given} to {show_shape(want)}")
        return tuple(d if i == free[0] else x for i, x in enumerate(want))
    if not fit(total, product(want)):
        raise ShapeError(f"{given} to {show_shape(want)} ({shown(product(want))} elements)")
    return want


def _reshape_infer(x: TensorType, *, shape: tuple) -> TensorType:
    return TensorType(x.dtype, resolve_shape(x.shape, shape), x.weak)


reshape: Op = Op(
    "reshape", "shape", _reshape_infer, lambda x, *, shape: x.reshape(shape),
    vjp=lambda g, y, x, *, shape: (reshape(g, shape=tuple(x.shape)),), jvp=_linear_jvp(lambda: reshape),
    dtypes="biufc", linear=True, doc="The same elements in the same order under another shape.",
)  # fmt: skip


def refuse_negative(shape: tuple) -> None:
    """Raises `ShapeError` for a size below 0; that a size worked out from symbols is not becomes a guard."""
    if not all(at_least(d, 0) for d in shape):
        raise ShapeError(f"shape {show_shape(shape)} has a negative size")


# --- transpose --------------------------------------------------------------------------------------------------------
def _transpose_infer(x: TensorType, *, perm: tuple[int, ...]) -> TensorType:
    if sorted(perm) != list(range(x.rank)):
        raise ShapeError(f"perm {perm} is not a permutation of the {x.rank} axes of {show_shape(x.shape)}")
    return TensorType(x.dtype, [x.shape[p] for p in perm], x.weak)


def inverse(perm: tuple[int, ...]) -> tuple[int, ...]:
    out = [0] * len(perm)
    for i, p in enumerate(perm):
        out[p] = i
    return tuple(out)


transpose: Op = Op(
    "transpose", "shape", _transpose_infer, lambda x, *, perm: x.transpose(perm),
    vjp=lambda g, y, x, *, perm: (transpose(g, perm=inverse(perm)),), jvp=_linear_jvp(lambda: transpose),
    dtypes="biufc", linear=True, doc="The axes in another order.",
)  # fmt: skip


# --- broadcast --------------------------------------------------------------------------------------------------------
def _broadcast_infer(x: TensorType, *, shape: tuple) -> TensorType:
    want = tuple(shape)
    refuse_negative(want)
    lead = len(want) - x.rank
    ok = lead >= 0 and all(is_unit(d) or fit(d, w) for d, w in zip(x.shape, want[lead:], strict=True))
    if not ok:
        know_units(x.shape)
        raise ShapeError(f"{show_shape(x.shape)} cannot be broadcast to {show_shape(want)}")
    return TensorType(x.dtype, want, x.weak)


broadcast_to: Op = Op(
    "broadcast_to", "shape", _broadcast_infer, lambda x, *, shape: np.broadcast_to(x, shape),
    vjp=lambda g, y, x, *, shape: (sum_to(g, x),), jvp=_linear_jvp(lambda: broadcast_to),
    dtypes="biufc", linear=True, doc="x repeated along axes of size 1 and new leading axes.",
)  # fmt: skip


def _stretch_infer(x: TensorType, *, shape: tuple) -> TensorType:
    want = tuple(shape)
    unlike = [d for d, e in zip(x.shape, want, strict=False) if not (Dim in (type(d), type(e)) or d in (1, e))]
    if len(want) != x.rank or unlike:
        raise ShapeError(f"{show_shape(x.shape)} cannot be stretched to {show_shape(want)}")
    return TensorType(x.dtype, want, x.weak)


stretch: Op = Op(
    "stretch", "shape", _stretch_infer, lambda x, *, shape: np.broadcast_to(x, shape),
    vjp=lambda g, y, x, *, shape: (shrink(g, shape=tuple(x.shape)),), jvp=_linear_jvp(lambda: stretch),
    dtypes="biufc", linear=True, doc="x repeated along the axes of which the program finds that they have one element.",
)  # fmt: skip


def _shrink_infer(g: TensorType, *, shape: tuple) -> TensorType:
    _stretch_infer(TensorType(g.dtype, shape, g.weak), shape=tuple(g.shape))
    return TensorType(g.dtype, shape, g.weak)


def _shrink(g: np.ndarray, *, shape: tuple) -> np.ndarray:
    return g.sum(tuple([i for i, d in enumerate(shape) if d != g.shape[i]]), g.dtype, keepdims=True)


shrink: Op = Op(
    "shrink", "index", _shrink_infer, _shrink,
    vjp=lambda h, y, g, *, shape: (stretch(h, shape=tuple(g.shape)),), jvp=_linear_jvp(lambda: shrink),
    dtypes="iufc", linear=True, doc="The transpose of stretch: the sum along these axes.",
)  # fmt: skip


# --- slice and its transpose ------------------------------------------------------------------------------------------
def _slice_infer(x: TensorType, *, start: tuple, size: tuple, step: tuple) -> TensorType:
    if not len(start) == len(size) == len(step) == x.rank:
        raise ShapeError(f"a slice of {show_shape(x.shape)} needs {x.rank} starts, sizes and steps")
    for axis, (b, n, s, d) in enumerate(zip(start, size, step, x.shape, strict=True)):
        last = b + (n - 1) * s
        low, high = (b, last) if s > 0 else (last, b)
        inside = at_least(n, 0) and at_least(low, 0) and at_least(d - 1, high)  # of symbolic sizes: guards
        if not inside and not known_equal(n, 0):
            raise ShapeError(f"slice [{b} : {b + n * s} : {s}] leaves axis {axis} of size {shown(d)}")
    return TensorType(x.dtype, size, x.weak)


def sliced(start: tuple, size: tuple, step: tuple) -> tuple[slice, ...]:
    out = []
    for b, n, s in zip(start, size, step, strict=True):
        end = b + n * s
        out.append(slice(b, None if end < 0 else end, s) if n else slice(0, 0))
    return tuple(out)


slice_: Op = Op(
    "slice", "shape", _slice_infer,
    lambda x, *, start, size, step: x[sliced(start, size, step)],
    vjp=lambda g, y, x, *, start, size, step: (place(g, shape=tuple(x.shape), start=start, step=step, fill=0),),
    jvp=_linear_jvp(lambda: slice_), dtypes="biufc", linear=True,
    doc="`size` elements along each axis from `start` in steps of `step`.",
)  # fmt: skip


def _place_infer(x: TensorType, *, shape: tuple, start: tuple, step: tuple, fill: Any = 0) -> TensorType:
    refuse_negative(shape)
    return TensorType(x.dtype, shape, x.weak)


def _place(x: np.ndarray, *, shape: tuple, start: tuple, step: tuple, fill: Any = 0) -> np.ndarray:
    out = np.full(shape, fill, x.dtype)
    out[sliced(start, x.shape, step)] = x
    return out


def _place_vjp(g: Tensor, y: Tensor, x: Tensor, *, shape: tuple, start: tuple, step: tuple, fill: Any = 0) -> tuple:
    return (slice_(g, start=start, size=tuple(x.shape), step=step),)


def _place_jvp(t: tuple, y: Tensor, x: Tensor, *, shape: tuple, start: tuple, step: tuple, fill: Any = 0) -> Any:
    return None if t[0] is None else place(t[0], shape=shape, start=start, step=step, fill=0)


place: Op = Op(
    "place", "shape", _place_infer, _place, vjp=_place_vjp, jvp=_place_jvp, dtypes="biufc",
    doc="x at `start` in steps of `step` within an array of `fill`: the transpose of slice, and padding.",
)  # fmt: skip


def _update_infer(x: TensorType, v: TensorType, *, start: tuple, step: tuple) -> TensorType:
    if v.rank != x.rank:
        raise ShapeError(f"cannot write {show_shape(v.shape)} into {show_shape(x.shape)}")
    return x.strong()


def _update(x: np.ndarray, v: np.ndarray, *, start: tuple, step: tuple) -> np.ndarray:
    out = x.copy()
    out[sliced(start, v.shape, step)] = v
    return out


def _update_vjp(g: Tensor, y: Tensor, x: Tensor, v: Tensor, *, start: tuple, step: tuple) -> tuple:
    zero = broadcast_to(_zero(g), shape=tuple(v.shape))
    return (update(g, zero, start=start, step=step), slice_(g, start=start, size=tuple(v.shape), step=step))


def _update_jvp(t: tuple, y: Tensor, x: Tensor, v: Tensor, *, start: tuple, step: tuple) -> Any:
    tx = broadcast_to(_zero(x), shape=tuple(x.shape)) if t[0] is None else t[0]
    tv = broadcast_to(_zero(v), shape=tuple(v.shape)) if t[1] is None else t[1]
    return update(tx, tv, start=start, step=step)


def _zero(like: Tensor) -> Tensor:
    return OPS["cast"](0, dtype=like.dtype)


update: Op = Op(
    "update", "shape", _update_infer, _update, vjp=_update_vjp, jvp=_update_jvp, dtypes="biufc", promote="common",
    arity=2, doc="x with a slice replaced by v.",
)  # fmt: skip


# --- concat -----------------------------------------------------------------------------------------------------------
def _concat_infer(*xs: TensorType, axis: int) -> TensorType:
    first = xs[0]
    total: int | Dim = 0
    rest = tuple(first.shape)
    for t in xs:
        same = t.rank == first.rank and all(
            i == axis or fit(a, b) for i, (a, b) in enumerate(zip(t.shape, first.shape, strict=True))
        )
        if not same:
            others = "" if len(xs) == 2 else f" (number {xs.index(t)} of {len(xs)})"
            text = f"shapes {show_shape(first.shape)} and {show_shape(t.shape)}{others} differ"
            raise ShapeError(f"{text} in more than the axis {axis} to be joined")
        total = total + t.shape[axis]
        rest = tuple(map(surer, rest, t.shape))
    return TensorType(first.dtype, [total if i == axis else d for i, d in enumerate(rest)])


def _concat_vjp(g: Tensor, y: Tensor, *xs: Tensor, axis: int) -> tuple:
    out, at = [], 0
    for x in xs:
        start = tuple(at if i == axis else 0 for i in range(x.ndim))
        out.append(slice_(g, start=start, size=tuple(x.shape), step=(1,) * x.ndim))
        at = at + x.shape[axis]
    return tuple(out)


def _concat_jvp(t: tuple, y: Tensor, *xs: Tensor, axis: int) -> Any:
    parts = [broadcast_to(_zero(x), shape=tuple(x.shape)) if d is None else d for d, x in zip(t, xs, strict=True)]
    return concat(*parts, axis=axis)


concat: Op = Op(
    "concat", "shape", _concat_infer, lambda *xs, axis: np.concatenate(xs, axis), vjp=_concat_vjp, jvp=_concat_jvp,
    dtypes="biufc", promote="common", arity=None, linear=True, doc="Arrays joined along an axis.",
)  # fmt: skip

# --- sources ----------------------------------------------------------------------------------------------------------


def _iota_infer(*, shape: tuple, axis: int, dtype: DType) -> TensorType:
    refuse_negative(shape)
    return TensorType(dtype, shape)


def _iota(*, shape: tuple, axis: int, dtype: DType) -> np.ndarray:
    n = shape[axis]
    line = np.arange(n).astype(dtype.np, copy=False)
    if len(shape) == 1:
        return line
    line = line.reshape([n if i == axis else 1 for i in range(len(shape))])
    return np.broadcast_to(line, shape)


iota: Op = Op(
    "iota", "source", _iota_infer, _iota, arity=0, scalar=None,
    doc="0, 1, 2 … along an axis.",
)  # fmt: skip
