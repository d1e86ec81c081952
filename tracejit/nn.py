"""`tracejit.nn`: activations, losses, normalisations, convolutions and pooling, under TensorFlow's names."""

from tracejit.ops.attention import scaled_dot_product_attention
from tracejit.ops.conv import (
    atrous_conv2d,
    atrous_conv2d_transpose,
    conv1d,
    conv1d_transpose,
    conv2d,
    conv2d_transpose,
    conv3d,
    conv3d_transpose,
    conv_transpose,
    convolution,
    depthwise_conv2d,
    separable_conv2d,
)
from tracejit.ops.ctc import collapse_repeated, ctc_loss
from tracejit.ops.linalg import l2_normalize
from tracejit.ops.math import sigmoid, softplus, tanh
from tracejit.ops.morphology import dilation2d, erosion2d, max_pool_with_argmax
from tracejit.ops.nn import (
    batch_normalization,
    bias_add,
    crelu,
    elu,
    embedding_lookup,
    gelu,
    huber,
    in_top_k,
    l2_loss,
    layer_normalization,
    leaky_relu,
    log_poisson_loss,
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
from tracejit.ops.pool import (
    avg_pool,
    avg_pool1d,
    avg_pool2d,
    avg_pool3d,
    depth_to_space,
    local_response_normalization,
    lrn,
    max_pool,
    max_pool1d,
    max_pool2d,
    max_pool3d,
    pool,
    space_to_batch,
    space_to_depth,
)
from tracejit.ops.random import dropout
from tracejit.ops.select import top_k
from tracejit.ops.statistics import (
    batch_norm_with_global_normalization,
    group_normalization,
    normalize_moments,
    sufficient_statistics,
    weighted_moments,
)

__all__ = [
    "atrous_conv2d", "atrous_conv2d_transpose", "avg_pool", "avg_pool1d", "avg_pool2d", "avg_pool3d",
    "batch_norm_with_global_normalization", "batch_normalization", "bias_add", "collapse_repeated", "conv1d",
    "conv1d_transpose", "conv2d", "conv2d_transpose", "conv3d", "conv3d_transpose", "conv_transpose", "convolution",
    "crelu", "ctc_loss", "depth_to_space", "depthwise_conv2d", "dilation2d", "dropout", "elu", "embedding_lookup",
    "erosion2d", "gelu", "group_normalization", "huber", "in_top_k", "l2_loss", "l2_normalize", "layer_normalization",
    "leaky_relu", "local_response_normalization", "log_poisson_loss", "log_softmax", "lrn", "max_pool", "max_pool1d",
    "max_pool2d", "max_pool3d", "max_pool_with_argmax", "mean_absolute_error", "mean_squared_error", "moments",
    "normalize_moments", "pool", "relu", "relu6", "scaled_dot_product_attention", "selu", "separable_conv2d", "sigmoid",
    "sigmoid_cross_entropy_with_logits", "silu", "softmax", "softmax_cross_entropy_with_logits", "softplus", "softsign",
    "space_to_batch", "space_to_depth", "sparse_softmax_cross_entropy_with_logits", "sufficient_statistics", "swish",
    "tanh", "top_k", "weighted_cross_entropy_with_logits", "weighted_moments", "zero_fraction",
]  # fmt: skip
