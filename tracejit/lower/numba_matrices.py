"""Decompositions, systems of equations and functions of matrices as lines of NumPy in generated source."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Sequence
from typing import Any

from tracejit.ir.graph import Node
from tracejit.ops import matrixkernels as K

# functions of numpy.linalg whose results are ours
_SAME = {"cholesky": "cholesky", "solve": "solve", "inv": "inv", "det": "det"}
# those of ours whose text stands in the source, with what they call
_OURS: dict[str, tuple[Callable[..., Any], ...]] = {
    "lu": (K.lu,), "triangular_solve": (K.triangular_solve,),
    "tridiagonal_solve": (K.one_tridiagonal, K.tridiagonal_solve),
    "adjugate": (K.adjugate,), "pinv": (K.pinv,), "expm": (K.expm,),
    "sqrtm": (K.principal_root, K.by_eigenvalues, K.sqrtm), "logm": (K.principal_root, K.by_eigenvalues, K.logm),
    "qr": (K.qr,), "svd": (K.svd,), "eigh": (K.eigh,), "eig": (K.eig,),
}  # fmt: skip
MATRICES = {*_SAME, *_OURS, "slogdet"}


def matrix_lines(n: Node, out: Sequence[str], args: Sequence[str]) -> list[str]:
    """The lines that compute a node's results, named `out`, from arrays."""
    name = n.op.name
    if name in _SAME:
        return [f"{out[0]} = np.asarray(np.linalg.{_SAME[name]}({', '.join(args)}))"]
    if name == "slogdet":
        return [f"{', '.join(out)} = [np.asarray(x) for x in np.linalg.slogdet({args[0]})]"]
    lines: list[str] = []
    for f in _OURS[name]:
        lines += [line for line in inspect.getsource(f).splitlines() if line.strip()]
    for f in _OURS[name]:  # under names that are no variable's
        lines = [re.sub(rf"(?<![.\w]){f.__name__}(?=\()", f"run_{f.__name__}", line) for line in lines]
    # sizes among the attributes are those of the operands, and not read
    attrs = [f"{k}={None if k == 'rank' else v!r}" for k, v in n.attrs]
    return [*lines, f"{', '.join(out)} = run_{_OURS[name][-1].__name__}({', '.join([*args, *attrs])})"]
