"""`tracejit.random`: random tensors, under TensorFlow's names."""

from tracejit.ops.random import (
    Generator,
    categorical,
    get_global_generator,
    normal,
    set_seed,
    shuffle,
    stateless_normal,
    stateless_truncated_normal,
    stateless_uniform,
    truncated_normal,
    uniform,
)

__all__ = [
    "categorical", "Generator", "get_global_generator", "normal", "set_seed", "shuffle", "stateless_normal",
    "stateless_truncated_normal", "stateless_uniform", "truncated_normal", "uniform",
]  # fmt: skip
