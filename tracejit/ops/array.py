"""The public functions that move, join, cut and pick elements, under TensorFlow's names."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from tracejit.errors import ArgumentError, DTypeError, ShapeError, TracejitError, locate
from tracejit.ir.dim import Dim, is_one, known_equal, product
from tracejit.ir.graph import Value
from tracejit.ir.types import as_dtype, broadcast_shapes, int32, int64, show_shape
from tracejit.ops import elementwise as E
from tracejit.ops import index as I  # noqa: E741
from tracejit.ops import reduce as R
from tracejit.ops import shape as S
from tracejit.ops.args import Size, as_axes, as_axis, as_size, as_sizes, eager_only, operand, require
from tracejit.ops.creation import counter
from tracejit.tensor import Operand, Tensor, convert, to_array, wrap


# --- shapes -----------------------------------------------------------------------------------------------------------
def shape(input: Any, out_type: Any = int32, name: str | None = None) -> Tensor:
    """The shape as a 1-D integer tensor."""
    sizes = tuple(operand(input).shape)
    if any(isinstance(d, Dim) for d in sizes):
        return stack([convert(d, out_type) for d in sizes])
    return convert(np.array(sizes, as_dtype(out_type).np))


def size(input: Any, out_type: Any = int32, name: str | None = None) -> Tensor:
    """The number of elements as a 0-d integer tensor."""
    return convert(product(tuple(operand(input).shape)), out_type)


def rank(input: Any, name: str | None = None) -> Tensor:
    """The number of axes as a 0-d int32 tensor."""
    return convert(operand(input).ndim)


def reshape(tensor: Any, shape: Any, name: str | None = None) -> Tensor:
    """The same elements in the same order under another shape; one size may be −1."""
    x = operand(tensor)
    want = as_sizes(shape)
    try:
        return S.reshape(x, shape=S.resolve_shape(tuple(x.shape), want))
    except TracejitError as e:
        raise locate(e) from None


def transpose(a: Any, perm: Any = None, conjugate: bool = False, name: str | None = None) -> Tensor:
    """The axes in the order `perm`, reversed by default."""
    x = operand(a)
    order = tuple(range(x.ndim))[::-1] if perm is None else as_sizes(perm, "perm")
    y = S.transpose(x, perm=tuple([as_axis(p, x.ndim, "perm") for p in order]))
    return E.conj(y) if conjugate and x.dtype.kind == "c" else y


def expand_dims(input: Any, axis: Any, name: str | None = None) -> Tensor:
    """A new axis of size 1 before `axis`; negative ones count from the end of the result."""
    x = operand(input)
    at = as_axis(axis, x.ndim + 1)
    return S.reshape(x, shape=(*x.shape[:at], 1, *x.shape[at:]))


def squeeze(input: Any, axis: Any = None, name: str | None = None) -> Tensor:
    """Without the axes of size 1, or without those in `axis`."""
    x = operand(input)
    drop = [i for i, d in enumerate(x.shape) if is_one(d)] if axis is None else as_axes(axis, x.ndim)
    for i in drop:
        if not is_one(x.shape[i]) and not known_equal(x.shape[i], 1):
            raise locate(ShapeError(f"axis {i} of {show_shape(x.shape)} has size {x.shape[i]}, not 1"))
    return S.reshape(x, shape=tuple([d for i, d in enumerate(x.shape) if i not in drop]))


def broadcast_to(input: Any, shape: Any, name: str | None = None) -> Tensor:
    """The tensor repeated along axes of size 1 and new leading axes."""
    return S.broadcast_to(input, shape=as_sizes(shape))


def broadcast_static_shape(shape_x: Any, shape_y: Any) -> tuple[Size, ...]:
    """The shape that tensors of two shapes have after broadcasting."""
    return broadcast_shapes(as_sizes(shape_x), as_sizes(shape_y))


def swapaxes(x: Operand, a: int, b: int) -> Tensor:
    order = list(range(x.ndim))
    a, b = as_axis(a, x.ndim), as_axis(b, x.ndim)
    order[a], order[b] = order[b], order[a]
    return S.transpose(x, perm=tuple(order))


def moveaxis(x: Operand, source: Any, destination: Any) -> Tensor:
    """Axes moved to other places, the rest in order."""
    src = [as_axis(a, x.ndim) for a in as_sizes(source)]
    dst = [as_axis(a, x.ndim) for a in as_sizes(destination)]
    order = [a for a in range(x.ndim) if a not in src]
    for d, s in sorted(zip(dst, src, strict=True)):
        order.insert(d, s)
    return S.transpose(x, perm=tuple(order))


# --- joining and cutting ----------------------------------------------------------------------------------------------
def concat(values: Any, axis: Any, name: str | None = None) -> Tensor:
    """Tensors joined along an axis."""
    parts = [operand(v) for v in ([values] if isinstance(values, Operand) and not values.ndim else values)]
    require(bool(parts), "concat needs one tensor or more")
    at = as_axis(axis, parts[0].ndim)
    return S.concat(*parts, axis=at) if len(parts) > 1 else E.identity(parts[0])


def stack(values: Any, axis: Any = 0, name: str = "stack") -> Tensor:
    """Tensors of one shape joined along a new axis."""
    parts = [operand(v) for v in values]
    require(bool(parts), "stack needs one tensor or more")
    at = as_axis(axis, parts[0].ndim + 1)
    for p in parts:
        if len(p.shape) != parts[0].ndim or not all(map(known_equal, p.shape, parts[0].shape)):
            shapes = ", ".join(show_shape(q.shape) for q in parts)
            raise locate(ShapeError(f"stack joins tensors of one shape, not of {shapes}"))
    return concat([expand_dims(p, at) for p in parts], at)


def cut(x: Operand, axis: int, start: Size, count: Size, step: int = 1) -> Tensor:
    """`count` elements along one axis, all along the others."""
    n = x.ndim
    return S.slice_(
        x,
        start=tuple([start if i == axis else 0 for i in range(n)]),
        size=tuple([count if i == axis else d for i, d in enumerate(x.shape)]),
        step=tuple([step if i == axis else 1 for i in range(n)]),
    )


def unstack(value: Any, num: int | None = None, axis: Any = 0, name: str = "unstack") -> list[Tensor]:
    """The slices along an axis as a list."""
    x = operand(value)
    at = as_axis(axis, x.ndim)
    n = int(x.shape[at])
    require(num is None or num == n, f"unstack: axis {at} has {n} slices, not {num}")
    rest = tuple([d for i, d in enumerate(x.shape) if i != at])
    return [S.reshape(cut(x, at, i, 1), shape=rest) for i in range(n)]


def split(value: Any, num_or_size_splits: Any, axis: Any = 0, num: int | None = None, name: str = "split") -> list[Tensor]:
    """Pieces along an axis: so many of one size, or of the given sizes, one of which may be −1."""
    x = operand(value)
    at = as_axis(axis, x.ndim)
    total = x.shape[at]
    if isinstance(num_or_size_splits, (int, np.integer)) or getattr(num_or_size_splits, "ndim", 1) == 0:
        n = int(as_size(num_or_size_splits))
        require(n > 0, f"split needs one piece or more, not {n}")
        if not known_equal(total % n, 0):
            raise locate(ShapeError(f"axis {at} of {show_shape(x.shape)} cannot be split into {n} equal pieces"))
        sizes: list[Size] = [total // n] * n
    else:
        sizes = list(as_sizes(num_or_size_splits))
        open_ = [i for i, s in enumerate(sizes) if type(s) is int and s == -1]
        require(len(open_) <= 1, "split leaves more than one size open")
        if open_:
            sizes[open_[0]] = total - sum(s for i, s in enumerate(sizes) if i != open_[0])
        if not known_equal(total, sum(sizes)):
            raise locate(ShapeError(f"sizes {sizes} do not add up to {total}, the size of axis {at}"))
    out, start = [], 0
    for s in sizes:
        out.append(cut(x, at, start, s))
        start = start + s
    return out


def tile(input: Any, multiples: Any, name: str | None = None) -> Tensor:
    """The tensor repeated as a whole, `multiples[i]` times along axis i."""
    x = operand(input)
    times = as_sizes(multiples, "multiples")
    if len(times) < x.ndim:
        times = (1,) * (x.ndim - len(times)) + times
    sizes = (1,) * (len(times) - x.ndim) + tuple(x.shape)
    between = tuple([d for s in sizes for d in (1, s)])
    full = tuple([d for m, s in zip(times, sizes, strict=True) for d in (m, s)])
    y = S.broadcast_to(S.reshape(x, shape=between), shape=full)
    return S.reshape(y, shape=tuple([m * s for m, s in zip(times, sizes, strict=True)]))


def repeat(input: Any, repeats: Any, axis: Any = None, name: str | None = None) -> Tensor:
    """Each element repeated, along an axis or of the flattened tensor; `repeats` is one number or one per element."""
    x = operand(input)
    if axis is None:
        x, axis = reshape(x, (-1,)), 0
    at = as_axis(axis, x.ndim)
    times = as_sizes(repeats, "repeats")
    if len(times) == 1:
        y = S.reshape(x, shape=(*x.shape[: at + 1], 1, *x.shape[at + 1 :]))
        y = S.broadcast_to(y, shape=(*x.shape[: at + 1], times[0], *x.shape[at + 1 :]))
        return S.reshape(y, shape=(*x.shape[:at], x.shape[at] * times[0], *x.shape[at + 1 :]))
    if len(times) != x.shape[at]:
        raise locate(ShapeError(f"{len(times)} repeats for axis {at} of {show_shape(x.shape)}"))
    positions = np.repeat(np.arange(len(times)), [int(t) for t in times])
    return I.gather(x, convert(positions), axis=at)


def pad(tensor: Any, paddings: Any, mode: str = "CONSTANT", constant_values: Any = 0, name: str | None = None) -> Tensor:
    """Elements added before and after each axis: a constant, or the tensor mirrored without (REFLECT) or with
    (SYMMETRIC) its edge.
    """
    x = operand(tensor)
    flat = as_sizes(np.asarray(paddings) if not isinstance(paddings, (Operand, Sequence)) else _flat(paddings), "paddings")
    if len(flat) != 2 * x.ndim:
        raise locate(ShapeError(f"paddings need a pair for each axis of {show_shape(x.shape)}"))
    pairs = [(flat[2 * i], flat[2 * i + 1]) for i in range(x.ndim)]
    if any(type(p) is int and p < 0 for p in flat):
        raise locate(ArgumentError(f"paddings must not be negative: {pairs}"))
    kind = mode.upper()
    if kind == "CONSTANT":
        return _pad_constant(x, pairs, constant_values)
    require(kind in ("REFLECT", "SYMMETRIC"), f"mode is CONSTANT, REFLECT or SYMMETRIC, not {mode!r}")
    edge = 1 if kind == "REFLECT" else 0
    for i, (a, b) in enumerate(pairs):
        n = x.shape[i]
        if a > n - edge or b > n - edge:
            raise locate(ArgumentError(f"{mode} cannot add more than {n - edge} elements along axis {i}, not {(a, b)}"))
        parts = []
        if not (type(a) is int and a == 0):
            parts.append(cut(x, i, a - 1 + edge, a, -1))
        parts.append(x)
        if not (type(b) is int and b == 0):
            parts.append(cut(x, i, n - 1 - edge, b, -1))
        x = S.concat(*parts, axis=i) if len(parts) > 1 else x
    return x if type(x) is Tensor else E.identity(x)


def _flat(x: Any) -> Any:
    if isinstance(x, Operand):
        return x
    return [e for row in x for e in (as_sizes(row) if not isinstance(row, (int, Dim)) else (row,))]


def _pad_constant(x: Operand, pairs: list[tuple[Size, Size]], value: Any) -> Tensor:
    full = tuple([a + d + b for d, (a, b) in zip(x.shape, pairs, strict=True)])
    start, step = tuple([a for a, _ in pairs]), (1,) * x.ndim
    if isinstance(value, Operand) and type(value._a) is Value:
        ones = S.place(E.cast(E.equal(x, x), dtype=as_dtype("bool")), shape=full, start=start, step=step, fill=False)
        inside = S.place(x, shape=full, start=start, step=step, fill=0)
        return E.where(ones, inside, convert(value, x.dtype))
    fill = (value._value("constant_values") if isinstance(value, Operand) else to_array(value, x.dtype)).item()
    return S.place(x, shape=full, start=start, step=step, fill=fill)


def reverse(tensor: Any, axis: Any, name: str | None = None) -> Tensor:
    """The elements in reverse order along axes."""
    x = operand(tensor)
    axes = as_axes(axis, x.ndim)
    return S.slice_(
        x,
        start=tuple([d - 1 if i in axes else 0 for i, d in enumerate(x.shape)]),
        size=tuple(x.shape),
        step=tuple([-1 if i in axes else 1 for i in range(x.ndim)]),
    )


def roll(input: Any, shift: Any, axis: Any, name: str | None = None) -> Tensor:
    """The elements shifted along axes; those that leave at the end come back at the start."""
    x = operand(input)
    for s, a in zip(as_sizes(shift, "shift"), as_sizes(axis, "axis"), strict=True):
        at = as_axis(a, x.ndim)
        n = x.shape[at]
        if type(n) is int and n == 0:
            continue
        k = s % n if type(n) is int else s if s >= 0 else n + s
        if not (type(k) is int and k == 0):
            x = S.concat(cut(x, at, n - k, k), cut(x, at, 0, n - k), axis=at)
    return x if type(x) is Tensor else E.identity(x)


def meshgrid(*args: Any, indexing: str = "xy", name: str | None = None) -> list[Tensor]:
    """Coordinate arrays of a grid; "xy" has the first coordinate along the columns, "ij" along the rows."""
    require(indexing in ("xy", "ij"), f"indexing is 'xy' or 'ij', not {indexing!r}")
    lines = [reshape(a, (-1,)) for a in args]
    n = len(lines)
    at = list(range(n))
    if indexing == "xy" and n > 1:
        at[0], at[1] = 1, 0
    full = [0] * n
    for line, a in zip(lines, at, strict=True):
        full[a] = line.shape[0]
    out = []
    for line, a in zip(lines, at, strict=True):
        thin = S.reshape(line, shape=tuple([line.shape[0] if i == a else 1 for i in range(n)]))
        out.append(S.broadcast_to(thin, shape=tuple(full)))
    return out


# --- picking ----------------------------------------------------------------------------------------------------------
def where(condition: Any, x: Any = None, y: Any = None, name: str | None = None) -> Tensor:
    """x where the condition is true, y elsewhere, with broadcasting; gradients of the side not taken are zero.

    With the condition alone: the positions where it is true, one row each (int64; not while tracing).
    """
    if x is None and y is None:
        return wrap(np.argwhere(eager_only(operand(condition), "where with one argument")).astype(np.int64))
    require(x is not None and y is not None, "where takes both x and y, or neither")
    return E.where(condition, x, y)


def boolean_mask(tensor: Any, mask: Any, axis: Any = None, name: str = "boolean_mask") -> Tensor:
    """The elements, or slices from `axis` on, where the mask is true (not while tracing)."""
    x, m = operand(tensor), operand(mask)
    if m.dtype.kind != "b" or not m.ndim:
        raise locate(DTypeError(f"a mask is boolean and has an axis, not {m.type}"))
    at = as_axis(0 if axis is None else axis, x.ndim)
    if tuple(x.shape[at : at + m.ndim]) != tuple(m.shape):
        raise locate(ShapeError(f"a mask of {show_shape(m.shape)} does not fit {show_shape(x.shape)} at axis {at}"))
    hits = convert(np.flatnonzero(eager_only(m, "boolean_mask")))
    flat = S.reshape(x, shape=(*x.shape[:at], product(tuple(m.shape)), *x.shape[at + m.ndim :]))
    return I.gather(flat, hits, axis=at)


def gather(
    params: Any, indices: Any, validate_indices: Any = None, axis: Any = None, batch_dims: int = 0, name: str | None = None
) -> Tensor:
    """The slices of `params` along an axis at the given positions; negative positions count from the end.

    The first `batch_dims` axes of both are walked through together.
    """
    x, i = operand(params), operand(indices)
    if i.dtype.kind not in "iu":
        raise locate(DTypeError(f"indices must be integers, not {i.dtype.name}"))
    b = as_axis(batch_dims, i.ndim + 1, "batch_dims")
    at = as_axis(b if axis is None else axis, x.ndim)
    if not b:
        return I.gather(x, i, axis=at)
    require(at >= b, f"axis {at} is among the {b} batch axes")
    if at > b:  # the axes between are walked through by every index
        y = gather(moveaxis(x, at, b), i, axis=b, batch_dims=b)
        return moveaxis(y, tuple(range(b, i.ndim)), tuple(range(at, at + i.ndim - b)))
    lead, n = tuple(x.shape[:b]), x.shape[b]
    if not all(map(known_equal, lead, i.shape[:b])):
        raise locate(ShapeError(f"batch axes differ: {show_shape(x.shape)} and {show_shape(i.shape)}"))
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


def _rows(indices: Any, shape: tuple[Size, ...]) -> tuple[Tensor, int]:
    """Linear positions from an index tensor whose last axis holds coordinates, and how many there are."""
    i = operand(indices)
    if i.dtype.kind not in "iu" or not i.ndim:
        raise locate(DTypeError(f"indices must be integers with a last axis of coordinates, not {i.type}"))
    k = int(i.shape[-1])
    if not 0 < k <= len(shape):
        raise locate(ShapeError(f"{k} coordinates for a tensor of shape {show_shape(shape)}"))
    parts = [S.reshape(cut(i, i.ndim - 1, j, 1), shape=tuple(i.shape[:-1])) for j in range(k)]
    if not any(type(p._a) is Value for p in parts):
        for j, p in enumerate(parts):
            n = int(shape[j])
            if p._a.size and (int(p._a.min()) < -n or int(p._a.max()) >= n):
                raise locate(ArgumentError(f"an index is outside axis {j} of size {n}"))
    return linear_index(parts, shape[:k]), k


def gather_nd(params: Any, indices: Any, batch_dims: int = 0, name: str | None = None) -> Tensor:
    """The elements or slices at the coordinates in the last axis of `indices`."""
    x, i = operand(params), operand(indices)
    b = batch_dims
    if b:
        lead = tuple(x.shape[:b])
        own = [
            S.broadcast_to(counter(lead[k], i.ndim, k, i.dtype), shape=(*i.shape[:-1], 1)) for k in range(b)
        ]
        i = S.concat(*own, i, axis=i.ndim - 1)
    at, k = _rows(i, tuple(x.shape))
    return I.gather(S.reshape(x, shape=(product(tuple(x.shape[:k])), *x.shape[k:])), at, axis=0)


def scatter_nd(indices: Any, updates: Any, shape: Any, name: str | None = None) -> Tensor:
    """Zeros of a shape with `updates` added at the coordinates in the last axis of `indices`."""
    full = as_sizes(shape)
    at, k = _rows(indices, full)
    u = operand(updates)
    y = I.scatter_sum(u, at, size=product(full[:k]), axis=0)
    return S.reshape(y, shape=full)


def tensor_scatter_nd_add(tensor: Any, indices: Any, updates: Any, name: str | None = None) -> Tensor:
    """The tensor with `updates` added at the coordinates in the last axis of `indices`."""
    x = operand(tensor)
    return E.add(x, scatter_nd(indices, operand(updates, x.dtype), tuple(x.shape)))


def tensor_scatter_nd_update(tensor: Any, indices: Any, updates: Any, name: str | None = None) -> Tensor:
    """The tensor with `updates` at the coordinates in the last axis of `indices`, which must differ."""
    x, u = operand(tensor), operand(updates)
    one = S.broadcast_to(convert(1, int32), shape=tuple(u.shape))
    hit = E.greater(scatter_nd(indices, one, tuple(x.shape)), 0)
    return E.where(hit, scatter_nd(indices, convert(u, x.dtype), tuple(x.shape)), x)


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


def argsort(values: Any, axis: Any = -1, direction: str = "ASCENDING", stable: bool = True, name: Any = None) -> Tensor:
    """The positions that sort along an axis (int32); equal elements keep their order."""
    x = operand(values)
    return E.cast(R.argsort(x, axis=as_axis(axis, x.ndim), descending=_descending(direction)), dtype=int32)


def sort(values: Any, axis: Any = -1, direction: str = "ASCENDING", name: str | None = None) -> Tensor:
    """The elements in order along an axis."""
    x = operand(values)
    return take_along_axis(x, argsort(x, axis, direction), axis)


def top_k(input: Any, k: Any = 1, sorted: bool = True, index_type: Any = int32, name: str | None = None) -> tuple:
    """The k largest elements along the last axis, the largest first, and their positions."""
    x = operand(input)
    n = as_size(k, "k")
    if not x.ndim or n > x.shape[-1]:
        raise locate(ShapeError(f"top_k: k = {n} of a last axis in {show_shape(x.shape)}"))
    at = cut(argsort(x, -1, "DESCENDING"), x.ndim - 1, 0, n)
    return take_along_axis(x, at, -1), E.cast(at, dtype=as_dtype(index_type))


def sequence_mask(lengths: Any, maxlen: Any = None, dtype: Any = "bool", name: str | None = None) -> Tensor:
    """A mask of `maxlen` columns whose first `lengths[i]` are true."""
    x = operand(lengths)
    n = int(eager_only(x, "sequence_mask without maxlen").max(initial=0)) if maxlen is None else as_size(maxlen)
    steps = counter(n, x.ndim + 1, x.ndim, x.dtype)
    return E.cast(E.less(steps, expand_dims(x, -1)), dtype=as_dtype(dtype))
