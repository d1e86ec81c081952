"""Pooling over windows, normalisation over neighbouring channels, and blocks of space moved to channels or batches."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from tracejit.context import activity
from tracejit.errors import ShapeError, locate
from tracejit.ir.sizes import is_unit, known_equal, shown
from tracejit.ir.types import DType, float32, show_shape
from tracejit.ops import elementwise as E
from tracejit.ops import shape as S
from tracejit.ops import windows as W
from tracejit.ops.args import Size, as_size, as_sizes, floating, operand, require
from tracejit.ops.array import cut
from tracejit.ops.quick import planned, traced
from tracejit.ops.reductions import reduce_sum
from tracejit.tensor import Operand, Tensor

FEW = 9  # positions up to which windows that lie side by side are compared position by position
DIRECT = 6  # windows of more elements are put together from windows of half the size


# --- windows ----------------------------------------------------------------------------------------------------------
def _larger(a: Operand, b: Operand) -> Tensor:
    """The larger of two; the first where they are equal, so that the first maximum gets the gradient. NaN stays."""
    return E.where(_beats(b, a), b, a)


def _beats(b: Operand, a: Operand) -> Tensor:
    later = E.greater(b, a)
    return E.logical_or(later, E.not_equal(b, b)) if b.dtype.kind == "f" else later


def _lines(x: Operand, axis: int, w: W.Windows, a: int) -> list[Tensor]:
    """What each position of the window sees along one axis."""
    return [cut(x, axis, i * w.dilation[a], w.count[a], w.stride[a]) for i in range(w.size[a])]


def _largest(x: Operand, axis: int, w: W.Windows, a: int) -> Operand:
    """The largest element of each window along one axis."""
    size, step, count = w.size[a], w.dilation[a], w.count[a]
    if size <= DIRECT or not (w.stride[a] == 1 or is_unit(count)):
        return functools.reduce(_larger, _lines(x, axis, w, a))
    half = 1
    while 2 * half <= size:  # x holds at each place the largest of the `half` elements from there on
        room = count + (size - 2 * half) * step
        x, half = _larger(cut(x, axis, 0, room), cut(x, axis, half * step, room)), 2 * half
    first = cut(x, axis, 0, count)
    return first if half == size else _larger(first, cut(x, axis, (size - half) * step, count))


def _total(x: Operand, axis: int, w: W.Windows, a: int) -> Operand:
    """The sum of each window along one axis."""
    size, stride, count = w.size[a], w.stride[a], w.count[a]
    if size > 1 and w.dilation[a] == 1 and (stride == size or is_unit(count)):
        whole = cut(x, axis, 0, count * size)
        return reduce_sum(S.reshape(whole, shape=(*x.shape[:axis], count, size, *x.shape[axis + 1 :])), axis + 1)
    return functools.reduce(E.add, _lines(x, axis, w, a))


def _over_windows(x: Operand, w: W.Windows, along: Callable[[Operand, int, W.Windows, int], Operand]) -> Operand:
    """One axis after another: the last one first, so that the first maximum of a window is the one of the first row."""
    for a in reversed(range(len(w.size))):
        if w.size[a] > 1 or w.stride[a] > 1 or not known_equal(x.shape[a + 1], w.count[a]):
            x = along(x, a + 1, w, a)
    return x


def _lowest(d: DType) -> Any:
    if d.kind == "f":
        return -math.inf
    return int(np.iinfo(d.np).min)


# Windows side by side: the gradient goes to its place in the window, and nothing needs adding.
def _side_by_side(w: W.Windows) -> bool:
    apart = all(k == s and r == 1 for k, s, r in zip(w.size, w.stride, w.dilation, strict=True))
    return apart and not w.padded and 1 < math.prod(w.size) <= FEW


def _winners(x: Operand, w: W.Windows) -> Iterator[tuple[Operand, Tensor | None]]:
    """What each position sees, and where that is larger than what all positions before it see."""
    best: Operand | None = None
    for at in np.ndindex(*w.size):
        seen = W.under(x, w, at)
        later = None if best is None else _beats(seen, best)
        yield seen, later
        best = seen if best is None or later is None else E.where(later, seen, best)


def _first_largest(x: Operand, w: W.Windows) -> Operand:
    best: Any = None
    for seen, later in _winners(x, w):
        best = seen if later is None else E.where(later, seen, best)
    return best


def _largest_vjp(g: Tensor, x: Tensor, *, windows: tuple) -> tuple:
    w = W.Windows(*windows)
    parts: list[Any] = []
    for _, later in reversed(list(_winners(x, w))):
        parts.append(g if later is None else E.where(later, g, 0))
        g = g if later is None else E.where(later, 0, g)
    parts.reverse()
    n = len(w.size)
    for axis in reversed(range(1, n + 1)):  # positions of the last axis lie next to each other in the list
        k, shape = w.size[axis - 1], tuple(parts[0].shape)
        thin = [S.reshape(p, shape=(*shape[: axis + 1], 1, *shape[axis + 1 :])) for p in parts]
        rows = [thin[i : i + k] for i in range(0, len(thin), k)]
        full = (*shape[:axis], shape[axis] * k, *shape[axis + 1 :])
        parts = [S.reshape(S.concat(*r, axis=axis + 1) if k > 1 else r[0], shape=full) for r in rows]
    whole = S.place(parts[0], shape=tuple(x.shape), start=(0,) * x.ndim, step=(1,) * x.ndim, fill=0)
    return (whole,)


def _largest_jvp(t: tuple, x: Tensor, *, windows: tuple) -> Tensor:
    w = W.Windows(*windows)
    d: Any = None
    for at, (_, later) in zip(np.ndindex(*w.size), _winners(x, w), strict=True):
        seen = W.under(t[0], w, at)
        d = seen if later is None else E.where(later, seen, d)
    return d


_largest_row = W.derived(
    "largest", 1, _largest_vjp, _largest_jvp, "The largest elements of windows that lie side by side."
)


def _max_windows(x: Operand, w: W.Windows) -> Operand:
    if _side_by_side(w):
        return _largest_row(_first_largest(x, w), x, windows=w.attr())
    return _over_windows(W.padded(x, w, _lowest(x.dtype)), w, _largest)


def _mean_windows(x: Operand, w: W.Windows) -> Operand:
    """Means over what windows see of the image itself, without the padding."""
    d = x.dtype
    wide = E.cast(x, dtype=float32) if d.bits == 16 else x
    y = _over_windows(W.padded(wide, w), w, _total)
    if w.padded:
        ones = S.broadcast_to(E.cast(1, dtype=wide.dtype), shape=(1, *x.shape[1:-1], 1))
        y = E.div(y, _over_windows(W.padded(ones, w), w, _total))
    else:
        y = E.div(y, float(math.prod(w.size)))
    return y if wide is x else E.cast(y, dtype=d)


def _pool(
    x: Any, size: Any, strides: Any, padding: Any, data_format: Any, n: int, mean: bool, dilations: Any = None
) -> Tensor:
    first = W.channels_first(data_format, n)
    t = W.image(x, n)
    t, lead = W.channels_last(floating(t) if mean else t, n, first)
    sizes, stride = W.per_axis(size, n, first, "ksize"), W.per_axis(strides, n, first, "strides")
    dilation = W.per_axis(dilations, n, first, "dilations")
    w = W.place_windows(t.shape[1:-1], sizes, stride, dilation, padding, first)
    y = _mean_windows(t, w) if mean else _max_windows(t, w)
    return W.given_layout(y if type(y) is Tensor else E.identity(y), n, first, lead)


def _any_pool(x: Any, ksize: Any, strides: Any, padding: Any, data_format: Any, mean: bool) -> Tensor:
    t = operand(x)
    if not 3 <= t.ndim <= 5:
        raise locate(ShapeError(f"input {show_shape(t.shape)} has {t.ndim} axes, not 3, 4 or 5"))
    return _pool(t, ksize, strides, padding, data_format, t.ndim - 2, mean)


# --- the largest ------------------------------------------------------------------------------------------------------
def max_pool(
    input: Any, ksize: Any, strides: Any, padding: Any, data_format: str | None = None, name: str | None = None
) -> Tensor:
    """The largest element of each window over one, two or three spatial axes, NaN if there is one.

    Of equal ones the first gets the gradient. Padding is "SAME", "VALID" or pairs of numbers, and is never the largest.
    """
    if not activity.busy and (quick := traced(max_pool, input, ksize, strides, padding, data_format)) is not None:
        return quick
    return _any_pool(input, ksize, strides, padding, data_format, mean=False)


def max_pool1d(
    input: Any, ksize: Any, strides: Any, padding: Any, data_format: str | None = "NWC", name: str | None = None
) -> Tensor:
    """The largest element of each window of lines [batch, width, channels]."""
    if not activity.busy and (quick := traced(max_pool1d, input, ksize, strides, padding, data_format)) is not None:
        return quick
    return _pool(input, ksize, strides, padding, data_format, 1, mean=False)


def max_pool2d(
    input: Any, ksize: Any, strides: Any, padding: Any, data_format: str | None = "NHWC", name: str | None = None
) -> Tensor:
    """The largest element of each window of images [batch, height, width, channels]."""
    if not activity.busy and (quick := traced(max_pool2d, input, ksize, strides, padding, data_format)) is not None:
        return quick
    return _pool(input, ksize, strides, padding, data_format, 2, mean=False)


def max_pool3d(
    input: Any, ksize: Any, strides: Any, padding: Any, data_format: str | None = "NDHWC", name: str | None = None
) -> Tensor:
    """The largest element of each window of volumes [batch, depth, height, width, channels]."""
    if not activity.busy and (quick := traced(max_pool3d, input, ksize, strides, padding, data_format)) is not None:
        return quick
    return _pool(input, ksize, strides, padding, data_format, 3, mean=False)


# --- the mean ---------------------------------------------------------------------------------------------------------
def avg_pool(
    input: Any, ksize: Any, strides: Any, padding: Any, data_format: str | None = None, name: str | None = None
) -> Tensor:
    """The mean of each window over one, two or three spatial axes. Padding does not count."""
    if not activity.busy and (quick := planned(avg_pool, input, ksize, strides, padding, data_format)) is not None:
        return quick
    return _any_pool(input, ksize, strides, padding, data_format, mean=True)


def avg_pool1d(
    input: Any, ksize: Any, strides: Any, padding: Any, data_format: str | None = "NWC", name: str | None = None
) -> Tensor:
    """The mean of each window of lines [batch, width, channels]."""
    if not activity.busy and (quick := planned(avg_pool1d, input, ksize, strides, padding, data_format)) is not None:
        return quick
    return _pool(input, ksize, strides, padding, data_format, 1, mean=True)


def avg_pool2d(
    input: Any, ksize: Any, strides: Any, padding: Any, data_format: str | None = "NHWC", name: str | None = None
) -> Tensor:
    """The mean of each window of images [batch, height, width, channels]."""
    if not activity.busy and (quick := planned(avg_pool2d, input, ksize, strides, padding, data_format)) is not None:
        return quick
    return _pool(input, ksize, strides, padding, data_format, 2, mean=True)


def avg_pool3d(
    input: Any, ksize: Any, strides: Any, padding: Any, data_format: str | None = "NDHWC", name: str | None = None
) -> Tensor:
    """The mean of each window of volumes [batch, depth, height, width, channels]."""
    if not activity.busy and (quick := planned(avg_pool3d, input, ksize, strides, padding, data_format)) is not None:
        return quick
    return _pool(input, ksize, strides, padding, data_format, 3, mean=True)


def pool(
    input: Any,
    window_shape: Any,
    pooling_type: str,
    strides: Any = None,
    padding: Any = "VALID",
    data_format: str | None = None,
    dilations: Any = None,
    name: str | None = None,
) -> Tensor:
    """Windows of `window_shape`, whose elements may lie `dilations` apart: "MAX" or "AVG" of each."""
    kind = str(pooling_type).upper()
    require(kind in ("MAX", "AVG"), f"pooling_type is 'MAX' or 'AVG', not {pooling_type!r}")
    n = operand(input).ndim - 2
    sizes = as_sizes(window_shape, "window_shape")
    require(1 <= n <= 3 and len(sizes) in (1, n), f"window_shape has {len(sizes)} sizes for an input of {n + 2} axes")
    return _pool(input, sizes, strides, padding, data_format, n, kind == "AVG", dilations)


# --- neighbouring channels --------------------------------------------------------------------------------------------
def local_response_normalization(
    input: Any, depth_radius: int = 5, bias: Any = 1, alpha: Any = 1, beta: Any = 0.5, name: str | None = None
) -> Tensor:
    """input / (bias + alpha · Σ input²)^beta, the sum over the channels no more than `depth_radius` away."""
    if not activity.busy:
        if (quick := planned(local_response_normalization, input, depth_radius, bias, alpha, beta)) is not None:
            return quick
    x, radius = floating(input), as_size(depth_radius, "depth_radius")
    require(x.ndim == 4 and radius >= 0, f"lrn takes four axes and a radius ≥ 0, not {x.ndim} axes and {radius}")
    channels, last = x.shape[-1], x.ndim - 1
    square = E.square(x)
    around = S.place(
        square, shape=(*x.shape[:-1], channels + 2 * radius), start=(0,) * last + (radius,), step=(1,) * x.ndim, fill=0
    )
    total = functools.reduce(E.add, [cut(around, last, i, channels) for i in range(2 * int(radius) + 1)])
    scale = E.add(E.mul(total, alpha), bias)
    return E.div(x, E.sqrt(scale)) if beta == 0.5 else E.mul(x, E.pow_(scale, -beta))


lrn = local_response_normalization


# --- blocks of space --------------------------------------------------------------------------------------------------
def _block(x: Any, block_size: Any, data_format: Any) -> tuple[Operand, int, bool]:
    t, b = operand(x), int(as_size(block_size, "block_size"))
    require(t.ndim == 4, f"input has {t.ndim} axes, not 4")
    require(b > 0, f"block_size must be positive, not {b}")
    first = W.channels_first(data_format, 2)
    return (S.transpose(t, perm=(0, 2, 3, 1)) if first else t), b, first


def _quotient(d: Size, b: int, what: str) -> Size:
    if not known_equal(d % b, 0):
        raise locate(ShapeError(f"{what} {shown(d)} is no multiple of {b}"))
    return d // b


def space_to_depth(
    input: Any, block_size: Any, data_format: str | None = "NHWC", name: str | None = None
) -> Tensor:
    """Squares of block_size · block_size pixels as channels of one pixel."""
    if not activity.busy and (quick := traced(space_to_depth, input, block_size, data_format)) is not None:
        return quick
    x, b, first = _block(input, block_size, data_format)
    n, h, w, c = x.shape
    h, w = _quotient(h, b, "height"), _quotient(w, b, "width")
    y = S.transpose(S.reshape(x, shape=(n, h, b, w, b, c)), perm=(0, 1, 3, 2, 4, 5))
    return W.given_layout(S.reshape(y, shape=(n, h, w, b * b * c)), 2, first, (n,))


def depth_to_space(
    input: Any, block_size: Any, data_format: str | None = "NHWC", name: str | None = None
) -> Tensor:
    """The channels of each pixel as squares of block_size · block_size pixels."""
    if not activity.busy and (quick := traced(depth_to_space, input, block_size, data_format)) is not None:
        return quick
    x, b, first = _block(input, block_size, data_format)
    n, h, w, c = x.shape
    c = _quotient(c, b * b, "channels")
    y = S.transpose(S.reshape(x, shape=(n, h, w, b, b, c)), perm=(0, 1, 3, 2, 4, 5))
    return W.given_layout(S.reshape(y, shape=(n, h * b, w * b, c)), 2, first, (n,))


def _blocks(x: Operand, block_shape: Any, pairs: Any, what: str) -> tuple[tuple[int, ...], list[tuple[Size, Size]]]:
    blocks = tuple([int(b) for b in as_sizes(block_shape, "block_shape")])
    rows = pairs if isinstance(pairs, Sequence) else operand(pairs)
    ends = [as_sizes(p, what) for p in rows]
    if len(blocks) == 1:
        blocks *= len(ends)
    m = len(blocks)
    require(all(b > 0 for b in blocks), f"block_shape must be positive, not {blocks}")
    require(m == len(ends) and all(len(p) == 2 for p in ends), f"{what} needs a pair for each of {m} blocks")
    require(all(p >= 0 for pair in ends for p in pair), f"{what} must not be negative")
    require(x.ndim > m, f"input has {x.ndim} axes, too few for {m} blocks")
    return blocks, [(p[0], p[1]) for p in ends]


def space_to_batch(input: Any, block_shape: Any, paddings: Any, name: str | None = None) -> Tensor:
    """The pixels of blocks dealt to as many images of the batch, after zeros around the image."""
    x = operand(input)
    blocks, pairs = _blocks(x, block_shape, paddings, "paddings")
    m, rest = len(blocks), tuple(x.shape[len(blocks) + 1 :])
    sizes = [a + d + b for d, (a, b) in zip(x.shape[1:], pairs)]
    parts = [_quotient(d, b, "the padded size") for d, b in zip(sizes, blocks, strict=True)]
    lead = (0, *[a for a, _ in pairs], *(0,) * len(rest))
    x = S.place(x, shape=(x.shape[0], *sizes, *rest), start=lead, step=(1,) * x.ndim, fill=0)
    split = [s for p, b in zip(parts, blocks, strict=True) for s in (p, b)]
    y = S.reshape(x, shape=(x.shape[0], *split, *rest))
    order = (*range(2, 2 * m + 1, 2), 0, *range(1, 2 * m, 2), *range(2 * m + 1, y.ndim))
    return S.reshape(S.transpose(y, perm=order), shape=(x.shape[0] * math.prod(blocks), *parts, *rest))


def batch_to_space(input: Any, block_shape: Any, crops: Any, name: str | None = None) -> Tensor:
    """Images of the batch woven together in blocks, then cut at the edges: the way back from space_to_batch."""
    x = operand(input)
    blocks, pairs = _blocks(x, block_shape, crops, "crops")
    m, rest = len(blocks), tuple(x.shape[len(blocks) + 1 :])
    batch, parts = _quotient(x.shape[0], math.prod(blocks), "the batch"), tuple(x.shape[1 : m + 1])
    y = S.reshape(x, shape=(*blocks, batch, *parts, *rest))
    order = (m, *[i for a in range(m) for i in (m + 1 + a, a)], *range(2 * m + 1, y.ndim))
    full = [p * b for p, b in zip(parts, blocks, strict=True)]
    y = S.reshape(S.transpose(y, perm=order), shape=(batch, *full, *rest))
    sizes = [d - a - b for d, (a, b) in zip(full, pairs, strict=True)]
    if any(s < 0 for s in sizes):
        raise locate(ShapeError(f"crops {pairs} are larger than the image {show_shape(full)}"))
    return S.slice_(
        y, start=(0, *[a for a, _ in pairs], *(0,) * len(rest)), size=(batch, *sizes, *rest), step=(1,) * y.ndim
    )
