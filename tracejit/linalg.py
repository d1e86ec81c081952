"""`tracejit.linalg`: products, norms and diagonals of matrices, under TensorFlow's names."""

from tracejit.ops.creation import eye
from tracejit.ops.einsum import einsum
from tracejit.ops.linalg import (
    band_part,
    clip_by_global_norm,
    diag,
    diag_part,
    global_norm,
    l2_normalize,
    matmul,
    matrix_transpose,
    matvec,
    norm,
    tensordot,
    trace,
)

__all__ = [
    "band_part", "clip_by_global_norm", "diag", "diag_part", "einsum", "eye", "global_norm", "l2_normalize", "matmul",
    "matrix_transpose", "matvec", "norm", "tensordot", "trace",
]  # fmt: skip
