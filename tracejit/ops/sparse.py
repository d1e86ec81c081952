"""Sparse tensors as TensorFlow's decoders give them: places, values and the shape of the whole."""

from __future__ import annotations

from typing import Any

from tracejit.context import context
from tracejit.errors import DTypeError, ShapeError, locate
from tracejit.ir.graph import Value
from tracejit.ir.sizes import fit
from tracejit.ir.types import DType, int64
from tracejit.ops import elementwise as E
from tracejit.ops import shape as S
from tracejit.ops.args import known, operand
from tracejit.ops.array import concat, shape
from tracejit.ops.creation import fill
from tracejit.ops.reductions import reduce_max, reduce_sum
from tracejit.ops.select import boolean_mask, gather_nd, tensor_scatter_nd_update, where
from tracejit.tensor import Operand, Tensor, TensorShape, convert


class SparseTensor:
    """A tensor of which only some elements are kept, as TensorFlow's.

    Parameters
    ----------
    indices : integers [n, rank], where the elements are
    values : [n], what they are
    dense_shape : integers [rank], the shape of the whole

    It only carries the three: `tj.sparse.to_dense` makes a tensor of it, which all operations take.
    """

    __slots__ = ("indices", "values", "dense_shape", "_rows")
    __tree_fields__ = ("indices", "values", "dense_shape")
    indices: Tensor
    values: Tensor
    dense_shape: Tensor
    _rows: Tensor

    def __init__(self, indices: Any, values: Any, dense_shape: Any) -> None:
        at, x, size = operand(indices), convert(values), operand(dense_shape)
        if at.dtype.kind not in "iu" or size.dtype.kind not in "iu":
            raise locate(DTypeError(f"indices {at.type} and dense_shape {size.type} are integers"))
        if at.ndim != 2 or x.ndim != 1 or size.ndim != 1 or not fit(at.shape[0], x.shape[0]):
            said = f"indices {at.type}, values {x.type} and dense_shape {size.type} are not [n, rank], [n] and [rank]"
            raise locate(ShapeError(said))
        if not fit(at.shape[1], size.shape[0]):
            raise locate(ShapeError(f"indices {at.type} do not have one column for each of {size.type} dense_shape"))
        self.indices, self.values, self.dense_shape = E.cast(at, dtype=int64), x, E.cast(size, dtype=int64)

    def __getattr__(self, name: str) -> Any:
        """The parts of one that stands for rows, computed when they are first asked for."""
        if name not in SparseTensor.__tree_fields__:
            raise AttributeError(f"a SparseTensor has no attribute {name!r}")
        rows = self._rows
        inside = E.greater_equal(rows, 0)
        width = reduce_max(concat([[0], reduce_sum(E.cast(inside, dtype=int64), 1)], 0))
        made = {
            "indices": lambda: where(inside),
            "values": lambda: boolean_mask(rows, inside),
            "dense_shape": lambda: concat([shape(rows, int64)[:1], S.reshape(width, shape=(1,))], 0),
        }[name]()
        if context.trace is None:
            setattr(self, name, made)
        return made

    @property
    def dtype(self) -> DType:
        return self.values.dtype

    @property
    def shape(self) -> TensorShape:
        """The sizes as far as they are known before the program runs."""
        t = self.dense_shape
        sizes = known(t._a) if type(t._a) is Value else t._value("a shape")
        rank = int(t.shape[0])
        return TensorShape([None] * rank if sizes is None else [int(n) for n in sizes])

    def __repr__(self) -> str:
        return f"tj.SparseTensor(indices={self.indices!r}, values={self.values!r}, dense_shape={self.dense_shape!r})"


def sparse_rows(rows: Tensor) -> SparseTensor:
    """Rows of labels whose ends are filled up with negative numbers; as wide as the longest."""
    made: SparseTensor = object.__new__(SparseTensor)
    made._rows = rows
    return made


def to_dense(
    sp_input: Any, default_value: Any = None, validate_indices: bool = True, name: str | None = None
) -> Tensor:
    """The whole tensor, with `default_value` (0 unless given) where no element is kept."""
    if not isinstance(sp_input, SparseTensor):
        return convert(sp_input)
    x = sp_input.values
    start = convert(0 if default_value is None else default_value, x.dtype)
    return tensor_scatter_nd_update(fill(sp_input.dense_shape, start), sp_input.indices, x)


def from_dense(tensor: Any, name: str | None = None) -> SparseTensor:
    """The elements of a tensor that are not 0, in their order."""
    x = operand(tensor)
    at = where(E.not_equal(x, 0))
    return SparseTensor(at, gather_nd(x, at), shape(x, int64))


def dense_rows(x: Any) -> Operand:
    """Labels as a tensor whose rows are filled up with −1."""
    return operand(to_dense(x, -1) if isinstance(x, SparseTensor) else x)

