"""Elements put together by number: segments, bins and histograms, under TensorFlow's names."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tracejit.context import activity
from tracejit.errors import DTypeError, ShapeError, locate
from tracejit.fast import fast
from tracejit.ir.graph import Value
from tracejit.ir.op import Op
from tracejit.ir.sizes import fit, known_equal, product
from tracejit.ir.types import as_dtype, float32, int32, int64
from tracejit.ops import directplaces
from tracejit.ops import elementwise as E
from tracejit.ops import index as I
from tracejit.ops import reduce as R
from tracejit.ops import shape as S
from tracejit.ops.args import Size, as_axis, as_size, floating, known, open_size, operand, require, waits
from tracejit.ops.array import concat, cut
from tracejit.ops.check import may_be_negative, require_all, require_below, require_range
from tracejit.ops.creation import counter
from tracejit.ops.define import numpy_name
from tracejit.ops.extents import extent, is_late
from tracejit.ops.quick import at_once, exact, traced
from tracejit.tensor import Operand, Tensor, convert


def _filled(value: Any, x: Operand, size: Size, axes: int) -> Tensor:
    """One value in the place of each segment's slice."""
    return S.broadcast_to(convert(value, x.dtype), shape=(size, *x.shape[axes:]))


def _numbers(i: Any, what: str) -> Operand:
    i = operand(i)
    if i.dtype.kind not in "iu":
        raise locate(DTypeError(f"{what} must be integers, not {i.dtype.name}"))
    return i


def _beyond(i: Operand, size: Size) -> tuple[Operand, Size]:
    """Numbers of which negative ones are those of a last segment that is added, and the number of segments."""
    if not may_be_negative(i):
        return i, size
    i = E.cast(i, dtype=int64)
    return E.where(E.less(i, 0), size, i), size + 1


def _unsorted(data: Any, segment_ids: Any, num_segments: Any) -> tuple[Operand, Operand, Size]:
    x, i = operand(data), operand(segment_ids)
    if i.dtype.kind not in "iu" or not all(map(fit, i.shape, x.shape[: i.ndim])) or i.ndim > x.ndim:
        raise locate(ShapeError(f"segment_ids {i.type} do not go with data {x.type}"))
    size = open_size(num_segments, "num_segments")
    require_below(i, size)
    return x, i, size


def _cut(y: Tensor, whole: Size, size: Size) -> Tensor:
    return y if whole is size else cut(y, 0, 0, size)


def _summed(x: Operand, i: Operand, size: Size) -> Tensor:
    i, whole = _beyond(i, size)
    return _cut(I.scatter_sum(x, i, size=whole, axis=0), whole, size)


def _combined(op: Op, start: Any, x: Operand, i: Operand, size: Size) -> Tensor:
    rank = i.ndim
    i, whole = _beyond(i, size)
    return _cut(op(_filled(start, x, whole, rank), i, x, axis=0), whole, size)


def _counts(x: Operand, i: Operand, size: Size, dtype: Any) -> Tensor:
    """How many elements each segment has, with unit axes for those of a slice."""
    n = _summed(S.broadcast_to(convert(1, int32), shape=tuple(i.shape)), i, size)
    return S.reshape(E.cast(n, dtype=dtype), shape=(size, *[1] * (x.ndim - i.ndim)))


def _averaged(x: Operand, i: Operand, size: Size, divisor: Callable[[Tensor], Tensor]) -> Tensor:
    """Sums divided by a function of how many there are, and 0 where there are none."""
    x = floating(x)
    wide = E.cast(x, dtype=float32) if x.dtype.bits == 16 else x
    real = {"complex64": "float32", "complex128": "float64"}.get(wide.dtype.name, wide.dtype.name)
    n = divisor(E.maximum(_counts(x, i, size, as_dtype(real)), 1))
    y = E.div(_summed(wide, i, size), E.cast(n, dtype=wide.dtype))
    return y if wide is x else E.cast(y, dtype=x.dtype)


def _limit(data: Any, name: str) -> Any:
    """The lowest or the highest number of a tensor's dtype."""
    return getattr(data.dtype, name) if type(data) is Tensor else None


def _same(n: Tensor) -> Tensor:
    return n


def unsorted_segment_sum(data: Any, segment_ids: Any, num_segments: Any, name: str | None = None) -> Tensor:
    """The sums of the elements or slices that have the same segment number, one for each of 0 … num_segments − 1.

    Those with a negative number are left out. `segment_ids` has the first axes of `data`; `num_segments` may be a
    tensor. Raises `OutOfRangeError` for a number of `num_segments` or above.
    """
    native = fast.segment_sum
    if native is not None and (r := native(data, segment_ids, num_segments)) is not NotImplemented:
        return r  # type: ignore[no-any-return]
    if not activity.busy and (quick := at_once(directplaces.segment_sum, data, segment_ids, num_segments)) is not None:
        return quick
    return _summed(*_unsorted(data, segment_ids, num_segments))


def unsorted_segment_mean(data: Any, segment_ids: Any, num_segments: Any, name: str | None = None) -> Tensor:
    """The means of what has the same segment number, 0 for a number that nothing has; integers become floating."""
    if not activity.busy and (quick := at_once(directplaces.segment_mean, data, segment_ids, num_segments)) is not None:
        return quick
    return _averaged(*_unsorted(data, segment_ids, num_segments), _same)


def unsorted_segment_sqrt_n(data: Any, segment_ids: Any, num_segments: Any, name: str | None = None) -> Tensor:
    """The sums of what has the same segment number, divided by the square root of how many there are."""
    return _averaged(*_unsorted(data, segment_ids, num_segments), E.sqrt)


def unsorted_segment_prod(data: Any, segment_ids: Any, num_segments: Any, name: str | None = None) -> Tensor:
    """The products of what has the same segment number, 1 for a number that nothing has."""
    native = fast.segment_prod
    if native is not None and (r := native(data, segment_ids, num_segments)) is not NotImplemented:
        return r  # type: ignore[no-any-return]
    if not activity.busy and (quick := at_once(directplaces.segment_prod, data, segment_ids, num_segments)) is not None:
        return quick
    return _combined(I.mul_at, 1, *_unsorted(data, segment_ids, num_segments))


def unsorted_segment_max(data: Any, segment_ids: Any, num_segments: Any, name: str | None = None) -> Tensor:
    """The largest of what has the same segment number, the lowest finite number of the dtype if nothing has it.

    Equal ones share the gradient.
    """
    native = fast.segment_max
    if native is not None and (r := native(data, segment_ids, num_segments, _limit(data, "min"))) is not NotImplemented:
        return r  # type: ignore[no-any-return]
    if not activity.busy and (quick := traced(unsorted_segment_max, data, segment_ids, num_segments)) is not None:
        return quick
    if not activity.busy:
        start = _limit(data, "min")
        if (quick := at_once(directplaces.segment_max, data, segment_ids, start, num_segments)) is not None:
            return quick
    x, i, size = _unsorted(data, segment_ids, num_segments)
    return _combined(I.max_at, x.dtype.min, x, i, size)


def unsorted_segment_min(data: Any, segment_ids: Any, num_segments: Any, name: str | None = None) -> Tensor:
    """The smallest of what has the same segment number, the highest finite number of the dtype if nothing has it.

    Equal ones share the gradient.
    """
    native = fast.segment_min
    if native is not None and (r := native(data, segment_ids, num_segments, _limit(data, "max"))) is not NotImplemented:
        return r  # type: ignore[no-any-return]
    if not activity.busy and (quick := traced(unsorted_segment_min, data, segment_ids, num_segments)) is not None:
        return quick
    if not activity.busy:
        start = _limit(data, "max")
        if (quick := at_once(directplaces.segment_min, data, segment_ids, start, num_segments)) is not None:
            return quick
    x, i, size = _unsorted(data, segment_ids, num_segments)
    return _combined(I.min_at, x.dtype.max, x, i, size)


def _ascending(data: Any, segment_ids: Any) -> tuple[Operand, Operand, Size]:
    """Data, its numbers in ascending order, and how many segments that makes."""
    x, i = operand(data), operand(segment_ids)
    if i.dtype.kind not in "iu" or i.ndim != 1 or not x.ndim or not fit(i.shape[0], x.shape[0]):
        raise locate(ShapeError(f"segment_ids {i.type} do not go with data {x.type}: one integer for each slice"))
    n, size = i.shape[0], above_all(i)
    i = E.cast(i, dtype=int64)
    before = cut(concat([S.reshape(convert(0, int64), shape=(1,)), i], 0), 0, 0, n)
    require_all(E.less_equal(before, i), "segment_ids must not be negative and must not decrease: {}", [i])
    return x, i, size


def above_all(*numbers: Operand) -> Size:
    """One more than the largest of some integers, and 0 of none: a size, found out by the program if it has to."""
    lists = [_known_numbers(i) for i in numbers]
    if all(x is not None for x in lists):
        return as_size(max([-1, *[k for x in lists if x is not None for k in x]]) + 1)
    low = S.reshape(convert(-1, int64), shape=(1,))
    flat = [S.reshape(E.cast(i, dtype=int64), shape=(product(tuple(i.shape)),)) for i in numbers]
    return open_size(E.add(R.reduce_max(concat([low, *flat], 0), axis=(0,)), 1))


def _known_numbers(i: Operand) -> list[Any] | None:
    """Integers among which the largest is, None if only the program knows them."""
    if not waits(i) and type(i._a) is not Value:
        values = i._value("numbers")
        return [int(values.max())] if values.size else []
    known_ones = known(i._a) if type(i._a) is Value else None
    return None if known_ones is None else known_ones.reshape(-1).tolist()


def segment_sum(data: Any, segment_ids: Any, name: str | None = None) -> Tensor:
    """The sums of the slices that have the same number; the numbers are in ascending order.

    There is a segment for each of 0 … the last number; those that no slice has are 0. Raises `ArgumentError` unless
    `segment_ids` (one for each slice of the first axis) ascend from 0 or more.
    """
    native = fast.segment_sum
    if native is not None and (r := native(data, segment_ids, None)) is not NotImplemented:
        return r  # type: ignore[no-any-return]
    if not activity.busy and (quick := at_once(directplaces.ascending_sum, data, segment_ids)) is not None:
        return quick
    x, i, size = _ascending(data, segment_ids)
    return I.scatter_sum(x, i, size=size, axis=0)


def segment_mean(data: Any, segment_ids: Any, name: str | None = None) -> Tensor:
    """The means of the slices that have the same number, as `segment_sum`; integers become floating."""
    if not activity.busy and (quick := at_once(directplaces.segment_mean, data, segment_ids)) is not None:
        return quick
    return _averaged(*_ascending(data, segment_ids), _same)


def segment_prod(data: Any, segment_ids: Any, name: str | None = None) -> Tensor:
    """The products of the slices that have the same number, as `segment_sum`; 1 for a number that none has."""
    native = fast.segment_prod
    if native is not None and (r := native(data, segment_ids, None)) is not NotImplemented:
        return r  # type: ignore[no-any-return]
    if not activity.busy and (quick := at_once(directplaces.segment_prod, data, segment_ids)) is not None:
        return quick
    return _combined(I.mul_at, 1, *_ascending(data, segment_ids))


def _or_zero(op: Op, start: Any, x: Operand, i: Operand, size: Size) -> Tensor:
    some = E.greater(_counts(x, i, size, int32), 0)
    return E.where(some, _combined(op, start, x, i, size), 0)


def segment_max(data: Any, segment_ids: Any, name: str | None = None) -> Tensor:
    """The largest of the slices that have the same number, as `segment_sum`. Equal ones share the gradient."""
    native = fast.segment_max
    if native is not None and (r := native(data, segment_ids, None, _limit(data, "min"))) is not NotImplemented:
        return r  # type: ignore[no-any-return]
    if not activity.busy:
        if (quick := at_once(directplaces.segment_max, data, segment_ids, _limit(data, "min"))) is not None:
            return quick
    x, i, size = _ascending(data, segment_ids)
    return _or_zero(I.max_at, x.dtype.min, x, i, size)


def segment_min(data: Any, segment_ids: Any, name: str | None = None) -> Tensor:
    """The smallest of the slices that have the same number, as `segment_sum`. Equal ones share the gradient."""
    native = fast.segment_min
    if native is not None and (r := native(data, segment_ids, None, _limit(data, "max"))) is not NotImplemented:
        return r  # type: ignore[no-any-return]
    if not activity.busy:
        if (quick := at_once(directplaces.segment_min, data, segment_ids, _limit(data, "max"))) is not None:
            return quick
    x, i, size = _ascending(data, segment_ids)
    return _or_zero(I.min_at, x.dtype.max, x, i, size)


# --- counting ---------------------------------------------------------------------------------------------------------
def bincount(
    arr: Any, weights: Any = None, minlength: Any = None, maxlength: Any = None, dtype: Any = int32,
    name: str | None = None, axis: Any = None, binary_output: bool = False,
) -> Tensor:  # fmt: skip
    """How often each of 0, 1, 2 … is in an integer tensor, or the sums of the `weights` of the places that it is at.

    There are as many bins as the largest number needs, at least `minlength` and at most `maxlength`; numbers beyond are
    left out. `axis` (None or 0: all) is the first of the axes that are counted over; those before it stay, so that
    axis=−1 counts in each row. `binary_output` says only whether a number is there. The result has the dtype of the
    weights, without them `dtype`. Raises `ArgumentError` for negative numbers.
    """
    plain = weights is minlength is maxlength is axis is None and dtype is int32 and not binary_output
    if plain and not activity.busy and (quick := at_once(directplaces.bincount, arr)) is not None:
        return quick
    i = _numbers(arr, "arr")
    at = 0 if axis is None or not i.ndim else as_axis(axis, i.ndim)
    if may_be_negative(i):
        require_all(E.greater_equal(i, 0), "bincount: numbers must not be negative: {}", [i])
    size = _bins(i, minlength, maxlength)
    lead = tuple(i.shape[:at])
    rows, count = product(lead), product(tuple(i.shape[at:]))
    place = S.reshape(E.cast(i, dtype=int64), shape=(rows, count))
    bins = size
    if maxlength is not None:
        place, bins = E.where(E.less(place, size), place, size), size + 1
    if at:
        place = E.add(place, E.mul(counter(rows, 2, 0, int64), bins))
    w = _weights(weights, i, dtype, binary_output)
    y = I.scatter_sum(S.reshape(w, shape=(rows, count)), place, size=rows * bins, axis=0)
    y = S.reshape(y, shape=(*lead, bins))
    y = y if bins is size else cut(y, len(lead), 0, size)
    return E.cast(E.greater(y, 0), dtype=as_dtype(dtype)) if binary_output else y


@numpy_name("bincount")
def _np_bincount(x: Any, weights: Any = None, minlength: Any = 0) -> Tensor:
    return bincount(x, weights, minlength, dtype=int64)


def _bins(i: Operand, minlength: Any, maxlength: Any) -> Size:
    low = None if minlength is None else extent(minlength, "minlength")
    high = None if maxlength is None else extent(maxlength, "maxlength")
    if low is not None and high is not None and (low is high or known_equal(low, high)):
        return high
    if not waits(i) and not any(map(is_late, (low, high))):
        size = above_all(i)
        size = size if low is None or size >= low else low
        return size if high is None or size <= high else high
    flat = S.reshape(E.cast(i, dtype=int64), shape=(product(tuple(i.shape)),))
    start = convert(0 if low is None else low, int64)
    n: Any = R.reduce_max(concat([S.reshape(start, shape=(1,)), E.add(flat, 1)], 0), axis=(0,))
    return open_size(n if high is None else E.minimum(n, convert(high, int64)))


def _weights(weights: Any, i: Operand, dtype: Any, binary: bool) -> Tensor:
    if weights is None:
        return S.broadcast_to(convert(1, int32 if binary else as_dtype(dtype)), shape=tuple(i.shape))
    require(not binary, "bincount takes either weights or binary_output")
    w = operand(weights)
    if w.ndim != i.ndim or not all(map(fit, w.shape, i.shape)):
        raise locate(ShapeError(f"weights {w.type} do not go with numbers {i.type}"))
    return w  # type: ignore[return-value]


def confusion_matrix(
    labels: Any, predictions: Any, num_classes: Any = None, weights: Any = None, dtype: Any = int32,
    name: str | None = None,
) -> Tensor:  # fmt: skip
    """How often each class (row) was taken for each other (column), or the sums of the `weights` of these cases.

    `num_classes` is one more than the largest class unless given. Raises `OutOfRangeError` for classes outside.
    """
    if weights is None and dtype is int32 and not activity.busy:
        if (quick := at_once(directplaces.confusion_matrix, labels, predictions, num_classes)) is not None:
            return quick
    a, p = _numbers(labels, "labels"), _numbers(predictions, "predictions")
    if a.ndim != 1 or p.ndim != 1 or not fit(a.shape[0], p.shape[0]):
        raise locate(ShapeError(f"labels {a.type} and predictions {p.type} are lists of one length"))
    n = above_all(a, p) if num_classes is None else open_size(num_classes, "num_classes")
    a, p = E.cast(a, dtype=int64), E.cast(p, dtype=int64)
    for i in (a, p):
        require_range(i, n, "class {} is not one of {high}", negative=False)
    d = as_dtype(dtype)
    if weights is None:
        w: Any = S.broadcast_to(convert(1, d), shape=tuple(a.shape))
    else:
        w = E.cast(S.broadcast_to(operand(weights), shape=tuple(a.shape)), dtype=d)
    y = I.scatter_sum(w, E.add(E.mul(a, n), p), size=n * n, axis=0)
    return S.reshape(y, shape=(n, n))


def histogram_fixed_width_bins(
    values: Any, value_range: Any, nbins: Any = 100, dtype: Any = int32, name: str | None = None
) -> Tensor:
    """The number of the bin that each value is in: `nbins` of one width, those outside in the first or the last."""
    x, limits = floating(values), operand(value_range)
    n = extent(nbins, "nbins", least=1)
    require(is_late(n) or n > 0, f"nbins must be positive, not {n}")
    if limits.ndim != 1 or not known_equal(limits.shape[0], 2):
        raise locate(ShapeError(f"value_range is a pair (low, high), not {limits.type}"))
    ends = E.cast(limits, dtype=x.dtype)
    low, high = (S.reshape(cut(ends, 0, k, 1), shape=()) for k in (0, 1))
    require_all(E.less(low, high), "value_range must be low < high: {}", [limits])
    require_all(E.logical_not(E.isnan(x)), "values must not hold NaN", [])
    scaled = E.floor(E.mul(E.div(E.sub(x, low), E.sub(high, low)), convert(n, x.dtype)))
    inside = E.minimum(E.maximum(scaled, 0), convert(n - 1, x.dtype))
    return E.cast(inside, dtype=as_dtype(dtype))


def histogram_fixed_width(
    values: Any, value_range: Any, nbins: Any = 100, dtype: Any = int32, name: str | None = None
) -> Tensor:
    """How many values are in each of `nbins` bins of one width; those outside count in the first or the last."""
    n = extent(nbins, "nbins", least=1)
    places = histogram_fixed_width_bins(values, value_range, n, int64)
    return bincount(S.reshape(places, shape=(product(tuple(places.shape)),)), minlength=n, maxlength=n, dtype=dtype)


exact(unsorted_segment_sum, directplaces.segment_sum)
