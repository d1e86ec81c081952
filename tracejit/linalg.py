"""`tracejit.linalg`: products, norms, decompositions and functions of matrices, under TensorFlow's names."""

import importlib
import typing

from tracejit.ops.creation import eye
from tracejit.ops.einsum import einsum
from tracejit.ops.linalg import (
    band_part,
    clip_by_global_norm,
    cross,
    global_norm,
    kron,
    l2_normalize,
    matmul,
    matrix_norm,
    matrix_transpose,
    matvec,
    norm,
    normalize,
    outer,
    tensordot,
    trace,
    vecdot,
    vector_norm,
)

if typing.TYPE_CHECKING:
    from tracejit.ops.decompose import (
        cholesky,
        cholesky_solve,
        logdet,
        lu,
        lu_matrix_inverse,
        lu_reconstruct,
        lu_solve,
        qr,
    )
    from tracejit.ops.diagonals import (
        banded_triangular_solve,
        diag,
        diag_part,
        set_diag,
        tensor_diag,
        tensor_diag_part,
    )
    from tracejit.ops.matrixfun import expm, logm, matrix_power, sqrtm
    from tracejit.ops.solve import (
        adjoint,
        det,
        inv,
        slogdet,
        solve,
        triangular_solve,
        tridiagonal_matmul,
        tridiagonal_solve,
    )
    from tracejit.ops.spectra import (
        eig,
        eigh,
        eigh_tridiagonal,
        eigvals,
        eigvalsh,
        lstsq,
        matrix_rank,
        pinv,
        svd,
        svdvals,
    )
    from tracejit.ops.spectra import eigh as self_adjoint_eig

# Loaded when one of their functions is first asked for
_LATER = ("solve", "decompose", "spectra", "matrixfun", "diagonals")


def __getattr__(name: str) -> typing.Any:
    if name in __all__:
        for file in _LATER:
            found = importlib.import_module(f"tracejit.ops.{file}")
            f = getattr(found, "eigh" if name == "self_adjoint_eig" else name, None)
            if f is not None and f.__module__ == found.__name__:
                globals()[name] = f
                return f
    raise AttributeError(f"module 'tracejit.linalg' has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__


__all__ = [
    "adjoint", "band_part", "banded_triangular_solve", "cholesky", "cholesky_solve", "clip_by_global_norm", "cross",
    "det", "diag", "diag_part", "eig", "eigh", "eigh_tridiagonal", "eigvals", "eigvalsh", "einsum", "expm", "eye",
    "global_norm", "inv", "kron", "l2_normalize", "logdet", "logm", "lstsq", "lu", "lu_matrix_inverse",
    "lu_reconstruct", "lu_solve", "matmul", "matrix_norm", "matrix_power", "matrix_rank", "matrix_transpose", "matvec",
    "norm", "normalize", "outer", "pinv", "qr", "self_adjoint_eig", "set_diag", "slogdet", "solve", "sqrtm", "svd",
    "svdvals", "tensor_diag", "tensor_diag_part", "tensordot", "trace", "triangular_solve", "tridiagonal_matmul",
    "tridiagonal_solve", "vecdot", "vector_norm",
]  # fmt: skip
