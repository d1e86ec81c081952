"""Means and variances from sums, weighted ones, and normalisations made of them, under TensorFlow's names."""

from __future__ import annotations

from typing import Any

from tracejit.errors import ShapeError, locate
from tracejit.ir.sizes import known_equal
from tracejit.ir.types import show_shape
from tracejit.ops import elementwise as E
from tracejit.ops import shape as S
from tracejit.ops.args import as_axes, as_axis, as_size, floating, operand, require
from tracejit.ops.nn import batch_normalization
from tracejit.ops.reductions import count, moments, reduce_sum
from tracejit.tensor import Tensor, convert


def sufficient_statistics(
    x: Any, axes: Any, shift: Any = None, keepdims: bool = False, name: str | None = None
) -> tuple[Tensor, Tensor, Tensor, Tensor | None]:
    """How many elements there are over axes, their sum, the sum of their squares, and the shift or None.

    With a shift the sums are those of x − shift, which loses fewer digits if it is near the mean.
    """
    t = floating(x)
    s = None if shift is None else operand(shift, t.dtype)
    away = t if s is None else E.sub(t, s)
    squares = E.square(away)
    n = convert(count(t, axes), t.dtype)
    kept = None if s is None else E.identity(s)
    return n, reduce_sum(away, axes, keepdims), reduce_sum(squares, axes, keepdims), kept


def normalize_moments(
    counts: Any, mean_ss: Any, variance_ss: Any, shift: Any, name: str | None = None
) -> tuple[Tensor, Tensor]:
    """The mean and the variance from what `sufficient_statistics` gives."""
    n = E.reciprocal(floating(counts))
    shifted = E.mul(floating(mean_ss), n)
    mean = shifted if shift is None else E.add(shifted, shift)
    return mean, E.sub(E.mul(floating(variance_ss), n), E.square(shifted))


def weighted_moments(
    x: Any, axes: Any, frequency_weights: Any, keepdims: bool = False, name: str | None = None
) -> tuple[Tensor, Tensor]:
    """The mean and the variance over axes of elements that count as often as their weights say."""
    t = floating(x)
    w = operand(frequency_weights, t.dtype)
    total = reduce_sum(S.broadcast_to(w, shape=tuple(E.add(w, E.mul(t, 0)).shape)), axes, True)
    mean = E.div(reduce_sum(E.mul(w, t), axes, True), total)
    variance = E.div(reduce_sum(E.mul(w, E.square(E.sub(t, mean))), axes, True), total)
    if keepdims:
        return mean, variance
    over = as_axes(axes, mean.ndim)
    shape = tuple([d for i, d in enumerate(mean.shape) if i not in over])
    return S.reshape(mean, shape=shape), S.reshape(variance, shape=shape)


def batch_norm_with_global_normalization(
    input: Any, mean: Any, variance: Any, beta: Any, gamma: Any, variance_epsilon: Any,
    scale_after_normalization: bool, name: str | None = None,
) -> Tensor:  # fmt: skip
    """(input − mean) / √(variance + ε) · gamma + beta; gamma counts if `scale_after_normalization`."""
    return batch_normalization(
        input, mean, variance, beta, gamma if scale_after_normalization else None, variance_epsilon
    )


def group_normalization(
    x: Any, groups: Any = 32, scale: Any = None, offset: Any = None, axis: Any = -1, epsilon: float = 1e-3,
    name: str | None = None,
) -> Tensor:  # fmt: skip
    """Groups of channels brought to mean 0 and variance 1 in each example, then · scale + offset for each channel.

    x       [batch, …, channels, …], the channels along `axis`; axis 0 is the batch
    groups  how many of them: 1 normalises over all channels, as many as there are channels each for itself

    Raises `ShapeError` if the channels are not `groups` equal groups.
    """
    t = floating(x)
    at = as_axis(axis, t.ndim)
    require(at > 0, "axis 0 is the batch")
    k, channels = as_size(groups, "groups"), t.shape[at]
    if k <= 0 or not known_equal(channels % k, 0):
        raise locate(ShapeError(f"{channels} channels of {show_shape(t.shape)} are not {k} equal groups"))
    apart = S.reshape(t, shape=(*t.shape[:at], k, channels // k, *t.shape[at + 1 :]))
    over = [a for a in range(1, apart.ndim) if a != at]
    mean, variance = moments(apart, over, keepdims=True)
    y = S.reshape(batch_normalization(apart, mean, variance, None, None, epsilon), shape=tuple(t.shape))
    own = (channels, *[1] * (t.ndim - at - 1))
    for value, combine in ((scale, E.mul), (offset, E.add)):
        if value is not None:
            v = operand(value, t.dtype)
            y = combine(y, S.reshape(v, shape=own) if v.ndim == 1 else v)
    return y
