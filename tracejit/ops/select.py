"""The public functions that pick, scatter and sort elements, under TensorFlow's names."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from tracejit.context import activity
from tracejit.errors import DTypeError, ShapeError, locate
from tracejit.fast import fast
from tracejit.ir.op import Op
from tracejit.ir.sizes import at_least, fit, known_equal, now_unit, product
from tracejit.ir.types import DType, TensorType, as_dtype, int32, int64, show_shape
from tracejit.ops import direct, directplaces, found
from tracejit.ops import elementwise as E
from tracejit.ops import index as I
from tracejit.ops import reduce as R
from tracejit.ops import shape as S
from tracejit.ops.args import Size, as_axis, as_size, eager_only, open_size, operand, require, waits
from tracejit.ops.array import cut, expand_dims, moveaxis
from tracejit.ops.check import require_index, require_room
from tracejit.ops.creation import counter
from tracejit.ops.define import same_shape
from tracejit.ops.extents import extent, extents
from tracejit.ops.quick import at_once, exact, planned, traced
from tracejit.ops.results import TopKV2
from tracejit.tensor import Operand, Tensor, common_dtype, convert, convert_unharmed, quietly, wrap

_BOOL = np.dtype(bool)


# --- picking ----------------------------------------------------------------------------------------------------------
def where(condition: Any, x: Any = None, y: Any = None, name: str | None = None) -> Tensor:
    """x where the condition is true, y elsewhere, with broadcasting; gradients of the side not taken are zero.

    With the condition alone: the positions where it is true, one row each (int64).
    """
    if not activity.busy:
        form = (direct.where, condition, x, y) if x is not None else (direct.positions, condition)
        if (x is None) is (y is None) and (quick := at_once(*form)) is not None:
            return quick
    if x is None and y is None:
        m = operand(condition)
        if waits(m):
            m = m if m.dtype.kind == "b" else E.not_equal(m, 0)
            columns = [S.reshape(i, shape=(i.shape[0], 1)) for i in found.coordinates(m)]
            if not m.ndim:
                return S.slice_(columns[0], start=(0, 0), size=(columns[0].shape[0], 0), step=(1, 1))
            return S.concat(*columns, axis=1)
        mask = eager_only(m, "where with one argument")
        return wrap(quietly(lambda: np.argwhere(mask).astype(np.int64)))
    require(x is not None and y is not None, "where takes both x and y, or neither")
    return E.where(condition, x, y)


def boolean_mask(tensor: Any, mask: Any, axis: Any = None, name: str = "boolean_mask") -> Tensor:
    """The elements, or slices from `axis` on, where the mask is true."""
    if axis is None and (native := fast.masked) is not None and (r := native(tensor, mask)) is not NotImplemented:
        return r  # type: ignore[no-any-return]
    if not activity.busy:
        if (quick := at_once(direct.boolean_mask, tensor, mask, axis)) is not None:
            return quick
    x, m = operand(tensor), operand(mask)
    if m.dtype.kind != "b" or not m.ndim:
        raise locate(DTypeError(f"a mask is boolean and has an axis, not {m.type}"))
    at = as_axis(0 if axis is None else axis, x.ndim)
    if not same_shape(tuple(x.shape[at : at + m.ndim]), tuple(m.shape)):
        raise locate(ShapeError(f"a mask of {show_shape(m.shape)} does not fit {show_shape(x.shape)} at axis {at}"))
    hits = found.hits(m) if waits(m) else convert(np.flatnonzero(eager_only(m, "boolean_mask")))
    flat = S.reshape(x, shape=(*x.shape[:at], product(tuple(m.shape)), *x.shape[at + m.ndim :]))
    return I.gather(flat, hits, axis=at)


def _batch_axes(n: Any, rank: int) -> int:
    b = int(as_size(n, "batch_dims"))
    return as_axis(b, rank + (b >= 0), "batch_dims")


def gather(
    params: Any,
    indices: Any,
    validate_indices: Any = None,
    axis: Any = None,
    batch_dims: int = 0,
    name: str | None = None,
) -> Tensor:
    """The slices of `params` along an axis at the given positions; negative positions count from the end.

    The first `batch_dims` axes of both are walked through together; a negative number of them counts from the rank of
    `indices`.
    """
    if not activity.busy and (quick := at_once(direct.gather, params, indices, axis, batch_dims)) is not None:
        return quick
    x, i = operand(params), operand(indices)
    if i.dtype.kind not in "iu":
        raise locate(DTypeError(f"indices must be integers, not {i.dtype.name}"))
    b = _batch_axes(batch_dims, i.ndim)
    at = as_axis(b if axis is None else axis, x.ndim)
    if not b:
        require_index(i, x.shape[at], at)
        return I.gather(x, i, axis=at)
    require(at >= b, f"axis {at} is among the {b} batch axes")
    if at > b:  # the axes between are walked through by every index
        y = gather(moveaxis(x, at, b), i, axis=b, batch_dims=b)
        return moveaxis(y, tuple(range(b, i.ndim)), tuple(range(at, at + i.ndim - b)))
    lead, n = tuple(x.shape[:b]), x.shape[b]
    if not all(map(fit, lead, i.shape[:b])):
        raise locate(ShapeError(f"batch axes differ: {show_shape(x.shape)} and {show_shape(i.shape)}"))
    require_index(i, n, at)
    i = E.cast(i, dtype=int64)
    i = E.where(E.less(i, 0), E.add(i, n), i)
    place: Any = 0
    for k in range(b):
        place = E.add(E.mul(place, lead[k]), counter(lead[k], i.ndim, k, int64))
    flat = S.reshape(x, shape=(product(lead) * n, *x.shape[b + 1 :]))
    return I.gather(flat, E.add(E.mul(place, n), i), axis=0)


def linear_index(indices: Sequence[Operand], sizes: Sequence[Size]) -> Tensor:
    """One position in the flattened axes from a position in each; negative ones count from the end."""
    place: Any = None
    for i, n in zip(indices, sizes, strict=True):
        i = E.cast(i, dtype=int64)
        i = E.where(E.less(i, 0), E.add(i, n), i)
        place = i if place is None else E.add(E.mul(place, n), i)
    return place


def coordinates(indices: Any, shape: tuple[Size, ...]) -> tuple[Tensor, int]:
    """Linear positions from an index tensor whose last axis holds coordinates, and how many there are.

    Without coordinates, every position is that of the whole tensor.
    """
    i = operand(indices)
    if i.dtype.kind not in "iu" or not i.ndim:
        raise locate(DTypeError(f"indices must be integers with a last axis of coordinates, not {i.type}"))
    k = int(i.shape[-1])
    if not k:
        return E.cast(S.broadcast_to(convert(0, int64), shape=tuple(i.shape[:-1])), dtype=int64), 0
    if k > len(shape):
        raise locate(ShapeError(f"{k} coordinates for a tensor of shape {show_shape(shape)}"))
    parts = [S.reshape(cut(i, i.ndim - 1, j, 1), shape=tuple(i.shape[:-1])) for j in range(k)]
    for j, p in enumerate(parts):
        require_index(p, shape[j], j)
    return linear_index(parts, shape[:k]), k


def gather_nd(params: Any, indices: Any, batch_dims: int = 0, name: str | None = None) -> Tensor:
    """The elements or slices at the coordinates in the last axis of `indices`."""
    if not activity.busy and type(batch_dims) is int and batch_dims == 0:
        if (quick := at_once(directplaces.gather_nd, params, indices)) is not None:
            return quick
    x, i = operand(params), operand(indices)
    b = int(as_size(batch_dims, "batch_dims"))
    require(0 <= b <= min(x.ndim, i.ndim), f"batch_dims is 0 … {min(x.ndim, i.ndim)} here, not {b}")
    if b:
        lead = tuple(x.shape[:b])
        own = [S.broadcast_to(counter(lead[k], i.ndim, k, i.dtype), shape=(*i.shape[:-1], 1)) for k in range(b)]
        i = S.concat(*own, i, axis=i.ndim - 1)
    at, k = coordinates(i, tuple(x.shape))
    return I.gather(S.reshape(x, shape=(product(tuple(x.shape[:k])), *x.shape[k:])), at, axis=0)


def scatter_nd(indices: Any, updates: Any, shape: Any, name: str | None = None) -> Tensor:
    """Zeros of a shape with `updates` added at the coordinates in the last axis of `indices`."""
    if not activity.busy and (quick := at_once(directplaces.scatter_nd, indices, updates, shape)) is not None:
        return quick
    full = extents(shape)
    at, k = coordinates(indices, full)
    u = operand(updates)
    want = (*at.shape, *full[k:])
    if u.ndim != len(want) or not all(map(fit, u.shape, want)):
        raise locate(ShapeError(f"updates of shape {show_shape(u.shape)}, the indices need {show_shape(want)}"))
    y = I.scatter_sum(u, at, size=product(full[:k]), axis=0)
    return S.reshape(y, shape=full)


def _fitting(updates: Any, dtype: DType) -> Operand:
    """Updates in the dtype of what they go into, which has to hold their values."""
    if not isinstance(updates, Operand):
        return convert_unharmed(updates, dtype)
    if updates.dtype is dtype:
        return updates
    if common_dtype((wrap(np.empty((), dtype.np)), updates))[0] is not dtype:
        message = f"updates of {updates.dtype.name} would lose precision in a tensor of {dtype.name}"
        raise locate(DTypeError(message, f"tj.cast(updates, tj.{dtype.name})"))
    return convert_unharmed(updates, dtype)


def _scattered(op: Op, tensor: Any, indices: Any, updates: Any) -> Tensor:
    """The tensor with updates put, or combined with what is there, at coordinates."""
    x = operand(tensor)
    at, k = coordinates(indices, tuple(x.shape))
    u = _fitting(updates, x.dtype)
    want = (*at.shape, *x.shape[k:])
    if u.ndim != len(want) or not all(map(fit, u.shape, want)):
        if u.ndim > len(want) or not all(now_unit(d) or known_equal(d, w) for d, w in zip(u.shape[::-1], want[::-1])):
            raise locate(ShapeError(f"updates of shape {show_shape(u.shape)}, the indices need {show_shape(want)}"))
        u = S.broadcast_to(u, shape=want)
    flat = S.reshape(x, shape=(product(tuple(x.shape[:k])), *x.shape[k:]))
    return S.reshape(op(flat, at, u, axis=0), shape=tuple(x.shape))


def tensor_scatter_nd_add(tensor: Any, indices: Any, updates: Any, name: str | None = None) -> Tensor:
    """The tensor with `updates` added at the coordinates in the last axis of `indices`; equal ones each count."""
    if not activity.busy and (quick := at_once(directplaces.scattered_sum, tensor, indices, updates)) is not None:
        return quick
    return _scattered(I.add_at, tensor, indices, updates)


def tensor_scatter_nd_sub(tensor: Any, indices: Any, updates: Any, name: str | None = None) -> Tensor:
    """The tensor with `updates` subtracted at the coordinates in the last axis of `indices`."""
    return _scattered(I.add_at, tensor, indices, E.neg(_fitting(updates, operand(tensor).dtype)))


def tensor_scatter_nd_max(tensor: Any, indices: Any, updates: Any, name: str | None = None) -> Tensor:
    """The tensor with the larger of it and `updates` at the coordinates in the last axis of `indices`."""
    if not activity.busy and (quick := traced(tensor_scatter_nd_max, tensor, indices, updates)) is not None:
        return quick
    return _scattered(I.max_at, tensor, indices, updates)


def tensor_scatter_nd_min(tensor: Any, indices: Any, updates: Any, name: str | None = None) -> Tensor:
    """The tensor with the smaller of it and `updates` at the coordinates in the last axis of `indices`."""
    if not activity.busy and (quick := traced(tensor_scatter_nd_min, tensor, indices, updates)) is not None:
        return quick
    return _scattered(I.min_at, tensor, indices, updates)


def tensor_scatter_nd_update(tensor: Any, indices: Any, updates: Any, name: str | None = None) -> Tensor:
    """The tensor with `updates` at the coordinates in the last axis of `indices`; of equal ones the last counts."""
    if not activity.busy and (quick := at_once(directplaces.scattered, tensor, indices, updates)) is not None:
        return quick
    return _scattered(I.put, tensor, indices, updates)


def take_along_axis(arr: Any, indices: Any, axis: Any = -1) -> Tensor:
    """The elements along an axis at positions that differ from line to line."""
    x, i = operand(arr), operand(indices)
    at = as_axis(axis, x.ndim)
    y = gather(moveaxis(x, at, -1), moveaxis(i, at, -1), axis=x.ndim - 1, batch_dims=x.ndim - 1)
    return moveaxis(y, -1, at)


# --- orders -----------------------------------------------------------------------------------------------------------
def _descending(direction: str) -> bool:
    require(direction in ("ASCENDING", "DESCENDING"), f"direction is ASCENDING or DESCENDING, not {direction!r}")
    return direction == "DESCENDING"


def _sort_infer(x: TensorType, *, axis: int, descending: bool) -> TensorType:
    return TensorType(x.dtype, R.argsort.infer(x, axis=axis, descending=descending).shape)


def _sort(x: np.ndarray, *, axis: int, descending: bool) -> np.ndarray:
    y = np.sort(R.in_float32(x), axis=axis).astype(x.dtype, copy=False)
    return np.ascontiguousarray(np.flip(y, axis)) if descending else y


def _sort_vjp(g: Tensor, y: Tensor, x: Tensor, **how: Any) -> tuple:
    place = R.argsort(R.argsort(x, **how), axis=how["axis"], descending=False)
    return (take_along_axis(g, place, how["axis"]),)


def _sort_jvp(t: tuple, y: Tensor, x: Tensor, **how: Any) -> Any:
    return take_along_axis(t[0], R.argsort(x, **how), how["axis"])


in_order: Op = Op(
    "sort", "opaque", _sort_infer, _sort, dtypes="biuf", vjp=_sort_vjp, jvp=_sort_jvp,
    doc="The elements along an axis in order, NaN after everything else (before it where `descending`).",
)  # fmt: skip


def argsort(values: Any, axis: Any = -1, direction: str = "ASCENDING", stable: bool = True, name: Any = None) -> Tensor:
    """The positions that sort along an axis (int32); equal elements keep their order."""
    if not activity.busy and (quick := at_once(direct.argsort, values, axis, direction)) is not None:
        return quick
    x = operand(values)
    return E.cast(R.argsort(x, axis=as_axis(axis, x.ndim), descending=_descending(direction)), dtype=int32)


def sort(values: Any, axis: Any = -1, direction: str = "ASCENDING", name: str | None = None) -> Tensor:
    """The elements in order along an axis."""
    if not activity.busy and (quick := at_once(direct.sort, values, axis, direction)) is not None:
        return quick
    x = operand(values)
    return in_order(x, axis=as_axis(axis, x.ndim), descending=_descending(direction))


def top_k(input: Any, k: Any = 1, sorted: bool = True, index_type: Any = int32, name: str | None = None) -> TopKV2:
    """The k largest elements along the last axis, the largest first, and their positions: `values` and `indices`."""
    if not activity.busy and (quick := at_once(direct.top_k, input, k, index_type)) is not None:
        return TopKV2(*quick)
    x = operand(input)
    n = extent(k, "k", most=x.shape[-1] if x.ndim else None)
    if x.ndim:
        require_room(x.shape[-1] - n, "ShapeError", "top_k: k = {} of a last axis of size {}", n, x.shape[-1])
    if not x.ndim or not at_least(x.shape[-1], n):
        raise locate(ShapeError(f"top_k: k = {n} of a last axis in {show_shape(x.shape)}"))
    at = R.top_k(x, axis=x.ndim - 1, k=n)
    return TopKV2(take_along_axis(x, at, -1), E.cast(at, dtype=as_dtype(index_type)))


def sequence_mask(lengths: Any, maxlen: Any = None, dtype: Any = "bool", name: str | None = None) -> Tensor:
    """A mask of `maxlen` columns (by default the largest length) whose first `lengths[i]` are true."""
    if maxlen is not None and not activity.busy:
        if (quick := planned(sequence_mask, lengths, maxlen, dtype)) is not None:
            return quick
    x = operand(lengths)
    if x.dtype.kind not in "iuf":
        raise locate(DTypeError(f"lengths are real numbers, not {x.dtype.name}"))
    if maxlen is None and waits(x):
        line = S.reshape(E.cast(x, dtype=int64), shape=(product(tuple(x.shape)),))
        zero = S.reshape(convert(0, int64), shape=(1,))
        n: Size = open_size(R.reduce_max(S.concat(zero, line, axis=0), axis=(0,)))
    elif maxlen is None:
        n = int(eager_only(x, "sequence_mask without maxlen").max(initial=0))
    else:
        n = open_size(maxlen, "maxlen")
    steps = counter(n, x.ndim + 1, x.ndim, x.dtype)
    return E.cast(E.less(steps, expand_dims(x, -1)), dtype=as_dtype(dtype))


for _f, _form in (
    (where, direct.where), (gather_nd, directplaces.gather_nd), (scatter_nd, directplaces.scatter_nd),
    (tensor_scatter_nd_add, directplaces.scattered_sum), (tensor_scatter_nd_update, directplaces.scattered),
):  # fmt: skip
    exact(_f, _form)
exact(lambda params, indices, axis, batch_dims: gather(params, indices, None, axis, batch_dims), direct.gather)
exact(lambda values, axis, direction: argsort(values, axis, direction), direct.argsort, any_size=True)
exact(lambda input, k, index_type: top_k(input, k, index_type=index_type), direct.top_k, any_size=True)
exact(sequence_mask)
