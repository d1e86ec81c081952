"""Activations, losses and normalisations, composed of primitive ops so that they fuse."""

from __future__ import annotations

import math
from typing import Any

from tracejit.context import activity
from tracejit.errors import DTypeError, ShapeError, locate
from tracejit.ir.sizes import fit
from tracejit.ir.types import float32, int32, int64, show_shape
from tracejit.ops import direct
from tracejit.ops import elementwise as E
from tracejit.ops import shape as S
from tracejit.ops.args import as_sizes, floating, operand, require
from tracejit.ops.array import concat, expand_dims
from tracejit.ops.check import require_range
from tracejit.ops.creation import counter
from tracejit.ops.define import public
from tracejit.ops.linalg import l2_normalize
from tracejit.ops.math import sigmoid, softplus, tanh
from tracejit.ops.quick import at_once, exact, planned, traced
from tracejit.ops.reductions import moments, peak, reduce_all, reduce_any, reduce_mean, reduce_sum
from tracejit.ops.select import gather
from tracejit.tensor import Operand, Tensor, is_tensor

relu = public(E.relu)


# --- activations ------------------------------------------------------------------------------------------------------
def relu6(features: Any, name: str | None = None) -> Tensor:
    """min(max(x, 0), 6)."""
    if not activity.busy and (quick := planned(relu6, features)) is not None:
        return quick
    x = operand(features)
    return E.where(E.greater_equal(x, 6), 6, E.relu(x))


def leaky_relu(features: Any, alpha: Any = 0.2, name: str | None = None) -> Tensor:
    """x where it is positive, αx elsewhere."""
    if not activity.busy and (quick := planned(leaky_relu, features, alpha)) is not None:
        return quick
    x = floating(features)
    return E.where(E.greater(x, 0), x, E.mul(x, alpha))


def elu(features: Any, alpha: Any = 1.0, name: str | None = None) -> Tensor:
    """x where it is positive, α(eˣ − 1) elsewhere."""
    if not activity.busy and (quick := planned(elu, features, alpha)) is not None:
        return quick
    x = floating(features)
    low = E.expm1(x)
    return E.where(E.greater(x, 0), x, low if type(alpha) is float and alpha == 1.0 else E.mul(low, alpha))


def crelu(features: Any, axis: Any = -1, name: str | None = None) -> Tensor:
    """relu(x) and relu(−x) joined along an axis."""
    if not activity.busy and (quick := planned(crelu, features, axis)) is not None:
        return quick
    x = operand(features)
    return E.relu(concat([x, E.neg(x)], axis))


def selu(features: Any, name: str | None = None) -> Tensor:
    """The scaled elu that keeps mean 0 and variance 1."""
    if not activity.busy and (quick := planned(selu, features)) is not None:
        return quick
    return E.mul(elu(features, 1.6732632423543772), 1.0507009873554805)


def gelu(features: Any, approximate: bool = False, name: str | None = None) -> Tensor:
    """x Φ(x), Φ the normal distribution function; `approximate` uses tanh for it."""
    if not activity.busy and (quick := planned(gelu, features, approximate)) is not None:
        return quick
    x = floating(features)
    if approximate:
        inner = E.mul(E.add(x, E.mul(0.044715, E.mul(x, E.square(x)))), math.sqrt(8 / math.pi))
        return E.mul(x, E.sigmoid(inner))  # (1 + tanh t) / 2 = σ(2t), which keeps its digits
    return E.mul(E.mul(x, 0.5), E.erfc(E.mul(x, -math.sqrt(0.5))))  # 1 + erf loses its digits where it is small


def silu(features: Any, beta: Any = 1.0, name: str | None = None) -> Tensor:
    """x σ(βx)."""
    if not activity.busy and (quick := planned(silu, features, beta)) is not None:
        return quick
    x = floating(features)
    return E.mul(x, E.sigmoid(x if type(beta) is float and beta == 1.0 else E.mul(x, beta)))


swish = silu


def softsign(features: Any, name: str | None = None) -> Tensor:
    """x / (1 + |x|)."""
    if not activity.busy and (quick := planned(softsign, features)) is not None:
        return quick
    x = floating(features)
    return E.div(x, E.add(E.abs_(x), 1.0))


def _exponentials(logits: Any, axis: Any) -> tuple[Tensor, Tensor, Tensor]:
    """Shifted logits, their exponentials and the sum of these along an axis that is kept.

    NaN where a logit is +∞ or all are −∞: a finite shift would let wrong slopes through.
    """
    x = floating(logits)
    require(x.ndim > 0, "softmax needs one axis or more")
    shifted = E.sub(x, peak(x, axis, finite=False))
    e = E.exp(shifted)
    return shifted, e, reduce_sum(e, axis, True)


def softmax(logits: Any, axis: Any = -1, name: str | None = None) -> Tensor:
    """eˣ / Σeˣ along an axis, without overflow."""
    if not activity.busy and (quick := planned(softmax, logits, axis)) is not None:
        return quick
    _, e, total = _exponentials(logits, axis)
    return E.div(e, total)


def log_softmax(logits: Any, axis: Any = -1, name: str | None = None) -> Tensor:
    """The logarithm of the softmax along an axis, without underflow."""
    if not activity.busy and (quick := planned(log_softmax, logits, axis)) is not None:
        return quick
    shifted, _, total = _exponentials(logits, axis)
    return E.sub(shifted, E.log(total))


# --- losses -----------------------------------------------------------------------------------------------------------
def softmax_cross_entropy_with_logits(labels: Any, logits: Any, axis: Any = -1, name: str | None = None) -> Tensor:
    """−Σ labels · log softmax(logits) along an axis; the labels are probabilities.

    A class whose logit is −∞ adds nothing where its label is 0.
    """
    if not activity.busy:
        if (quick := planned(softmax_cross_entropy_with_logits, labels, logits, axis)) is not None:
            return quick
    x, p = floating(logits), operand(labels)
    p = operand(p, x.dtype) if p.dtype.kind not in "fc" else p
    y = E.multiply_no_nan(log_softmax(x, axis), p)
    return E.neg(reduce_sum(y, axis))


def sparse_softmax_cross_entropy_with_logits(labels: Any, logits: Any, name: str | None = None) -> Tensor:
    """−log softmax(logits)[label] along the last axis; the labels are class numbers.

    Raises `OutOfRangeError` for a label outside 0 … classes − 1, in traced functions when they run.
    """
    if not activity.busy and at_once(direct.are_classes, labels, logits) is not None:
        if (quick := planned(_sparse_cross_entropy, labels, logits)) is not None:
            return quick
    x, c = floating(logits), operand(labels)
    if c.dtype.kind not in "iu":
        raise locate(DTypeError(f"labels are class numbers, not {c.dtype.name}"))
    fits = c.ndim == x.ndim - 1 and all(map(fit, c.shape, x.shape[:-1]))
    if not fits:
        raise locate(ShapeError(f"labels {show_shape(c.shape)} do not go with logits {show_shape(x.shape)}"))
    require_range(c, x.shape[-1], "label {} is not one of {high} classes", negative=False)
    return _sparse_cross_entropy(c, x)


def _sparse_cross_entropy(c: Operand, logits: Any) -> Tensor:
    x = floating(logits)
    shifted, _, total = _exponentials(x, -1)
    d = int64 if c.dtype.bits == 64 else int32
    hit = E.equal(S.reshape(E.cast(c, dtype=d), shape=(*c.shape, 1)), counter(x.shape[-1], x.ndim, x.ndim - 1, d))
    chosen = reduce_sum(E.where(hit, shifted, 0.0), -1)
    return E.sub(E.log(S.reshape(total, shape=tuple(c.shape))), chosen)


def sigmoid_cross_entropy_with_logits(labels: Any = None, logits: Any = None, name: str | None = None) -> Tensor:
    """The cross-entropy of independent probabilities σ(logits) and labels, element by element.

    An infinite logit costs nothing where the label agrees with it.
    """
    if not activity.busy and (quick := planned(sigmoid_cross_entropy_with_logits, labels, logits)) is not None:
        return quick
    x = floating(logits)
    z = operand(labels, x.dtype)
    positive = E.greater(x, 0)
    slope = E.sub(E.cast(positive, dtype=x.dtype), z)
    return E.add(E.multiply_no_nan(x, slope), _softplus_below(x, positive))


def _softplus_below(x: Operand, positive: Operand) -> Tensor:
    """softplus(−|x|), whose slope at 0 is that of softplus(x)."""
    return E.softplus(E.where(positive, E.neg(x), x))


def weighted_cross_entropy_with_logits(labels: Any, logits: Any, pos_weight: Any, name: str | None = None) -> Tensor:
    """The sigmoid cross-entropy with the positive labels weighted."""
    if not activity.busy:
        if (quick := planned(weighted_cross_entropy_with_logits, labels, logits, pos_weight)) is not None:
            return quick
    x = floating(logits)
    z = operand(labels, x.dtype)
    if not isinstance(pos_weight, (int, float)):
        pos_weight = operand(pos_weight)
    weight = E.add(E.mul(z, pos_weight - 1.0), 1.0)
    positive = E.greater(x, 0)
    slope = E.where(positive, E.sub(1.0, z), E.neg(E.mul(z, pos_weight)))
    return E.add(E.multiply_no_nan(x, slope), E.mul(weight, _softplus_below(x, positive)))


def log_poisson_loss(
    targets: Any, log_input: Any, compute_full_loss: bool = False, name: str | None = None
) -> Tensor:
    """e^c − c·z, the Poisson loss of a log rate c for counts z.

    `compute_full_loss` adds Stirling's approximation of log z! where z > 1.
    """
    c = floating(log_input)
    z = operand(targets, c.dtype)
    y = E.sub(E.exp(c), E.mul(c, z))
    if not compute_full_loss:
        return y
    many = E.greater(z, 1)
    safe = E.where(many, z, 1.0)
    stirling = E.add(E.sub(E.mul(safe, E.log(safe)), safe), E.mul(0.5, E.log(E.mul(safe, 2 * math.pi))))
    return E.add(y, E.where(E.logical_and(E.greater_equal(z, 0), many), stirling, 0.0))


def l2_loss(t: Any, name: str | None = None) -> Tensor:
    """Half the sum of the squares."""
    if not activity.busy and (quick := planned(l2_loss, t)) is not None:
        return quick
    return E.mul(reduce_sum(E.square(floating(t))), 0.5)


def mean_squared_error(y_true: Any, y_pred: Any) -> Tensor:
    """The mean of (y_true − y_pred)² along the last axis."""
    if not activity.busy and (quick := planned(mean_squared_error, y_true, y_pred)) is not None:
        return quick
    return reduce_mean(E.square(E.sub(floating(y_true), y_pred)), -1)


def mean_absolute_error(y_true: Any, y_pred: Any) -> Tensor:
    """The mean of |y_true − y_pred| along the last axis."""
    if not activity.busy and (quick := planned(mean_absolute_error, y_true, y_pred)) is not None:
        return quick
    return reduce_mean(E.abs_(E.sub(floating(y_true), y_pred)), -1)


def huber(y_true: Any, y_pred: Any, delta: float = 1.0) -> Tensor:
    """The mean along the last axis of ½e², which goes on as a straight line where |e| > delta."""
    if not activity.busy and (quick := planned(huber, y_true, y_pred, delta)) is not None:
        return quick
    e = E.abs_(E.sub(floating(y_true), y_pred))
    return reduce_mean(
        E.where(E.less_equal(e, delta), E.mul(E.square(e), 0.5), E.sub(E.mul(e, delta), 0.5 * delta * delta)), -1
    )


# --- layers -----------------------------------------------------------------------------------------------------------
def bias_add(value: Any, bias: Any, data_format: str | None = None, name: str | None = None) -> Tensor:
    """value + bias along the last axis, or along axis 1 if the data format begins with "NC"."""
    x, b = operand(value), operand(bias)
    if data_format is not None and data_format.startswith("NC"):
        b = S.reshape(b, shape=(1, *b.shape, *(1,) * (x.ndim - 2)))
    return E.add(x, b)


def batch_normalization(
    x: Any, mean: Any, variance: Any, offset: Any, scale: Any, variance_epsilon: Any, name: str | None = None
) -> Tensor:
    """(x − mean) / √(variance + ε) · scale + offset; None leaves scale or offset out."""
    if not activity.busy:
        if (quick := planned(batch_normalization, x, mean, variance, offset, scale, variance_epsilon)) is not None:
            return quick
    x = floating(x)
    factor = E.rsqrt(E.add(floating(variance if is_tensor(variance) else operand(variance, x.dtype)), variance_epsilon))
    if scale is not None:
        factor = E.mul(factor, scale)
    y = E.mul(E.sub(x, mean), factor)
    return y if offset is None else E.add(y, offset)


def layer_normalization(
    x: Any, scale: Any = None, offset: Any = None, axis: Any = -1, epsilon: float = 1e-3, name: str | None = None
) -> Tensor:
    """Each line along the axes brought to mean 0 and variance 1, then · scale + offset."""
    if not activity.busy and (quick := planned(layer_normalization, x, scale, offset, axis, epsilon)) is not None:
        return quick
    x = floating(x)
    mean, variance = moments(x, axis, keepdims=True)
    return batch_normalization(x, mean, variance, offset, scale, epsilon)


def embedding_lookup(params: Any, ids: Any, max_norm: Any = None, name: str | None = None) -> Tensor:
    """The rows of `params` with the given numbers, scaled down to `max_norm` if it is given."""
    rows = gather(params, ids)
    if max_norm is None:
        return rows
    size = E.sqrt(E.maximum(reduce_sum(E.square(rows), -1, True), 1e-24))
    return E.mul(rows, E.div(max_norm, E.maximum(size, max_norm)))


def in_top_k(targets: Any, predictions: Any, k: Any, name: str | None = None) -> Tensor:
    """Whether fewer than k predictions are larger than that of the target class.

    Predictions are (batch, classes), targets (batch,). False where the target is no class, and for predictions that
    are not all finite.
    """
    if not activity.busy and (quick := traced(in_top_k, targets, predictions, k)) is not None:
        return quick
    x, t = floating(predictions), operand(targets)
    if t.dtype.kind not in "iu":
        raise locate(DTypeError(f"targets must be integers, not {t.dtype.name}"))
    if x.ndim != 2 or t.ndim != 1 or not fit(x.shape[0], t.shape[0]):
        message = f"in_top_k takes predictions (batch, classes) and targets (batch,), not {x.type} and {t.type}"
        raise locate(ShapeError(message))
    hit = E.equal(expand_dims(E.cast(t, dtype=int64), -1), counter(x.shape[1], 2, 1, int64))
    own = reduce_sum(E.where(hit, x, 0.0), -1, True)
    few = E.less(reduce_sum(E.cast(E.greater(x, own), dtype=int32), -1), as_sizes(k)[0])
    return E.logical_and(few, E.logical_and(reduce_any(hit, -1), reduce_all(E.isfinite(x), -1)))


def zero_fraction(value: Any, name: str | None = None) -> Tensor:
    """The share of elements that are 0."""
    if not activity.busy and (quick := planned(zero_fraction, value)) is not None:
        return quick
    return reduce_mean(E.cast(E.equal(operand(value), 0), dtype=float32))


__all__ = [
    "batch_normalization", "bias_add", "elu", "embedding_lookup", "gelu", "huber", "in_top_k",
    "l2_loss", "l2_normalize", "layer_normalization", "leaky_relu", "log_softmax", "mean_absolute_error",
    "mean_squared_error", "moments", "relu", "relu6", "selu", "sigmoid", "sigmoid_cross_entropy_with_logits", "silu",
    "softmax", "softmax_cross_entropy_with_logits", "softplus", "softsign", "sparse_softmax_cross_entropy_with_logits",
    "swish", "tanh", "weighted_cross_entropy_with_logits", "zero_fraction",
]  # fmt: skip


for _f in (leaky_relu, zero_fraction):
    exact(_f)
