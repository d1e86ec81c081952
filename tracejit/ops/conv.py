"""The public convolutions and their transposes, of one to three spatial axes, under TensorFlow's names."""

from __future__ import annotations

from typing import Any

from tracejit.context import activity
from tracejit.errors import ShapeError, locate
from tracejit.ir.sizes import known_equal, shown
from tracejit.ir.types import show_shape
from tracejit.ops import bilinear as B
from tracejit.ops import elementwise as E
from tracejit.ops import shape as S
from tracejit.ops import windows as W
from tracejit.ops.args import as_sizes, factors, operand, require
from tracejit.ops.array import cut
from tracejit.ops.quick import planned
from tracejit.tensor import Operand, Tensor, common_dtype


def _operands(x: Any, filters: Any, n: int, first: bool, what: str = "filters") -> tuple[Operand, Operand, tuple]:
    """Image and filters in one dtype, the image as [batch, spatial…, channels], and the axes of its batch."""
    x, w = W.image(x, n), W.numeric(operand(filters), what)
    if w.ndim != n + 2:
        raise locate(ShapeError(f"{what} {show_shape(w.shape)} have {w.ndim} axes, not {n + 2}"))
    x, w = factors(x, w)
    d = common_dtype([x, w])[0]
    x, lead = W.channels_last(operand(x, d), n, first)
    return x, operand(w, d), lead


def _window_sizes(filters: Operand) -> tuple[int, ...]:
    return tuple([int(d) for d in filters.shape[:-2]])


def _convolution(
    x: Any, filters: Any, strides: Any, padding: Any, data_format: Any, dilations: Any, n: int
) -> Tensor:
    first = W.channels_first(data_format, n)
    t, f, lead = _operands(x, filters, n, first)
    stride, dilation = W.per_axis(strides, n, first, "strides"), W.per_axis(dilations, n, first, "dilations")
    w = W.place_windows(t.shape[1:-1], _window_sizes(f), stride, dilation, padding, first)
    return W.given_layout(B.convolve(t, f, w), n, first, lead)


def convolution(
    input: Any,
    filters: Any,
    strides: Any = None,
    padding: Any = "VALID",
    data_format: str | None = None,
    dilations: Any = None,
    name: str | None = None,
) -> Tensor:
    """A convolution over one, two or three spatial axes, as many as the filters have besides channels.

    Images are [batch, spatial…, channels], filters [size…, channels, outputs]. Filters that see only a part of the
    channels make groups: each group of channels gives an equal share of the outputs. Padding is "SAME", "VALID" or
    pairs of numbers.
    """
    return _convolution(input, filters, strides, padding, data_format, dilations, _rank(filters, "filters"))


def _rank(x: Any, what: str) -> int:
    """The number of spatial axes."""
    shape = operand(x).shape
    if not 3 <= len(shape) <= 5:
        raise locate(ShapeError(f"{what} {show_shape(shape)} have {len(shape)} axes, not 3, 4 or 5"))
    return len(shape) - 2


def conv1d(
    input: Any,
    filters: Any,
    stride: Any,
    padding: Any,
    data_format: str | None = "NWC",
    dilations: Any = None,
    name: str | None = None,
) -> Tensor:
    """The convolution of lines [batch, width, channels] with filters [width, channels, outputs]."""
    if not activity.busy:
        if (quick := planned(conv1d, input, filters, stride, padding, data_format, dilations)) is not None:
            return quick
    return _convolution(input, filters, stride, padding, data_format, dilations, 1)


def conv2d(
    input: Any,
    filters: Any,
    strides: Any,
    padding: Any,
    data_format: str | None = "NHWC",
    dilations: Any = None,
    name: str | None = None,
) -> Tensor:
    """The convolution of images [batch, height, width, channels] with filters [height, width, channels, outputs].

    Filters that see only a part of the channels make groups: each group gives an equal share of the outputs.
    """
    if not activity.busy:
        if (quick := planned(conv2d, input, filters, strides, padding, data_format, dilations)) is not None:
            return quick
    return _convolution(input, filters, strides, padding, data_format, dilations, 2)


def conv3d(
    input: Any,
    filters: Any,
    strides: Any,
    padding: Any,
    data_format: str | None = "NDHWC",
    dilations: Any = None,
    name: str | None = None,
) -> Tensor:
    """The convolution of volumes [batch, depth, height, width, channels]; filters are [sizes…, channels, outputs]."""
    return _convolution(input, filters, strides, padding, data_format, dilations, 3)


def atrous_conv2d(value: Any, filters: Any, rate: Any, padding: Any, name: str | None = None) -> Tensor:
    """conv2d whose filters have rate − 1 zeros between their elements."""
    return _convolution(value, filters, None, padding, None, rate, 2)


# --- channel by channel -----------------------------------------------------------------------------------------------
def depthwise_conv2d(
    input: Any,
    filter: Any,
    strides: Any,
    padding: Any,
    data_format: str | None = None,
    dilations: Any = None,
    name: str | None = None,
) -> Tensor:
    """Each channel with filters of its own, [height, width, channels, multiplier]: channels · multiplier outputs."""
    first = W.channels_first(data_format, 2)
    x, f, lead = _operands(input, filter, 2, first, "filter")
    *_, channels, multiplier = f.shape
    if not known_equal(x.shape[-1], channels):
        raise locate(ShapeError(f"the filter has {shown(channels)} channels and the input {shown(x.shape[-1])}"))
    stride, dilation = W.per_axis(strides, 2, first, "strides"), W.per_axis(dilations, 2, first, "dilations")
    w = W.place_windows(x.shape[1:-1], _window_sizes(f), stride, dilation, padding, first)
    d, shape = x.dtype, (x.shape[0], *w.count, channels * multiplier)
    x, f = W.padded(B.wide(x), w), B.wide(f)
    total = None
    for i, j in B.positions(w.size):
        seen = W.under(x, w, (i, j))
        seen = S.reshape(seen, shape=(*seen.shape, 1))
        part = E.mul(seen, S.reshape(cut(cut(f, 0, i, 1), 1, j, 1), shape=(channels, multiplier)))
        total = part if total is None else E.add(total, part)
    if total is None:
        total = S.broadcast_to(E.cast(0, dtype=x.dtype), shape=(x.shape[0], *w.count, channels, multiplier))
    return W.given_layout(S.reshape(B.narrow(total, d), shape=shape), 2, first, lead)


def separable_conv2d(
    input: Any,
    depthwise_filter: Any,
    pointwise_filter: Any,
    strides: Any,
    padding: Any,
    data_format: str | None = None,
    dilations: Any = None,
    name: str | None = None,
) -> Tensor:
    """A depthwise convolution, then a mixture of its channels: the pointwise filter is [1, 1, channels, outputs]."""
    p = operand(pointwise_filter)
    if p.ndim != 4 or not all(known_equal(d, 1) for d in p.shape[:2]):
        raise locate(ShapeError(f"pointwise_filter is [1, 1, channels, outputs], not {show_shape(p.shape)}"))
    y = depthwise_conv2d(input, depthwise_filter, strides, padding, data_format, dilations)
    channels = y.shape[-3 if W.channels_first(data_format, 2) else -1]
    if not known_equal(channels, p.shape[2]):
        raise locate(ShapeError(f"pointwise_filter takes {shown(p.shape[2])} channels; there are {shown(channels)}"))
    return _convolution(y, p, None, "VALID", data_format, None, 2)


# --- transposes -------------------------------------------------------------------------------------------------------
def _transposed(
    x: Any, filters: Any, output_shape: Any, strides: Any, padding: Any, data_format: Any, dilations: Any, n: int
) -> Tensor:
    first = W.channels_first(data_format, n)
    t, f, lead = _operands(x, filters, n, first)
    shape = as_sizes(output_shape, "output_shape")
    require(len(shape) == n + 2, f"output_shape has a batch, {n} spatial sizes and channels, not {len(shape)} sizes")
    if not known_equal(shape[0], t.shape[0]):
        found = f"output_shape {show_shape(shape)} has another batch than the input {show_shape(t.shape)}"
        raise locate(ShapeError(found))
    have, channels = (shape[2:], shape[1]) if first else (shape[1:-1], shape[-1])
    if not known_equal(t.shape[-1], f.shape[-1]):
        found = f"the filters take {shown(f.shape[-1])} channels and the input has {shown(t.shape[-1])}"
        raise locate(ShapeError(found))
    stride, dilation = W.per_axis(strides, n, first, "strides"), W.per_axis(dilations, n, first, "dilations")
    w = W.place_windows(have, _window_sizes(f), stride, dilation, padding, first)
    if not all(map(known_equal, w.count, t.shape[1:-1])):
        found = f"an output of {show_shape(have)} has {show_shape(w.count)} windows"
        raise locate(ShapeError(f"{found}; the input is {show_shape(t.shape[1:-1])}"))
    return W.given_layout(B.unconvolve(t, f, w, tuple(have), channels), n, first, lead)


def conv_transpose(
    input: Any,
    filters: Any,
    output_shape: Any,
    strides: Any,
    padding: Any = "SAME",
    data_format: str | None = None,
    dilations: Any = None,
    name: str | None = None,
) -> Tensor:
    """The transpose of a convolution over one, two or three spatial axes; filters are [size…, outputs, channels]."""
    n = _rank(filters, "filters")
    return _transposed(input, filters, output_shape, strides, padding, data_format, dilations, n)


def conv1d_transpose(
    input: Any,
    filters: Any,
    output_shape: Any,
    strides: Any,
    padding: Any = "SAME",
    data_format: str | None = "NWC",
    dilations: Any = None,
    name: str | None = None,
) -> Tensor:
    """The transpose of conv1d, as its gradient has it; filters are [width, outputs, channels]."""
    return _transposed(input, filters, output_shape, strides, padding, data_format, dilations, 1)


def conv2d_transpose(
    input: Any,
    filters: Any,
    output_shape: Any,
    strides: Any,
    padding: Any = "SAME",
    data_format: str | None = "NHWC",
    dilations: Any = None,
    name: str | None = None,
) -> Tensor:
    """The transpose of conv2d, as its gradient has it; filters are [height, width, outputs, channels]."""
    return _transposed(input, filters, output_shape, strides, padding, data_format, dilations, 2)


def conv3d_transpose(
    input: Any,
    filters: Any,
    output_shape: Any,
    strides: Any,
    padding: Any = "SAME",
    data_format: str | None = "NDHWC",
    dilations: Any = None,
    name: str | None = None,
) -> Tensor:
    """The transpose of conv3d, as its gradient has it; filters are [depth, height, width, outputs, channels]."""
    return _transposed(input, filters, output_shape, strides, padding, data_format, dilations, 3)


def atrous_conv2d_transpose(
    value: Any, filters: Any, output_shape: Any, rate: Any, padding: Any, name: str | None = None
) -> Tensor:
    """The transpose of atrous_conv2d; filters are [height, width, outputs, channels]."""
    return _transposed(value, filters, output_shape, 1, padding, None, rate, 2)
