"""Kernels of elementwise operations that NumPy has no ufunc for: native ufuncs take their places in time."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from tracejit.ir.op import Op

FREQUENT = 64  # calls of a kernel, after which those who compile are told
_LARGE = 8  # the logarithm of how many elements are worth a call
WHEN_FREQUENT: list[Callable[[Op], None]] = []
REPLACE: dict[Op, Callable[[Callable[..., Any], str], None]] = {}  # what gives an op a ufunc, for arrays of these types


def is_formula(op: Op) -> bool:
    """Whether an op's kernel is steps of NumPy's for what native code computes element by element."""
    return op.family == "elementwise" and op.scalar is not None and not isinstance(op.numpy, np.ufunc)


def count(op: Op) -> None:
    """Count the calls of an op's kernel from now on."""
    if op in REPLACE or not is_formula(op):
        return
    kernel, ndarray, asarray = op.numpy, np.ndarray, np.asarray
    native: Callable[..., Any] | None = None
    types, left = "", FREQUENT

    def run(*arrays: Any, **attrs: Any) -> Any:
        nonlocal left
        if native is not None and not attrs and arrays[-1].dtype.char in types:
            r = native(*arrays)
            return r if type(r) is ndarray else asarray(r)
        if left > 0 and (left := left - 1 - (arrays[-1].size >> _LARGE)) <= 0:
            for tell in WHEN_FREQUENT:
                tell(op)
        return kernel(*arrays, **attrs)

    def replace(ufunc: Callable[..., Any], chars: str) -> None:
        nonlocal native, types
        native, types = ufunc, chars

    op.numpy, REPLACE[op] = run, replace
