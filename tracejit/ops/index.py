"""Reading and summing at positions that are data: gather and its transpose."""

from __future__ import annotations

from typing import Any

import numpy as np

from tracejit.errors import DTypeError, ShapeError
from tracejit.ir.op import Op
from tracejit.ir.types import TensorType, show_shape
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
