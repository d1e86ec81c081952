"""NumPy forms of public functions: what these make of eager tensors, in few calls.

They take what is usual and raise an error for anything else, which the functions then treat the ordinary way.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from tracejit.ir.types import DType, as_dtype, int32, int64
from tracejit.ops.reduce import top_k as top_k_row
from tracejit.tensor import Tensor, Variable

_ceil = math.ceil
_ndarray, _BOOL = np.ndarray, np.dtype(bool)
_arange, _concatenate, _empty, _zeros, _where = np.arange, np.concatenate, np.empty, np.zeros, np.where
_count_nonzero, _arctan2 = np.count_nonzero, np.arctan2
INTEGERS = frozenset("bBhHiIlL")  # letters of NumPy's types; those of traced tensors have none
POSITIONS = INTEGERS - {"L"}  # NumPy takes large numbers of 64 bits for negative ones
ORDERED = INTEGERS | frozenset("?fd")  # which NumPy puts in order as we do
SUMMED = INTEGERS | frozenset("fdFD")  # whose sums NumPy keeps in the type
_FORWARD, _BACKWARD = slice(None), slice(None, None, -1)


class Refused(Exception):
    """The arguments are not what the form is for."""


def _is_axis(axis: Any, rank: int) -> bool:
    return type(axis) is int and -rank <= axis < rank


def _sizes(shape: Any) -> tuple[int, ...]:
    """A shape of plain ints."""
    if type(shape) is int:
        return (shape,)
    if (type(shape) is not tuple and type(shape) is not list) or not {int}.issuperset(map(type, shape)):
        raise Refused
    return tuple(shape)


def _along(axis: int, rank: int, s: Any) -> tuple[Any, ...]:
    """An index that is `s` at one axis and takes all of those before."""
    return (_FORWARD,) * (axis % rank) + (s,)


# --- creation ---------------------------------------------------------------------------------------------------------
def filled(shape: Any, dtype: Any, value: Any = 1) -> np.ndarray:
    kind = type(shape)
    if kind is not tuple and kind is not list and kind is not int:
        raise Refused
    a = _empty(shape, as_dtype(dtype).np)
    a.fill(value)
    return a


def repeated(shape: Any, dtype: Any, value: Any) -> np.ndarray:
    """A Python number everywhere, of a type that has it."""
    d, kind = as_dtype(dtype), type(value)
    if d.kind != ("b" if kind is bool else "i" if kind is int else "f"):
        raise Refused
    if kind is int and not d.min <= value <= d.max:
        raise Refused
    a = _empty(_sizes(shape), d.np)
    a.fill(value)
    return a


def eye(rows: Any, columns: Any, dtype: Any) -> np.ndarray:
    if columns is None:
        columns = rows
    if type(rows) is not int or type(columns) is not int or rows < 0 or columns < 0:
        raise Refused
    a = _zeros((rows, columns), (dtype if type(dtype) is DType else as_dtype(dtype)).np)
    a.reshape(-1)[: min(rows, columns) * (columns + 1) : columns + 1] = 1
    return a


_EXACT = 1 << 24  # integers up to which float32 has all


def linspace(start: Any, stop: Any, n: Any) -> np.ndarray:
    if not {int, float}.issuperset((type(start), type(stop))) or type(n) is not int or not 1 < n <= _EXACT:
        raise Refused
    a, b = np.float32(start), np.float32(stop)
    y = _arange(n, dtype=np.float32)
    y *= (b - a) / np.float32(n - 1)
    y += a
    y[-1] = b
    return y


def steps(start: Any, limit: Any, delta: Any) -> np.ndarray:
    """A range of Python numbers, not all of which are ints."""
    kinds = {type(start), type(limit), type(delta)}
    if float not in kinds or not kinds <= {int, float}:
        raise Refused
    n = _ceil((limit - start) / delta)
    if not 0 <= n <= _EXACT:
        raise Refused
    y = _arange(n, dtype=np.float32)
    if not (type(delta) is int and delta == 1):
        y *= np.float32(delta)
    if not (type(start) is int and start == 0):
        y += np.float32(start)
    return y


def one_hot(indices: Any, depth: Any, dtype: Any) -> np.ndarray:
    i = indices._a
    if i.dtype.char not in INTEGERS or type(depth) is not int or depth < 0:
        raise Refused
    wide = np.int64 if i.dtype.itemsize == 8 or i.dtype.char == "I" else np.int32
    hit = i.astype(wide, copy=False).reshape((*i.shape, 1)) == _arange(depth, dtype=wide)
    d = np.float32 if dtype is None else as_dtype(dtype).np
    return hit.astype(d, copy=False)


# --- movements --------------------------------------------------------------------------------------------------------
def _alike(values: Any) -> list[np.ndarray]:
    """The arrays of tensors of one dtype."""
    if type(values) is not list and type(values) is not tuple:
        raise Refused
    arrays = [v._a for v in values]
    first = arrays[0].dtype
    if first.num < 0:  # what is traced has no such number
        raise Refused
    for a in arrays:
        if a.dtype is not first:
            raise Refused
    return arrays


def concat(values: Any, axis: Any) -> np.ndarray:
    if type(axis) is not int:
        raise Refused
    return _concatenate(_alike(values), axis)


def stack(values: Any, axis: Any) -> np.ndarray:
    arrays = _alike(values)
    shape = arrays[0].shape
    if type(axis) is not int:
        raise Refused
    if axis or not shape:
        return np.stack(arrays, axis)
    for a in arrays:
        if a.shape != shape:
            raise Refused
    return _concatenate(arrays).reshape((len(arrays), *shape))


def unstack(value: Any, num: Any, axis: Any) -> list[np.ndarray]:
    a = value._a
    if not _is_axis(axis, a.ndim) or not (num is None or num == a.shape[axis]):
        raise Refused
    return list(a if axis == 0 else np.moveaxis(a, axis, 0))


def split(value: Any, pieces: Any, axis: Any) -> list[np.ndarray]:
    a = value._a
    if not _is_axis(axis, a.ndim):
        raise Refused
    total = a.shape[axis]
    if type(pieces) is int:
        size, rest = divmod(total, pieces)
        if rest or pieces < 0:
            raise Refused
        sizes: Sequence[int] = [size] * pieces
    else:
        sizes = _sizes(pieces)
        if sum(sizes) != total or min(sizes) < 0:
            raise Refused
    out, at = [], 0
    for n in sizes:
        out.append(a[_along(axis, a.ndim, slice(at, at + n))])
        at += n
    return out


def tile(input: Any, multiples: Any) -> np.ndarray:
    a, times = input._a, _sizes(multiples)
    if len(times) != a.ndim or min(times) < 0 or type(a) is not _ndarray:
        raise Refused
    shape = tuple([n * k for n, k in zip(a.shape, times, strict=True)])
    if not a.size or 0 in times:
        return _empty(shape, a.dtype)
    rest = a.size
    for n, k in zip(a.shape, times, strict=True):
        if k != 1:
            a = a.reshape(-1, rest).repeat(k, 0)
        rest //= n
    return a.reshape(shape)


def repeat(input: Any, times: Any, axis: Any) -> np.ndarray:
    a = input._a
    if type(times) is not int:
        times = _sizes(times)
    if times < 0 if type(times) is int else min(times, default=0) < 0:
        raise Refused
    if not (axis is None or _is_axis(axis, a.ndim)):
        raise Refused
    return a.repeat(times, axis)  # type: ignore[no-any-return]


def roll(input: Any, shift: Any, axis: Any) -> np.ndarray:
    a = input._a
    if type(shift) is not int or not _is_axis(axis, a.ndim):
        raise Refused
    n = a.shape[axis]
    k = shift % n
    if not k:
        return a  # type: ignore[no-any-return]
    halves = slice(n - k, None), slice(None, n - k)
    return _concatenate([a[_along(axis, a.ndim, s)] for s in halves], axis)


def block(input: Any, begin: Any, size: Any) -> np.ndarray:
    a, starts, counts = input._a, _sizes(begin), _sizes(size)
    if not len(starts) == len(counts) == a.ndim:
        raise Refused
    index = []
    for b, n, d in zip(starts, counts, a.shape, strict=True):
        end = d if n == -1 else b + n
        if not 0 <= b <= end <= d:
            raise Refused
        index.append(slice(b, end))
    return a[(*index, ...)]  # type: ignore[no-any-return]


def reverse(tensor: Any, axes: Any) -> np.ndarray:
    a = tensor._a
    index = [_FORWARD] * a.ndim
    for axis in _sizes(axes):
        if not _is_axis(axis, a.ndim) or index[axis] is _BACKWARD:
            raise Refused
        index[axis] = _BACKWARD
    return a[tuple(index)]  # type: ignore[no-any-return]


# --- picking ----------------------------------------------------------------------------------------------------------
def _positions(indices: Any) -> Any:
    if type(indices) is Tensor or type(indices) is Variable:
        i = indices._a
        if i.dtype.char not in POSITIONS:
            raise Refused
        return i
    if type(indices) is int:
        return indices
    if not indices:
        raise Refused
    return list(_sizes(indices))


def gather(params: Any, indices: Any, axis: Any, batch_dims: Any) -> np.ndarray:
    a, i = params._a, _positions(indices)
    if type(batch_dims) is not int or batch_dims < 0 or not a.size:
        raise Refused
    if axis is None:
        axis = batch_dims
    if not _is_axis(axis, a.ndim):
        raise Refused
    if not batch_dims:
        return a.take(i, axis)  # type: ignore[no-any-return]
    if axis % a.ndim != batch_dims or i.shape[:batch_dims] != a.shape[:batch_dims] or i.ndim <= batch_dims:
        raise Refused
    return lines(a, i, batch_dims)


def lines(a: np.ndarray, i: np.ndarray, batch: int) -> np.ndarray:
    """The elements at positions that differ from line to line; the first `batch` axes tell the lines."""
    if batch == 0:
        return a.take(i, 0)
    grid = [_arange(a.shape[k]).reshape((-1, *(1,) * (i.ndim - 1 - k))) for k in range(batch)]
    return a[(*grid, i)]  # type: ignore[no-any-return]


def boolean_mask(tensor: Any, mask: Any, axis: Any) -> np.ndarray:
    a, m = tensor._a, mask._a
    rank = m.ndim
    if m.dtype is not _BOOL or not rank:
        raise Refused
    if axis is None:
        if m.shape != a.shape[:rank]:
            raise Refused
        return a[m]  # type: ignore[no-any-return]
    if not _is_axis(axis, a.ndim) or m.shape != a.shape[axis % a.ndim :][:rank]:
        raise Refused
    return a[_along(axis, a.ndim, m)]  # type: ignore[no-any-return]


def positions(condition: Any) -> np.ndarray:
    """Where it is true, one row each."""
    a = condition._a
    if not a.ndim or type(a) is not _ndarray:
        raise Refused
    return np.array(a.nonzero()).T


def where(condition: Any, x: Any, y: Any) -> np.ndarray:
    c, a, b = condition._a, getattr(x, "_a", x), getattr(y, "_a", y)
    if type(b) is float:
        b = _single(b, a)
    elif type(a) is float:
        a = _single(a, b)
    if c.dtype.char != "?" or a.dtype is not b.dtype or type(a) is not _ndarray or type(b) is not _ndarray:
        raise Refused
    return _where(c, a, b)


def _single(number: float, like: Any) -> np.ndarray:
    """A Python number as an array of the type of `like`."""
    if like.dtype.char not in "fd":
        raise Refused
    return np.asarray(number, like.dtype)


# --- orders -----------------------------------------------------------------------------------------------------------
def sort(values: Any, axis: Any, direction: Any) -> np.ndarray:
    a = values._a
    if a.dtype.char not in ORDERED or not _is_axis(axis, a.ndim):
        raise Refused
    y = a.copy("K")
    y.sort(axis)
    if direction == "ASCENDING":
        return y  # type: ignore[no-any-return]
    if direction != "DESCENDING":
        raise Refused
    return np.ascontiguousarray(y[_along(axis, a.ndim, _BACKWARD)])


def argsort(values: Any, axis: Any, direction: Any) -> np.ndarray:
    a = values._a
    if a.dtype.char not in ORDERED or not _is_axis(axis, a.ndim):
        raise Refused
    if direction == "ASCENDING":
        return a.argsort(axis, "stable").astype(np.int32)  # type: ignore[no-any-return]
    if direction != "DESCENDING":
        raise Refused
    back = _along(axis, a.ndim, _BACKWARD)
    return (a.shape[axis] - 1 - a[back].argsort(axis, "stable")[back]).astype(np.int32)  # type: ignore[no-any-return]


_FEW = 64  # elements of a line that are put in order as a whole, in the row's kernel too


def top_k(input: Any, k: Any, index_type: Any) -> tuple[np.ndarray, np.ndarray]:
    a = input._a
    if a.dtype.char not in ORDERED or type(k) is not int or not 0 <= k <= a.shape[-1]:
        raise Refused
    n = a.shape[-1]
    if n < _FEW:
        at = n - 1 - a[..., ::-1].argsort(-1, "stable")[..., : -k - 1 : -1]
    else:
        at = top_k_row.numpy(a, axis=a.ndim - 1, k=k)
    y = a.take(at) if a.ndim == 1 else lines(a, at, a.ndim - 1)
    return y, at.astype(np.int32 if index_type is int32 else as_dtype(index_type).np)


def position(name: str) -> Callable[..., Any]:
    """`argmax` or `argmin`."""

    def form(input: Any, axis: Any, output_type: Any) -> Any:
        a = input._a
        axis = 0 if axis is None else axis
        if a.dtype.char not in ORDERED or not _is_axis(axis, a.ndim):
            raise Refused
        r = getattr(a, name)(axis)
        if output_type is int64:
            return r
        d = as_dtype(output_type)
        if d.kind not in "iu":
            raise Refused
        return r.astype(d.np)

    return form


def running(ufunc: np.ufunc) -> Callable[..., np.ndarray]:
    """Running sums or products."""

    def form(x: Any, axis: Any) -> np.ndarray:
        a = x._a
        if a.dtype.char not in SUMMED or not _is_axis(axis, a.ndim):
            raise Refused
        return ufunc.accumulate(a, axis, a.dtype)

    return form


def running_back(ufunc: np.ufunc) -> Callable[..., np.ndarray]:
    """The same from the other end."""

    def form(x: Any, axis: Any) -> np.ndarray:
        a = x._a
        if a.dtype.char not in SUMMED or not _is_axis(axis, a.ndim):
            raise Refused
        back = _along(axis, a.ndim, _BACKWARD)
        return ufunc.accumulate(a[back], axis, a.dtype)[back]

    return form


def are_classes(labels: Any, logits: Any) -> np.ndarray:
    """The labels, if every one is the number of a class and each goes with a line of the logits."""
    c, a = labels._a, logits._a
    if c.dtype.char not in INTEGERS or c.shape != a.shape[:-1] or a.dtype.kind not in "fV" or not a.ndim:
        raise Refused
    if _count_nonzero(c >= a.shape[-1]) or _count_nonzero(c < 0):
        raise Refused
    return c  # type: ignore[no-any-return]


# --- sums -------------------------------------------------------------------------------------------------------------
def count_nonzero(input: Any) -> np.ndarray:
    a = input._a
    if type(a) is not _ndarray:
        raise Refused
    return np.asarray(_count_nonzero(a), np.int64)


# --- parts of complex numbers -----------------------------------------------------------------------------------------
def angle(input: Any) -> Any:
    a = input._a
    if a.dtype.char not in "FD":
        raise Refused
    return _arctan2(a.imag, a.real)
