"""`tracejit.nn`: activations, losses, normalisations, under TensorFlow's names."""

from tracejit.ops.linalg import l2_normalize
from tracejit.ops.math import sigmoid, softplus, tanh
from tracejit.ops.nn import (
    batch_normalization,
    bias_add,
    elu,
    embedding_lookup,
    gelu,
    huber,
    in_top_k,
    l2_loss,
    layer_normalization,
    leaky_relu,
    log_softmax,
    mean_absolute_error,
    mean_squared_error,
    moments,
    relu,
    relu6,
    selu,
    sigmoid_cross_entropy_with_logits,
    silu,
    softmax,
    softmax_cross_entropy_with_logits,
    softsign,
    sparse_softmax_cross_entropy_with_logits,
    swish,
    weighted_cross_entropy_with_logits,
    zero_fraction,
)
from tracejit.ops.random import dropout
from tracejit.ops.select import top_k

__all__ = [
    "batch_normalization", "bias_add", "dropout", "elu", "embedding_lookup", "gelu", "huber", "in_top_k", "l2_loss",
    "l2_normalize", "layer_normalization", "leaky_relu", "log_softmax", "mean_absolute_error", "mean_squared_error",
    "moments", "relu", "relu6", "selu", "sigmoid", "sigmoid_cross_entropy_with_logits", "silu", "softmax",
    "softmax_cross_entropy_with_logits", "softplus", "softsign", "sparse_softmax_cross_entropy_with_logits", "swish",
    "tanh", "top_k", "weighted_cross_entropy_with_logits", "zero_fraction",
]  # fmt: skip
