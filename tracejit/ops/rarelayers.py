"""Less frequent functions of `nn`: pooling in windows of several sizes, monotone fits, gradients of filters by name."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from tracejit.autodiff.tape import GradientTape
from tracejit.errors import ShapeError, locate
from tracejit.ir.sizes import product
from tracejit.ir.types import float64, int32, int64, show_shape
from tracejit.ops import bilinear as B
from tracejit.ops import elementwise as E
from tracejit.ops import index as I
from tracejit.ops import shape as S
from tracejit.ops import windows as W
from tracejit.ops.args import as_axis, as_size, as_sizes, floating, operand, require
from tracejit.ops.array import concat, cut, moveaxis
from tracejit.ops.conv import depthwise_conv2d
from tracejit.ops.creation import counter
from tracejit.ops.define import same_shape
from tracejit.ops.pool import batch_to_space, space_to_batch
from tracejit.ops.random import shuffle, uniform
from tracejit.ops.reductions import cumsum, reduce_max, reduce_min, reduce_sum
from tracejit.ops.results import FractionalPool
from tracejit.ops.segments import unsorted_segment_sum
from tracejit.ops.stateless import stateless_shuffle, stateless_uniform
from tracejit.tensor import Operand, Tensor, convert


# --- pooling in windows of several sizes ------------------------------------------------------------------------------
def _cells(n: int, ratio: float, pseudo_random: bool, seed: tuple[int, int] | None) -> Tensor:
    """The beginnings of cells of two sizes that cover n elements, and n: in a random order, or from a random offset."""
    require(ratio >= 1.0, f"a pooling ratio is 1 or more, not {ratio}")
    m = int(n / ratio)
    require(m >= 1, f"{n} elements in cells of {ratio} are no cell")
    small = n // m
    if not pseudo_random:
        large = n - small * m
        sizes = S.reshape(E.cast(E.less(counter(m), large), dtype=int64), shape=(m,))
        sizes = E.add(stateless_shuffle(sizes, seed) if seed else shuffle(sizes), small)
        return concat([convert([0], int64), cumsum(sizes)], 0)
    alpha = n / m
    least, most = max(0.0, n / alpha - m), min(1.0, (n + 1) / alpha - m)
    drawn = stateless_uniform([], seed, dtype=float64) if seed else uniform([], dtype=float64)
    u = E.add(E.mul(drawn, max(most - least, 0.0)), least)
    at = E.add(E.cast(counter(m + 1, dtype=int64), dtype=float64), u)
    place = E.sub(E.cast(E.ceil(E.mul(at, alpha)), dtype=int64), E.cast(E.ceil(E.mul(u, alpha)), dtype=int64))
    return E.where(E.equal(counter(m + 1), m), n, E.minimum(place, n))  # type: ignore[no-any-return]


def _fractional(
    value: Any, pooling_ratio: Any, pseudo_random: bool, overlapping: bool, seed: int, mean: bool
) -> FractionalPool:
    x = floating(value)
    if x.ndim != 4:
        raise locate(ShapeError(f"value {show_shape(x.shape)} is [batch, height, width, channels]"))
    one = [pooling_ratio] * 2 if isinstance(pooling_ratio, (int, float)) else [float(r) for r in pooling_ratio]
    if len(one) == 4:
        require(one[0] == one[3] == 1.0, f"batch and channels are not pooled, the ratios are {one}")
        one = one[1:3]
    require(len(one) == 2, f"pooling ratios are one, two or four numbers, not {pooling_ratio!r}")
    y: Any = B.wide(x)
    edges = []
    for axis, ratio in ((1, one[0]), (2, one[1])):
        n = int(as_size(x.shape[axis], "the size of the image"))
        edge = _cells(n, ratio, pseudo_random, (seed, axis) if seed else None)
        edges.append(edge)
        y = _pooled(y, axis, edge, n, overlapping, mean)
    return FractionalPool(E.cast(y, dtype=x.dtype), edges[0], edges[1])


def _pooled(x: Operand, axis: int, edge: Tensor, n: int, overlapping: bool, mean: bool) -> Tensor:
    """The largest, or the mean, of the elements of each cell along an axis."""
    m = int(edge.shape[0]) - 1
    width = -(-n // m) + 1 + overlapping
    first, last = cut(edge, 0, 0, m), cut(edge, 0, 1, m)
    last = E.minimum(E.add(last, 1), n) if overlapping else last
    at = E.add(S.reshape(first, shape=(m, 1)), counter(width, 2, 1, int64))
    rest = [1] * (x.ndim - axis - 1)
    inside = S.reshape(E.less(at, S.reshape(last, shape=(m, 1))), shape=(m, width, *rest))
    seen = I.gather(x, E.minimum(at, n - 1), axis=axis)
    if not mean:
        return reduce_max(E.where(inside, seen, -np.inf), axis + 1)
    count = S.reshape(E.cast(E.sub(last, first), dtype=x.dtype), shape=(m, *rest))
    return E.div(reduce_sum(E.where(inside, seen, 0.0), axis + 1), count)  # type: ignore[no-any-return]


def fractional_max_pool(
    value: Any, pooling_ratio: Any, pseudo_random: bool = False, overlapping: bool = False, seed: int = 0,
    name: str | None = None,
) -> FractionalPool:  # fmt: skip
    """The largest elements of cells of two sizes, `pooling_ratio` on average (Graham 2014, "Fractional max-pooling").

    value           [batch, height, width, channels]
    pooling_ratio   one number, two, or four of which the outer ones are 1
    pseudo_random   cells as they follow from a random offset, else in a random order
    overlapping     a cell has the first element of the next one too
    seed            of the cells; other ones each time if 0
    result          the pooled image, and where its rows and its columns begin and end
    """
    return _fractional(value, pooling_ratio, pseudo_random, overlapping, seed, False)


def fractional_avg_pool(
    value: Any, pooling_ratio: Any, pseudo_random: bool = False, overlapping: bool = False, seed: int = 0,
    name: str | None = None,
) -> FractionalPool:  # fmt: skip
    """The means of cells of two sizes; the arguments are those of `fractional_max_pool`."""
    return _fractional(value, pooling_ratio, pseudo_random, overlapping, seed, True)


# --- convolutions in other words --------------------------------------------------------------------------------------
def _zeros(sizes: Any, like: Operand) -> Tensor:
    return S.broadcast_to(convert(0, like.dtype), shape=as_sizes(sizes))  # type: ignore[no-any-return]


def _pulled(x: Tensor, g: Operand, f: Callable[[Tensor], Tensor]) -> Tensor:
    """The gradient of f at x for the cotangent g."""
    with GradientTape(watch_accessed_variables=False) as tape:
        tape.watch(x)
        y = f(x)
    _same(y, g)
    return tape.gradient(y, x, g)  # type: ignore[no-any-return]


def depthwise_conv2d_backprop_input(
    input_sizes: Any, filter: Any, out_backprop: Any, strides: Any, padding: Any, data_format: str = "NHWC",
    dilations: Any = None, name: str | None = None,
) -> Tensor:  # fmt: skip
    """The gradient of `depthwise_conv2d` with respect to an input of shape `input_sizes`."""
    f, g = operand(filter), operand(out_backprop)
    x = _zeros(input_sizes, g)
    return _pulled(x, g, lambda x: depthwise_conv2d(x, f, strides, padding, data_format, dilations))


def depthwise_conv2d_backprop_filter(
    input: Any, filter_sizes: Any, out_backprop: Any, strides: Any, padding: Any, data_format: str = "NHWC",
    dilations: Any = None, name: str | None = None,
) -> Tensor:  # fmt: skip
    """The gradient of `depthwise_conv2d` with respect to a filter of shape `filter_sizes`."""
    x, g = operand(input), operand(out_backprop)
    f = _zeros(filter_sizes, g)
    return _pulled(f, g, lambda f: depthwise_conv2d(x, f, strides, padding, data_format, dilations))


def _same(y: Tensor, g: Operand) -> None:
    if not same_shape(tuple(y.shape), tuple(g.shape)):
        raise locate(ShapeError(f"out_backprop {show_shape(g.shape)} is not the result's {show_shape(y.shape)}"))


def with_space_to_batch(
    input: Any, dilation_rate: Any, padding: str, op: Callable[..., Any], filter_shape: Any = None,
    spatial_dims: Sequence[int] | None = None, data_format: str | None = None,
) -> Tensor:  # fmt: skip
    """`op(input, number of spatial axes, padding)` with windows whose elements are `dilation_rate` apart.

    The pixels that far apart are dealt to images of their own (`space_to_batch`), which `op` sees with "VALID"
    padding. "SAME" needs `filter_shape`. `spatial_dims` are the axes that rates are for, those after the batch unless
    given; those after the channels where `data_format` begins with "NC".
    """
    x, rates = operand(input), [int(r) for r in as_sizes(dilation_rate, "dilation_rate")]
    start = 2 if data_format is not None and data_format.startswith("NC") else 1
    axes = list(spatial_dims) if spatial_dims is not None else list(range(start, start + len(rates)))
    require(len(axes) == len(rates), f"{len(rates)} rates for {len(axes)} spatial axes")
    require(axes == sorted(set(axes)) and axes[0] >= 1, f"spatial_dims are increasing and above 0, not {axes}")
    require(padding in ("SAME", "VALID"), f"padding is 'SAME' or 'VALID', not {padding!r}")
    if all(r == 1 for r in rates):
        return op(x, len(rates), padding)  # type: ignore[no-any-return]
    base = [(0, 0)] * len(rates)
    if padding == "SAME":
        require(filter_shape is not None, "'SAME' padding needs filter_shape")
        reach = [(int(k) - 1) * r for k, r in zip(as_sizes(filter_shape, "filter_shape"), rates)]
        base = [(n // 2, n - n // 2) for n in reach]
    block, around, off = [1] * axes[-1], [[0, 0] for _ in range(axes[-1])], [[0, 0] for _ in range(axes[-1])]
    for a, r, (before, after) in zip(axes, rates, base):
        n = int(as_size(x.shape[a], "a size of the image")) + before + after
        block[a - 1], around[a - 1], off[a - 1] = r, [before, after + -n % r], [0, -n % r]
    y = op(space_to_batch(x, block, around), len(rates), "VALID")
    return batch_to_space(y, block, off)


def extract_volume_patches(input: Any, ksizes: Any, strides: Any, padding: Any, name: str | None = None) -> Tensor:
    """What windows see of volumes [batch, planes, rows, columns, channels], in the last axis: channels change fastest.

    `ksizes` and `strides` are five numbers of which the first and the last are 1.
    """
    x = operand(input)
    size, stride = as_sizes(ksizes, "ksizes"), as_sizes(strides, "strides")
    for s, what in ((size, "ksizes"), (stride, "strides")):
        require(len(s) == 5 and s[0] == s[4] == 1, f"{what} are five numbers that begin and end with 1, not {s}")
    if x.ndim != 5:
        raise locate(ShapeError(f"input {show_shape(x.shape)} has {x.ndim} axes, not 5"))
    k = tuple([int(d) for d in size[1:4]])
    w = W.place_windows(x.shape[1:-1], k, tuple([int(d) for d in stride[1:4]]), (1, 1, 1), padding, False)
    x = W.padded(x, w)
    return concat([W.under(x, w, at) for at in itertools.product(*map(range, k))], -1)


# --- fits and losses --------------------------------------------------------------------------------------------------
class IsotonicRegression(NamedTuple):
    """The fit, and the number of the segment of equal values that each element is in."""

    output: Tensor
    segments: Tensor


def isotonic_regression(
    inputs: Any, decreasing: bool = True, axis: Any = -1, name: str | None = None
) -> IsotonicRegression:
    """The decreasing (or increasing) sequences along an axis that are closest to the inputs in squares.

    Each segment is the mean of its inputs, as which it has derivatives. A segment ends where no mean from there on is
    above (below) a mean up to there, so that neighbours that fit are not pooled. Found from the means of all
    intervals: the memory grows with the square of the axis.
    """
    given = floating(inputs)
    at = as_axis(axis, given.ndim)
    x = moveaxis(E.cast(given, dtype=float64), at, -1)
    lead, n = tuple(x.shape[:-1]), int(as_size(x.shape[-1], "the size of the axis"))
    rows = product(lead)
    x = S.reshape(x, shape=(rows, n))
    segments = _segments(E.stop_gradient(x if decreasing else E.neg(x)), n)
    place = S.reshape(E.add(segments, E.mul(counter(rows, 2, 0, int64), n)), shape=(rows * n,))
    total = unsorted_segment_sum(S.reshape(x, shape=(rows * n,)), place, rows * n)
    count = unsorted_segment_sum(_filled(1.0, rows * n), place, rows * n)
    y = E.div(I.gather(total, place, axis=0), I.gather(count, place, axis=0))
    shape = (*lead, n)
    return IsotonicRegression(
        moveaxis(S.reshape(E.cast(y, dtype=given.dtype), shape=shape), -1, at),
        moveaxis(S.reshape(E.cast(segments, dtype=int32), shape=shape), -1, at),
    )


def _filled(value: float, *shape: Any) -> Tensor:
    return S.broadcast_to(convert(value, float64), shape=shape)  # type: ignore[no-any-return]


def _segments(x: Tensor, n: int) -> Tensor:
    """The numbers of the segments of the decreasing fit of each row."""
    rows = x.shape[0]
    if n == 0:
        return S.broadcast_to(convert(0, int64), shape=(rows, 0))  # type: ignore[no-any-return]
    upto = concat([_filled(0.0, rows, 1), cumsum(x, -1)], -1)
    first, last = counter(n, 3, 1, int64), counter(n, 3, 2, int64)
    sums = E.sub(S.reshape(cut(upto, 1, 1, n), shape=(rows, 1, n)), S.reshape(cut(upto, 1, 0, n), shape=(rows, n, 1)))
    size = E.cast(E.maximum(E.add(E.sub(last, first), 1), 1), dtype=float64)
    means, real = E.div(sums, size), E.greater_equal(last, first)  # of each beginning, the mean to each end
    highest = reduce_max(E.where(real, means, -np.inf), 2)
    lowest = reduce_min(E.where(real, means, np.inf), 1)
    scale = E.mul(reduce_max(E.abs_(x), 1, True), 1e-12)  # equal means may differ in their last digits
    apart = E.less_equal(cut(highest, 1, 1, n - 1), E.add(cut(lowest, 1, 0, n - 1), scale))
    first_of_all = S.broadcast_to(convert(0, int64), shape=(rows, 1))
    return cumsum(concat([first_of_all, E.cast(apart, dtype=int64)], 1), 1)  # type: ignore[no-any-return]


def compute_average_loss(per_example_loss: Any, sample_weight: Any = None, global_batch_size: Any = None) -> Tensor:
    """The sum of losses, each with its weight if these are given, by the number of examples: that of `per_example_loss`
    along its first axis, or `global_batch_size`.
    """
    loss = floating(per_example_loss)
    if sample_weight is not None:
        w = E.cast(operand(sample_weight), dtype=loss.dtype)
        loss = E.mul(loss, S.reshape(w, shape=(*w.shape, *[1] * (loss.ndim - w.ndim))))
    if global_batch_size is None:
        if not loss.ndim:
            raise locate(ShapeError("a 0-d loss has no number of examples: give global_batch_size"))
        global_batch_size = loss.shape[0]
    n = E.cast(convert(global_batch_size), dtype=loss.dtype)
    return E.div(reduce_sum(loss), n)


def scale_regularization_loss(regularization_loss: Any) -> Tensor:
    """The sum of the losses: there is one replica, by the number of which TensorFlow divides."""
    return reduce_sum(floating(regularization_loss))
