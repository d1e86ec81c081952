"""Arrays taken apart and put together by number, and what is asked of shapes, under TensorFlow's names."""

from __future__ import annotations

from typing import Any

from tracejit.context import activity
from tracejit.errors import DTypeError, ShapeError, locate
from tracejit.ir.dim import Dim
from tracejit.ir.found import symbols_in
from tracejit.ir.graph import Value
from tracejit.ir.sizes import fit, known_equal, product
from tracejit.ir.types import broadcast_shapes, int32, int64, show_shape
from tracejit.ops import directplaces, found
from tracejit.ops import elementwise as E
from tracejit.ops import index as I
from tracejit.ops import shape as S
from tracejit.ops.args import as_axis, as_size, as_sizes, eager_only, known, listed, operand, require, waits
from tracejit.ops.array import concat, moveaxis, shape, stack
from tracejit.ops.check import require_all, require_range
from tracejit.ops.creation import counter
from tracejit.ops.quick import at_once, traced
from tracejit.ops.segments import above_all
from tracejit.tensor import Operand, Tensor, common_dtype, convert, quietly


# --- by number --------------------------------------------------------------------------------------------------------
def dynamic_partition(data: Any, partitions: Any, num_partitions: Any, name: str | None = None) -> list[Tensor]:
    """The elements or slices of `data` in `num_partitions` lists, by the numbers in `partitions`, in their order.

    `partitions` has the first axes of `data`. How long the lists are the program finds out. Raises `OutOfRangeError`
    for numbers outside 0 … num_partitions − 1.
    """
    if not activity.busy:
        if (quick := at_once(directplaces.dynamic_partition, data, partitions, num_partitions)) is not None:
            return quick
    x, p = operand(data), operand(partitions)
    if p.dtype.kind not in "iu" or p.ndim > x.ndim or not all(map(fit, p.shape, x.shape[: p.ndim])):
        raise locate(ShapeError(f"partitions {p.type} do not go with data {x.type}"))
    n = int(as_size(num_partitions, "num_partitions"))
    require(n > 0, f"num_partitions must be positive, not {n}")
    require_range(p, n, "partition {} is not one of {high}", negative=False)
    count = product(tuple(p.shape))
    x, p = S.reshape(x, shape=(count, *x.shape[p.ndim :])), S.reshape(p, shape=(count,))
    return [I.gather(x, _positions(E.equal(p, k)), axis=0) for k in range(n)]


def _positions(mask: Tensor) -> Tensor:
    if waits(mask):
        return found.hits(mask)
    return convert(quietly(eager_only(mask, "dynamic_partition").nonzero)[0])


def dynamic_stitch(indices: Any, data: Any, name: str | None = None) -> Tensor:
    """One array from pieces: `y[indices[m][i]] = data[m][i]`, as long as the largest index needs.

    `indices[m]` has the first axes of `data[m]`, whose others are the same for all. Of equal indices the last one
    counts; what none names is 0. Raises `OutOfRangeError` for negative indices.
    """
    places, parts = [operand(i) for i in listed(indices, "indices")], listed(data, "data")
    require(bool(places) and len(places) == len(parts), f"{len(places)} indices for {len(parts)} pieces of data")
    d = common_dtype(parts)[0]
    flat_places, flat_parts = [], []
    for i, v in zip(places, [operand(v, d) for v in parts], strict=True):
        if i.dtype.kind not in "iu" or i.ndim > v.ndim or not all(map(fit, i.shape, v.shape[: i.ndim])):
            raise locate(ShapeError(f"indices {i.type} do not go with data {v.type}"))
        n = product(tuple(i.shape))
        flat_places.append(S.reshape(E.cast(i, dtype=int64), shape=(n,)))
        flat_parts.append(S.reshape(v, shape=(n, *v.shape[i.ndim :])))
    at, values = concat(flat_places, 0), concat(flat_parts, 0)
    require_all(E.greater_equal(at, 0), "an index must not be negative: {}", [at], "OutOfRangeError")
    size = above_all(*places)
    return I.put(S.broadcast_to(convert(0, d), shape=(size, *values.shape[1:])), at, values, axis=0)


def reverse_sequence(
    input: Any, seq_lengths: Any, seq_axis: Any = None, batch_axis: Any = None, name: str | None = None
) -> Tensor:
    """The first `seq_lengths[b]` elements along `seq_axis` in reverse order, for each b of `batch_axis` (0 by default).

    Raises `OutOfRangeError` for lengths beyond the axis.
    """
    if not activity.busy and (quick := traced(reverse_sequence, input, seq_lengths, seq_axis, batch_axis)) is not None:
        return quick
    x, lengths = operand(input), operand(seq_lengths)
    if lengths.dtype.kind not in "iu" or lengths.ndim != 1:
        raise locate(DTypeError(f"seq_lengths is a list of integers, not {lengths.type}"))
    require(seq_axis is not None, "reverse_sequence needs seq_axis")
    along, rows = as_axis(seq_axis, x.ndim, "seq_axis"), as_axis(batch_axis or 0, x.ndim, "batch_axis")
    require(along != rows, f"seq_axis and batch_axis are both {along}")
    b, n = x.shape[rows], x.shape[along]
    if not known_equal(lengths.shape[0], b):
        raise locate(ShapeError(f"{lengths.shape[0]} lengths for axis {rows} of {show_shape(x.shape)}"))
    require_range(lengths, n + 1, "length {} is beyond the axis: not below {high}", negative=False)
    ends = S.reshape(E.cast(lengths, dtype=int64), shape=(b, 1))
    step = counter(n, 2, 1, int64)
    at = E.add(E.where(E.less(step, ends), E.sub(E.sub(ends, 1), step), step), E.mul(counter(b, 2, 0, int64), n))
    x = moveaxis(x, (rows, along), (0, 1))
    y = I.gather(S.reshape(x, shape=(b * n, *x.shape[2:])), at, axis=0)
    return moveaxis(y, (0, 1), (rows, along))


def parallel_stack(values: Any, name: str = "parallel_stack") -> Tensor:
    """Tensors of one shape joined along a new first axis."""
    return stack(values)


# --- shapes -----------------------------------------------------------------------------------------------------------
def ensure_shape(x: Any, shape: Any, name: str | None = None) -> Tensor:
    """The tensor, or `ShapeError` unless it has this shape; None stands for any size, and for any shape."""
    if type(shape) is tuple and type(x) is Tensor and not activity.busy and x._a.shape == shape:
        return x
    t = operand(x)
    same = E.identity(t) if type(t) is not Tensor else t
    if shape is None or getattr(shape, "rank", 0) is None:
        return same
    want = tuple([None if d is None else as_size(d) for d in shape])
    fits = len(want) == t.ndim
    for axis, (d, w) in enumerate(zip(tuple(t.shape), want, strict=False)):
        if w is None or w is d:
            continue
        if isinstance(d, Dim) and symbols_in(d):  # which the program finds out
            message = f"axis {axis} has {{}} elements, not {w}"
            require_all(E.equal(convert(d), convert(w)), message, [convert(d)])
            same = I.gather(same, counter(w, 1, 0, int64), axis=axis)
        else:
            fits = fits and known_equal(d, w)
    if not fits:
        wanted = "(" + ", ".join("None" if w is None else str(w) for w in want) + ")"
        raise locate(ShapeError(f"shape {wanted} is wanted, the tensor is {t.type}"))
    return same


def shape_n(input: Any, out_type: Any = int32, name: str | None = None) -> list[Tensor]:
    """The shapes of several tensors, each as a 1-D integer tensor."""
    return [shape(x, out_type) for x in listed(input, "input")]


def _sizes_now(x: Operand) -> bool:
    return type(x._a) is not Value or known(x._a) is not None


def broadcast_dynamic_shape(shape_x: Any, shape_y: Any, name: str | None = None) -> Tensor:
    """The shape that tensors of two shapes have after broadcasting, as an integer tensor; the shapes may be tensors
    that the program computes. Raises `ShapeError`, or when the program runs `ArgumentError`, if they do not fit.
    """
    x, y = (operand(s) if isinstance(s, Operand) else convert(as_sizes(s), int32) for s in (shape_x, shape_y))
    for s in (x, y):
        if s.dtype.kind not in "iu" or s.ndim != 1:
            raise locate(DTypeError(f"a shape is a list of integers, not {s.type}"))
    d = common_dtype((x, y))[0]
    if _sizes_now(x) and _sizes_now(y):
        return convert(broadcast_shapes(as_sizes(x), as_sizes(y)), d)
    rank = max(int(x.shape[0]), int(y.shape[0]))
    ones = [S.broadcast_to(convert(1, d), shape=(rank - int(s.shape[0]),)) for s in (x, y)]
    a, b = (concat([o, E.cast(s, dtype=d)], 0) for o, s in zip(ones, (x, y), strict=True))
    single = E.equal(a, 1)
    fit = E.logical_or(E.equal(a, b), E.logical_or(single, E.equal(b, 1)))
    require_all(fit, "shapes {} and {} do not broadcast", [x, y])
    return E.where(single, b, a)


def required_space_to_batch_paddings(
    input_shape: Any, block_shape: Any, base_paddings: Any = None, name: str | None = None
) -> tuple[Tensor, Tensor]:
    """The paddings (n, 2) that make padded sizes multiples of the blocks, and the crops (n, 2) that undo what is added.

    They begin with `base_paddings` (0 by default); what is added stands at the end.
    """
    size, block = operand(input_shape), operand(block_shape)
    if size.ndim != 1 or block.ndim != 1 or not known_equal(size.shape[0], block.shape[0]):
        raise locate(ShapeError(f"input_shape {size.type} and block_shape {block.type} are lists of one length"))
    n = size.shape[0]
    base = operand(base_paddings) if base_paddings is not None else S.broadcast_to(convert(0, int32), shape=(n, 2))
    first, last = (S.reshape(S.slice_(base, start=(0, k), size=(n, 1), step=(1, 1)), shape=(n,)) for k in (0, 1))
    extra = E.floormod(E.neg(E.add(E.add(size, first), last)), block)
    crops = stack([E.mul(extra, 0), extra], 1)
    return stack([first, E.add(last, extra)], 1), crops


def identity_n(input: Any, name: str | None = None) -> list[Tensor]:
    """The same tensors."""
    return [E.identity(x) for x in listed(input, "input")]
