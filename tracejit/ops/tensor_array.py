"""TensorArray: tensors of one shape under numbers, written one by one, also in loops that are compiled."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tracejit.context import context
from tracejit.errors import ArgumentError, ControlFlowError, OutOfRangeError, ShapeError, locate
from tracejit.ir.dim import Dim
from tracejit.ir.found import fresh
from tracejit.ir.graph import Value
from tracejit.ir.op import OPS
from tracejit.ir.sizes import fit
from tracejit.ir.types import DType, as_dtype, float32, int64, show_shape
from tracejit.ops import array, creation
from tracejit.ops.args import as_size, known
from tracejit.ops.check import require_range
from tracejit.tensor import Operand, Tensor, convert


class TensorArray:
    """An array of tensors. Methods that change it return the changed array; the one before must not be used further.

    Parameters
    ----------
    dtype : of every element
    size : how many there are; a tensor too
    dynamic_size : whether writing past the end makes it longer. In a loop that is compiled, elements are added in the
        order of their numbers to an array that was empty, or all of whose elements had been written one after the
        other, and cannot be read before the loop ends.
    element_shape : their shape; that of the first element written by default
    """

    __tree_fields__ = ("_rows", "_size", "_dtype", "_grows", "_shape", "_added", "_scope")
    _written = 0  # how many elements have been written one after the other, from the first on
    _before: Tensor | None = None  # the elements from before the loop that adds more

    def __init__(
        self, dtype: Any = float32, size: Any = 0, dynamic_size: bool = False, clear_after_read: bool | None = None,
        tensor_array_name: str | None = None, element_shape: Any = None, infer_shape: bool = True,
        colocate_with_first_write_call: bool = True, name: str | None = None,
    ) -> None:  # fmt: skip
        self._dtype: DType = as_dtype(dtype)
        self._size: Any = _size_of(size)
        self._scope = _scope()
        self._added: tuple[Tensor, ...] = ()  # by a step of a loop that is being traced
        self._grows = dynamic_size
        self._shape = None if element_shape is None else tuple(element_shape)
        self._rows: Tensor | None = None
        if self._shape is not None and None not in self._shape:
            self._rows = creation.zeros((self._size, *self._shape), self._dtype)

    @property
    def dtype(self) -> DType:
        return self._dtype

    @property
    def dynamic_size(self) -> bool:
        return self._grows

    @property
    def element_shape(self) -> tuple[Any, ...] | None:
        return tuple(self._rows.shape[1:]) if self._rows is not None else self._shape

    def size(self, name: str | None = None) -> Tensor:
        """How many elements there are."""
        return convert(self._size)

    def __len__(self) -> int:
        return int(self._size)

    def _with(self, rows: Tensor | None, size: Any = None, added: tuple[Tensor, ...] = ()) -> TensorArray:
        new = object.__new__(TensorArray)
        new._dtype, new._grows, new._shape, new._rows = self._dtype, self._grows, self._shape, rows
        new._size = self._size if size is None else size
        new._added, new._scope = added, self._scope
        if self._before is not None:
            new._before = self._before
        return new

    # --- in loops that are compiled: how many elements there are is part of the loop's state --------------------------
    def grown_since(self, earlier: TensorArray) -> int:
        """How many elements a step of a loop has added."""
        return len(self._added) - len(earlier._added)

    def added(self, count: int) -> tuple[Tensor, ...]:
        """The elements that were added last."""
        return self._added[len(self._added) - count :]

    def in_loop(self, size: Tensor) -> TensorArray:
        """The array at the beginning of any step."""
        new = self._with(None, size)
        new._before = self._rows
        return new

    def after_loop(self, rows: Tensor) -> TensorArray:
        """The array with all that the steps have added."""
        if self._before is not None:
            rows = array.concat([self._before, rows], 0)
        return self._with(rows, rows.shape[0])

    def _like(self, shape: Sequence[Any]) -> TensorArray:
        """With room for elements of this shape."""
        if self._rows is None:
            return self._with(creation.zeros((self._size, *shape), self._dtype))
        mine = tuple(self._rows.shape[1:])
        if len(mine) != len(shape) or not all(map(fit, mine, shape)):
            raise locate(
                ShapeError(f"the elements of the TensorArray have shape {show_shape(mine)}, not {show_shape(shape)}")
            )
        return self

    def _index(self, i: Any) -> tuple[Any, bool]:
        """The index as a tensor, and whether it is known. Raises `OutOfRangeError`."""
        t = convert(i)
        value = known(t._a) if type(t._a) is Value else t._value("an index")
        if value is None:
            return t, False
        n = int(value)
        if isinstance(self._size, Operand):
            return t, False
        if n < 0 or (n >= self._size and not self._grows):
            raise locate(OutOfRangeError(f"index {n} of a TensorArray of size {self._size}"))
        return n, True

    def write(self, index: Any, value: Any, name: str | None = None) -> TensorArray:
        """The array with this element."""
        t = convert(value, self._dtype) if not isinstance(value, Operand) else convert(value)
        if t.dtype is not self._dtype:
            raise locate(ArgumentError(f"a TensorArray of {self._dtype.name} is given {t.type}"))
        i, fixed = self._index(index)
        new = self
        if self._grows and (isinstance(self._size, Operand) or (self._is_full() and self._scope != _scope())):
            if not fixed or i >= self._size:
                return self._with_next(i, t)
        if fixed and i >= self._size:
            new = self._longer(i + 1, tuple(t.shape))
        new = new._like(tuple(t.shape))
        assert new._rows is not None
        new = new._with(_set_row(new._rows, i, t))
        new._written = self._written + (fixed and i == self._written)
        return new

    def _is_full(self) -> bool:
        return type(self._size) is int and self._size == self._written

    def _with_next(self, i: Any, t: Tensor) -> TensorArray:
        """With one more element, whose number has to be the next one."""
        n = OPS["cast"](convert(self._size), dtype=int64)
        said = "element {} of a TensorArray is written when it has {}: in a compiled loop, elements are added in order"
        OPS["check"](OPS["equal"](OPS["cast"](i, dtype=int64), n), i, n, error="OutOfRangeError", message=said)
        return self._with(None, OPS["add"](n, 1), (*self._added, t))

    def _longer(self, size: int, shape: Sequence[Any]) -> TensorArray:
        if self._rows is None:
            return self._with(None, size)
        more = creation.zeros((size - self._size, *self._rows.shape[1:]), self._dtype)
        return self._with(array.concat([self._rows, more], 0), size)

    def read(self, index: Any, name: str | None = None) -> Tensor:
        """One element; zeros if it has not been written."""
        i, fixed = self._index(index)
        rows = self._all()
        if not fixed:
            require_range(i, rows.shape[0], "index {} of a TensorArray of size {high}", negative=False)
        return rows[i] if fixed else OPS["gather"](rows, i, axis=0)

    def _all(self) -> Tensor:
        if self._rows is None:
            if isinstance(self._size, Operand):
                said = "a TensorArray that grows is read in the loop that makes it longer"
                raise locate(ControlFlowError(said, remedy="give its size, without dynamic_size=True"))
            if self._shape is None and self._size != 0:
                said = "nothing has been written to the TensorArray, and its element_shape is open"
                raise locate(ArgumentError(said))
            return creation.zeros((self._size, *(self._shape or ())), self._dtype)
        return self._rows

    def stack(self, name: str | None = None) -> Tensor:
        """All elements along a new first axis."""
        return self._all()

    def gather(self, indices: Any, name: str | None = None) -> Tensor:
        """The elements at these indices, along a new first axis."""
        return OPS["gather"](self._all(), convert(indices), axis=0)

    def concat(self, name: str | None = None) -> Tensor:
        """All elements joined along their first axis."""
        rows = self._all()
        return OPS["reshape"](rows, shape=(rows.shape[0] * rows.shape[1], *rows.shape[2:]))

    def unstack(self, value: Any, name: str | None = None) -> TensorArray:
        """The array whose elements are the rows of a tensor."""
        t = convert(value)
        t = t if t.dtype is self._dtype else OPS["cast"](t, dtype=self._dtype)
        return self._with(t, int(t.shape[0]))

    def scatter(self, indices: Any, value: Any, name: str | None = None) -> TensorArray:
        """The array with the rows of `value` at these indices."""
        new, rows = self, convert(value)
        for k, i in enumerate(_numbers(indices)):
            new = new.write(i, rows[k])
        return new

    def split(self, value: Any, lengths: Any, name: str | None = None) -> TensorArray:
        """The array whose elements are parts of these lengths of a tensor's first axis."""
        new = self
        for k, part in enumerate(array.split(convert(value), [as_size(n, "a length") for n in _numbers(lengths)])):
            new = new.write(k, part)
        return new

    def identity(self) -> TensorArray:
        return self

    def close(self, name: str | None = None) -> None:
        """Nothing: memory is given back when the array is dropped."""


def _numbers(x: Any) -> list[Any]:
    """The items of a list of integers or of a tensor with one axis: numbers where they are known, else tensors."""
    if isinstance(x, (list, tuple, range)):
        return list(x)
    t = convert(x)
    value = known(t._a) if type(t._a) is Value else t._value("indices")
    return [t[k] for k in range(int(t.shape[0]))] if value is None else [int(i) for i in value]


def _set_row(rows: Tensor, i: Any, value: Tensor) -> Tensor:
    """`rows` with row i replaced."""
    n = len(rows.shape)
    if isinstance(i, int):
        one = OPS["reshape"](value, shape=(1, *value.shape))
        return OPS["update"](rows, one, start=(i, *[0] * (n - 1)), step=(1,) * n)
    require_range(i, rows.shape[0], "index {} of a TensorArray of size {high}", negative=False)
    return OPS["put"](rows, i, value, axis=0)


def _scope() -> int:
    """Which trace is being made, 0 for none: an array made outside a loop's region grows in it."""
    trace: Any = context.trace
    return trace.builder.scope if trace is not None else 0


def _size_of(n: Any) -> Any:
    """A size as a number, or for a tensor whose value is not known yet as a size that the program finds out."""
    if isinstance(n, (int, Dim)):
        return n
    t = convert(n)
    value = known(t._a) if type(t._a) is Value else t._value("a size")
    return int(value) if value is not None else OPS["count_up"](t, size=fresh()).shape[0]

