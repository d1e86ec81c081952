"""The public functions that move, join, cut and pick elements, under TensorFlow's names."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from tracejit.context import activity, context
from tracejit.errors import ArgumentError, DTypeError, ShapeError, TracejitError, locate
from tracejit.fast import fast
from tracejit.ir.dim import Dim
from tracejit.ir.graph import Value
from tracejit.ir.sizes import at_least, fit, known_equal, now_unit, product, shown
from tracejit.ir.types import as_dtype, broadcast_shapes, int32, int64, show_shape
from tracejit.ops import direct
from tracejit.ops import elementwise as E
from tracejit.ops import index as I
from tracejit.ops import reduce as R
from tracejit.ops import shape as S
from tracejit.ops.args import Size, as_axes, as_axis, as_size, as_sizes, listed, open_size, operand, require, waits
from tracejit.ops.bounds import pieces, turned
from tracejit.ops.check import as_flag, require_other, require_room
from tracejit.ops.extents import computed, extent, extents, is_late, listed_numbers, reshaped
from tracejit.ops.quick import at_once, exact, planned
from tracejit.spreading import spread_to
from tracejit.tensor import (
    Operand,
    Tensor,
    common_dtype,
    convert,
    convert_unharmed,
    run_silently,
    to_array,
    wrap,
)


# --- shapes -----------------------------------------------------------------------------------------------------------
def shape(input: Any, out_type: Any = int32, name: str | None = None) -> Tensor:
    """The shape as a 1-D integer tensor."""
    if out_type is int32 and (native := fast.shape) is not None and (r := native(input)) is not NotImplemented:
        return r  # type: ignore[no-any-return]
    sizes = tuple(operand(input).shape)
    if any(isinstance(d, Dim) for d in sizes):
        return stack([convert(d, out_type) for d in sizes])
    a = run_silently(np.array, sizes, as_dtype(out_type).np)
    return wrap(a) if context.trace is None else context.trace.lift(a, sizes)


def size(input: Any, out_type: Any = int32, name: str | None = None) -> Tensor:
    """The number of elements as a 0-d integer tensor."""
    if out_type is int32 and (native := fast.size) is not None and (r := native(input)) is not NotImplemented:
        return r  # type: ignore[no-any-return]
    return convert(product(tuple(operand(input).shape)), out_type)


def rank(input: Any, name: str | None = None) -> Tensor:
    """The number of axes as a 0-d int32 tensor."""
    if (native := fast.rank) is not None and (r := native(input)) is not NotImplemented:
        return r  # type: ignore[no-any-return]
    return convert(operand(input).ndim)


def reshape(tensor: Any, shape: Any, name: str | None = None) -> Tensor:
    """The same elements in the same order under another shape; one size may be −1."""
    if (native := fast.reshape) is not None and (r := native(tensor, shape)) is not NotImplemented:
        return r
    if type(tensor) is Tensor and not activity.busy and type(shape) in (tuple, list):
        try:
            if min(shape) >= -1:
                return wrap(run_silently(tensor._a.reshape, shape))
        except Exception:  # explained below
            pass
    x = operand(tensor)
    want = reshaped(product(tuple(x.shape)), shape)
    try:
        return S.reshape(x, shape=S.resolve_shape(tuple(x.shape), want))
    except TracejitError as e:
        raise locate(e) from None


def transpose(a: Any, perm: Any = None, conjugate: bool = False, name: str | None = None) -> Tensor:
    """The axes in the order `perm`, reversed by default."""
    if fast.transpose is not None and (conjugate is False or not as_flag(conjugate, "conjugate")):
        r = fast.reverse_axes(a) if perm is None else fast.transpose(a, perm)  # type: ignore[misc]
        if r is not NotImplemented:
            return r
    x, conjugate = operand(a), as_flag(conjugate, "conjugate")
    if perm is None and not conjugate:
        return x.T
    order = tuple(range(x.ndim))[::-1] if perm is None else as_sizes(perm, "perm")
    y = S.transpose(x, perm=tuple([as_axis(p, x.ndim, "perm") for p in order]))
    return E.conj(y) if conjugate and x.dtype.kind == "c" else y


def expand_dims(input: Any, axis: Any, name: str | None = None) -> Tensor:
    """A new axis of size 1 before `axis`; negative ones count from the end of the result."""
    if (native := fast.expand_dims) is not None and (r := native(input, axis)) is not NotImplemented:
        return r
    x = operand(input)
    at = as_axis(axis, x.ndim + 1)
    return S.reshape(x, shape=(*x.shape[:at], 1, *x.shape[at:]))


def squeeze(input: Any, axis: Any = None, name: str | None = None) -> Tensor:
    """Without the axes of size 1, or without those in `axis`.

    Without `axis`, an axis whose size a traced function finds out when it runs stays; size 1 is an error there.
    """
    if (native := fast.squeeze) is not None and (r := native(input, axis)) is not NotImplemented:
        return r
    if type(input) is Tensor and not activity.busy and (axis is None or type(axis) is int):
        try:
            return wrap(input._a.squeeze(axis))
        except Exception:  # explained below
            pass
    x = operand(input)
    if axis is None:
        for i, d in enumerate(x.shape):
            if is_late(d):
                require_other(d, 1, f"axis {i} has been found to have size 1: tj.squeeze(x, axis={i}) leaves it out")
    drop = [i for i, d in enumerate(x.shape) if now_unit(d)] if axis is None else as_axes(axis, x.ndim)
    for i in drop:
        d = x.shape[i]
        if not (fit(d, 1) if is_late(d) else now_unit(d)):
            raise locate(ShapeError(f"axis {i} of {show_shape(x.shape)} has size {shown(x.shape[i])}, not 1"))
    return S.reshape(x, shape=tuple([d for i, d in enumerate(x.shape) if i not in drop]))


def broadcast_to(input: Any, shape: Any, name: str | None = None) -> Tensor:
    """The tensor repeated along axes of size 1 and new leading axes."""
    want = extents(shape)
    return S.broadcast_to(input if context.trace is None else spread_to(operand(input), want), shape=want)


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
    if not activity.busy and (quick := at_once(direct.concat, values, axis)) is not None:
        return quick
    parts = _alike([values] if isinstance(values, Operand) and not values.ndim else values)
    require(bool(parts), "concat needs one tensor or more")
    at = as_axis(axis, parts[0].ndim)
    return S.concat(*parts, axis=at) if len(parts) > 1 else E.identity(parts[0])


def _alike(values: Any) -> list[Operand]:
    """The parts of a tensor in the dtype that they have in common, to which Python numbers give way."""
    given = listed(values, "values")
    if all(type(v) is Tensor for v in given) and context.trace is None:
        return given
    d = common_dtype(given)[0] if given else None
    return [operand(v, d) for v in given]


def stack(values: Any, axis: Any = 0, name: str = "stack") -> Tensor:
    """Tensors of one shape joined along a new axis."""
    if not activity.busy and (quick := at_once(direct.stack, values, axis)) is not None:
        return quick
    values = listed(values, "values")
    if any(hasattr(v, "__tensor_rows__") for v in values):  # what a loop has appended to a list, as one tensor
        rows = [v.__tensor_rows__() if hasattr(v, "__tensor_rows__") else expand_dims(operand(v), 0) for v in values]
        return moveaxis(concat(rows, 0), 0, axis) if axis else concat(rows, 0)
    if (one := _rows_of_one(values)) is not None:
        return moveaxis(one, 0, axis) if axis else E.identity(one)
    parts = _alike(values)
    require(bool(parts), "stack needs one tensor or more")
    at = as_axis(axis, parts[0].ndim + 1)
    for p in parts:
        if len(p.shape) != parts[0].ndim or not all(map(fit, p.shape, parts[0].shape)):
            shapes = ", ".join(show_shape(q.shape) for q in parts)
            raise locate(ShapeError(f"stack joins tensors of one shape, not of {shapes}"))
    return concat([expand_dims(p, at) for p in parts], at)


def _rows_of_one(values: list[Any]) -> Tensor | None:
    """The tensor of which these are all rows, in order: what a loop has added to a list."""
    whole: Any = None
    for i, x in enumerate(values):
        v = x._a if type(x) is Tensor else None
        made: Any = v.node if type(v) is Value else None
        cutting = made.inputs[0].node if made is not None and made.op.name == "reshape" else None
        if cutting is None or cutting.op.name != "slice":
            return None
        source = cutting.inputs[0]
        if whole is None and source.shape[0] != len(values):
            return None
        whole = whole or source
        start = (i, *[0] * (len(source.shape) - 1))
        if source is not whole or cutting.attr("start") != start or cutting.attr("size") != (1, *source.shape[1:]):
            return None
        if any(s != 1 for s in cutting.attr("step")) or tuple(made.outs[0].shape) != tuple(source.shape[1:]):
            return None
    around: Any = context.trace
    while around is not None and whole not in around.stacked:
        around = around.parent
    return None if around is None else around.stacked[whole]  # type: ignore[no-any-return]


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
    if not activity.busy and (quick := at_once(direct.unstack, value, num, axis)) is not None:
        return quick
    x = operand(value)
    at = as_axis(axis, x.ndim)
    n = int(x.shape[at])
    require(num is None or num == n, f"unstack: axis {at} has {n} slices, not {num}")
    rest = tuple([d for i, d in enumerate(x.shape) if i != at])
    return [S.reshape(cut(x, at, i, 1), shape=rest) for i in range(n)]


def split(
    value: Any, num_or_size_splits: Any, axis: Any = 0, num: int | None = None, name: str = "split"
) -> list[Tensor]:
    """Pieces along an axis: so many of one size, or of the given sizes, one of which may be −1."""
    if not activity.busy and (quick := at_once(direct.split, value, num_or_size_splits, axis)) is not None:
        return quick
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
        if computed(num_or_size_splits):
            return pieces(x, num_or_size_splits, at)
        sizes = list(as_sizes(num_or_size_splits))
        open_ = [i for i, s in enumerate(sizes) if type(s) is int and s == -1]
        require(len(open_) <= 1, "split leaves more than one size open")
        if open_:
            sizes[open_[0]] = total - sum(s for i, s in enumerate(sizes) if i != open_[0])
        if any(s < 0 for s in sizes) or not known_equal(total, sum(sizes)):
            found = f"sizes {show_shape(sizes)} do not add up to {shown(total)}"
            raise locate(ShapeError(f"{found}, the size of axis {at}"))
    out = []
    start: Size = 0
    for s in sizes:
        out.append(cut(x, at, start, s))
        start = start + s
    return out


def tile(input: Any, multiples: Any, name: str | None = None) -> Tensor:
    """The tensor repeated as a whole, `multiples[i]` times along axis i."""
    if not activity.busy and (quick := at_once(direct.tile, input, multiples)) is not None:
        return quick
    x = operand(input)
    times = extents(multiples, "multiples", "ArgumentError")
    require(all(type(m) is not int or m >= 0 for m in times), f"multiples must not be negative: {times}")
    if len(times) < x.ndim:
        times = (1,) * (x.ndim - len(times)) + times
    sizes = (1,) * (len(times) - x.ndim) + tuple(x.shape)
    between = tuple([d for s in sizes for d in (1, s)])
    full = tuple([d for m, s in zip(times, sizes, strict=True) for d in (m, s)])
    y = S.broadcast_to(S.reshape(x, shape=between), shape=full)
    return S.reshape(y, shape=tuple([m * s for m, s in zip(times, sizes, strict=True)]))


def repeat(input: Any, repeats: Any, axis: Any = None, name: str | None = None) -> Tensor:
    """Each element repeated, along an axis or of the flattened tensor; `repeats` is one number or one per element."""
    if not activity.busy and (quick := at_once(direct.repeat, input, repeats, axis)) is not None:
        return quick
    x = operand(input)
    if axis is None:
        x, axis = reshape(x, (-1,)), 0
    at = as_axis(axis, x.ndim)
    if isinstance(repeats, Operand) and repeats.ndim and waits(repeats):
        return _repeated_later(x, repeats, at)
    times = extents(repeats, "repeats")
    require(all(type(t) is not int or t >= 0 for t in times), f"repeats must not be negative: {times}")
    if len(times) == 1:
        y = S.reshape(x, shape=(*x.shape[: at + 1], 1, *x.shape[at + 1 :]))
        y = S.broadcast_to(y, shape=(*x.shape[: at + 1], times[0], *x.shape[at + 1 :]))
        return S.reshape(y, shape=(*x.shape[:at], x.shape[at] * times[0], *x.shape[at + 1 :]))
    if not known_equal(len(times), x.shape[at]):
        raise locate(ShapeError(f"{len(times)} repeats for axis {at} of {show_shape(x.shape)}"))
    positions = np.repeat(np.arange(len(times)), [int(t) for t in times])
    return I.gather(x, convert(positions), axis=at)


def _repeated_later(x: Operand, repeats: Operand, at: int) -> Tensor:
    """Repetitions whose number the program finds out: behind each element's last place begins the next element."""
    if repeats.dtype.kind not in "iu":
        raise locate(DTypeError(f"repeats must hold integers, not {repeats.dtype.name}"))
    n = x.shape[at]
    times = E.maximum(E.cast(repeats, dtype=int64), 0)
    if not known_equal(repeats.shape[0], n):
        if not now_unit(repeats.shape[0]):
            raise locate(ShapeError(f"{shown(repeats.shape[0])} repeats for axis {at} of {show_shape(x.shape)}"))
        times = S.broadcast_to(S.reshape(times, shape=(1,)), shape=(n,))
    ends = R.cumsum(times, axis=0, exclusive=False, reverse=False)
    total = open_size(R.reduce_sum(times, axis=(0,)))
    one = S.broadcast_to(convert(1, int64), shape=(n,))
    begun = cut(I.scatter_sum(one, ends, size=total + 1, axis=0), 0, 0, total)
    return I.gather(x, R.cumsum(begun, axis=0, exclusive=False, reverse=False), axis=at)


def pad(
    tensor: Any, paddings: Any, mode: str = "CONSTANT", constant_values: Any = 0, name: str | None = None
) -> Tensor:
    """Elements added before and after each axis: a constant, or the tensor mirrored without (REFLECT) or with
    (SYMMETRIC) its edge.
    """
    if not activity.busy and (quick := planned(pad, tensor, paddings, mode, constant_values)) is not None:
        return quick
    x = operand(tensor)
    kind = str(mode).upper()
    flat = listed_numbers(paddings, "paddings")
    if len(flat) != 2 * x.ndim:
        raise locate(ShapeError(f"paddings need a pair for each axis of {show_shape(x.shape)}"))
    most = [None if kind == "CONSTANT" else d - (kind == "REFLECT") for d in x.shape]
    flat = [extent(n, "a padding", most[i // 2], error="ArgumentError") for i, n in enumerate(flat)]
    pairs = [(flat[2 * i], flat[2 * i + 1]) for i in range(x.ndim)]
    if any(type(p) is int and p < 0 for p in flat):
        raise locate(ArgumentError(f"paddings must not be negative: {pairs}"))
    for p in flat:  # of known tensors, too, may be a size found before
        require_room(p, "ArgumentError", "a padding is negative: {}", p)
    if kind == "CONSTANT":
        return _pad_constant(x, pairs, constant_values)
    require(kind in ("REFLECT", "SYMMETRIC"), f"mode is CONSTANT, REFLECT or SYMMETRIC, not {mode!r}")
    edge = 1 if kind == "REFLECT" else 0
    for i, (a, b) in enumerate(pairs):
        n = x.shape[i]
        for p in (a, b):
            said = f"{mode} cannot add more than {{}} elements along axis {i}, not {{}}"
            require_room(n - edge - p, "ArgumentError", said, n - edge, p)
        if not (at_least(n - edge, a) and at_least(n - edge, b)):
            raise locate(ArgumentError(f"{mode} cannot add more than {n - edge} elements along axis {i}, not {(a, b)}"))
        parts: list[Operand] = []
        if not (type(a) is int and a == 0):
            parts.append(cut(x, i, a - 1 + edge, a, -1))
        parts.append(x)
        if not (type(b) is int and b == 0):
            parts.append(cut(x, i, n - 1 - edge, b, -1))
        x = S.concat(*parts, axis=i) if len(parts) > 1 else x
    return x if type(x) is Tensor else E.identity(x)


def _pad_constant(x: Operand, pairs: list[tuple[Size, Size]], value: Any) -> Tensor:
    full = tuple([a + d + b for d, (a, b) in zip(x.shape, pairs, strict=True)])
    start, step = tuple([a for a, _ in pairs]), (1,) * x.ndim
    if isinstance(value, Operand):
        value = convert_unharmed(value, x.dtype)
    if isinstance(value, Operand) and type(value._a) is Value:
        every = S.broadcast_to(convert(True, as_dtype("bool")), shape=tuple(x.shape))
        ones = S.place(every, shape=full, start=start, step=step, fill=False)
        inside = S.place(x, shape=full, start=start, step=step, fill=0)
        return E.where(ones, inside, value)
    fill = (value._value("constant_values") if isinstance(value, Operand) else to_array(value, x.dtype)).item()
    return S.place(x, shape=full, start=start, step=step, fill=fill)


def reverse(tensor: Any, axis: Any, name: str | None = None) -> Tensor:
    """The elements in reverse order along axes."""
    if not activity.busy and (quick := at_once(direct.reverse, tensor, axis)) is not None:
        return quick
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
    if not activity.busy and (quick := at_once(direct.roll, input, shift, axis)) is not None:
        return quick
    x = operand(input)
    shifts, axes = listed_numbers(shift, "shift"), as_sizes(axis, "axis")
    require(len(shifts) == len(axes), f"roll takes a shift for each axis, not {len(shifts)} for {len(axes)}")
    for s, a in zip(shifts, axes, strict=True):
        at = as_axis(a, x.ndim)
        n = x.shape[at]
        if known_equal(n, 0):
            continue
        if isinstance(s, Tensor) or is_late(s) or is_late(n):
            x = turned(x, s, at)
            continue
        # the rest of a symbolic size is a guess that becomes a guard
        k = s if 0 <= s < n else n + s if -n <= s < 0 else s % n
        if not (type(k) is int and k == 0):
            x = S.concat(cut(x, at, n - k, k), cut(x, at, 0, n - k), axis=at)
    return x if type(x) is Tensor else E.identity(x)


def meshgrid(*args: Any, indexing: str = "xy", name: str | None = None) -> list[Tensor]:
    """Coordinate arrays of a grid; "xy" has the first coordinate along the columns, "ij" along the rows."""
    if not activity.busy and (quick := planned(_meshgrid, args, indexing)) is not None:
        return quick
    return _meshgrid(args, indexing)


def _meshgrid(args: Sequence[Any], indexing: str) -> list[Tensor]:
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


for _f, _form in (
    (concat, direct.concat), (stack, direct.stack), (unstack, direct.unstack), (split, direct.split),
    (tile, direct.tile), (repeat, direct.repeat), (reverse, direct.reverse), (roll, direct.roll),
):  # fmt: skip
    exact(_f, _form)
exact(pad)
exact(_meshgrid)
