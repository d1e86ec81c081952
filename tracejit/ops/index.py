"""Reading, summing and writing at positions that are data: gather, its transpose, and put."""

from __future__ import annotations

from typing import Any

import numpy as np

from tracejit.errors import DTypeError, ShapeError
from tracejit.ir.op import Op
from tracejit.ir.sizes import product
from tracejit.ir.types import TensorType, int64, show_shape
from tracejit.ops import elementwise as E
from tracejit.ops import shape as S
from tracejit.ops.define import same_shape
from tracejit.tensor import Tensor


def _gather_infer(x: TensorType, i: TensorType, *, axis: int) -> TensorType:
    if i.dtype.kind not in "iu":
        raise DTypeError(f"indices have dtype {i.dtype.name}; they must be integers")
    if not 0 <= axis < x.rank:
        raise ShapeError(f"axis {axis} of {show_shape(x.shape)}")
    return TensorType(x.dtype, x.shape[:axis] + i.shape + x.shape[axis + 1 :])


def _gather_vjp(g: Tensor, y: Tensor, x: Tensor, i: Tensor, *, axis: int) -> tuple:
    return (scatter_sum(g, i, size=x.shape[axis], axis=axis), None)


gather: Op = Op(
    "gather", "index", _gather_infer, lambda x, i, *, axis: np.take(x, i, axis=axis), vjp=_gather_vjp,
    jvp=lambda t, y, x, i, *, axis: None if t[0] is None else gather(t[0], i, axis=axis), dtypes="biufc", arity=2,
    doc="The slices of x along an axis at the given indices; negative ones count from the end.",
)  # fmt: skip


def _scatter_infer(g: TensorType, i: TensorType, *, size: int, axis: int) -> TensorType:
    return TensorType(g.dtype, (*g.shape[:axis], size, *g.shape[axis + i.rank :]))


def _scatter(g: np.ndarray, i: np.ndarray, *, size: int, axis: int) -> np.ndarray:
    out = np.zeros((*g.shape[:axis], size, *g.shape[axis + i.ndim :]), g.dtype)
    np.add.at(out, (slice(None),) * axis + (i,), g)  # type: ignore[arg-type]  # the stubs know of no slices here
    return out


def _scatter_vjp(h: Tensor, y: Tensor, g: Tensor, i: Tensor, *, size: Any, axis: int) -> tuple:
    return (gather(h, i, axis=axis), None)


scatter_sum: Op = Op(
    "scatter_sum", "index", _scatter_infer, _scatter, vjp=_scatter_vjp,
    jvp=lambda t, y, g, i, *, size, axis: None if t[0] is None else scatter_sum(t[0], i, size=size, axis=axis),
    dtypes="iufc", arity=2, doc="Slices summed into zeros at the given indices: the transpose of gather.",
)  # fmt: skip


def _put_infer(x: TensorType, i: TensorType, v: TensorType, *, axis: int) -> TensorType:
    want = _gather_infer(x, i, axis=axis)
    if not same_shape(v.shape, want.shape) or v.dtype is not x.dtype:
        raise ShapeError(f"{v} is put where {want} would be read")
    return x.strong()


def _put(x: np.ndarray, i: np.ndarray, v: np.ndarray, *, axis: int) -> np.ndarray:
    out = x.copy()
    out[(slice(None),) * axis + (i,)] = v
    return out


def _put_vjp(g: Tensor, y: Tensor, x: Tensor, i: Tensor, v: Tensor, *, axis: int) -> tuple:
    kept = put(g, i, S.broadcast_to(E.cast(0, dtype=g.dtype), shape=tuple(v.shape)), axis=axis)
    own = E.where(_last_at(i, x.shape[axis], v.ndim, axis), gather(g, i, axis=axis), 0)
    return (kept, None, own)


def _last_at(i: Tensor, size: Any, rank: int, axis: int) -> Tensor:
    """Which of the positions has no equal one behind it, as a mask that goes with what is put there."""
    n = product(tuple(i.shape))
    order = S.reshape(S.iota(shape=(n,), axis=0, dtype=int64), shape=tuple(i.shape))
    slots = S.broadcast_to(E.cast(0, dtype=int64), shape=(size,))
    last = E.equal(gather(put(slots, i, order, axis=0), i, axis=0), order)
    return S.reshape(last, shape=(1,) * axis + tuple(i.shape) + (1,) * (rank - axis - i.ndim))


def _put_jvp(t: tuple, y: Tensor, x: Tensor, i: Tensor, v: Tensor, *, axis: int) -> Tensor | None:
    if t[0] is None and t[2] is None:
        return None
    like = [
        S.broadcast_to(E.cast(0, dtype=p.dtype), shape=tuple(p.shape)) if d is None else d
        for d, p in ((t[0], x), (t[2], v))
    ]
    return put(like[0], i, like[1], axis=axis)


put: Op = Op(
    "put", "index", _put_infer, _put, vjp=_put_vjp, jvp=_put_jvp, dtypes="biufc", arity=3,
    doc="x with slices replaced at the given indices along an axis; of equal indices the last one counts.",
)  # fmt: skip


def _add_at(x: np.ndarray, i: np.ndarray, v: np.ndarray, *, axis: int) -> np.ndarray:
    out = x.copy()
    np.add.at(out, (slice(None),) * axis + (i,), v)  # type: ignore[arg-type]  # the stubs know of no slices here
    return out


def _add_at_jvp(t: tuple, y: Tensor, x: Tensor, i: Tensor, v: Tensor, *, axis: int) -> Tensor | None:
    if t[2] is None:
        return t[0]
    if t[0] is None:
        return scatter_sum(t[2], i, size=x.shape[axis], axis=axis)
    return add_at(t[0], i, t[2], axis=axis)


add_at: Op = Op(
    "add_at", "index", _put_infer, _add_at,
    vjp=lambda g, y, x, i, v, *, axis: (g, None, gather(g, i, axis=axis)), jvp=_add_at_jvp, dtypes="iufc", arity=3,
    doc="x with slices added at the given indices along an axis; of equal indices each counts.",
)  # fmt: skip
