"""Matrix products, batched and with transposed operands; everything that contracts is written with them."""

from __future__ import annotations

from typing import Any

import numpy as np

from tracejit.errors import ShapeError
from tracejit.ir.op import Op
from tracejit.ir.sizes import fit, shown
from tracejit.ir.types import TensorType, broadcast_shapes, show_shape
from tracejit.ops.define import check_kind, sum_to
from tracejit.ops.elementwise import conjugate
from tracejit.tensor import Tensor


def _infer(a: TensorType, b: TensorType, *, ta: bool = False, tb: bool = False) -> TensorType:
    check_kind(a.dtype, "iufc")
    if a.rank < 2 or b.rank < 2:
        raise ShapeError(f"left {show_shape(a.shape)}, right {show_shape(b.shape)}: both need two axes or more")
    m, k = a.shape[-2:] if not ta else a.shape[:-3:-1]
    k2, n = b.shape[-2:] if not tb else b.shape[:-3:-1]
    if not fit(k, k2):
        raise ShapeError(f"left {show_shape(a.shape)}, right {show_shape(b.shape)}: {shown(k)} != {shown(k2)}")
    return TensorType(a.dtype, (*broadcast_shapes(a.shape[:-2], b.shape[:-2]), m, n))


def _t(x: np.ndarray, flag: bool) -> np.ndarray:
    return np.swapaxes(x, -1, -2) if flag else x


def _vjp(g: Tensor, y: Tensor, a: Tensor, b: Tensor, *, ta: bool = False, tb: bool = False) -> tuple:
    a, b = conjugate(a), conjugate(b)
    ga = matmul(b, g, ta=tb, tb=True) if ta else matmul(g, b, tb=not tb)
    gb = matmul(g, a, ta=True, tb=ta) if tb else matmul(a, g, ta=not ta)
    return sum_to(ga, a), sum_to(gb, b)


def _jvp(t: tuple, y: Tensor, a: Tensor, b: Tensor, **attrs: Any) -> Any:
    left = None if t[0] is None else matmul(t[0], b, **attrs)
    right = None if t[1] is None else matmul(a, t[1], **attrs)
    return right if left is None else left if right is None else left + right


def multiply(a: np.ndarray, b: np.ndarray, *, ta: bool = False, tb: bool = False) -> np.ndarray:
    """The product in the operands' dtype."""
    y = np.matmul(_t(a, ta), _t(b, tb))
    return y if y.dtype == a.dtype else y.astype(a.dtype)  # NumPy has no product of bfloat16


matmul: Op = Op(
    "matmul", "contract", _infer, multiply,
    vjp=_vjp, jvp=_jvp, promote="common", arity=2, dtypes="iufc",
    doc="The matrix product over the last two axes; `ta`, `tb` transpose an operand, leading axes are broadcast.",
)  # fmt: skip
