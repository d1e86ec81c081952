"""Elements read as others of the same bits."""

from __future__ import annotations

from typing import Any

import numpy as np

from tracejit.errors import DTypeError, ShapeError, locate
from tracejit.fast import fast
from tracejit.ir.op import Op
from tracejit.ir.sizes import known_equal
from tracejit.ir.types import DType, TensorType, as_dtype, show_shape
from tracejit.ops import elementwise as E
from tracejit.ops.args import operand
from tracejit.tensor import Tensor


def _infer(x: TensorType, *, dtype: DType) -> TensorType:
    have, want = x.dtype.size, dtype.size
    if have == want:
        return TensorType(dtype, x.shape)
    if have > want:
        return TensorType(dtype, (*x.shape, have // want))
    if not x.rank or not known_equal(x.shape[-1], want // have):
        raise ShapeError(f"the last axis of {show_shape(x.shape)} is not {want // have}, which make one {dtype.name}")
    return TensorType(dtype, x.shape[:-1])


def _run(x: np.ndarray, *, dtype: DType) -> np.ndarray:
    flat = np.ascontiguousarray(x).reshape(-1).view(dtype.np)
    if x.dtype.itemsize == dtype.size:
        return flat.reshape(x.shape)
    if x.dtype.itemsize > dtype.size:
        return flat.reshape(*x.shape, x.dtype.itemsize // dtype.size)
    return flat.reshape(x.shape[:-1])


same_bits: Op = Op(
    "bitcast", "opaque", _infer, _run, dtypes="iufc",
    doc="Elements read as another type; smaller ones stand along a new last axis, larger ones take the last axis up.",
)  # fmt: skip


def bitcast(input: Any, type: Any, name: str | None = None) -> Tensor:
    """The same bits as elements of another type, lowest byte first.

    Elements of smaller types stand along a new last axis; for larger ones the last axis holds what makes one of them.
    Raises `ShapeError` if it has another size, `DTypeError` for booleans. It has no gradient.
    """
    if (native := fast.bits) is not None and (r := native(input, type)) is not NotImplemented:
        return r  # type: ignore[no-any-return]
    x, d = operand(input), as_dtype(type)
    if "b" in (x.dtype.kind, d.kind):
        raise locate(DTypeError(f"the bits of {x.dtype.name} are not those of {d.name}: bool has no fixed bits"))
    if d is x.dtype:
        return E.identity(x)
    if x.dtype.size < d.size and (not x.ndim or not known_equal(x.shape[-1], d.size // x.dtype.size)):
        made = f"{d.size // x.dtype.size} elements of {x.dtype.name} make one {d.name}"
        raise locate(ShapeError(f"{made}; the last axis of {x.type} is another"))
    return same_bits(x, dtype=d)
