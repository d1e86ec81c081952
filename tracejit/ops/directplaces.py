"""NumPy forms of public functions that put elements where numbers say: scatters, segments, bins."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from tracejit.fast import fast
from tracejit.ir.types import as_dtype
from tracejit.ops import index as I
from tracejit.ops.direct import ORDERED, POSITIONS, SUMMED, Refused, _sizes
from tracejit.ops.index import MANY, sum_at

_array, _zeros, _empty, _bincount, _add_at = np.array, np.zeros, np.empty, np.bincount, np.add.at
_FEW = 64  # numbers that Python looks at faster than NumPy


# --- coordinates ------------------------------------------------------------------------------------------------------
def _coordinates(indices: Any, rank: int) -> tuple[np.ndarray, ...]:
    i = indices._a
    if i.dtype.char not in POSITIONS or not 0 < i.shape[-1] <= rank:
        raise Refused
    return tuple([i[..., k] for k in range(i.shape[-1])])


def gather_nd(params: Any, indices: Any) -> np.ndarray:
    a = params._a
    if not a.size:
        raise Refused
    return a[_coordinates(indices, a.ndim)]  # type: ignore[no-any-return]


def scatter_nd(indices: Any, updates: Any, shape: Any) -> np.ndarray:
    u, full = updates._a, _sizes(shape)
    at = _coordinates(indices, len(full))
    if u.dtype.char not in SUMMED or not u.size or u.shape != at[0].shape + full[len(at) :]:
        raise Refused
    out = _zeros(full, u.dtype)
    _add_at(out, at, u)
    return out


def scattered(tensor: Any, indices: Any, updates: Any, combine: Callable[..., None] | None = None) -> np.ndarray:
    a, u = tensor._a, updates._a
    at = _coordinates(indices, a.ndim)
    if u.dtype is not a.dtype or u.dtype.char not in SUMMED or not u.size:
        raise Refused
    if u.shape != at[0].shape + a.shape[len(at) :]:
        raise Refused
    out = a.copy()
    if combine is None:
        out[at] = u
    else:
        combine(out, at, u)
    return out  # type: ignore[no-any-return]


def scattered_sum(tensor: Any, indices: Any, updates: Any) -> np.ndarray:
    return scattered(tensor, indices, updates, _add_at)


# --- segments ---------------------------------------------------------------------------------------------------------
def _below(i: np.ndarray, count: Any) -> None:
    """Refuse numbers outside 0 … count − 1."""
    if type(count) is not int or i.dtype.char not in POSITIONS or not i.size:
        raise Refused
    if i.ndim == 1 and i.size <= _FEW:
        numbers = i.tolist()
        low, high = min(numbers), max(numbers)
    else:
        low, high = i.min(), i.max()
    if low < 0 or high >= count:
        raise Refused


def _ascending(a: np.ndarray, i: np.ndarray) -> int:
    """How many segments numbers make that ascend from 0 or more."""
    if i.ndim != 1 or i.dtype.char not in POSITIONS or not i.size or i.shape != a.shape[:1]:
        raise Refused
    if i.size <= _FEW:
        numbers = i.tolist()
        ascends, low, high = numbers == sorted(numbers), numbers[0], numbers[-1]
    else:
        ascends, low, high = bool((i[1:] >= i[:-1]).all()), int(i[0]), int(i[-1])
    if not ascends or low < 0:
        raise Refused
    return high + 1  # type: ignore[no-any-return]


def _begin(a: np.ndarray, i: np.ndarray, count: int, value: Any) -> np.ndarray:
    if a.dtype.char not in SUMMED or not a.size or i.shape != a.shape[: i.ndim]:
        raise Refused
    out = _empty((count, *a.shape[i.ndim :]), a.dtype)
    out.fill(value)
    return out


def _combined(op: Any, ufunc: np.ufunc, out: np.ndarray, i: np.ndarray, a: np.ndarray) -> np.ndarray:
    if a.ndim > 1:
        return op.numpy(out, i, a, axis=0)  # type: ignore[no-any-return]
    ufunc.at(out, i, a)
    return out


def _count(a: np.ndarray, i: np.ndarray, count: Any) -> Any:
    """How many segments there are: as many as is said, or as ascending numbers tell."""
    if count is None:
        return _ascending(a, i)
    _below(i, count)
    return count


def segment_sum(data: Any, segment_ids: Any, count: Any = None) -> np.ndarray:
    """The sums of segments with these numbers, of ascending ones if it is not said how many there are."""
    a, i = data._a, segment_ids._a
    count = _count(a, i, count)
    out = _begin(a, i, count, 0)
    if i.size > MANY * count or (a.dtype.kind in "fV" and a.dtype.itemsize < 4):  # summed in a wider type
        return sum_at(a, i, count, 0)
    _add_at(out, i, a)
    return out


def ascending_sum(data: Any, segment_ids: Any) -> np.ndarray:
    return segment_sum(data, segment_ids)


def segment_prod(data: Any, segment_ids: Any, count: Any = None) -> np.ndarray:
    a, i = data._a, segment_ids._a
    count = _count(a, i, count)
    return _combined(I.mul_at, np.multiply, _begin(a, i, count, 1), i, a)


def _counts(i: np.ndarray, count: int, rank: int) -> np.ndarray:
    """How many elements each segment has, with unit axes for those of a slice."""
    return _bincount(i.reshape(-1), minlength=count).reshape((count, *(1,) * (rank - i.ndim)))


def segment_mean(data: Any, segment_ids: Any, count: Any = None) -> np.ndarray:
    a, i = data._a, segment_ids._a
    if a.dtype.char not in "fd":
        raise Refused
    native: Any = fast.segment_sum
    if native is None or (r := native(data, segment_ids, count)) is NotImplemented:
        out = segment_sum(data, segment_ids, count)
    else:
        out = r._a
    n = _counts(i, len(out), a.ndim)
    return out / np.maximum(n, 1).astype(a.dtype)  # type: ignore[no-any-return]


def extreme(op: Any, ufunc: np.ufunc) -> Callable[..., np.ndarray]:
    """`segment_max` or `segment_min`; segments that nothing has are 0 where the numbers ascend."""

    def form(data: Any, segment_ids: Any, start: Any, count: Any = None) -> np.ndarray:
        a, i = data._a, segment_ids._a
        size = count
        if count is None:
            size = _ascending(a, i)
        else:
            _below(i, count)
        out = _combined(op, ufunc, _begin(a, i, size, start), i, a)
        if count is None and len(set(i.tolist())) != size:
            out[_bincount(i, minlength=size) == 0] = 0
        return out

    return form


segment_max, segment_min = extreme(I.max_at, np.maximum), extreme(I.min_at, np.minimum)


# --- what is different ------------------------------------------------------------------------------------------------
def _numbered(x: Any, out_idx: Any) -> tuple[np.ndarray, dict[Any, int], list[int], Any]:
    """A short list, its different elements with their numbers, and the number of each element, of this type."""
    a, d = x._a, as_dtype(out_idx)
    if a.ndim != 1 or not 0 < a.size <= _FEW or a.dtype.char not in ORDERED or d.kind not in "iu":
        raise Refused
    numbers: dict[Any, int] = {}
    return a, numbers, [numbers.setdefault(v, len(numbers)) for v in a.tolist()], d.np


def unique(x: Any, out_idx: Any) -> tuple[np.ndarray, ...]:
    a, numbers, own, d = _numbered(x, out_idx)
    return _array([*numbers], a.dtype), _array(own, d)


def unique_with_counts(x: Any, out_idx: Any) -> tuple[np.ndarray, ...]:
    a, numbers, own, d = _numbered(x, out_idx)
    counts = [0] * len(numbers)
    for k in own:
        counts[k] += 1
    return _array([*numbers], a.dtype), _array(own, d), _array(counts, d)


# --- counting ---------------------------------------------------------------------------------------------------------
def bincount(arr: Any) -> np.ndarray:
    i = arr._a
    if i.ndim != 1 or i.dtype.char not in POSITIONS or not i.size:
        raise Refused
    return _bincount(i).astype(np.int32)  # NumPy refuses negative numbers


def confusion_matrix(labels: Any, predictions: Any, classes: Any) -> np.ndarray:
    a, p = labels._a, predictions._a
    if a.ndim != 1 or a.shape != p.shape or not a.size or a.dtype.char not in POSITIONS:
        raise Refused
    n = max(int(a.max()), int(p.max())) + 1 if classes is None else classes
    _below(a, n)
    _below(p, n)
    at = a.astype(np.int64)
    at *= n
    at += p
    return _bincount(at, minlength=n * n).reshape((n, n)).astype(np.int32)


def dynamic_partition(data: Any, partitions: Any, count: Any) -> list[np.ndarray]:
    a, p = data._a, partitions._a
    if p.shape != a.shape[: p.ndim] or not p.ndim:
        raise Refused
    _below(p, count)
    return [a[p == k] for k in range(count)]
