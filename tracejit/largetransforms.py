"""Large eager Fourier transforms as compiled programs of one operation, whose sizes are open."""

from __future__ import annotations

from typing import Any

import numpy as np

from tracejit import forks
from tracejit.concrete import Executable, graph_executable, run_flat
from tracejit.context import tracing
from tracejit.errors import Faults
from tracejit.ir.dim import Dim
from tracejit.ir.graph import Builder
from tracejit.ir.op import Op
from tracejit.ir.types import TensorType, as_dtype
from tracejit.ops import fourier
from tracejit.runtime.eager import unsupported
from tracejit.tensor import wrap

_made: dict[tuple[Any, ...], Executable] = {}
_lock = forks.rlock()


def _program(op: Op, x: np.ndarray, attrs: dict[str, Any]) -> Executable:
    b = Builder()
    shape = tuple([Dim.symbol(f"d{i}", n) for i, n in enumerate(x.shape)])
    v = b.param(TensorType(as_dtype(x.dtype), shape))
    if "n" in attrs:
        attrs = {**attrs, "n": 2 * (shape[attrs["axes"][-1]] - 1) + attrs["n"] % 2}
    return graph_executable(b.finish(op.name, b.emit(op, (v,), tuple(attrs.items()))), "exact", Faults(op.name))


def transform(op: Op, x: np.ndarray, attrs: dict[str, Any]) -> np.ndarray | None:
    """A row's function of an array; None where there is no native code."""
    kind = [v % 2 if name == "n" else v for name, v in attrs.items()]
    key = (op.name, x.dtype.num, x.ndim, *kind)
    exe = _made.get(key)
    if exe is None:
        if unsupported() is not None:
            return None
        with _lock, tracing(None):  # whatever is around
            exe = _made.get(key) or _program(op, x, attrs)
            _made[key] = exe
    if exe.program is None:
        return None
    (y,) = run_flat(exe, [wrap(x)])
    return y._a  # type: ignore[no-any-return]


fourier.NATIVE.append(transform)
