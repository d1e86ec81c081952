"""`tracejit.nn`: activations, losses, normalisations, convolutions and pooling, under TensorFlow's names."""

import importlib
import typing

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

if typing.TYPE_CHECKING:
    from tracejit.ops.candidates import (
        all_candidate_sampler,
        compute_accidental_hits,
        fixed_unigram_candidate_sampler,
        log_uniform_candidate_sampler,
        nce_loss,
        sampled_softmax_loss,
        uniform_candidate_sampler,
    )
    from tracejit.ops.decoding import (
        ctc_beam_search_decoder,
        ctc_greedy_decoder,
        ctc_unique_labels,
    )
    from tracejit.ops.nearly import (
        approx_max_k,
        approx_min_k,
    )
    from tracejit.ops.rarelayers import (
        compute_average_loss,
        depthwise_conv2d_backprop_filter,
        depthwise_conv2d_backprop_input,
        fractional_avg_pool,
        fractional_max_pool,
        isotonic_regression,
        scale_regularization_loss,
        with_space_to_batch,
    )

# Loaded when they are first asked for, so that `import tracejit` stays quick
_LATER: typing.Final = {
    "candidates": (
        "all_candidate_sampler", "fixed_unigram_candidate_sampler", "log_uniform_candidate_sampler",
        "uniform_candidate_sampler", "compute_accidental_hits", "nce_loss",
        "sampled_softmax_loss",
    ),
    "decoding": (
        "ctc_beam_search_decoder", "ctc_greedy_decoder", "ctc_unique_labels",
    ),
    "nearly": ("approx_max_k", "approx_min_k"),
    "rarelayers": (
        "compute_average_loss", "depthwise_conv2d_backprop_filter", "depthwise_conv2d_backprop_input",
        "fractional_avg_pool", "fractional_max_pool", "isotonic_regression",
        "scale_regularization_loss", "with_space_to_batch",
    ),
}


def __getattr__(name: str) -> typing.Any:
    for file, names in _LATER.items():
        if name in names:
            globals()[name] = getattr(importlib.import_module(f"tracejit.ops.{file}"), name)
            return globals()[name]
    raise AttributeError(f"module 'tracejit.nn' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


__all__ = [
    "all_candidate_sampler", "approx_max_k", "approx_min_k", "atrous_conv2d", "atrous_conv2d_transpose", "avg_pool",
    "avg_pool1d", "avg_pool2d", "avg_pool3d", "batch_norm_with_global_normalization", "batch_normalization", "bias_add",
    "collapse_repeated", "compute_accidental_hits", "compute_average_loss", "conv1d", "conv1d_transpose", "conv2d",
    "conv2d_transpose", "conv3d", "conv3d_transpose", "conv_transpose", "convolution", "crelu",
    "ctc_beam_search_decoder", "ctc_greedy_decoder", "ctc_loss", "ctc_unique_labels", "depth_to_space",
    "depthwise_conv2d", "depthwise_conv2d_backprop_filter", "depthwise_conv2d_backprop_input", "dilation2d", "dropout",
    "elu", "embedding_lookup", "erosion2d", "fixed_unigram_candidate_sampler", "fractional_avg_pool",
    "fractional_max_pool", "gelu", "group_normalization", "huber", "in_top_k", "isotonic_regression", "l2_loss",
    "l2_normalize", "layer_normalization", "leaky_relu", "local_response_normalization", "log_poisson_loss",
    "log_softmax", "log_uniform_candidate_sampler", "lrn", "max_pool", "max_pool1d", "max_pool2d", "max_pool3d",
    "max_pool_with_argmax", "mean_absolute_error", "mean_squared_error", "moments", "nce_loss", "normalize_moments",
    "pool", "relu", "relu6", "sampled_softmax_loss", "scale_regularization_loss", "scaled_dot_product_attention",
    "selu", "separable_conv2d", "sigmoid", "sigmoid_cross_entropy_with_logits", "silu", "softmax",
    "softmax_cross_entropy_with_logits", "softplus", "softsign", "space_to_batch", "space_to_depth",
    "sparse_softmax_cross_entropy_with_logits", "sufficient_statistics", "swish", "tanh", "top_k",
    "uniform_candidate_sampler", "weighted_cross_entropy_with_logits", "weighted_moments", "with_space_to_batch",
    "zero_fraction",
]  # fmt: skip
