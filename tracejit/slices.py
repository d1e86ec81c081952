"""IndexedSlices: a gradient that is zero but for some rows, kept as these rows and their numbers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from tracejit.conversion import convert
from tracejit.errors import ArgumentError, DTypeError, ShapeError, locate
from tracejit.ir.op import OPS
from tracejit.ir.sizes import fit, product
from tracejit.ir.types import DType, TensorType, show_shape
from tracejit.operand import Operand, Tensor, TensorShape


class IndexedSlices:
    """A tensor of zeros to which `values[k]` is added at row `indices[k]`; a number may occur more than once.

    Parameters
    ----------
    values : the rows, one for each of the indices
    indices : integers, of one axis or more, which are the first axes of `values`
    dense_shape : the shape of the whole tensor; without it there is no way to make one

    Tapes give it for Variables that `tj.gather` reads rows of. `assign_sub`, `assign_add` and the `scatter_*` methods
    of Variables touch these rows only. A factor multiplies the rows; everything else that is done with it makes a
    tensor of it first, as `tj.convert_to_tensor` does.
    """

    __slots__ = ("values", "indices", "dense_shape")
    __tree_fields__ = ("values", "indices", "dense_shape")
    __own_operators__ = True  # also beside a tensor
    values: Tensor
    indices: Tensor
    dense_shape: TensorShape | None

    def __init__(self, values: Any, indices: Any, dense_shape: Sequence[Any] | None = None) -> None:
        if dense_shape is None and type(values) is Tensor and type(indices) is Tensor:
            a, at = values._a, indices._a
            if type(a) is type(at) is np.ndarray and at.dtype.kind in "iu" and 0 < at.ndim <= a.ndim:
                if a.shape[: at.ndim] == at.shape:
                    self.values, self.indices, self.dense_shape = values, indices, None
                    return
        x, i = convert(values), convert(indices)
        if i.dtype.kind not in "iu" or not i.ndim:
            raise locate(DTypeError(f"indices are integers of one axis or more, not {i.type}"))
        if x.ndim < i.ndim or not all(map(fit, x.shape[: i.ndim], i.shape)):
            raise locate(ShapeError(f"values {x.type} do not go with indices {i.type}"))
        full = None if dense_shape is None else TensorShape(_sizes(dense_shape))
        row = x.shape[i.ndim :]
        if full is not None and not (len(full) == len(row) + 1 and all(map(fit, full[1:], row))):
            raise locate(ShapeError(f"rows of values {x.type} are none of shape {show_shape(full)}"))
        self.values, self.indices, self.dense_shape = x, i, full

    # --- what it is -----------------------------------------------------------------------------------------------
    @property
    def dtype(self) -> DType:
        return self.values.dtype

    @property
    def shape(self) -> TensorShape:
        return self._whole()

    @property
    def ndim(self) -> int:
        return self.values.ndim - self.indices.ndim + 1

    @property
    def type(self) -> TensorType:
        return TensorType(self.dtype, tuple(self._whole()))

    def __repr__(self) -> str:
        return f"tj.IndexedSlices(values={self.values!r}, indices={self.indices!r}, dense_shape={self.dense_shape})"

    # --- as a tensor ----------------------------------------------------------------------------------------------
    def _whole(self) -> TensorShape:
        if self.dense_shape is None:
            raise locate(ArgumentError("IndexedSlices without a dense_shape are no tensor"))
        return self.dense_shape

    def __tensor__(self) -> Tensor:
        return OPS["scatter_sum"](self.values, self.indices, size=self._whole()[0], axis=0)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        return self.__tensor__().__array__(dtype)

    def __array_ufunc__(self, ufunc: np.ufunc, method: str, *inputs: Any, **kwargs: Any) -> Any:
        """`np.float32(0.1) * slices` stays rows; what else NumPy does is done with a tensor."""
        if ufunc is np.multiply and method == "__call__" and not kwargs:
            a, b = inputs
            return b._scaled("mul", a) if isinstance(b, IndexedSlices) else a._scaled("mul", b)
        given = [x.__tensor__() if isinstance(x, IndexedSlices) else x for x in inputs]
        return getattr(ufunc, method)(*given, **kwargs)

    def numpy(self) -> np.ndarray:
        """The value as a NumPy array, zeros included."""
        return self.__tensor__().numpy()

    def __getitem__(self, key: Any) -> Tensor:
        return self.__tensor__()[key]

    def __len__(self) -> int:
        return int(self._whole()[0])

    # --- as rows --------------------------------------------------------------------------------------------------
    def _scaled(self, op: str, factor: Any) -> Any:
        """The rows with a factor, if that is one number for all of them."""
        if not isinstance(factor, IndexedSlices):
            whole = convert(factor) if not isinstance(factor, (int, float, Operand)) else factor
            if not isinstance(whole, Operand) or not whole.ndim:
                return IndexedSlices(OPS[op](self.values, whole), self.indices, self.dense_shape)
        return OPS[op](self, factor)

    def __mul__(self, other: Any) -> Any:
        return self._scaled("mul", other)

    __rmul__ = __mul__

    def __truediv__(self, other: Any) -> Any:
        return self._scaled("div", other)

    def __neg__(self) -> IndexedSlices:
        return IndexedSlices(OPS["neg"](self.values), self.indices, self.dense_shape)


def _sizes(shape: Sequence[Any]) -> list[Any]:
    return shape.numpy().tolist() if isinstance(shape, Operand) else list(shape)


def _dense(name: str, op: str, swapped: bool) -> None:
    def method(self: IndexedSlices, other: Any) -> Any:
        return OPS[op](other, self) if swapped else OPS[op](self, other)

    method.__name__ = name
    setattr(IndexedSlices, name, method)


for _method, _name in (("add", "add"), ("sub", "sub"), ("pow", "pow"), ("matmul", "matmul")):
    _dense(f"__{_method}__", _name, False)
    _dense(f"__r{_method}__", _name, True)
_dense("__rtruediv__", "div", True)


def joined(parts: Sequence[tuple[Tensor, Tensor]], shape: tuple[Any, ...]) -> IndexedSlices:
    """Cotangents of several reads of rows, of any number of axes, as one."""
    count = [product(tuple(i.shape)) for _, i in parts]
    listed = [
        (g, i) if i.ndim == 1 else (OPS["reshape"](g, shape=(n, *shape[1:])), OPS["reshape"](i, shape=(n,)))
        for n, (g, i) in zip(count, parts, strict=True)
    ]
    values, indices = [g for g, _ in listed], [i for _, i in listed]
    if len(parts) == 1:
        return IndexedSlices(values[0], indices[0], shape)
    kind = indices[0].dtype if len({i.dtype for i in indices}) == 1 else "int64"
    same = [convert(i, kind) for i in indices]
    return IndexedSlices(OPS["concat"](*values, axis=0), OPS["concat"](*same, axis=0), shape)
