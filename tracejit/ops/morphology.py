"""Windows of which the largest element, or the place of it, is wanted: greyscale morphology, pooling with positions."""

from __future__ import annotations

from typing import Any

import numpy as np

from tracejit.errors import ShapeError, locate
from tracejit.ir.sizes import known_equal
from tracejit.ir.types import as_dtype, bool_, int64, show_shape
from tracejit.ops import elementwise as E
from tracejit.ops import shape as S
from tracejit.ops import windows as W
from tracejit.ops.args import operand, require
from tracejit.ops.array import reverse
from tracejit.ops.creation import counter, splat
from tracejit.ops.results import MaxPoolWithArgmax
from tracejit.tensor import Operand, Tensor


def _inside(x: Operand, w: W.Windows) -> Operand | None:
    """Where a padded image is the image itself; None if nothing is added."""
    if not w.padded:
        return None
    ones = splat((1, *x.shape[1:-1], 1), True, bool_)
    return W.padded(ones, w, False)


def _later(b: Tensor, a: Tensor) -> Tensor:
    beats = E.greater(b, a)
    return E.logical_or(beats, E.not_equal(b, b)) if b.dtype.kind == "f" else beats


def dilation2d(
    input: Any, filters: Any, strides: Any, padding: Any, data_format: str, dilations: Any, name: str | None = None
) -> Tensor:
    """The largest sum of pixels and of the filter that lies on them, for each channel.

    input     [batch, height, width, channels], integers or floating
    filters   [height, width, channels], of the same dtype
    result    `y[b, i, j, c] = max over p, q of input[b, s·i + r·p, s·j + r·q, c] + filters[p, q, c]`

    `strides` and `dilations` are [1, h, w, 1], padding is "SAME" or "VALID" and is never the largest. Of equal sums
    the first gets the gradient.
    """
    require(data_format == "NHWC", f"data_format is 'NHWC', not {data_format!r}")
    x = W.image(input, 2)
    f = operand(filters, x.dtype)
    if x.ndim != 4 or f.ndim != 3 or not known_equal(f.shape[2], x.shape[3]):
        raise locate(ShapeError(f"filters {f.type} [height, width, channels] do not go with images {x.type}"))
    size = (int(f.shape[0]), int(f.shape[1]))
    stride, dilation = W.per_axis(strides, 2, False, "strides"), W.per_axis(dilations, 2, False, "dilations")
    w = W.place_windows(x.shape[1:3], size, stride, dilation, padding, False)
    wide, inside, lowest = W.padded(x, w), _inside(x, w), x.dtype.min
    best: Any = None
    for at in np.ndindex(*size):
        own = S.reshape(S.slice_(f, start=(*at, 0), size=(1, 1, f.shape[2]), step=(1, 1, 1)), shape=(f.shape[2],))
        seen = E.add(W.under(wide, w, at), own)
        if inside is not None:
            seen = E.where(W.under(inside, w, at), seen, lowest)
        best = seen if best is None else E.where(_later(seen, best), seen, best)
    if best is None:
        raise locate(ShapeError(f"filters {show_shape(f.shape)} have no elements"))
    return best  # type: ignore[no-any-return]


def erosion2d(
    value: Any, filters: Any, strides: Any, padding: Any, data_format: str, dilations: Any, name: str | None = None
) -> Tensor:
    """The smallest difference of pixels and of the filter that lies on them, for each channel, as `dilation2d`.

    `y[b, i, j, c] = min over p, q of value[b, s·i + r·p, s·j + r·q, c] − filters[−p, −q, c]`
    """
    upside_down = reverse(operand(filters), [0, 1])
    return E.neg(dilation2d(E.neg(operand(value)), upside_down, strides, padding, data_format, dilations))


def max_pool_with_argmax(
    input: Any, ksize: Any, strides: Any, padding: Any, data_format: str = "NHWC", output_dtype: Any = int64,
    include_batch_in_index: bool = False, name: str | None = None,
) -> MaxPoolWithArgmax:  # fmt: skip
    """The largest element of each window of images [batch, height, width, channels], and where it stands.

    Its place is its position in the flattened image [height, width, channels], or in the flattened batch. Of equal
    ones the first counts. padding is "SAME" or "VALID".
    """
    require(data_format == "NHWC", f"data_format is 'NHWC', not {data_format!r}")
    x = W.image(input, 2)
    if x.ndim != 4:
        raise locate(ShapeError(f"input {show_shape(x.shape)} has {x.ndim} axes, not 4"))
    size, stride = W.per_axis(ksize, 2, False, "ksize"), W.per_axis(strides, 2, False, "strides")
    w = W.place_windows(x.shape[1:3], size, stride, (1, 1), padding, False)
    batch, height, width, channels = x.shape
    wide, inside = W.padded(x, w), _inside(x, w)
    best: Any = None
    for p, q in np.ndindex(*size):
        seen = W.under(wide, w, (p, q))
        row, column = (
            E.add(E.mul(counter(w.count[a], 4, a + 1, int64), stride[a]), k - w.before[a]) for a, k in ((0, p), (1, q))
        )
        place = E.add(E.mul(E.add(E.mul(row, width), column), channels), counter(channels, 4, 3, int64))
        place = S.broadcast_to(place, shape=tuple(seen.shape))
        if inside is not None:
            seen = E.where(W.under(inside, w, (p, q)), seen, x.dtype.min)
        if best is None:
            best, at = seen, place
            continue
        later = _later(seen, best)
        best, at = E.where(later, seen, best), E.where(later, place, at)
    if include_batch_in_index:
        at = E.add(at, E.mul(counter(batch, 4, 0, int64), height * width * channels))
    return MaxPoolWithArgmax(best, E.cast(at, dtype=as_dtype(output_dtype)))
